"""The log of a process: which events are logged, and what of them is handed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from mechamap_rt.system.logflood import Flood
from mechamap_rt.system.loglevels import Levels
from mechamap_rt.system.logrecord import Record, record_of


@implementer(ILogObserver)
class Log:
    """A log observer. What is below the level, or too often the same, ends here and is never formatted.

    :param reactor: to say later how often it was the same.
    :param sink: takes the records.
    :ivar worker: the name of this process.
    """

    def __init__(self, reactor: Any, levels: Levels, worker: str, sink: Callable[[Record], object]) -> None:
        self.worker = worker
        self.levels = levels
        self._sink = sink
        self.flood = Flood(reactor, self._hand_on)

    def __call__(self, event: LogEvent) -> None:
        if self.levels.wants(event) and self.flood.admits(event):
            self._hand_on(event)

    def _hand_on(self, event: LogEvent) -> None:
        record = record_of(event, self.worker)
        if record.message.strip() or record.traceback:
            self._sink(record)
