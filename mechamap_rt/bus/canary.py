"""A canary: whether what is published arrives, tried all the time instead of believed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mechamap_rt.interfaces import IBus

_log = Logger()

#: Seconds between two, and after which one that has not come back counts as lost (a bus itself gives up sooner).
EVERY: Final = 1.0
LOST_AFTER: Final = 3.0


class Canary:
    """Sends one over the bus every second, and remembers when the last came back.

    :param clock: seconds, monotonic.
    :ivar lag: seconds that the last one took that came back.
    :ivar lost: those that did not.
    """

    def __init__(self, reactor: IReactorTime, bus: IBus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._flying = LoopingCall(self._fly)
        self._flying.clock = reactor
        self._came = clock()
        self.lag = 0.0
        self.lost = 0
        self._last = True

    def start(self) -> None:
        self._came = self._clock()
        self._flying.start(EVERY).addErrback(lambda reason: _log.failure("No canary is sent any more", reason))

    def stop(self) -> None:
        if self._flying.running:
            self._flying.stop()

    async def _fly(self) -> None:
        began = self._clock()
        came = await self._bus.probe()
        now = self._clock()
        self._last = came
        if came:
            self.lag, self._came = now - began, now
        else:
            self.lost += 1

    @property
    def well(self) -> bool:
        """Has the last one come back, and not too long ago?"""
        return self._last and self._clock() - self._came <= LOST_AFTER
