"""The commands that the running server executes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from mechamap_rt.cli.failure import Failure
from mechamap_rt.cli.kinds import DURATION
from mechamap_rt.cli.options import choices, env_file_option, json_option, print_json, reporting, server_options

if TYPE_CHECKING:
    from mechamap_rt.cli.terminal import Block

QUICK: Final = 10.0
"""Seconds in which the server answers what it only has to look up."""
SLOW: Final = 300.0
"""Seconds that may pass between two signs of life while it starts and drains workers."""

_Function = Callable[..., None]

_user_id = click.IntRange(1, 2**63 - 1)
_worker = click.IntRange(1)


def _command(name: str, **attributes: Any) -> Callable[[_Function], click.Command]:
    """A command of the server's, with the options that all of them have."""

    def decorate(function: _Function) -> click.Command:
        dressed = server_options()(env_file_option(json_option(reporting(function))))
        command: click.Command = click.command(name, **attributes)(dressed)
        return command

    return decorate


def _ask(
    command: str,
    silence: float | None = QUICK,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """The server's ``result``; its progress on standard error, unless ``on_progress`` takes it."""
    from mechamap_rt.cli.client import ask
    from mechamap_rt.cli.locate import connect

    chosen = choices()
    env_file = None if chosen.socket else chosen.settings_file()
    connection = connect(chosen.socket, os.environ, env_file, chosen.timeout or QUICK)
    return ask(connection, command, arguments, chosen.timeout or silence, on_progress or _tell_progress)


def _tell_progress(progress: dict[str, Any]) -> None:
    from mechamap_rt.cli.terminal import fit, safe

    click.echo(fit(safe(str(progress.get("text", ""))), sys.stderr), err=True)


def _show(result: dict[str, Any], view: Callable[[dict[str, Any]], Sequence[Block]]) -> None:
    if choices().as_json:
        print_json(result)
        return
    if result.get("degraded") and "mode" not in result:
        click.echo("The cluster is degraded: this is about this host only.", err=True)
    try:
        blocks = view(result)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Failure(
            "BAD_ANSWER",
            f"The server's answer has another shape than expected ({type(error).__name__}: {error})",
            "Is it another version's? `mechamapctl --version` tells this one's; `--json` shows the answer as it is.",
        ) from error
    from mechamap_rt.cli.terminal import show

    show(blocks, sys.stdout)


@_command("status")
def status() -> None:
    """Show how the server is, and its workers."""
    from mechamap_rt.cli import views

    _show(_ask("status"), views.status)


@_command("workers")
def workers() -> None:
    """List the worker processes."""
    from mechamap_rt.cli import views

    _show(_ask("workers"), views.workers)


@_command("reload")
@click.option("--drain", type=DURATION, help="How long old workers may take to let their clients go: 20s, 1m.")
def reload(drain: float | None) -> None:
    """Replace all workers by new ones.

    The port stays open meanwhile. Waits until it is done.
    """
    from mechamap_rt.cli import views

    _show(_ask("reload", SLOW + (drain or 0), drain=drain), views.reload)


# Else "-1" would be an unknown option.
@_command("scale", context_settings={"ignore_unknown_options": True})
@click.argument("to", metavar="N|+N|-N")
def scale(to: str) -> None:
    """Have N workers, or N more, or N fewer."""
    from mechamap_rt.cli import views

    if not re.fullmatch(r"[+-]?[0-9]{1,6}", to):
        raise click.BadParameter(f"{to!r} is not a number such as 3, +1 or -1.", param_hint="N")
    _show(_ask("scale", SLOW, to=to), views.scale)


@_command("restart")
@click.argument("worker", type=_worker)
def restart(worker: int) -> None:
    """Put a new worker in WORKER's place.

    Waits until it is done.
    """
    from mechamap_rt.cli import views

    _show(_ask("restart", SLOW, worker=worker), views.restart)


@_command("drain")
@click.argument("worker", type=_worker)
def drain(worker: int) -> None:
    """Have WORKER let its clients go.

    They come back to the other workers. Waits until it is done.
    """
    from mechamap_rt.cli import views

    _show(_ask("drain", SLOW, worker=worker), views.drain)


@_command("connections")
@click.option("--user", type=_user_id, help="Only this user's.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most that are listed.")
def connections(user: int | None, limit: int) -> None:
    """List who is connected."""
    from mechamap_rt.cli import views

    _show(_ask("connections", user=user, limit=limit), views.connections)


@_command("disconnect")
@click.argument("user", type=_user_id)
def disconnect(user: int) -> None:
    """End every connection of USER (an id)."""
    from mechamap_rt.cli import views

    _show(_ask("disconnect", user=user), views.disconnect)


@_command("channels")
@click.option("--match", metavar="TEXT", help="Only channels with this in their names.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The most that are listed.")
def channels(match: str | None, limit: int) -> None:
    """List the channels that have subscribers."""
    from mechamap_rt.cli import views

    _show(_ask("channels", match=match, limit=limit), views.channels)


@_command("publish")
@click.argument("channel")
@click.argument("event")
@click.argument("data", default="{}")
def publish(channel: str, event: str, data: str) -> None:
    """Publish EVENT on CHANNEL.

    DATA is a JSON object, or - to read it from standard input; {} if it is not given.
    """
    from mechamap_rt.cli import views

    parsed = _parse(sys.stdin.buffer.read() if data == "-" else data)
    _show(_ask("publish", channel=channel, event=event, data=parsed), views.publish)


def _parse(data: str | bytes) -> Any:
    try:
        parsed = json.loads(data)
        # Python reads NaN and 1e999, which no JSON can say.
        json.dumps(parsed, allow_nan=False)
    except (ValueError, RecursionError) as error:
        hint = 'An object, in quotes for the shell: mechamapctl publish thread.1 note \'{"text": "hello"}\''
        raise Failure("BAD_DATA", f"DATA is not JSON: {error}", hint, field="data") from None
    return parsed


@_command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many of the latest lines."
)
def logs(follow: bool, lines: int) -> None:
    """Show what the server has logged."""
    _ask("logs", None if follow else QUICK, _print_log_line, follow=follow, lines=lines)


def _print_log_line(progress: dict[str, Any]) -> None:
    from mechamap_rt.cli.terminal import fit, safe

    line = str(progress.get("line", ""))
    if choices().as_json:
        print_json({"line": line}, indent=None)
    else:
        click.echo(fit(safe(line), sys.stdout))


COMMANDS: Final[tuple[click.Command, ...]] = (
    status,
    workers,
    connections,
    channels,
    logs,
    publish,
    disconnect,
    reload,
    restart,
    drain,
    scale,
)
"""In the order of the help: looking first, then what changes something."""
