"""What an operator has to be told, for as long as it holds."""

from __future__ import annotations

import time
from typing import Any

from twisted.logger import Logger

_log = Logger()


class Alerts:
    """The alerts there are, by name. The log has a line when one is raised, and when it is cleared."""

    def __init__(self) -> None:
        self._raised: dict[str, dict[str, Any]] = {}

    def tell(self, name: str, message: str | None) -> None:
        """Raise an alert, or clear it when there is no message."""
        raised = self._raised.get(name)
        if message is None:
            if raised is not None:
                del self._raised[name]
                _log.info("Cleared: {name}", name=name)
        elif raised is None:
            self._raised[name] = {"name": name, "message": message, "since": time.time()}
            _log.critical("Alert {name}: {message}", name=name, message=message)
        else:
            raised["message"] = message

    def listed(self) -> list[dict[str, Any]]:
        """``name``, ``message``, and ``since`` (seconds since the epoch) of each."""
        return list(self._raised.values())
