"""The commands that the running server executes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import click

from mechamap_rt.cli.asking import QUICK, command, result_of, show_result
from mechamap_rt.cli.failure import Failure
from mechamap_rt.cli.kinds import DURATION
from mechamap_rt.cli.options import choices, print_json

SLOW: Final = 300.0
"""Seconds that may pass between two signs of life while it starts and drains workers."""

_LEVELS: Final = ("debug", "info", "warn", "error", "critical", "default")

_user_id = click.IntRange(1, 2**63 - 1)
_worker = click.IntRange(1)


@command("status")
def status() -> None:
    """Show how the server is, and its workers."""
    from mechamap_rt.cli import views

    show_result(result_of("status"), views.status)


@command("workers")
def workers() -> None:
    """List the worker processes."""
    from mechamap_rt.cli import views

    show_result(result_of("workers"), views.workers)


@command("reload")
@click.option("--drain", type=DURATION, help="How long old workers may take to let their clients go: 20s, 1m.")
def reload(drain: float | None) -> None:
    """Replace all workers by new ones.

    The port stays open meanwhile. Waits until it is done.
    """
    from mechamap_rt.cli import views

    show_result(result_of("reload", SLOW + (drain or 0), drain=drain), views.reload)


# Else "-1" would be an unknown option.
@command("scale", context_settings={"ignore_unknown_options": True})
@click.argument("to", metavar="N|+N|-N")
def scale(to: str) -> None:
    """Have N workers, or N more, or N fewer."""
    from mechamap_rt.cli import views

    if not re.fullmatch(r"[+-]?[0-9]{1,6}", to):
        raise click.BadParameter(f"{to!r} is not a number such as 3, +1 or -1.", param_hint="N")
    show_result(result_of("scale", SLOW, to=to), views.scale)


@command("restart")
@click.argument("worker", type=_worker)
def restart(worker: int) -> None:
    """Put a new worker in WORKER's place.

    Waits until it is done.
    """
    from mechamap_rt.cli import views

    show_result(result_of("restart", SLOW, worker=worker), views.restart)


@command("drain")
@click.argument("worker", type=_worker)
def drain(worker: int) -> None:
    """Have WORKER let its clients go.

    They come back to the other workers. Waits until it is done.
    """
    from mechamap_rt.cli import views

    show_result(result_of("drain", SLOW, worker=worker), views.drain)


@command("connections")
@click.option("--user", type=_user_id, help="Only this user's.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most that are listed.")
def connections(user: int | None, limit: int) -> None:
    """List who is connected."""
    from mechamap_rt.cli import views

    show_result(result_of("connections", user=user, limit=limit), views.connections)


@command("disconnect")
@click.argument("user", type=_user_id)
def disconnect(user: int) -> None:
    """End every connection of USER (an id)."""
    from mechamap_rt.cli import views

    show_result(result_of("disconnect", user=user), views.disconnect)


@command("channels")
@click.option("--match", metavar="TEXT", help="Only channels with this in their names.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The most that are listed.")
def channels(match: str | None, limit: int) -> None:
    """List the channels that have subscribers."""
    from mechamap_rt.cli import views

    show_result(result_of("channels", match=match, limit=limit), views.channels)


@command("publish")
@click.argument("channel")
@click.argument("event")
@click.argument("data", default="{}")
def publish(channel: str, event: str, data: str) -> None:
    """Publish EVENT on CHANNEL.

    DATA is a JSON object, or - to read it from standard input; {} if it is not given.
    """
    from mechamap_rt.cli import views

    parsed = _parse(sys.stdin.buffer.read() if data == "-" else data)
    show_result(result_of("publish", channel=channel, event=event, data=parsed), views.publish)


def _parse(data: str | bytes) -> Any:
    try:
        parsed = json.loads(data)
        # Python reads NaN and 1e999, which no JSON can say.
        json.dumps(parsed, allow_nan=False)
    except (ValueError, RecursionError) as error:
        hint = 'An object, in quotes for the shell: mechamapctl publish thread.1 note \'{"text": "hello"}\''
        raise Failure("BAD_DATA", f"DATA is not JSON: {error}", hint, field="data") from None
    return parsed


@command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many of the latest lines."
)
def logs(follow: bool, lines: int) -> None:
    """Show what the server has logged."""
    result_of("logs", None if follow else QUICK, _print_log_line, follow=follow, lines=lines)


@command("log-level")
@click.argument("level", required=False, type=click.Choice(_LEVELS))
@click.option("--logger", metavar="PREFIX", help="Only of loggers whose names begin so: mechamap_rt.bus.")
def log_level(level: str | None, logger: str | None) -> None:
    """Show from which level on the server logs, or change it.

    In all its processes on this host, at once and for those to come, until it is restarted. The level `default` is
    what LOG_LEVEL says, or with --logger that of all the others.
    """
    from mechamap_rt.cli import views

    show_result(result_of("log-level", level=level, logger=logger), views.log_level)


def _print_log_line(progress: dict[str, Any]) -> None:
    from mechamap_rt.cli.terminal import fit, safe

    line = str(progress.get("line", ""))
    if choices().as_json:
        print_json({"line": line}, indent=None)
    else:
        click.echo(fit(safe(line), sys.stdout))


@command("manhole")
@click.argument("worker", metavar="[WORKER|master]", required=False)
@click.option("-i", "--identity", type=click.Path(path_type=Path), help="The file of your private key, as ssh has it.")
@click.option("--print", "only_print", is_flag=True, help="Print the ssh command and do not run it.")
def manhole(worker: str | None, identity: Path | None, only_print: bool) -> None:
    """Open a Python shell in WORKER (a number).

    Without one, in the least busy worker. It is a debugger, not a tool of every day: a statement that does not end
    stops whoever that worker serves.
    """
    from mechamap_rt.cli.manhole import become, ssh, without_terminal, written

    if worker is not None and worker != "master" and not re.fullmatch(r"[1-9][0-9]{0,8}", worker):
        raise click.BadParameter(f"{worker!r} is neither the number of a worker nor master.", param_hint="WORKER")
    found = result_of("manhole", worker=None if worker is None else 0 if worker == "master" else int(worker))
    words = ssh(found, identity)
    if choices().as_json:
        print_json(found | {"command": words})
    elif only_print:
        click.echo(written(words))
    else:
        become(words if sys.stdin.isatty() else without_terminal(words))


COMMANDS: Final[tuple[click.Command, ...]] = (
    status,
    workers,
    connections,
    channels,
    logs,
    log_level,
    publish,
    disconnect,
    reload,
    restart,
    drain,
    scale,
    manhole,
)
"""In the order of the help: looking first, then what changes something."""
