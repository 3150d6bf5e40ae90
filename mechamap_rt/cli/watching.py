"""Commands that look: what is going on now, what there is most of, and what became of a message."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import click

from mechamap_rt.cli.asking import command, result_of, show_result
from mechamap_rt.cli.options import choices, print_json


@command("monit")
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Show it once, and end.")
def monit(interval: float, once: bool) -> None:
    """Watch the server: people, messages, latency, workers, alerts.

    Until q or Ctrl-C. Without a terminal, or with --json, once, after one interval.
    """
    from mechamap_rt.cli import monitor

    if choices().as_json:
        return print_json(_live())
    if once or not sys.stdout.isatty():
        first = _live()
        time.sleep(interval)
        monitor.once(first, _live(), sys.stdout)
        return None
    monitor.watch(_live, interval)
    return None


def _live() -> dict[str, Any]:
    live = result_of("live")
    live["top"] = result_of("top", of="channels", limit=8)["top"]
    live["errors"] = result_of("errors")["errors"]
    return live


@command("top")
@click.argument("of", type=click.Choice(("channels", "users", "events")))
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many.")
def top(of: str, limit: int) -> None:
    """Show the channels, users or events that there is most of.

    Channels by subscribers, users by connections, events by how often they were published since the start.
    """
    from mechamap_rt.cli import views

    show_result(result_of("top", of=of, limit=limit), views.top)


@command("trace")
@click.argument("message")
@click.option("--user", type=click.IntRange(1, 2**63 - 1), help="Why this user has it, or has not.")
def trace(message: str, user: int | None) -> None:
    """Tell what became of MESSAGE: a publication's id.

    The answer to its publisher has it, and so has what `publish` prints.
    """
    from mechamap_rt.cli import views

    show_result(result_of("trace", publication=message, user=user), views.trace)


WATCHING: Final[tuple[click.Command, ...]] = (monit, top, trace)
"""In the order of the help."""
