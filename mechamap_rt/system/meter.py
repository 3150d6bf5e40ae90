"""What a process says about itself: processor time, memory, descriptors, and how late its reactor is."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from typing import Final, TypedDict

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_PAGE: Final = resource.getpagesize()


class Sample(TypedDict):
    """One reading.

    ``cpu``: per cent of one core since the last reading (threads can make it more than 100). ``rss``: bytes of memory
    that are resident. ``lag``: the longest that a timer was late since the last reading, in seconds. ``descriptors``:
    how many are open.
    """

    cpu: float
    rss: int
    lag: float
    descriptors: int


class Meter:
    """Measures its own process.

    :param clock: seconds, monotonic. The reactor's own are the wall clock's, which may be set: that is no lag.
    :param used: seconds of processor time that the process has used.
    """

    #: Seconds between two looks at how late a timer is.
    interval: Final = 0.5

    def __init__(
        self,
        reactor: IReactorTime,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._used = used
        self._then = clock()
        self._cpu = used()
        self._lag = 0.0
        self._due = 0.0
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to measure the reactor's lag."""
        if self._timer is None:
            self._aim()

    def stop(self) -> None:
        """Leave the reactor alone."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def sample(self) -> Sample:
        """What has been since the last sample."""
        now, cpu = self._clock(), self._used()
        passed, spent = now - self._then, cpu - self._cpu
        self._then, self._cpu = now, cpu
        self._look()
        lag, self._lag = self._lag, 0.0
        share = 100 * spent / passed if passed > 0 else 0.0
        return Sample(cpu=share, rss=resident(), lag=lag, descriptors=descriptors())

    def _aim(self) -> None:
        self._due = self._clock() + self.interval
        self._timer = self._reactor.callLater(self.interval, self._strike)

    def _look(self) -> None:
        """A timer that is overdue and has not been called yet counts as well."""
        if self._timer is not None:
            self._lag = max(self._lag, self._clock() - self._due)

    def _strike(self) -> None:
        self._look()
        self._aim()


def resident() -> int:
    """Bytes of resident memory (the second field of ``/proc/self/statm``, proc(5))."""
    with open("/proc/self/statm", "rb") as stream:
        return int(stream.read().split()[1]) * _PAGE


def descriptors() -> int:
    """How many descriptors are open."""
    # Since Linux 6.2 the size of the directory says it; listing 50,000 names takes tens of milliseconds.
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
