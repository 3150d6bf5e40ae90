"""Latencies in bounded memory: counts of logarithmic classes, as HdrHistogram has them."""

from __future__ import annotations

import math
from array import array
from typing import Final

import msgspec

#: A class is so much wider than the one before: a percentile is off by at most half of that, 0.5 %.
_GROWTH: Final = 1.01
_LOG: Final = math.log(_GROWTH)
#: Microseconds; what takes longer is counted in the last class.
_LONGEST: Final = 3_600_000_000
_CLASSES: Final = int(math.log(_LONGEST) / _LOG) + 2

#: The percentiles of the picture, in percent: closer and closer to the top.
CURVE: Final = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99)


class Summary(msgspec.Struct, frozen=True):
    """Latencies in milliseconds; all 0 when nothing was measured.

    :ivar count: how many were measured.
    :ivar curve: pairs of percentile (percent) and latency, as far as the count supports them.
    """

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float
    curve: list[tuple[float, float]]


class Latencies:
    """Any number of latencies."""

    def __init__(self) -> None:
        self._classes = array("Q", bytes(8 * _CLASSES))
        self._sum = 0.0
        self._min = math.inf
        self._max = 0.0
        self.count = 0

    def add(self, seconds: float) -> None:
        """One more; a time that is not positive, by the clock's grain, counts as 1 µs."""
        us = max(seconds * 1e6, 1.0)
        self._classes[min(int(math.log(us) / _LOG), _CLASSES - 1)] += 1
        self.count += 1
        self._sum += us
        self._min = min(self._min, us)
        self._max = max(self._max, us)

    def percentiles(self, shares: list[float]) -> list[float]:
        """Milliseconds below which each share (ascending, in percent) of them lie."""
        found: list[float] = []
        passed, place = 0, -1
        for share in shares:
            rank = max(1, math.ceil(self.count * share / 100))
            while passed < rank and place < _CLASSES - 1:
                place += 1
                passed += self._classes[place]
            middle = math.exp((place + 0.5) * _LOG)
            found.append(min(max(middle, self._min), self._max) / 1000)
        return found

    def summary(self) -> Summary:
        if not self.count:
            return Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, [])
        p50, p90, p95, p99, p999 = self.percentiles([50, 90, 95, 99, 99.9])
        supported = [share for share in CURVE if self.count * (100 - share) >= 100]
        curve = list(zip(supported, self.percentiles(supported), strict=True))
        top = 100 * (1 - 1 / (self.count + 1))
        return Summary(
            count=self.count,
            mean=self._sum / self.count / 1000,
            min=self._min / 1000,
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            p999=p999,
            max=self._max / 1000,
            curve=[*((share, value) for share, value in curve if share < top), (top, self._max / 1000)],
        )
