"""Figures out of measurements: medians, ratios, targets; as tables and as JSON."""

from __future__ import annotations

import operator
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
from mechamap_rt.bench.shape import Column, Relation, Scenario, Target

#: A generator with no more of its core left than this, while the server had some left, was the limit.
GENERATOR_FULL, SERVER_FULL = 0.95, 0.80
_TIMED = ("p50 ms", "p99 ms", "busy", "generator")


class Spread(msgspec.Struct, frozen=True):
    """Several measurements of one figure."""

    median: float
    low: float
    high: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target and what came of it.

    :ivar value: the figure or the relation; ``None`` when it was not measured.
    :ivar met: ``None`` when it was not measured.
    :ivar factor: what a speed-up was multiplied by.
    :ivar unit: of the figure.
    """

    subject: str
    against: str | None
    limit: float
    value: Spread | None
    met: bool | None
    figure: str = ""
    relation: Relation = "ratio"
    least: bool = False
    factor: int = 1
    unit: str = ""


class ScenarioReport(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario with everything that was measured and derived."""

    name: str
    title: str
    unit: str
    rows: list[Row]
    values: dict[str, Spread]
    ratios: dict[str, dict[str, Spread]]
    targets: list[Verdict]
    figures: dict[str, dict[str, Spread]] = {}
    columns: list[Column] = []
    references: list[str] = []
    timed: bool = True
    note: str = ""


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
    return _related(row, other, value_of, _QUOTIENT)


def value_of(run: Result, name: str = "") -> float:
    """A figure by its name; the main one without; 0 when the load does not have it."""
    if name == "p99":
        return run.p99_ms
    return run.figures.get(name, 0.0) if name else run.value


_QUOTIENT: Callable[[float, float], float] = operator.truediv


def _related(
    row: Row, other: Row, take: Callable[[Result], float], relate: Callable[[float, float], float]
) -> Spread | None:
    runs = [(mine, its) for mine, its in zip(row.runs, other.runs, strict=False) if mine and its]
    pairs = [(take(mine), take(its)) for mine, its in runs]
    return _spread([relate(mine, its) for mine, its in pairs if mine > 0 and its > 0])


def verdict(target: Target, rows: dict[str, Row], scenario: Scenario) -> Verdict:
    """Hold the measurements against a target; a relation is judged by its median."""
    factor = max(1, *(each.arrangement.workers for each in scenario.contenders if each.label == target.subject))
    relations: dict[Relation, Callable[[float, float], float]] = {
        "ratio": _QUOTIENT,
        "difference": operator.sub,
        "speedup": lambda mine, its: factor * its / mine,
    }

    def take(run: Result) -> float:
        return value_of(run, target.figure)

    value: Spread | None = None
    if target.subject in rows:
        if target.against is None:
            value = figure(rows[target.subject], take)
        elif target.against in rows:
            value = _related(rows[target.subject], rows[target.against], take, relations[target.relation])
    met = None
    if value is not None:
        met = value.median >= target.limit if target.least else value.median <= target.limit
    units = {"": scenario.unit, "p99": "ms p99"} | {column.figure: column.unit for column in scenario.columns}
    return Verdict(
        subject=target.subject,
        against=target.against,
        limit=target.limit,
        value=value,
        met=met,
        figure=target.figure,
        relation=target.relation,
        least=target.least,
        factor=factor,
        unit=units[target.figure],
    )


def scenario_report(scenario: Scenario, rows: list[Row]) -> ScenarioReport:
    """Derive what the report says about one scenario."""
    by_label = {row.contender: row for row in rows}
    references = [by_label[label] for label in scenario.references if label in by_label]
    return ScenarioReport(
        name=scenario.name,
        title=scenario.title,
        unit=scenario.unit,
        rows=rows,
        values=_known({label: figure(row, value_of) for label, row in by_label.items()}),
        ratios={
            label: _known({other.contender: ratio(row, other) for other in references if other is not row})
            for label, row in by_label.items()
        },
        targets=[verdict(target, by_label, scenario) for target in scenario.targets if target.subject in by_label],
        figures={label: _further(row) for label, row in by_label.items()},
        columns=list(scenario.columns),
        references=list(scenario.references),
        timed=scenario.timed,
        note=scenario.note,
    )


def _known(spreads: dict[str, Spread | None]) -> dict[str, Spread]:
    return {name: spread for name, spread in spreads.items() if spread is not None}


def _further(row: Row) -> dict[str, Spread]:
    """The further figures of a row."""
    names = dict.fromkeys(name for run in row.runs if run is not None for name in run.figures)
    return _known(
        {name: _spread([run.figures[name] for run in row.runs if run and name in run.figures]) for name in names}
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
    headings = (report.unit, "min–max", *(f"÷ {name}" for name in report.references))
    further = (column.heading for column in report.columns)
    for heading in (*headings, *further, *(_TIMED if report.timed else ()), "lost"):
        shown.add_column(heading, justify="right")
    for row in report.rows:
        ratios, figures = report.ratios.get(row.contender, {}), report.figures.get(row.contender, {})
        shown.add_row(
            row.contender,
            _median(report.values.get(row.contender)),
            _range(report.values.get(row.contender)),
            *(_median(ratios.get(name)) for name in report.references),
            *(_median(figures.get(column.figure)) for column in report.columns),
            *(_timed(row) if report.timed else ()),
            str(sum(run.lost for run in row.runs if run is not None)),
        )
    faults = {(row.contender, fault): None for row in report.rows for fault in row.faults}
    faults |= {(row.contender, fault): None for row in report.rows for run in row.runs if run for fault in run.faults}
    shown.caption = "\n".join(
        [*([report.note] if report.note else []), *(sentence(each) for each in report.targets)]
        + [f"{contender}: {fault}" for contender, fault in faults]
    )
    return shown


def _timed(row: Row) -> tuple[str, ...]:
    return (
        _median(figure(row, lambda run: run.p50_ms)),
        _median(figure(row, lambda run: run.p99_ms)),
        _share(figure(row, server_share)),
        _share(figure(row, lambda run: run.generator_share)) + (" (limit)" if limited(row) else ""),
    )


def aim(target: Target | Verdict, unit: str, factor: int = 1) -> str:
    """What is aimed at, in words."""
    sign = "≥" if target.least else "≤"
    its = f"{unit} of " if target.figure else ""
    limit = f"{target.limit:.4g}"
    if target.against is None:
        return f"{target.subject} {sign} {limit} {unit}"
    if target.relation == "speedup":
        return f"{factor} × {its}{target.against} ÷ {target.subject} {sign} {limit}"
    if target.relation == "difference":
        return f"{its}{target.subject} − {target.against} {sign} {limit} {unit}"
    return f"{its}{target.subject} {sign} {limit} × {target.against}"


def sentence(target: Verdict) -> str:
    """A target in words: what was aimed at, what was reached, and whether the repeats agree about it."""
    words = aim(target, target.unit, target.factor)
    if target.value is None:
        return f"{words}: not measured"
    outcome = "met" if target.met else "not reached"
    if target.value.low < target.limit < target.value.high:
        outcome += ", within the spread"
    return f"{words}: {_median(target.value)} ({_range(target.value)}), {outcome}"


def show(report: ScenarioReport, console: Console) -> None:
    """Print one scenario."""
    console.print(table(report))
    console.print()
