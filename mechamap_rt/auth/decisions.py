"""What has been decided lately about users and resources, for a short time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from mechamap_rt.core.identity import Identity

#: Decisions that are remembered.
MAX_DECISIONS: Final = 100_000
#: Seconds for which a yes counts, and a no: who has just become a member asks again.
YES: Final = 30.0
NO: Final = 2.0

_Entry = tuple[bool, float, str]


class Decisions:
    """Yes or no, by user and resource.

    :param clock: seconds, monotonic.

    :ivar era: changes when something is forgotten: what was asked before that is not remembered after it.
    """

    def __init__(self, clock: Callable[[], float], bound: int = MAX_DECISIONS) -> None:
        self._clock = clock
        self._bound = bound
        self._entries: dict[tuple[int, str], _Entry] = {}
        # a right is taken away without looking at those of everybody
        self._of_user: dict[int, set[str]] = {}
        self._of_resource: dict[str, set[int]] = {}
        self.era = 0
        #: Since the start.
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, identity: Identity, resource: str) -> bool | None:
        """What was decided, if it still counts for a user of this role."""
        entry = self._entries.get((identity.user_id, resource))
        if entry is None or entry[1] <= self._clock() or entry[2] != identity.role:
            self.misses += 1
            return None
        self.hits += 1
        return entry[0]

    def remember(self, identity: Identity, resource: str, allowed: bool, era: int) -> None:
        """:param era: that in which it was asked."""
        if era != self.era:
            return
        key = (identity.user_id, resource)
        self._drop(key)
        while len(self._entries) >= self._bound:
            # the oldest, which is the first
            self._drop(next(iter(self._entries)))
        self._of_user.setdefault(identity.user_id, set()).add(resource)
        self._of_resource.setdefault(resource, set()).add(identity.user_id)
        self._entries[key] = (allowed, self._clock() + (YES if allowed else NO), identity.role)

    def forget(self, user_id: int | None = None, resource: str | None = None) -> None:
        """Everything about this user, this resource, or the two together."""
        self.era += 1
        if user_id is not None and resource is not None:
            self._drop((user_id, resource))
        elif user_id is not None:
            for name in tuple(self._of_user.get(user_id, ())):
                self._drop((user_id, name))
        elif resource is not None:
            for user in tuple(self._of_resource.get(resource, ())):
                self._drop((user, resource))
        else:
            self._entries, self._of_user, self._of_resource = {}, {}, {}

    def _drop(self, key: tuple[int, str]) -> None:
        if self._entries.pop(key, None) is None:
            return
        user_id, resource = key
        _take(self._of_user, user_id, resource)
        _take(self._of_resource, resource, user_id)


A = TypeVar("A")
B = TypeVar("B")


def _take(index: dict[A, set[B]], key: A, value: B) -> None:
    values = index[key]
    values.remove(value)
    if not values:
        del index[key]
