"""Who the clients are: tokens and keys, out of options, files or the environment; never shown."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import jwt

from mechamap_rt.bench.job import BenchError

#: Bytes of a file of secrets.
MAX_FILE: Final = 16 * 1024 * 1024
_ALGORITHMS: Final = ("HS256", "HS384", "HS512")


def secret(name: str | None, given: str | None, file: Path | None) -> str | None:
    """A secret: what the option says, what its file has, or ``NAME`` or ``NAME_FILE`` of the environment.

    :param name: ``None`` to leave the environment alone.
    :raises BenchError: a file cannot be read, or has nothing in it.
    """
    if given:
        return given
    if file is None and name is not None:
        if found := os.environ.get(name):
            return found
        if path := os.environ.get(f"{name}_FILE"):
            file = Path(path)
    return None if file is None else _lines(file)[0]


def _lines(file: Path) -> list[str]:
    """The lines of a file that are not empty, one at least.

    :raises BenchError: it has none, or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
        lines = [line.strip() for line in content.decode().splitlines() if line.strip()]
    except OSError as error:
        raise BenchError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BenchError(f"{file} is not UTF-8 text") from None
    if not lines or len(content) > MAX_FILE:
        raise BenchError(f"{file} must have one line at least, and {MAX_FILE // 2**20} MB at most")
    return lines


@dataclass(frozen=True, slots=True)
class Accounts:
    """Whose connections are opened, in turns: the tokens that are given, or users for whom tokens are signed.

    :ivar tokens: one for each user, if they are given.
    :ivar jwt_secret: signs the others.
    :ivar users: how many different ones.
    :ivar first: the lowest id of those that are signed for.
    :ivar role: the claim of those.
    """

    tokens: tuple[str, ...] = field(repr=False)
    jwt_secret: str = field(repr=False)
    users: int
    first: int = 1
    role: str = "member"

    @classmethod
    def collect(
        cls,
        *,
        token: str | None,
        token_file: Path | None,
        jwt_secret_file: Path | None,
        users: int,
        first: int,
        role: str,
    ) -> Accounts:
        """What the options, and for what they do not say the environment, have.

        :raises BenchError: they have nothing.
        """
        if token_file is not None:
            tokens = tuple(_lines(token_file))
            return cls(tokens, "", len(tokens))
        if token:
            return cls((token,), "", 1)
        signing = secret("JWT_SECRET", None, jwt_secret_file)
        if not signing:
            raise BenchError(
                "who are the clients? Give --token-file with tokens, or --jwt-secret-file with the server's JWT_SECRET "
                "(the environment's LOAD_TOKEN, JWT_SECRET or JWT_SECRET_FILE do as well)"
            )
        return cls((), signing, users, first, role)

    def sign(self, life: float) -> list[str]:
        """A token of each user, beforehand, so that signing is not measured.

        :param life: seconds that they are good for.
        :raises BenchError: the secret cannot sign.
        """
        if self.tokens:
            return list(self.tokens)
        now = int(time.time())
        algorithm = os.environ.get("JWT_ALGORITHM") or _ALGORITHMS[0]
        if algorithm not in _ALGORITHMS:
            raise BenchError(f"JWT_ALGORITHM must be one of {', '.join(_ALGORITHMS)}")
        claims = {"role": self.role, "permissions": ["receive_notifications"], "iat": now, "exp": now + int(life)}
        return [
            jwt.encode({"userId": user, **claims}, self.jwt_secret, algorithm=algorithm)
            for user in range(self.first, self.first + self.users)
        ]
