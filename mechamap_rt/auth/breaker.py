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
        #: Changes whenever it opens, closes or tries: what was let through before that says nothing of now.
        self._period = 1

    @property
    def refuses(self) -> bool:
        """Would nobody be let through now? Changes nothing."""
        return self.state is Circuit.TRYING or (self.state is Circuit.OPEN and self._clock() < self._until)

    def admit(self) -> int | None:
        """Let one ask, if one may now.

        :returns: what to tell :meth:`succeeded`, :meth:`failed` or :meth:`abandoned`, one of which must follow; or
            ``None``: do not ask.
        """
        if self.refuses:
            return None
        if self.state is Circuit.OPEN:
            self._turn(Circuit.TRYING)
        return self._period

    def succeeded(self, admitted: int) -> None:
        """It answers, and whoever was let through when is as good a witness of that."""
        self._failures = 0
        self._pause = PAUSES[0]
        if self.state is not Circuit.CLOSED:
            self._turn(Circuit.CLOSED)

    def failed(self, admitted: int) -> None:
        # those that were on their way when it opened fail one after the other: that is no news, and no second trial
        if admitted != self._period:
            return
        self._failures += 1
        if self.state is Circuit.TRYING:
            self._pause = min(self._pause * 2, PAUSES[1])
        if self.state is Circuit.TRYING or self._failures >= THRESHOLD:
            self._open(self._pause)

    def abandoned(self, admitted: int) -> None:
        """Nothing was learnt: whoever asked has gone. If that was the trial, the next one is it."""
        if admitted == self._period and self.state is Circuit.TRYING:
            self._open(0.0)

    def _open(self, pause: float) -> None:
        self._until = self._clock() + pause
        self._turn(Circuit.OPEN)

    def _turn(self, state: Circuit) -> None:
        self.state = state
        self._period += 1
