"""Thresholds over which the server's figures are a reason to look: numbers that operators may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

GIB: Final = 1024**3


class Threshold(NamedTuple):
    """One of them.

    :ivar doc: what is compared with it, with its unit.
    """

    default: float
    least: float
    most: float
    doc: str


#: By the name that the API has for it. The defaults are those that operators of the site know.
THRESHOLDS: Final[Mapping[str, Threshold]] = {
    "memoryPerWorker": Threshold(1.5 * GIB, 16 * 1024**2, 1024 * GIB, "resident bytes of one process"),
    "cpu": Threshold(90, 1, 100, "per cent of a core that one process uses"),
    "databasePool": Threshold(80, 1, 100, "per cent of a process's connections to the database that are in use"),
    "responseTime": Threshold(100, 1, 60_000, "milliseconds to answer an HTTP request, on average"),
    "dropRate": Threshold(5, 0.01, 100, "per cent of the messages to clients that were dropped"),
    "reactorLag": Threshold(100, 1, 60_000, "milliseconds that the event loop of a process is late"),
    "errorRate": Threshold(5, 0.01, 100, "per cent of the HTTP requests that were answered with 500 or more"),
}


class Thresholds:
    """Those that hold in this process.

    :ivar changed: seconds since the epoch of the last change, anywhere in the cluster; 0.0 for none. Of two processes
        that differ the later one is right.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {name: threshold.default for name, threshold in THRESHOLDS.items()}
        self.changed = 0.0

    def state(self) -> tuple[float, dict[str, float]]:
        """For other processes: see :meth:`learn`."""
        return self.changed, self.values

    def learn(self, changed: float, values: Mapping[str, Any]) -> None:
        """What another process has; it holds here too if it is newer."""
        if changed > self.changed:
            self.changed = changed
            self.values |= {name: float(value) for name, value in values.items() if name in THRESHOLDS}
