"""What an operator has to be told: what is the matter now, and what was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

_log = Logger()

#: Alerts that have been cleared and are remembered.
KEPT: Final = 200
#: Characters of what is the matter.
MAX_MESSAGE: Final = 500

#: ``name``, ``state`` (``raised`` or ``cleared``), ``message``, ``since``, ``until``, ``value``.
Alert = dict[str, Any]


class Alerts:
    """The alerts there are, by name, and those that there have been.

    Each is told twice: when it is raised, and when it is cleared; in between it may say something else every second.

    :param host: the name of the host, which every alert carries.
    :ivar listeners: called with each alert that is raised or cleared.
    """

    def __init__(self, host: str = "", clock: Callable[[], float] = time.time) -> None:
        self._host = host
        self._clock = clock
        self._raised: dict[str, Alert] = {}
        self._cleared: deque[Alert] = deque(maxlen=KEPT)
        self.listeners: list[Callable[[Alert], object]] = []

    def tell(self, name: str, message: str | None, value: float | None = None) -> None:
        """Raise an alert, say more of it, or clear it when there is no message."""
        raised = self._raised.get(name)
        if message is None:
            if raised is not None:
                self._clear(raised)
        elif raised is None:
            alert = {
                "name": name,
                "state": "raised",
                "host": self._host,
                "message": message[:MAX_MESSAGE],
                "since": self._clock(),
                "until": None,
                "value": value,
                "worst": value,
            }
            self._raised[name] = alert
            _log.critical("Alert {name}: {message}", name=name, message=alert["message"])
            self._announce(alert)
        else:
            raised["message"], raised["value"] = message[:MAX_MESSAGE], value
            if value is not None:
                raised["worst"] = max(raised["worst"] or 0.0, value)

    def _clear(self, alert: Alert) -> None:
        del self._raised[alert["name"]]
        alert |= {"state": "cleared", "until": self._clock()}
        self._cleared.append(alert)
        _log.info("Cleared: {name}", name=alert["name"])
        self._announce(alert)

    def _announce(self, alert: Alert) -> None:
        for listener in tuple(self.listeners):
            listener(dict(alert))

    def listed(self) -> list[Alert]:
        """Those that are raised, oldest first; ``since`` in seconds since the epoch."""
        return list(self._raised.values())

    def history(self) -> list[Alert]:
        """Those that have been cleared, newest first."""
        return list(reversed(self._cleared))
