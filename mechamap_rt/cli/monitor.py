"""What ``mechamapctl monit`` draws: the figures of the server, again and again, on a terminal."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mechamap_rt.cli import units
from mechamap_rt.cli.failure import Failure
from mechamap_rt.cli.terminal import fit, safe
from mechamap_rt.core.metrics import quantile

Figures = dict[str, Any]

_SUMS: Final = ("people", "connections", "messages", "published", "p50", "p99", "http")
#: Characters of a bar.
BAR: Final = 12
#: Errors, and alerts, that find room.
SHOWN: Final = 5


def watch(ask: Callable[[], Figures], interval: float) -> None:
    """Draw until ``q`` is pressed, or Ctrl-C."""
    console = Console(highlight=False)
    # while it draws, rich has another in its place
    stream = sys.stdout
    before = ask()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        fault = ""
        now = before
        while True:
            live.update(_screen(before, now, fault, stream), refresh=True)
            if pressed(interval):
                return
            try:
                before, now, fault = now, ask(), ""
            except Failure as failure:
                # it may be restarting: what was last known stays
                fault = str(failure)


def once(before: Figures, now: Figures, stream: TextIO) -> None:
    """Draw it one time."""
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 110)
    console.print(_screen(before, now, "", stream))


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Gives what waits so many seconds for ``q``, and says whether it came."""
    if not sys.stdin.isatty():
        yield _wait
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    saved = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([descriptor], [], [], left)[0] and os.read(descriptor, 16)[:1] in b"qQ\x03":
                return True
        return False

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _screen(before: Figures, now: Figures, fault: str, stream: TextIO) -> RenderableType:
    parts: list[RenderableType] = [_head(now, fault), _sums(before, now), _workers(now, stream)]
    parts += [Panel(_alert(each, stream), style="red", box=_box(stream)) for each in now["alerts"][:SHOWN]]
    parts.append(_lists(now, stream))
    return Group(*parts)


def _box(stream: TextIO) -> box.Box:
    return box.SIMPLE_HEAD if stream.encoding.lower().startswith("utf") else box.ASCII2


def _head(now: Figures, fault: str) -> Text:
    host = now["host"]
    state = "degraded" if now["degraded"] else str(host["state"])
    style = "bold red" if fault or now["alerts"] else "yellow" if now["degraded"] else "green"
    text = Text.assemble(
        ("mechamap_rt ", "bold"), (f"{host['version']}  "), (f"{state}  ", style), (f"host {host['host']}  ", "dim")
    )
    text.append(time.strftime("%H:%M:%S", time.localtime(now["at"])), "dim")
    text.append(f"  {fault}" if fault else "  q ends", "red" if fault else "dim")
    return text


def _sums(before: Figures, now: Figures) -> Table:
    passed = now["at"] - before["at"]

    def rate(name: str) -> str:
        since = now["totals"][name] - before["totals"][name]
        return f"{since / passed:,.1f}/s" if passed > 0 and since >= 0 else units.UNKNOWN

    counts = [after - earlier for after, earlier in zip(now["latency"][0], before["latency"][0], strict=True)]
    known = passed > 0 and sum(counts) > 0 and min(counts) >= 0
    latency = [units.milliseconds(1000 * quantile(counts, part)) if known else units.UNKNOWN for part in (0.5, 0.99)]
    totals = now["totals"]
    table = Table.grid(padding=(0, 4))
    table.add_row(*(Text(name, "dim") for name in _SUMS))
    table.add_row(
        Text(units.count(int(totals["users"])), "bold"),
        Text(units.count(int(totals["connections"])), "bold"),
        Text(rate("delivered"), "bold"),
        Text(rate("published"), "bold"),
        Text(latency[0], "bold"),
        Text(latency[1], "bold"),
        Text(rate("requests"), "bold"),
    )
    return table


def _workers(now: Figures, stream: TextIO) -> Table:
    table = Table(box=_box(stream), show_edge=False, pad_edge=False)
    for heading in ("worker", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("up for", "connections", "cpu", "memory", "lag", "waiting"):
        table.add_column(heading, justify="right", no_wrap=True)
    local = {worker["node"]: worker for worker in now["host"]["workers"] or ()}
    for row in sorted(now["processes"], key=lambda each: str(each["worker"])):
        worker = local.get(row["worker"])
        table.add_row(
            f"{worker['worker']} {row['worker']}" if worker else row["worker"],
            worker["state"] if worker else "other host",
            units.duration(row["uptime"]),
            units.count(row["connections"]),
            Text.assemble(_bar(row["cpu"] / 100, stream), f" {units.percent(row['cpu']):>5}"),
            units.size(row["rss"]),
            units.milliseconds(row["lag"] * 1000),
            units.size(row["queued"]),
        )
    return table


def _bar(share: float, stream: TextIO) -> Text:
    full = "█" if stream.encoding.lower().startswith("utf") else "#"
    filled = round(BAR * min(max(share, 0.0), 1.0))
    return Text(full * filled + " " * (BAR - filled), "red" if share > 0.8 else "green")


def _alert(alert: Figures, stream: TextIO) -> Text:
    return Text(fit(safe(f"{alert['name']}: {alert['message']}"), stream))


def _lists(now: Figures, stream: TextIO) -> Table:
    table = Table.grid(padding=(0, 4), expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=2)
    channels = Table(box=_box(stream), show_edge=False, pad_edge=False)
    channels.add_column("channel", overflow="ellipsis", no_wrap=True)
    channels.add_column("subscribers", justify="right")
    for row in now["top"]:
        channels.add_row(Text(fit(safe(row["name"]), stream)), units.count(row["count"]))
    errors = Table(box=_box(stream), show_edge=False, pad_edge=False)
    errors.add_column("recent errors", overflow="ellipsis", no_wrap=True)
    for row in now["errors"][:SHOWN]:
        moment = time.strftime("%H:%M:%S", time.localtime(row["time"]))
        errors.add_row(Text(fit(safe(f"{moment} {row['message']}".partition("\n")[0]), stream)))
    if not now["errors"]:
        errors.add_row(Text("none", "dim"))
    table.add_row(channels, errors)
    return table
