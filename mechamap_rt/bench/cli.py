"""The command line: ``run`` measures servers that it starts, ``load`` one that is already running.

The load tests that operators aim at their servers are in :mod:`mechamap_rt.bench.loadtest`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console

from mechamap_rt.bench import report
from mechamap_rt.bench.contenders import API_KEY, JWT_SECRET
from mechamap_rt.bench.job import BenchError, DialectName, Job, ServerName, require_loopback
from mechamap_rt.bench.loadtest import commands
from mechamap_rt.bench.runner import Progress, Row, generate, run_scenario
from mechamap_rt.bench.scenarios import SCENARIOS, scenario
from mechamap_rt.bench.shape import Contender, Scenario

_NAMES = [each.name for each in SCENARIOS]
_COUNT = click.IntRange(min=1)
_FILE = click.Path(dir_okay=False, path_type=Path)
_WIDTH = 120


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Load a server of yours, or measure the project against its peers on this machine.

    `connections`, `fanout` and `http` are aimed at a server that is running; `tokens` is for other load tests.
    `run`, `list` and `load` are benchmarks.
    """


for _command in (commands.connections, commands.fanout, commands.http, commands.tokens):
    main.add_command(_command)


@main.command("list")
def list_scenarios() -> None:
    """List the scenarios, their rows and their targets."""
    for each in SCENARIOS:
        click.echo(f"{each.name:14} {each.title}; {each.unit}")
        click.echo(f"{'':14} rows: {', '.join(row.label for row in each.contenders)}")
        none = {row.label: Row(contender=row.label, server=row.server, dialect=row.dialect) for row in each.contenders}
        for target in each.targets:
            verdict = report.verdict(target, none, each)
            click.echo(f"{'':14} target: {report.aim(verdict, verdict.unit, verdict.factor)}")


@main.command("run")
@click.argument("scenarios", nargs=-1, type=click.Choice(_NAMES))
@click.option("--repeat", default=3, show_default=True, type=_COUNT, help="Times each row is measured.")
@click.option("--quick", is_flag=True, help="A few seconds that show that it works; no figure means much.")
@click.option("--only", multiple=True, type=click.Choice(get_args(ServerName)), help="Only these servers.")
@click.option("--json", "path", type=_FILE, help="Write everything measured to this file.")
def run(scenarios: tuple[str, ...], repeat: int, quick: bool, only: tuple[str, ...], path: Path | None) -> None:
    """Measure SCENARIOS, or all of them.

    The npm peer is measured if it was installed with `npm ci --prefix bench/peer`. Ends with 1 if a
    measurement failed; a target that was not reached is reported and no failure.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and generators are ended too
    console, noise = Console(width=None if os.isatty(1) else _WIDTH), Console(stderr=True)
    started, failed = report.timestamp(), False
    repeat = 1 if quick else repeat
    done: list[report.ScenarioReport] = []
    for each in [scenario(name) for name in scenarios] or SCENARIOS:
        contenders = [row for row in each.contenders if not only or row.server in only]
        if not contenders:
            continue
        rows = run_scenario(each, contenders=contenders, repeat=repeat, quick=quick, progress=_progress(noise, repeat))
        failed = failed or any(row.faults for row in rows)
        done.append(report.scenario_report(each, rows))
        report.show(done[-1], console)
    document = report.Report(
        version=1, started=started, quick=quick, repeat=repeat, machine=report.machine(), scenarios=done
    )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    raise SystemExit(1 if failed else 0)


def _progress(noise: Console, repeat: int) -> Progress:
    def tell(each: Scenario, contender: Contender, number: int) -> None:
        noise.print(f"[dim]{each.name} {contender.label} {number}/{repeat}[/dim]", highlight=False)

    return tell


@main.command("load")
@click.argument("name", metavar="SCENARIO", type=click.Choice(_NAMES))
@click.option("--target", default="http://127.0.0.1:3000", show_default=True, help="On this machine.")
@click.option("--dialect", default="socketio", show_default=True, type=click.Choice(get_args(DialectName)))
@click.option("--pid", default=0, help="The server's process; without it no CPU or memory is measured.")
@click.option("--connections", type=_COUNT, help="Instead of the scenario's.")
@click.option("--operations", type=_COUNT, help="Publications or requests, instead of the scenario's.")
@click.option("--in-flight", type=_COUNT, help="Publications under way at once, instead of the scenario's.")
@click.option("--workers", default=1, type=_COUNT, help="The server's workers, all of which are posted to.")
@click.option("--control", default="", help="The server's control socket, for the scenario `reload`.")
def load(
    name: str,
    target: str,
    dialect: DialectName,
    pid: int,
    connections: int | None,
    operations: int | None,
    in_flight: int | None,
    workers: int,
    control: str,
) -> None:
    """Put the load of SCENARIO on a server that is already running, for a profiler to look at.

    JWT_SECRET and LARAVEL_API_KEY are taken from the environment. Prints the result as JSON.
    """
    place, size = urlsplit(target), scenario(name).size
    try:
        require_loopback(place.hostname or "")
        job = Job(
            load=scenario(name).load,
            dialect=dialect,
            host=place.hostname or "",
            port=place.port or 80,
            pid=pid,
            jwt_secret=os.environ.get("JWT_SECRET", JWT_SECRET),
            api_key=os.environ.get("LARAVEL_API_KEY", API_KEY),
            workers=workers,
            control=control,
            connections=connections or size.connections,
            operations=operations or size.operations,
            warmup=size.warmup,
            in_flight=in_flight or size.in_flight,
            rate=size.rate,
            settle=size.settle,
            drain=size.drain,
            timeout=600.0,
        )
        result = generate(job)
    except BenchError as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2))
