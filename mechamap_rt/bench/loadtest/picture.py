"""The percentiles of a load test as SVG: both axes logarithmic, readable on light and on dark ground."""

from __future__ import annotations

import math
from typing import Final
from xml.sax.saxutils import escape

from mechamap_rt.bench.loadtest.outcome import Check, Report
from mechamap_rt.bench.loadtest.show import check, number

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 28, 92, 96
#: What two texts beside one another take.
_ROOM: Final = 170
#: Percentiles that the axis names.
_NAMED: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
_STEPS: Final = (1, 2, 5)
_STYLE: Final = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
.title { font-size: 17px; font-weight: 600; } .small { font-size: 12px; fill: #57606a; }
.ground { fill: #ffffff; } .grid { stroke: #d0d7de; } .axis { stroke: #57606a; }
.curve { fill: none; stroke: #0b62c4; stroke-width: 2.5; stroke-linejoin: round; }
.area { fill: #0b62c4; fill-opacity: .10; } .dot { fill: #0b62c4; }
.halo { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
.limit { stroke: #1a7f37; stroke-width: 2; stroke-dasharray: 6 4; } .met { fill: #1a7f37; font-weight: 600; }
.missed { fill: #cf222e; font-weight: 600; } line.over { stroke: #cf222e; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .small { fill: #9198a1; } .ground { fill: #0d1117; } .grid { stroke: #30363d; }
.axis { stroke: #9198a1; } .curve { stroke: #58a6ff; } .area, .dot { fill: #58a6ff; } .halo { stroke: #0d1117; }
.limit { stroke: #3fb950; } .met { fill: #3fb950; } .missed { fill: #ff7b72; } line.over { stroke: #ff7b72; }
}
"""


class _Scale:
    """Places on the picture, in its own units."""

    def __init__(self, curve: list[tuple[float, float]], limits: list[float]) -> None:
        values = [max(value, 1e-3) for _, value in curve] + [limit for limit in limits if limit > 0]
        self.low, self.high = _step_below(min(values)), _step_above(max(values) * 1.25)
        self._top = max(_nines(99.0), _nines(curve[-1][0]))

    def x(self, percentile: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * _nines(percentile) / self._top

    def y(self, value: float) -> float:
        part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * part

    def values(self) -> list[float]:
        """What the vertical axis names: 1, 2 and 5 of each power of ten, or 1 alone where there are many."""
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = _STEPS if high - low <= 3 else (1,)
        ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
        return [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]

    def percentiles(self) -> list[float]:
        return [each for each in _NAMED if _nines(each) <= self._top + 1e-9]


def _nines(percentile: float) -> float:
    """How many nines a percentile has: each takes as much room as the one before it."""
    return -math.log10(1 - min(percentile, 99.99999) / 100)


def _step_below(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in _STEPS if step * power <= value * 0.999 or step == 1)


def _step_above(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return min(step * power for step in (*_STEPS, 10) if step * power > value * 1.001)


def draw(report: Report) -> str:
    """The picture; without latencies it says what failed instead."""
    measured, curve = report.measured, report.measured.latency_ms.curve
    latency_checks = [each for each in report.checks if each.unit == "ms"]
    counts = ", ".join(f"{count:,} {name}" for name, count in list(measured.counts.items())[:6] if count)
    title = f"{report.command}: {report.target}"
    verdict = "passed" if report.passed else "limits missed"
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" role="img" aria-label="{_text(f"Latency percentiles of {title}", quoted=True)}">'
        ),
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>',
        _write(24, 32, title[:74], "title"),
        _write(24, 53, counts[:110], "small"),
        _write(24, 74, f"Latency {measured.latency_of}"[:110], "small"),
        _write(_WIDTH - 24, 32, verdict, "met" if report.passed else "missed", "end"),
    ]
    if curve:
        scale = _Scale(curve, [each.limit for each in latency_checks])
        parts += [*_axes(scale), *_curve(scale, curve), *(_limit(scale, each) for each in latency_checks)]
    else:
        parts.append(_write(_WIDTH / 2, _HEIGHT / 2, "nothing was measured", "missed", "middle"))
    parts += [*_footer(report), "</svg>"]
    return "\n".join(parts) + "\n"


def _axes(scale: _Scale) -> list[str]:
    floor = _HEIGHT - _BOTTOM
    parts = []
    for value in scale.values():
        y = scale.y(value)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "grid"))
        parts.append(_write(_LEFT - 8, y + 4, f"{value:g} ms", "small", "end"))
    for percentile in scale.percentiles():
        x = scale.x(percentile)
        parts.append(_line(x, _TOP, x, floor, "grid"))
        parts.append(_write(x, floor + 18, f"{percentile:g} %" if percentile else "fastest", "small", "middle"))
    parts.append(_line(_LEFT, floor, _WIDTH - _RIGHT, floor, "axis"))
    return parts


def _curve(scale: _Scale, curve: list[tuple[float, float]]) -> list[str]:
    points = [(scale.x(share), scale.y(value)) for share, value in curve]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    floor = _HEIGHT - _BOTTOM
    parts = [
        f'<polygon class="area" points="{points[0][0]:.1f},{floor} {path} {points[-1][0]:.1f},{floor}"/>',
        f'<polyline class="curve" points="{path}"/>',
    ]
    for (share, value), (x, y) in zip(curve, points, strict=True):
        last = share == curve[-1][0]
        if last or (share in (50.0, 90.0, 99.0, 99.9) and points[-1][0] - x > _ROOM):
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
            # below the curve, which only rises
            beside = (x - 6, "end") if x > _WIDTH - _RIGHT - _ROOM else (x + 6, "start")
            words = f"{'max ' if last else ''}{number(value)} ms"
            parts.append(_write(beside[0], y + 20, words, "halo", beside[1]))
    return parts


def _limit(scale: _Scale, each: Check) -> str:
    """A limit is a line up to the percentile that it is one for."""
    x, y = scale.x(float(each.name[1:])), scale.y(each.limit)
    kind = "limit" if each.met else "limit over"
    return _line(_LEFT, y, x, y, kind) + _write(
        _LEFT + 6, y - 6, f"{each.name} at most {each.limit:g} ms", f"halo {'met' if each.met else 'missed'}"
    )


def _footer(report: Report) -> list[str]:
    words = [check(each) for each in report.checks]
    if not words:
        words = [f"{each.count:,} {each.kind}: {each.reason}" for each in report.measured.failures[:2]]
    lines = [" · ".join(words[:3]), " · ".join(words[3:6])]
    lines = [line[:104] for line in lines if line]
    lines.append(f"{report.started}, {report.seconds:.1f} s")
    return [_write(24, _HEIGHT - 48 + 19 * place, line, "small") for place, line in enumerate(lines)]


def _text(text: str, *, quoted: bool = False) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return escape(printable, {'"': "&quot;"} if quoted else {})


def _write(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{_text(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
