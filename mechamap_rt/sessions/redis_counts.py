"""The counts of one process, as far as Redis has to know them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import ceil
from typing import Final

from mechamap_rt.sessions.redis_lease import Lease
from mechamap_rt.sessions.redis_scripts import LESS, RENEW, STATE

#: Seconds after which a count that nobody has written to is gone: what is left of processes that died. A living process
#: renews each of its counts three times as often.
EXPIRY: Final = 3600.0
ROUND: Final = EXPIRY / 3
#: Counts that are stated in one step.
CHUNK: Final = 500


class Counts:
    """How many of each key this process has; at most one key for each connection, and one for each address.

    What :attr:`own` says is what Redis has under :attr:`owner`, together with :attr:`unstated`, once it has done all it
    was asked.

    :ivar own: what this process has.
    :ivar unstated: what of it Redis has not been told yet.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._before = b""
        self._round: Iterator[bytes] = iter(())
        self.own: dict[bytes, int] = {}
        self.unstated: dict[bytes, int] = {}
        lease.tables.append(self)

    def head(self) -> tuple[bytes, bytes, int]:
        """The first arguments of a script."""
        return self._lease.prefix, self._lease.owner, int(EXPIRY * 1000)

    def more(self, *keys: bytes) -> None:
        """The process has one more of each; Redis has counted it, or been asked to, or is away."""
        for key in keys:
            self.own[key] = self.own.get(key, 0) + 1

    def add(self, key: bytes) -> None:
        """The process has one more, and Redis is told."""
        ready = self._lease.ready()
        self.more(key)
        if ready:
            self._lease.tell(self._stating((key,), (1,)))

    def less(self, *keys: bytes) -> None:
        """The process has one less of each, and Redis is told."""
        ready = self._lease.ready()
        stated = [key for key in keys if not _less(self.unstated, key)]
        for key in keys:
            _less(self.own, key)
        if ready and stated:
            self._lease.tell(LESS.call((self._lease.key, *stated), *self.head()))

    def _stating(self, keys: Sequence[bytes], counts: Sequence[int]) -> bytes:
        return STATE.call((self._lease.key, *keys), *self.head(), self._before, *counts)

    # what the lease asks for

    def begin(self, owner: bytes, before: bytes) -> None:
        self._before = before
        self.unstated = dict(self.own)

    def state(self) -> bytes | None:
        keys = list(islice(self.unstated, CHUNK))
        if not keys:
            return None
        return self._stating(keys, [self.unstated.pop(key) for key in keys])

    def renew(self) -> bytes | None:
        if self.unstated:
            return None
        share = ceil(len(self.own) * self._lease.beat / ROUND)
        keys = list(islice(self._round, share))
        if not keys:
            self._round = iter(tuple(self.own))
            keys = list(islice(self._round, share))
        keys = [key for key in keys if key in self.own]
        return RENEW.call((self._lease.key, *keys), *self.head()) if keys else None


def _less(counts: dict[bytes, int], key: bytes) -> bool:
    """Take one away, if there is one."""
    count = counts.get(key, 0)
    if count > 1:
        counts[key] = count - 1
    elif count:
        del counts[key]
    return count > 0
