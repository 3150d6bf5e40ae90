"""The last lines of the log, kept for an operator who asks, and handed on as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from mechamap_rt.system.logrecord import Record

#: Lines that are kept, and characters of one.
KEPT: Final = 2000
KEPT_ERRORS: Final = 100
MAX_MESSAGE: Final = 2000
MAX_LINE: Final = 8192


class Journal:
    """The lines of this process; those of a traceback count as one."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT)
        #: What was worse than a warning: ``time`` (seconds since the epoch), ``level``, ``logger``, ``worker``,
        #: ``message``.
        self.errors: deque[dict[str, Any]] = deque(maxlen=KEPT_ERRORS)
        self._followers: dict[Callable[[str], object], None] = {}

    def note(self, record: Record) -> None:
        """Keep it if it is an error."""
        if record.level in ("error", "critical"):
            message = f"{record.message}\n{record.traceback}".strip()[:MAX_MESSAGE]
            self.errors.append(
                {
                    "time": record.time,
                    "level": record.level,
                    "logger": record.logger,
                    "worker": record.worker,
                    "message": message,
                }
            )

    def add(self, line: str) -> None:
        """One line more."""
        line = line[:MAX_LINE]
        self.lines.append(line)
        for follower in tuple(self._followers):
            follower(line)

    def last(self, number: int) -> list[str]:
        return list(self.lines)[-number:] if number > 0 else []

    def follow(self, follower: Callable[[str], object]) -> Callable[[], None]:
        """Call ``follower`` with each line from now on; returns what ends that."""
        self._followers[follower] = None
        return lambda: self._followers.pop(follower, None)
