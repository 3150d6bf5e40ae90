"""A circuit breaker: who does not answer is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

#: Failures in a row after which nobody asks any more.
THRESHOLD: Final = 5
#: Seconds until one asks again: they double with each failure, up to the second.
PAUSES: Final = (1.0, 15.0)


class Circuit(Enum):
    """``CLOSED`` lets everybody through, ``OPEN`` nobody; ``TRYING`` has let one through and waits for what comes."""

    CLOSED = "closed"
    OPEN = "open"
    TRYING = "trying"


class Breaker:
    """Counts failures.

    :param clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.state = Circuit.CLOSED
        self._failures = 0
        self._pause = PAUSES[0]
        self._until = 0.0

    def allows(self) -> bool:
        """May one ask now? Who may must say :meth:`succeeded`, :meth:`failed` or :meth:`abandoned`."""
        if self.state is Circuit.CLOSED:
            return True
        if self.state is Circuit.OPEN and self._clock() >= self._until:
            self.state = Circuit.TRYING
            return True
        return False

    def succeeded(self) -> None:
        self.state = Circuit.CLOSED
        self._failures = 0
        self._pause = PAUSES[0]

    def failed(self) -> None:
        self._failures += 1
        if self.state is Circuit.TRYING:
            self._pause = min(self._pause * 2, PAUSES[1])
        if self.state is Circuit.TRYING or self._failures >= THRESHOLD:
            self.state = Circuit.OPEN
            self._until = self._clock() + self._pause

    def abandoned(self) -> None:
        """Nothing was learnt: whoever asked has gone."""
        if self.state is Circuit.TRYING:
            self.state = Circuit.OPEN
            self._until = self._clock()
