"""A load test on the terminal: its progress, its table, its verdict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mechamap_rt.bench.loadtest.load import Tell
from mechamap_rt.bench.loadtest.outcome import Check, Report

#: Seconds between two looks at the bar; the loads tell of each step.
_REFRESH = 0.1
#: A generator that used so much of its core, in percent, was itself the limit.
GENERATOR_FULL = 90.0
#: Milliseconds: later than this with what was due, the generator was not at the rate that was asked for.
GENERATOR_LATE = 250.0


@contextmanager
def progress(console: Console) -> Iterator[Tell]:
    """A bar for as long as the load runs, on a terminal; nothing elsewhere."""
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=10) as bar:
        task = bar.add_task("connecting", total=None)
        told = 0.0

        def tell(what: str, done: float, total: float) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= _REFRESH:
                told = now
                bar.update(task, description=what, completed=done, total=total or None)

        yield tell


def number(value: float) -> str:
    """Three digits at least, and no more decimals than mean something."""
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def check(each: Check) -> str:
    """A limit in words."""
    unit = f" {each.unit}" if each.unit != "/s" else each.unit
    sign = "≥" if each.least else "≤"
    # as many digits as it takes to tell the two apart
    shown = number(each.value) if each.met or number(each.value) != number(each.limit) else f"{each.value:.6g}"
    return f"{each.name} {sign} {each.limit:g}{unit}: {shown}{unit}, {'met' if each.met else 'MISSED'}"


def notes(report: Report) -> list[str]:
    """What is to be known about the figures, besides the advice."""
    found = []
    if report.ended != "done":
        found.append(f"{report.ended}: these are the results until then")
    if report.generator.cpu_percent > GENERATOR_FULL and report.seconds > 1:
        found.append("the load generator used its whole core: latencies are partly its own; a smaller load tells more")
    if report.generator.late_ms > GENERATOR_LATE:
        found.append(
            f"what was due at a time was up to {number(report.generator.late_ms)} ms late, which counts as latency"
        )
    return found


def render(report: Report) -> RenderableType:
    """The results."""
    measured, latency = report.measured, report.measured.latency_ms
    figures = Table.grid(padding=(0, 2))
    figures.add_column()
    figures.add_column(justify="right")
    for name, count in measured.counts.items():
        figures.add_row(name, f"{count:,}")
    for name, rate in measured.rates.items():
        figures.add_row(f"{name} a second", number(rate))
    times = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    named = (
        ("min", latency.min), ("mean", latency.mean), ("p50", latency.p50), ("p90", latency.p90),
        ("p95", latency.p95), ("p99", latency.p99), ("p99.9", latency.p999), ("max", latency.max),
    )  # fmt: skip
    for name, _ in named:
        times.add_column(name, justify="right", no_wrap=True)
    times.add_row(*(number(value) for _, value in named))
    parts: list[RenderableType] = [
        Text(f"{report.command} {report.target}, {report.seconds:.1f} s", style="bold"),
        figures,
    ]
    if latency.count:
        parts += [Text(""), Text(f"latency in ms {measured.latency_of}:"), times]
    if measured.failures:
        parts += [Text(""), _failures(report)]
    parts += [Text(""), *map(Text, _processes(report))]
    parts += [Text(f"note: {each}", style="yellow") for each in (*measured.advice, *notes(report))]
    parts += [Text(check(each), style="green" if each.met else "bold red") for each in report.checks]
    verdict = ("passed", "bold green") if report.passed else ("limits missed", "bold red")
    parts.append(
        Text(verdict[0] if report.checks else "done, no limits given", style=verdict[1] if report.checks else "")
    )
    return Group(*parts)


def _failures(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for each in report.measured.failures:
        table.add_row(each.kind, f"{each.count:,}", Text(each.reason))
    return table


def _processes(report: Report) -> list[str]:
    lines = [f"generator: {report.generator.cpu_percent:.0f} % of a core"]
    if (server := report.server) is not None:
        many = f" and {server.processes - 1} more" if server.processes > 1 else ""
        lines.append(
            f"server: process {server.pid} ({server.command}){many}, {server.cpu_percent:.0f} % of a core, "
            f"{server.memory_before_mb:.1f} MB before, {server.memory_after_mb:.1f} MB under load"
        )
    return lines
