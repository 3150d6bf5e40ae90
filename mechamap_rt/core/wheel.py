"""A timer wheel: deadlines of very many connections for the price of one reactor timer.

A Twisted ``DelayedCall`` for each heartbeat and each token costs about a kilobyte and a heap operation. Here deadlines
share slots of :attr:`Wheel.resolution` seconds, and one call a slot serves them all.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()


class Deadline:
    """One call at one time; made by :meth:`Wheel.after`."""

    __slots__ = ("_call", "_slot", "due")

    def __init__(self, call: Callable[[], object], due: float) -> None:
        self._call: Callable[[], object] | None = call
        self._slot: dict[Deadline, None] = {}
        #: When, in the reactor's seconds.
        self.due = due

    def cancel(self) -> None:
        """The call is not made, if it has not been made yet."""
        self._call = None
        self._slot.pop(self, None)
        self._slot = {}

    def _strike(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Wheel:
    """Makes calls at their time, never early, late by at most :attr:`resolution` (a second for far deadlines)."""

    resolution: Final = 0.1
    #: Deadlines further away than this, in seconds, share coarser slots.
    far: Final = 60.0
    #: Deadlines further away than this are looked at again by then, so that cancelled ones do not stay for weeks.
    horizon: Final = 900.0

    __slots__ = ("_next", "_numbers", "_reactor", "_slots", "_timer")

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._slots: dict[int, dict[Deadline, None]] = {}
        self._numbers: list[int] = []
        self._timer: IDelayedCall | None = None
        self._next = 0

    def seconds(self) -> float:
        """Now, as the reactor counts."""
        return self._reactor.seconds()

    def after(self, seconds: float, call: Callable[[], object]) -> Deadline:
        """Call ``call`` once, ``seconds`` from now."""
        now = self._reactor.seconds()
        deadline = Deadline(call, now + max(seconds, 0.0))
        self._place(deadline, now)
        return deadline

    def _place(self, deadline: Deadline, now: float) -> None:
        wait = min(deadline.due - now, self.horizon)
        number = int((now + wait) / self.resolution) + 1
        if wait > self.far:
            number += -number % 10
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heapq.heappush(self._numbers, number)
            self._arm(number)
        deadline._slot = slot
        slot[deadline] = None

    def stop(self) -> None:
        """Forget everything."""
        self._slots.clear()
        self._numbers.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, number: int) -> None:
        """Have the reactor call when slot ``number`` is due, if nothing is due sooner."""
        if self._timer is not None:
            if self._next <= number:
                return
            self._timer.cancel()
        self._next = number
        delay = max(number * self.resolution - self._reactor.seconds(), 0.0)
        self._timer = self._reactor.callLater(delay, self._turn)

    def _turn(self) -> None:
        """Serve every slot that is due."""
        self._timer = None
        now = self._reactor.seconds()
        numbers = self._numbers
        while numbers and numbers[0] <= now / self.resolution + 1e-6:
            slot = self._slots.pop(heapq.heappop(numbers))
            deadlines = list(slot)
            slot.clear()
            for deadline in deadlines:
                if deadline.due > now + self.resolution:
                    self._place(deadline, now)
                else:
                    self._strike(deadline)
        if numbers:
            self._arm(numbers[0])

    def _strike(self, deadline: Deadline) -> None:
        try:
            deadline._strike()
        except Exception:
            _log.failure("A timer's call failed")
