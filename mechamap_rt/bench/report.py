"""Figures out of measurements: medians, ratios, targets; as tables and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from mechamap_rt.bench.job import Result
from mechamap_rt.bench.runner import Row
from mechamap_rt.bench.scenarios import Scenario, Target

#: A generator with no more of its core left than this, while the server had some left, was the limit.
GENERATOR_FULL, SERVER_FULL = 0.95, 0.80
REFERENCES = ("npm", "sendloop")
_HEADINGS = ("min–max", "÷ npm", "÷ sendloop", "p50 ms", "p99 ms", "busy", "generator", "lost")


class Spread(msgspec.Struct, frozen=True):
    """Several measurements of one figure."""

    median: float
    low: float
    high: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target and what came of it.

    :ivar value: the figure or the ratio; ``None`` when it was not measured.
    :ivar met: ``None`` when it was not measured.
    """

    subject: str
    against: str | None
    limit: float
    value: Spread | None
    met: bool | None


class ScenarioReport(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario with everything that was measured and derived."""

    name: str
    title: str
    unit: str
    rows: list[Row]
    values: dict[str, Spread]
    ratios: dict[str, dict[str, Spread]]
    targets: list[Verdict]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document."""

    version: int
    started: str
    quick: bool
    repeat: int
    machine: dict[str, Any]
    scenarios: list[ScenarioReport]


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


def figure(row: Row, take: Callable[[Result], float]) -> Spread | None:
    """A figure of a row over its repeats."""
    return _spread([take(run) for run in row.runs if run is not None])


def ratio(row: Row, other: Row) -> Spread | None:
    """The ratio of two rows' figures, repeat by repeat: what disturbs both cancels out."""
    pairs = zip(row.runs, other.runs, strict=False)
    return _spread([mine.value / its.value for mine, its in pairs if mine and its and its.value > 0])


def verdict(target: Target, rows: dict[str, Row]) -> Verdict:
    """Hold the measurements against a target; a ratio is judged by its median."""
    value: Spread | None = None
    if target.subject in rows:
        if target.against is None:
            value = figure(rows[target.subject], lambda run: run.value)
        elif target.against in rows:
            value = ratio(rows[target.subject], rows[target.against])
    met = None if value is None else value.median <= target.limit
    return Verdict(subject=target.subject, against=target.against, limit=target.limit, value=value, met=met)


def scenario_report(scenario: Scenario, rows: list[Row]) -> ScenarioReport:
    """Derive what the report says about one scenario."""
    by_label = {row.contender: row for row in rows}
    values = {label: figure(row, lambda run: run.value) for label, row in by_label.items()}
    references = [by_label[label] for label in REFERENCES if label in by_label]
    ratios = {
        label: {other.contender: ratio(row, other) for other in references if other is not row}
        for label, row in by_label.items()
    }
    return ScenarioReport(
        name=scenario.name,
        title=scenario.title,
        unit=scenario.unit,
        rows=rows,
        values={label: value for label, value in values.items() if value is not None},
        ratios={
            label: {other: value for other, value in others.items() if value is not None}
            for label, others in ratios.items()
        },
        targets=[verdict(target, by_label) for target in scenario.targets if target.subject in by_label],
    )


def machine() -> dict[str, Any]:
    """What the measurements were made on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "")
    return {
        "cpus": os.cpu_count(),
        "model": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def timestamp() -> str:
    """Now, ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def server_share(run: Result) -> float:
    """The share of one core that the server used in the measured window."""
    return run.server_cpu_us / 1e6 / run.wall_s


def limited(row: Row) -> bool:
    """Whether the load generator, and not the server, set the pace of a measurement."""
    runs = [run for run in row.runs if run is not None]
    return any(run.generator_share > GENERATOR_FULL and server_share(run) < SERVER_FULL for run in runs)


def _share(value: Spread | None) -> str:
    return "–" if value is None else f"{value.median * 100:.0f} %"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _range(value: Spread | None) -> str:
    return "–" if value is None else f"{_number(value.low)}–{_number(value.high)}"


def _median(value: Spread | None) -> str:
    return "–" if value is None else _number(value.median)


def table(report: ScenarioReport) -> Table:
    """One scenario as a table."""
    shown = Table(title=f"{report.name}: {report.title}", title_justify="left", caption_justify="left")
    shown.add_column("server")
    for heading in (report.unit, *_HEADINGS):
        shown.add_column(heading, justify="right")
    for row in report.rows:
        ratios = report.ratios.get(row.contender, {})
        shown.add_row(
            row.contender,
            _median(report.values.get(row.contender)),
            _range(report.values.get(row.contender)),
            _median(ratios.get("npm")),
            _median(ratios.get("sendloop")),
            _median(figure(row, lambda run: run.p50_ms)),
            _median(figure(row, lambda run: run.p99_ms)),
            _share(figure(row, server_share)),
            _share(figure(row, lambda run: run.generator_share)) + (" (limit)" if limited(row) else ""),
            str(sum(run.lost for run in row.runs if run is not None)),
        )
    shown.caption = "\n".join(
        [sentence(each, report.unit) for each in report.targets]
        + [f"{row.contender}: {fault}" for row in report.rows for fault in row.faults]
    )
    return shown


def sentence(target: Verdict, unit: str) -> str:
    """A target in words: what was aimed at, what was reached, and whether the repeats agree about it."""
    aim = f"{target.subject} ≤ {target.limit:g} " + (f"× {target.against}" if target.against else unit)
    if target.value is None:
        return f"{aim}: not measured"
    outcome = "met" if target.met else "not reached"
    if target.value.low < target.limit < target.value.high:
        outcome += ", within the spread"
    return f"{aim}: {_median(target.value)} ({_range(target.value)}), {outcome}"


def show(report: ScenarioReport, console: Console) -> None:
    """Print one scenario."""
    console.print(table(report))
    console.print()
