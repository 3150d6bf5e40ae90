"""Limits: token buckets, and how many transports and connections there are. Every table is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

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


class Quota(NamedTuple):
    """How much there may be; 0 is no limit.

    :ivar total: transports in all.
    :ivar per_address: transports of one address.
    :ivar per_user: connections of one user.
    :ivar attempts: attempts of one user to connect, a minute.
    :ivar rates: events of one key a minute, by the name of the limit.
    """

    total: int = 0
    per_address: int = 0
    per_user: int = 0
    attempts: int = 0
    rates: Mapping[str, int] = MappingProxyType({})


class _Owned:
    """What one process has counted in, so that it can be counted out when the process dies."""

    __slots__ = ("addresses", "transports", "users")

    def __init__(self) -> None:
        self.transports = 0
        self.addresses: Counter[str] = Counter()
        self.users: Counter[int] = Counter()


class Tally:
    """Counts the transports, connections and events of several processes together, and says what is too much.

    What is counted in has an owner: the process that has it.

    :param clock: seconds, monotonic.
    :ivar transports: there are now, in all.
    """

    def __init__(self, quota: Quota, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._owners: dict[str, _Owned] = {}
        self._addresses: Counter[str] = Counter()
        self._users: Counter[int] = Counter()
        self.transports = 0
        self.change(quota)

    def change(self, quota: Quota) -> None:
        """Other limits hold from now on; what was counted stays, but for the rates."""
        self.quota = quota
        self._attempts = Buckets(quota.attempts, self._clock)
        self._rates = {name: Buckets(rate, self._clock) for name, rate in quota.rates.items()}

    def _owned(self, owner: str) -> _Owned:
        owned = self._owners.get(owner)
        if owned is None:
            owned = self._owners[owner] = _Owned()
        return owned

    # transports

    def enter(self, owner: str, address: str) -> Disconnect | None:
        """A transport has come in from ``address``; the limit that it is over, if any. :meth:`leave` must follow."""
        quota = self.quota
        reason = None
        if quota.total and self.transports >= quota.total:
            reason = Disconnect.GLOBAL_LIMIT
        elif quota.per_address and self._addresses[address] >= quota.per_address:
            reason = Disconnect.THROTTLED
        owned = self._owned(owner)
        self.transports += 1
        owned.transports += 1
        self._addresses[address] += 1
        owned.addresses[address] += 1
        return reason

    def leave(self, owner: str, address: str) -> None:
        owned = self._owned(owner)
        if owned.addresses[address] > 0:
            self.transports -= 1
            owned.transports -= 1
            _less(owned.addresses, address)
            _less(self._addresses, address)
        else:
            del owned.addresses[address]

    # connections

    def admit(self, owner: str, user_id: int) -> Disconnect | None:
        """A user asks for a connection: ``None``, and :meth:`dismiss` must follow, or why not."""
        if self._attempts.take(user_id):
            return Disconnect.THROTTLED
        if self.quota.per_user and self._users[user_id] >= self.quota.per_user:
            return Disconnect.USER_LIMIT
        self._users[user_id] += 1
        self._owned(owner).users[user_id] += 1
        return None

    def dismiss(self, owner: str, user_id: int) -> None:
        users = self._owned(owner).users
        if users[user_id] > 0:
            _less(users, user_id)
            _less(self._users, user_id)
        else:
            del users[user_id]

    def connections(self, user_id: int) -> int:
        return self._users.get(user_id, 0)

    # rates

    def take(self, limit: str, key: Hashable) -> float:
        """Take one event of ``key``; 0.0, or the seconds to wait for the next."""
        buckets = self._rates.get(limit)
        return 0.0 if buckets is None else buckets.take(key)

    # owners

    def forget(self, owner: str) -> None:
        """A process is gone, and all that it had."""
        owned = self._owners.pop(owner, None)
        if owned is None:
            return
        self.transports -= owned.transports
        for address, count in owned.addresses.items():
            _less(self._addresses, address, count)
        for user, count in owned.users.items():
            _less(self._users, user, count)


K = TypeVar("K")


def _less(counter: Counter[K], key: K, count: int = 1) -> None:
    left = counter[key] - count
    if left > 0:
        counter[key] = left
    else:
        del counter[key]
