"""Commands that the running server answers: asking it, and showing what it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from mechamap_rt.cli.failure import Failure
from mechamap_rt.cli.options import choices, env_file_option, json_option, print_json, reporting, server_options

if TYPE_CHECKING:
    from mechamap_rt.cli.terminal import Block

QUICK: Final = 10.0
"""Seconds in which the server answers what it only has to look up."""
_Function = Callable[..., None]


def command(name: str, **attributes: Any) -> Callable[[_Function], click.Command]:
    """A command of the server's, with the options that all of them have."""

    def decorate(function: _Function) -> click.Command:
        dressed = server_options()(env_file_option(json_option(reporting(function))))
        made: click.Command = click.command(name, **attributes)(dressed)
        return made

    return decorate


def result_of(
    name: str,
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
    return ask(connection, name, arguments, chosen.timeout or silence, on_progress or _tell_progress)


def _tell_progress(progress: dict[str, Any]) -> None:
    from mechamap_rt.cli.terminal import fit, safe

    click.echo(fit(safe(str(progress.get("text", ""))), sys.stderr), err=True)


def show_result(result: dict[str, Any], view: Callable[[dict[str, Any]], Sequence[Block]]) -> None:
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
