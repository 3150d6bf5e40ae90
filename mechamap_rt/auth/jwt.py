"""JSON Web Tokens (RFC 7519) signed with the secret shared with the site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import jwt

from mechamap_rt.core.identity import INVISIBLE, MAX_ID, Identity
from mechamap_rt.errors import EXPIRED, AuthRefused

#: A longer token is not looked at.
MAX_LENGTH: Final = 8192
#: The last second that can be written as a date, for tokens that are to last for ever.
LATEST: Final = 253_402_300_799.0
#: One of these permissions lets a user connect.
CONNECT: Final = frozenset(("receive_notifications", "websocket:connect"))

_ID = re.compile(r"[1-9][0-9]{0,18}")
_OPTIONS: Final[Any] = {"require": ["exp"], "verify_sub": False, "verify_aud": False, "verify_iat": False}


def bare(token: object) -> str | None:
    """A token as clients send it, with or without ``Bearer ``; ``None`` where there is none."""
    if not isinstance(token, str):
        return None
    scheme, _, rest = token.strip().partition(" ")
    return (rest.strip() if scheme.lower() == "bearer" else token.strip()) or None


class JWTVerifier:
    """Verifies tokens of one algorithm; any other, ``none`` among them, is refused.

    :param secret: the shared secret.
    :param algorithm: ``HS256``, ``HS384`` or ``HS512``.
    :param previous: secrets whose signatures are still believed.
    """

    def __init__(self, secret: str, algorithm: str, previous: Sequence[str] = ()) -> None:
        self._secrets = [text.encode() for text in (secret, *previous)]
        self._algorithms = [algorithm]

    def verify(self, token: str) -> Identity:
        """The user that the claims name.

        :raises AuthRefused: the token is not sound, or has expired.
        """
        if len(token) > MAX_LENGTH or not token.isascii():
            raise AuthRefused("Invalid token")
        try:
            return _identity(self._claims(token))
        except jwt.ExpiredSignatureError:
            raise AuthRefused(EXPIRED) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise AuthRefused("Invalid token") from None

    def _claims(self, token: str) -> dict[str, Any]:
        """What is signed with any of the secrets; a signature is looked at before anything that it signs.

        :raises jwt.PyJWTError: none of them fits, or what is signed is not sound.
        """
        for secret in self._secrets:
            with suppress(jwt.InvalidSignatureError):
                claims: dict[str, Any] = jwt.decode(token, secret, algorithms=self._algorithms, options=_OPTIONS)
                return claims
        raise jwt.InvalidSignatureError


def require_connect(identity: Identity) -> Identity:
    """Let only those pass whose token lets them connect.

    :raises AuthRefused: it does not.
    """
    if CONNECT.isdisjoint(identity.permissions):
        raise AuthRefused("Insufficient permissions")
    return identity


def _identity(claims: dict[str, Any]) -> Identity:
    user_id = _user_id(claims)
    permissions = claims.get("permissions")
    held = tuple(p for p in permissions if isinstance(p, str)) if isinstance(permissions, list) else ()
    if claims.get("invisible") is True:
        held = (*held, INVISIBLE)
    return Identity(
        user_id=user_id,
        name=_text(claims, "name") or f"User {user_id}",
        role=_text(claims, "role") or "guest",
        email=_text(claims, "email"),
        permissions=held,
        avatar=_text(claims, "avatar"),
        expires_at=min(float(claims["exp"]), LATEST),
    )


def _user_id(claims: dict[str, Any]) -> int:
    """The user's id: the first of ``userId``, ``sub``, ``user_id`` that is there, an integer or its decimal digits."""
    for name in ("userId", "sub", "user_id"):
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, str) and _ID.fullmatch(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ID:
            return value
        break
    raise AuthRefused("Invalid token")


def _text(claims: dict[str, Any], name: str) -> str | None:
    """A claim that is text and can be told to others; half of a surrogate pair cannot."""
    value = claims.get(name)
    if not isinstance(value, str) or len(value) > 1024:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def mint(secret: str, algorithm: str, claims: dict[str, Any], now: float, expires_in: float) -> str:
    """A token with ``claims``, issued ``now`` (seconds since the epoch) and good for ``expires_in`` seconds."""
    times = {"iat": int(now), "exp": int(now + expires_in)}
    return jwt.encode(claims | times, secret, algorithm=algorithm)
