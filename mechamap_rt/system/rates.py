"""What the processes of one host have counted lately, by key: a table in memory that they share.

Who asks too much asks any of the processes, so each must know what the others have counted, and with every request: a
question to another process would cost more than most requests do. So each writes into a region of its own and reads
those of all; there are no locks, and nobody waits.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

#: Regions of a table: one for each slot of the scoreboard.
REGIONS: Final = 64
#: Keys of one region.
KEYS: Final = 8192
#: Places that a key may have; where all are taken, the one that ends first is lost, which can only favour that key.
_PROBES: Final = 8
#: Numbers of an entry: the key's digest, the millisecond at which its window ends, and how many were counted.
_FIELDS: Final = 3
_BYTES: Final = 8
#: Numbers before the regions: how many of these have ever been used, and the secret of the digests.
_HEADER: Final = 3


class Count(NamedTuple):
    """How many there were in a window.

    :ivar number: of them.
    :ivar remaining: seconds until the window ends.
    """

    number: int
    remaining: float


class RateTable:
    """Counts by key over windows of time; a window begins with the first that is counted.

    :param fd: of a file that is memory only; closed with the table.
    :param region: the one that this process writes; the next process in it goes on with what is there.
    :param clock: ``CLOCK_MONOTONIC`` in seconds, the same in every process.
    """

    def __init__(self, fd: int, region: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 <= region < REGIONS:
            raise IndexError(region)
        #: The descriptor, for children to inherit; not inherited unless they are given it.
        self.fd = fd
        self._clock = clock
        self._memory = mmap.mmap(fd, 0)
        self._view = memoryview(self._memory).cast("Q")
        self._secret = bytes(self._view[1:_HEADER])
        self._view[0] = max(self._view[0], region + 1)
        self._own = _HEADER + region * KEYS * _FIELDS

    @classmethod
    def create(cls) -> RateTable:
        """A new one, in which nothing is counted. Its pages are taken as they are used."""
        fd = os.memfd_create("mechamap-rates", os.MFD_CLOEXEC)
        os.ftruncate(fd, (_HEADER + REGIONS * KEYS * _FIELDS) * _BYTES)
        # nobody outside can find two addresses of one digest
        os.pwrite(fd, os.urandom(2 * _BYTES), _BYTES)
        return cls(fd)

    @classmethod
    def attach(cls, fd: int, region: int) -> RateTable:
        """The one behind an inherited descriptor."""
        os.set_inheritable(fd, False)
        return cls(fd, region)

    def take(self, key: str, window: float, amount: int = 1) -> Count:
        """Count ``amount`` of ``key`` in; how many there are now in the window of so many seconds."""
        digest, now = self._digest(key), int(self._clock() * 1000)
        others, until = self._others(digest, now)
        place = self._place(digest, now)
        view = self._view
        own = 0
        if view[place] == digest and view[place + 1] > now:
            own, until = view[place + 2], min(until or view[place + 1], view[place + 1])
        until = until or now + max(1, round(window * 1000))
        own = max(0, own + amount)
        view[place + 2] = own
        view[place + 1] = until
        view[place] = digest
        return Count(others + own, (until - now) / 1000)

    def count(self, key: str) -> Count:
        """How many there are now; ``Count(0, 0.0)`` for none."""
        digest, now = self._digest(key), int(self._clock() * 1000)
        others, until = self._others(digest, now)
        place = self._find(digest, self._own)
        view = self._view
        if place and view[place + 1] > now:
            others, until = others + view[place + 2], min(until or view[place + 1], view[place + 1])
        return Count(others, (until - now) / 1000 if until else 0.0)

    def _digest(self, key: str) -> int:
        """A number for the key; never 0, which is an empty place."""
        return int.from_bytes(blake2b(key.encode(), digest_size=8, key=self._secret).digest()) or 1

    def _others(self, digest: int, now: int) -> tuple[int, int]:
        """What the other regions have of it, and when the earliest of their windows ends (0 for none)."""
        total = until = 0
        view = self._view
        for region in range(view[0]):
            base = _HEADER + region * KEYS * _FIELDS
            if base == self._own:
                continue
            place = self._find(digest, base)
            if place and (end := view[place + 1]) > now:
                total += view[place + 2]
                until = min(until or end, end)
        return total, until

    def _find(self, digest: int, base: int) -> int:
        """Where a region has the key; 0 for nowhere. Behind an empty place is nothing: none becomes empty again."""
        view = self._view
        for probe in range(_PROBES):
            place = base + (digest + probe) % KEYS * _FIELDS
            there = view[place]
            if there == digest:
                return place
            if not there:
                break
        return 0

    def _place(self, digest: int, now: int) -> int:
        """Where the key is in the own region, or can be."""
        view, base = self._view, self._own
        best, best_end = 0, 1 << 63
        for probe in range(_PROBES):
            place = base + (digest + probe) % KEYS * _FIELDS
            if view[place] == digest:
                return place
            end = view[place + 1]
            if end < best_end:
                best, best_end = place, end
        return best

    def close(self) -> None:
        """Let go of the memory and of the descriptor."""
        self._view.release()
        self._memory.close()
        os.close(self.fd)
