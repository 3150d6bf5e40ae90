"""What a process counts: plain integers, written where something happens and read once in a while."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

#: Upper bounds of seconds, from what a quiet server needs to what nobody waits for.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


#: Names of events that are counted apart.
MAX_EVENTS: Final = 500
OTHER: Final = "other"


class Histogram:
    """How many observations fell under each bound.

    :ivar counts: one for each of :data:`SECONDS`, not cumulative, and one for what is over the last.
    :ivar total: the sum of what was observed.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def figures(self) -> tuple[list[int], float]:
        """``counts`` and ``total``, to be sent to another process."""
        return self.counts, self.total


def merged(histograms: Sequence[tuple[Sequence[int], float]]) -> tuple[list[int], float]:
    """Several histograms as one."""
    counts = [sum(column) for column in zip(*(each for each, _ in histograms), strict=True)]
    return counts or [0] * (len(SECONDS) + 1), sum(total for _, total in histograms)


def quantile(counts: Sequence[int], part: float) -> float:
    """The value under which this part of the observations lies, in seconds; interpolated within a bound.

    What is over the last bound counts as the last bound; 0.0 when nothing was observed.
    """
    wanted = part * sum(counts)
    below, passed = 0.0, 0.0
    for count, bound in zip(counts, SECONDS, strict=False):
        if count and passed + count >= wanted:
            return below + (bound - below) * (wanted - passed) / count
        passed += count
        below = bound
    return below if passed < wanted else 0.0


class Counts:
    """What happens to the people of one process, counted since its start.

    :ivar connects: connections that were let in, by protocol and transport.
    :ivar ends: connections that have ended, by the reason's name.
    :ivar refusals: clients that were not let in, by reason.
    :ivar authentications: by method and result.
    :ivar sources: publications, by who has made them: ``api``, ``laravel``, ``client``, ``operator``, ``server``.
    :ivar events: publications by the event's name; of more than :data:`MAX_EVENTS` names, the later ones are ``other``.
    :ivar latency: from the acceptance of a publication, on this host, to its being written to those who are subscribed
        here. What is held back on purpose (``medium``, ``low``) is not in it.
    """

    __slots__ = ("authentications", "connects", "ends", "events", "latency", "refusals", "sources")

    def __init__(self) -> None:
        self.connects: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.authentications: Counter[tuple[str, str]] = Counter()
        self.sources: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.latency = Histogram()

    def published(self, event: str, source: str) -> None:
        """A publication has been accepted."""
        self.sources[source] += 1
        events = self.events
        events[event if event in events or len(events) < MAX_EVENTS else OTHER] += 1

    def figures(self) -> dict[str, Any]:
        """All of it, as MessagePack can carry it: tables are lists of labels and number."""
        return {
            "connects": [(*labels, count) for labels, count in self.connects.items()],
            "ends": list(self.ends.items()),
            "refusals": list(self.refusals.items()),
            "authentications": [(*labels, count) for labels, count in self.authentications.items()],
            "sources": list(self.sources.items()),
            "latency": self.latency.figures(),
        }
