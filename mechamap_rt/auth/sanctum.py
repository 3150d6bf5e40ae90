"""Laravel Sanctum's personal access tokens: ``<id>|<secret>``, of which the database has the SHA-256 of the secret."""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple

from mechamap_rt.core.identity import INVISIBLE, MAX_ID

#: Abilities that let a token receive what is published.
RECEIVE: Final = frozenset(("*", "websocket:receive-notifications"))
#: The permission that they are worth.
PERMISSION: Final = "receive_notifications"

_SHAPE = re.compile(r"([1-9][0-9]{0,18})\|([A-Za-z0-9_]{40,255})")
#: Of no token: compared with when there is no row, so that a missing row takes as long as a wrong secret.
_NOTHING: Final = "0" * 64


class Parts(NamedTuple):
    """A token taken apart.

    :ivar id: the number of its row.
    :ivar digest: SHA-256 of its secret, in hexadecimal digits.
    """

    id: int
    digest: str


def parse(token: str) -> Parts | None:
    """The parts of what looks like such a token, else ``None``."""
    match = _SHAPE.fullmatch(token)
    if match is None or int(match[1]) > MAX_ID:
        return None
    return Parts(int(match[1]), sha256(match[2].encode()).hexdigest())


def is_genuine(parts: Parts, stored: str | None) -> bool:
    """Is it the token whose digest is stored? Compared in constant time, of digests that say nothing of the secret."""
    known = stored if stored is not None and len(stored) == 64 and stored.isascii() else _NOTHING
    return compare_digest(parts.digest, known.lower()) and known is not _NOTHING


def mark(stored: str) -> bytes:
    """What is remembered of a digest: enough to notice that the site has given the token another secret."""
    return sha256(stored.lower().encode()).digest()[:8]


def permissions(abilities: tuple[str, ...], held: tuple[str, ...], connect: frozenset[str]) -> tuple[str, ...]:
    """What a token with these abilities permits a user who holds ``held``.

    :param connect: permissions that only the token can give.
    """
    rest = tuple(permission for permission in held if permission not in connect)
    if INVISIBLE in abilities:
        rest = (*rest, INVISIBLE)
    return rest if RECEIVE.isdisjoint(abilities) else (PERMISSION, *rest)
