"""The last lines of the log, kept for an operator who asks, and handed on as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import ILogObserver, LogLevel, formatEvent, formatEventAsClassicLogText
from zope.interface import implementer

#: Lines that are kept, and characters of one.
KEPT: Final = 2000
KEPT_ERRORS: Final = 100
MAX_MESSAGE: Final = 2000
MAX_LINE: Final = 8192


@implementer(ILogObserver)
class Journal:
    """A log observer."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT)
        #: What was worse than a warning: ``time`` (seconds since the epoch), ``level``, ``logger``, ``message``.
        self.errors: deque[dict[str, Any]] = deque(maxlen=KEPT_ERRORS)
        self._followers: dict[Callable[[str], object], None] = {}

    def __call__(self, event: Any) -> None:
        text = formatEventAsClassicLogText(event)
        if text is None:
            return
        line = text.rstrip()[:MAX_LINE]
        self.lines.append(line)
        level = event.get("log_level")
        if level is not None and level >= LogLevel.error:
            message = (formatEvent(event) or line)[:MAX_MESSAGE]
            logger = str(event.get("log_namespace", ""))
            self.errors.append({"time": event["log_time"], "level": level.name, "logger": logger, "message": message})
        for follower in tuple(self._followers):
            follower(line)

    def last(self, number: int) -> list[str]:
        return list(self.lines)[-number:] if number > 0 else []

    def follow(self, follower: Callable[[str], object]) -> Callable[[], None]:
        """Call ``follower`` with each line from now on; returns what ends that."""
        self._followers[follower] = None
        return lambda: self._followers.pop(follower, None)
