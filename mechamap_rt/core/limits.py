"""Limits: token buckets, and how many connections there may be. Every table is bounded."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Final

from mechamap_rt.errors import Disconnect


class Buckets:
    """Token buckets, one for each key: ``per_minute`` events a minute, all of them at once if need be.

    At most ``size`` keys are remembered; the least recently used are forgotten first, which can only favour them.

    :param per_minute: 0 means no limit.
    :param clock: seconds, monotonic.
    """

    __slots__ = ("_buckets", "_capacity", "_clock", "_rate", "_size")

    def __init__(self, per_minute: int, clock: Callable[[], float], size: int = 100_000) -> None:
        self._capacity = float(per_minute)
        self._rate = per_minute / 60.0
        self._clock = clock
        self._size = size
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable) -> float:
        """Take one token of ``key``; returns 0.0, or how many seconds to wait for the next token."""
        capacity = self._capacity
        if not capacity:
            return 0.0
        now = self._clock()
        buckets = self._buckets
        bucket = buckets.pop(key, None)
        tokens = capacity if bucket is None else min(capacity, bucket[0] + max(now - bucket[1], 0.0) * self._rate)
        if tokens < 1.0:
            buckets[key] = (tokens, now)
            return (1.0 - tokens) / self._rate
        buckets[key] = (tokens - 1.0, now)
        if len(buckets) > self._size:
            del buckets[next(iter(buckets))]
        return 0.0

    def __len__(self) -> int:
        return len(self._buckets)


class Entry(Enum):
    """What to do with a new transport."""

    ADMIT = auto()
    #: Over a limit: let it in just far enough to be told why.
    TELL = auto()
    #: So far over that even telling is too dear: refuse the handshake.
    REFUSE = auto()


#: How many transports over a limit may be in at once to be told why.
_TOLD: Final = 16


class Admission:
    """Counts transports (by address, and in all) and connections (by user), and says who may come in.

    :param total: transports in all, 0 means no limit; likewise the others.
    :param attempts: connection attempts of one user, a minute.
    """

    def __init__(
        self, *, total: int, per_address: int, per_user: int, attempts: int, clock: Callable[[], float]
    ) -> None:
        self._total = total
        self._per_address = per_address
        self._per_user = per_user
        self._attempts = Buckets(attempts, clock)
        self._addresses: dict[str, int] = {}
        self._users: dict[int, int] = {}
        self.transports = 0

    def enter(self, address: str) -> tuple[Entry, Disconnect | None]:
        """A transport from ``address`` asks to come in. Unless refused, :meth:`leave` must follow one day."""
        here = self._addresses.get(address, 0)
        reason = None
        over = 0
        if self._total and self.transports >= self._total:
            reason, over = Disconnect.GLOBAL_LIMIT, self.transports - self._total
        elif self._per_address and here >= self._per_address:
            reason, over = Disconnect.THROTTLED, here - self._per_address
        if over >= _TOLD:
            return Entry.REFUSE, reason
        self.transports += 1
        self._addresses[address] = here + 1
        return (Entry.ADMIT if reason is None else Entry.TELL), reason

    def leave(self, address: str) -> None:
        self.transports -= 1
        here = self._addresses[address] - 1
        if here:
            self._addresses[address] = here
        else:
            del self._addresses[address]

    def admit(self, user_id: int) -> Disconnect | None:
        """A connection of a user asks to be admitted: ``None``, and :meth:`dismiss` must follow, or why not."""
        if self._attempts.take(user_id):
            return Disconnect.THROTTLED
        held = self._users.get(user_id, 0)
        if self._per_user and held >= self._per_user:
            return Disconnect.USER_LIMIT
        self._users[user_id] = held + 1
        return None

    def dismiss(self, user_id: int) -> None:
        held = self._users[user_id] - 1
        if held:
            self._users[user_id] = held
        else:
            del self._users[user_id]

    def connections(self, user_id: int) -> int:
        return self._users.get(user_id, 0)
