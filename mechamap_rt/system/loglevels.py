"""Which events are logged: from which level on, and from which for some loggers. It may be changed at any time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import LogEvent, LogLevel

#: The least important first.
NAMES: Final = ("debug", "info", "warn", "error", "critical")
_NUMBERS: Final[Mapping[Any, int]] = {LogLevel.lookupByName(name): number for number, name in enumerate(NAMES)}
#: What has no level is information.
_INFO: Final = NAMES.index("info")
#: Loggers that have a level of their own, and characters of a name.
MAX_LOGGERS: Final = 32
MAX_NAME: Final = 128
#: Names of loggers whose level is remembered.
_MAX_KNOWN: Final = 1024


class Levels:
    """The levels of one process.

    :ivar level: of every logger that has none of its own.
    :ivar loggers: of those whose names begin so: ``mechamap_rt.bus`` is ``mechamap_rt.bus.link`` too; the longest wins.
    """

    def __init__(self, level: str = "info", loggers: Mapping[str, str] | None = None) -> None:
        self.level = level
        self.loggers = dict(loggers or {})
        self._known: dict[str, int] = {}

    def wants(self, event: LogEvent) -> bool:
        """Is the event to be logged? It is not formatted for that."""
        number = _NUMBERS.get(event.get("log_level"), _INFO)
        name = event.get("log_namespace")
        least = self._known.get(name)  # type: ignore[arg-type]
        return number >= (self._least(str(name)) if least is None else least)

    def _least(self, name: str) -> int:
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        least = self._known[name] = NAMES.index(self._level_of(name))
        return least

    def _level_of(self, name: str) -> str:
        while name:
            if name in self.loggers:
                return self.loggers[name]
            name = name.rpartition(".")[0]
        return self.level

    def change(self, level: str, loggers: Mapping[str, str]) -> None:
        """From now on."""
        self.level = level
        self.loggers = dict(loggers)
        self._known = {}

    def members(self) -> dict[str, Any]:
        """For an operator, and for other processes: ``Levels(**members)`` is the same."""
        return {"level": self.level, "loggers": dict(self.loggers)}
