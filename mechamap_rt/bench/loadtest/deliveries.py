"""Who has got what: each publication of a load at each subscriber, and whether in order."""

from __future__ import annotations

import re
import secrets
import time
from array import array
from typing import Final

import orjson

from mechamap_rt.bench.loadtest.latencies import Latencies

EVENT: Final = "load.test"
_SEQUENCE: Final = 8


class Ledger:
    """The publications of one load.

    :param count: how many there may be.
    :ivar duplicated: deliveries of what the subscriber had already.
    :ivar disordered: deliveries after a later one, though the earlier publication had been answered before the later
        one was made. What was under way at once has no order.
    :ivar latencies: publish to socket, of each first delivery.
    """

    def __init__(self, channel: str, count: int, size: int) -> None:
        self._channel = channel
        self._pad = "x" * size
        self._run = secrets.token_hex(4)
        self._pattern = re.compile(rb'"load":"' + self._run.encode() + rb"(\d{8})")
        self.size = count
        self._due = array("d", bytes(8 * count))
        self._before = array("q", bytes(8 * count))
        self._answered = bytearray(count)
        self._all_answered = 0
        self.accepted: set[int] = set()
        self.duplicated = self.disordered = 0
        self.latencies = Latencies()

    def body(self, number: int, due: float) -> bytes:
        """The publication of that number, for ``POST /api/broadcast``; counts from ``due`` (monotonic).

        Timers may be early by a millisecond: it never counts from later than now.
        """
        self._due[number] = min(due, time.monotonic())
        self._before[number] = self._all_answered
        data = {"load": f"{self._run}{number:0{_SEQUENCE}}", "pad": self._pad}
        return orjson.dumps({"channel": self._channel, "event": EVENT, "data": data})

    def answered(self, number: int, accepted: bool) -> None:
        """The publication was answered, or will never be."""
        self._answered[number] = 1
        if accepted:
            self.accepted.add(number)
        while self._all_answered < self.size and self._answered[self._all_answered]:
            self._all_answered += 1

    def number_in(self, message: memoryview) -> int | None:
        """Which publication of this load a message is; ``None`` for others' and heartbeats."""
        found = self._pattern.search(message)
        return int(found[1]) if found else None

    def before(self, number: int) -> int:
        """All below this had been answered when the publication was made."""
        return self._before[number]

    def arrived(self, number: int) -> None:
        self.latencies.add(time.monotonic() - self._due[number])


class Shelf:
    """What one subscriber has got, one bit for each publication.

    :ivar total: how many, each once.
    """

    __slots__ = ("_fence", "_ledger", "_seen", "total")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen = bytearray((ledger.size + 7) // 8)
        self._fence = 0
        self.total = 0

    def heard(self, message: memoryview) -> None:
        """A message came."""
        ledger = self._ledger
        number = ledger.number_in(message)
        if number is None or number >= ledger.size:
            return
        place, bit = number >> 3, 1 << (number & 7)
        if self._seen[place] & bit:
            ledger.duplicated += 1
            return
        self._seen[place] |= bit
        self.total += 1
        ledger.arrived(number)
        if number < self._fence:
            ledger.disordered += 1
        self._fence = max(self._fence, ledger.before(number))

    def has(self, number: int) -> bool:
        return bool(self._seen[number >> 3] & (1 << (number & 7)))

    def missing(self) -> int:
        """How many of what was accepted did not come."""
        accepted = self._ledger.accepted
        if self.total >= len(accepted) and len(accepted) == self._ledger.size:
            return 0
        return sum(not self.has(number) for number in accepted)
