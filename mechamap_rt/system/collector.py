"""When CPython's garbage collector looks at everything: at chosen moments, not in the middle of a rush.

Nearly all memory is freed by reference counts; the collector only finds cycles. A full collection visits every object
of the process while all connections wait, and by itself it comes when many objects have been made, which is when many
clients arrive.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: So many collections of the middle generation that the oldest one never follows (a C int).
_NEVER: Final = 2**31 - 1


class Collector:
    """Runs full collections once every ``interval`` seconds, at an idle moment; young ones stay automatic.

    Between two full ones all older objects are frozen (``gc.freeze``), so that nobody's ``gc.collect()`` visits them.

    :param interval: seconds; 0 leaves the collector as it is, and only measures it.
    :param clock: seconds, for the length of a pause.
    """

    #: Seconds of the probe that tells whether the reactor is idle, and how late it may be then.
    probe: Final = 0.05
    idle: Final = 0.005
    #: Seconds until the next probe when it was busy.
    again: Final = 1.0

    def __init__(self, reactor: IReactorTime, interval: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._reactor = reactor
        self._interval = interval
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._threshold: tuple[int, int, int] | None = None
        self._began = 0.0
        #: Full collections since :meth:`start`.
        self.collections = 0
        #: Seconds of the last full collection, and of the longest one of any generation.
        self.last_pause = 0.0
        self.worst_pause = 0.0
        #: Seconds of all collections.
        self.paused = 0.0

    def start(self) -> None:
        """Tame it; for when everything that lasts as long as the process has been made."""
        gc.callbacks.append(self._observe)
        if self._interval:
            self._threshold = gc.get_threshold()
            gc.set_threshold(*self._threshold[:2], _NEVER)
            gc.collect()
            gc.freeze()
            self._rest()

    def stop(self) -> None:
        """Leave the collector as it was."""
        if self._observe in gc.callbacks:
            gc.callbacks.remove(self._observe)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        threshold, self._threshold = self._threshold, None
        if threshold is not None:
            gc.set_threshold(*threshold)
            gc.unfreeze()

    def collect(self) -> None:
        """Look at everything, now."""
        # what was frozen may have become garbage since: a cycle in it would stay for ever
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def _rest(self) -> None:
        self._latest = self._reactor.seconds() + 2 * self._interval
        self._timer = self._reactor.callLater(self._interval, self._look)

    def _look(self) -> None:
        due = self._reactor.seconds() + self.probe
        self._timer = self._reactor.callLater(self.probe, self._decide, due)

    def _decide(self, due: float) -> None:
        now = self._reactor.seconds()
        if now - due <= self.idle or now >= self._latest:
            self.collect()
            self._rest()
        else:
            wait = max(0.0, min(self.again, self._latest - now - self.probe))
            self._timer = self._reactor.callLater(wait, self._look)

    def _observe(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = self._clock()
            return
        pause = self._clock() - self._began
        self.paused += pause
        self.worst_pause = max(self.worst_pause, pause)
        if info["generation"] == 2:
            self.collections += 1
            self.last_pause = pause
