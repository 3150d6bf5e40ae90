"""What a load test ends with: the JSON document, the verdict on its limits, and what its failures mean."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mechamap_rt.bench.loadtest.latencies import Summary
from mechamap_rt.bench.loadtest.serverside import Usage

CommandName = Literal["connections", "fanout", "http"]
VERSION = 1


class Failure(msgspec.Struct, frozen=True):
    """A reason, and how often it was one.

    :ivar kind: ``refused``, ``dropped`` or ``failed``.
    """

    kind: str
    reason: str
    count: int


class Check(msgspec.Struct, frozen=True):
    """A limit and what came of it.

    :ivar name: the figure: that of the option without ``--max-`` or ``--min-``.
    :ivar least: must the value be the limit at least, instead of at most?
    """

    name: str
    unit: str
    limit: float
    value: float
    met: bool
    least: bool = False


class Generator(msgspec.Struct, frozen=True):
    """The load generator itself: was it what was measured?

    :ivar cpu_percent: of one core, mean.
    :ivar late_ms: how late it was, at worst, with what was due at a time; 0 where nothing is.
    """

    cpu_percent: float
    late_ms: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a load measured.

    :ivar counts: by name, in the order in which they are shown.
    :ivar rates: by name, a second or as the name says.
    :ivar latency_of: what the latencies are of, in words.
    :ivar failures: the most frequent first.
    :ivar advice: what the operator should know or do.
    """

    counts: dict[str, int]
    rates: dict[str, float]
    latency_of: str
    latency_ms: Summary
    failures: list[Failure]
    advice: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document, ``docs/load-report.schema.json``.

    :ivar started: ISO 8601 in UTC.
    :ivar seconds: that it took.
    :ivar ended: ``done``, ``interrupted``, or ``time is up``.
    :ivar options: what was asked for; no secrets.
    :ivar server: ``None`` when it was not seen.
    :ivar passed: are all limits met?
    """

    version: int
    command: CommandName
    target: str
    started: str
    seconds: float
    ended: Literal["done", "interrupted", "time is up"]
    options: dict[str, Any]
    measured: Measured
    generator: Generator
    server: Usage | None
    checks: list[Check]
    passed: bool


def share(part: float, whole: float) -> float:
    """In percent; of nothing, all when there is a part."""
    return 100.0 * part / whole if whole else 100.0 if part else 0.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator demands; ``None`` for nothing. Latencies in ms, shares in percent."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    failed: float | None = None
    dropped: float | None = None
    lost: float | None = None
    duplicated: float | None = None
    rate: float | None = None

    def checks(self, figures: dict[str, float], timed: bool) -> list[Check]:
        """Hold figures against the limits, those that the load has.

        :param timed: was any latency measured? A limit on what was not is missed.
        """
        units = {"p50": "ms", "p95": "ms", "p99": "ms", "rate": "/s"}
        found = []
        for name, value in figures.items():
            limit: float | None = getattr(self, name)
            if limit is not None:
                least = name == "rate"
                met = (value >= limit if least else value <= limit) and (timed or units.get(name) != "ms")
                found.append(Check(name, units.get(name, "%"), limit, value, met, least))
        return found
