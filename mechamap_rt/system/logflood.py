"""No flood in the log: of the same message, a process logs so many in so long, and then how many more there were."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any, Final

from twisted.logger import LogEvent, LogLevel

from mechamap_rt.system.logrecord import RECORD

#: So many of a message are logged in so many seconds.
MOST: Final = 20
WINDOW: Final = 10.0
#: Messages that are counted; of more, the one that was not logged for longest is forgotten.
MAX_COUNTED: Final = 512
#: Of a message without a format, the beginning says which it is: so many characters.
_BEGINNING: Final = 40
#: What is said of one: characters of its format.
_SHOWN: Final = 200


class _Count:
    """One message: logged so often since then, and suppressed so often."""

    __slots__ = ("event", "logged", "since", "suppressed")

    def __init__(self, since: float) -> None:
        self.since = since
        self.logged = self.suppressed = 0
        self.event: LogEvent = {}


class Flood:
    """Counts messages: the same format, of the same logger and level, with the same error.

    What somebody has asked for by the level ``debug`` is not held back, nor what another process has counted.

    :param reactor: calls :meth:`summarise` when a window has passed.
    :param log: takes the summaries, which are events.
    """

    def __init__(self, reactor: Any, log: Callable[[LogEvent], object]) -> None:
        self._reactor = reactor
        self._log = log
        self._counts: OrderedDict[Hashable, _Count] = OrderedDict()
        self._lock = RLock()
        self._awaited = False

    def admits(self, event: LogEvent) -> bool:
        """Is it to be logged?"""
        if event.get("log_level") is LogLevel.debug or RECORD in event:
            return True
        now: float = self._reactor.seconds()
        over: list[_Count] = []
        with self._lock:
            admitted = self._admit(_key(event), event, now, over)
        for count in over:
            self._log(_summary(count, now))
        return admitted

    def _admit(self, key: Hashable, event: LogEvent, now: float, over: list[_Count]) -> bool:
        count = self._counts.get(key)
        if count is not None and now - count.since >= WINDOW:
            del self._counts[key]
            over.append(count)
            count = None
        if count is None:
            count = self._counts[key] = _Count(now)
            if len(self._counts) > MAX_COUNTED:
                over.append(self._counts.popitem(last=False)[1])
            over[:] = (one for one in over if one.suppressed)
        self._counts.move_to_end(key)
        if count.logged < MOST:
            count.logged += 1
            return True
        if not count.suppressed:
            count.event = _essence(event)
            self._await_the_end()
        count.suppressed += 1
        return False

    def _await_the_end(self) -> None:
        if not self._awaited:
            self._awaited = True
            # events are logged by other threads too
            self._reactor.callFromThread(self._reactor.callLater, WINDOW, self._after_a_window)

    def _after_a_window(self) -> None:
        self._awaited = False
        self.summarise(WINDOW)

    def summarise(self, age: float = 0.0) -> None:
        """Say what was suppressed in windows that have begun so many seconds ago."""
        now: float = self._reactor.seconds()
        with self._lock:
            over = [key for key, count in self._counts.items() if now - count.since >= age and count.suppressed]
            counts = [self._counts.pop(key) for key in over]
            if any(count.suppressed for count in self._counts.values()):
                self._await_the_end()
        for count in counts:
            self._log(_summary(count, now))


def _message(event: LogEvent) -> str:
    """What it is about, without what differs from one to the next."""
    template = event.get("log_format")
    if template in (None, "{log_text}", "{log_io}"):
        return str(event.get("log_text") or event.get("log_io") or "")[:_BEGINNING]
    return str(template)[:_SHOWN]


def _key(event: LogEvent) -> Hashable:
    failure = event.get("log_failure")
    if failure is None:
        return event.get("log_namespace"), event.get("log_level"), _message(event)
    # another fault of the same kind elsewhere is another message
    where = failure.frames[-1][1:3] if failure.frames else None
    return event.get("log_namespace"), event.get("log_level"), _message(event), failure.type, where


def _essence(event: LogEvent) -> LogEvent:
    """What is kept of an event: nothing that holds memory of others."""
    failure = event.get("log_failure")
    return {
        "log_level": event.get("log_level"),
        "log_namespace": event.get("log_namespace"),
        "like": _message(event) + ("" if failure is None else f" ({failure.type.__name__})"),
    }


def _summary(count: _Count, now: float) -> LogEvent:
    return count.event | {
        "log_format": "… {suppressed:,} more like this in {seconds:.0f} s: {like}",
        "log_time": time.time(),
        "suppressed": count.suppressed,
        "seconds": now - count.since,
    }
