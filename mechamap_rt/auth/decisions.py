"""What has been decided lately about users and resources, for a short time."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final, TypeVar

from mechamap_rt.core.identity import Identity

#: Decisions that are remembered.
MAX_DECISIONS: Final = 100_000
#: Seconds for which a yes counts, and a no: who has just become a member asks again.
YES: Final = 30.0
NO: Final = 2.0

_Entry = tuple[bool, float, str]
#: A user, which of the user's tokens, and a resource.
_Key = tuple[int, bytes, str]


def whatever_token(identity: Identity) -> bytes:
    """What a user may does not depend on the token."""
    return b""


def by_token(identity: Identity) -> bytes:
    """Each token of a user may be worth something else; it is not itself kept."""
    return b"" if identity.bearer is None else sha256(identity.bearer.encode()).digest()


class Decisions:
    """Yes or no, by user and resource.

    :param clock: seconds, monotonic.
    :param which: tells tokens of one user apart, where they may be worth something else.

    :ivar era: changes when something is forgotten: what was asked before that is not remembered after it.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        bound: int = MAX_DECISIONS,
        which: Callable[[Identity], bytes] = whatever_token,
    ) -> None:
        self.clock = clock
        self._bound = bound
        self._which = which
        self._entries: dict[_Key, _Entry] = {}
        # a right is taken away without looking at those of everybody
        self._of_user: dict[int, set[_Key]] = {}
        self._of_resource: dict[str, set[_Key]] = {}
        self.era = 0
        #: Since the start.
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, identity: Identity, resource: str) -> bool | None:
        """What was decided, if it still counts for a user of this role."""
        entry = self._entries.get((identity.user_id, self._which(identity), resource))
        if entry is None or entry[1] <= self.clock() or entry[2] != identity.role:
            self.misses += 1
            return None
        self.hits += 1
        return entry[0]

    def remember(self, identity: Identity, resource: str, allowed: bool, era: int) -> None:
        """:param era: that in which it was asked."""
        if era != self.era:
            return
        key = (identity.user_id, self._which(identity), resource)
        self._drop(key)
        while len(self._entries) >= self._bound:
            # the oldest, which is the first
            self._drop(next(iter(self._entries)))
        self._of_user.setdefault(identity.user_id, set()).add(key)
        self._of_resource.setdefault(resource, set()).add(key)
        self._entries[key] = (allowed, self.clock() + (YES if allowed else NO), identity.role)

    def forget(self, user_id: int | None = None, resource: str | None = None) -> None:
        """Everything about this user, this resource, or the two together."""
        self.era += 1
        if user_id is not None:
            for key in tuple(self._of_user.get(user_id, ())):
                if resource is None or key[2] == resource:
                    self._drop(key)
        elif resource is not None:
            for key in tuple(self._of_resource.get(resource, ())):
                self._drop(key)
        else:
            self._entries, self._of_user, self._of_resource = {}, {}, {}

    def _drop(self, key: _Key) -> None:
        if self._entries.pop(key, None) is not None:
            user_id, _, resource = key
            _take(self._of_user, user_id, key)
            _take(self._of_resource, resource, key)


A = TypeVar("A")


def _take(index: dict[A, set[_Key]], name: A, key: _Key) -> None:
    keys = index[name]
    keys.remove(key)
    if not keys:
        del index[name]
