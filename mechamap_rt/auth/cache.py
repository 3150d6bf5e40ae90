"""Whose tokens have been found out lately."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from mechamap_rt.core.identity import Identity

#: Refusals that are remembered, and for how many seconds.
MAX_REFUSED: Final = 10_000
REFUSED_LIFE: Final = 5.0
#: Users and tokens of which it is known when they were forgotten.
MAX_FORGOTTEN: Final = 10_000


def key_of(token: str) -> bytes:
    """What stands for a token here: the token itself is not kept."""
    return sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True)
class _Entry:
    identity: Identity
    until: float


class TokenCache:
    """Users by token, and refusals, each for a time.

    :param life: seconds that a user counts.
    :param bound: tokens that are remembered; the one that was found out first goes first.
    :param clock: seconds since the epoch.

    :ivar era: changes when something is forgotten: what was asked before that is not remembered after it.
    """

    def __init__(self, life: float, bound: int, clock: Callable[[], float]) -> None:
        self._life = life
        self._bound = bound
        self._clock = clock
        self._users: dict[bytes, _Entry] = {}
        self._refused: dict[bytes, tuple[str, float]] = {}
        self._by_user: dict[int, set[bytes]] = {}
        self._by_token: dict[int, bytes] = {}
        self.era = 0
        #: When each was forgotten, the oldest first; what is not here was forgotten in ``_dim`` at the latest.
        self._forgotten: dict[tuple[str, int], int] = {}
        self._dim = 0
        #: Since the start.
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._users)

    def known(self, key: bytes) -> Identity | None:
        """Whose token it is, if that still counts."""
        entry = self._users.get(key)
        if entry is not None:
            if entry.until > self._clock():
                self.hits += 1
                return entry.identity
            self._drop(key)
        self.misses += 1
        return None

    def refusal(self, key: bytes) -> str | None:
        """Why it was refused a moment ago."""
        refused = self._refused.get(key)
        if refused is None:
            return None
        if refused[1] > self._clock():
            return refused[0]
        del self._refused[key]
        return None

    def remember(self, key: bytes, identity: Identity, era: int) -> None:
        """:param era: that in which it was asked."""
        if self.overtaken(identity, era) or not self._life:
            return
        self._drop(key)
        former = None if identity.token_id is None else self._by_token.get(identity.token_id)
        if former is not None:
            # the token has another secret now, and the one before opens nothing any more
            self._drop(former)
        while len(self._users) >= self._bound:
            self._drop(next(iter(self._users)))
        self._users[key] = _Entry(identity, self._clock() + self._life)
        self._by_user.setdefault(identity.user_id, set()).add(key)
        if identity.token_id is not None:
            self._by_token[identity.token_id] = key

    def refuse(self, key: bytes, reason: str) -> None:
        """It stays refused for a moment, whatever is taken away meanwhile."""
        self._refused.pop(key, None)
        while len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = (reason, self._clock() + REFUSED_LIFE)

    def forget(self, user_id: int | None = None, token_id: int | None = None) -> None:
        """Everything about this user, or this token."""
        self.era += 1
        for kind, ident in (("user", user_id), ("token", token_id)):
            if ident is not None:
                self._forgotten.pop((kind, ident), None)
                self._forgotten[kind, ident] = self.era
        while len(self._forgotten) > MAX_FORGOTTEN:
            self._dim = self._forgotten.pop(next(iter(self._forgotten)))
        if user_id is not None:
            for key in tuple(self._by_user.get(user_id, ())):
                self._drop(key)
        if token_id is not None and token_id in self._by_token:
            self._drop(self._by_token[token_id])

    def overtaken(self, identity: Identity, era: int) -> bool:
        """Has something been forgotten that concerns this user or this token since ``era``, or may it have been?"""
        if era == self.era:
            return False
        last = self._forgotten.get(("user", identity.user_id), self._dim)
        if identity.token_id is not None:
            last = max(last, self._forgotten.get(("token", identity.token_id), self._dim))
        return last > era

    def _drop(self, key: bytes) -> None:
        entry = self._users.pop(key, None)
        if entry is None:
            return
        identity = entry.identity
        keys = self._by_user[identity.user_id]
        keys.discard(key)
        if not keys:
            del self._by_user[identity.user_id]
        if identity.token_id is not None and self._by_token.get(identity.token_id) == key:
            del self._by_token[identity.token_id]
