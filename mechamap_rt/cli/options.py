"""Options that every command has, before or after its name, and how every command ends."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from mechamap_rt.cli.failure import Failure

P = ParamSpec("P")
Function = TypeVar("Function", bound=Callable[..., Any])

INTERRUPTED = 130
"""What a shell reports for SIGINT."""


@dataclass(slots=True)
class Choices:
    """What was chosen; None where nothing was.

    :ivar timeout: seconds without a word from the server.
    """

    socket: Path | None = None
    env_file: Path | None = None
    timeout: float | None = None
    as_json: bool = False

    def settings_file(self) -> Path | None:
        """The file named, else ``.env`` in the current directory if there is one."""
        from mechamap_rt.settings import find_env_file

        return self.env_file or find_env_file()


def choices() -> Choices:
    """Those of the command that is running."""
    return click.get_current_context().find_root().ensure_object(Choices)


def _choose(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # What stands after the command's name is read later, and wins; what does not stand there changes nothing.
    if value is not None and value is not False:
        setattr(context.find_root().ensure_object(Choices), str(parameter.name), value)


def _option(*names: str, **attributes: Any) -> Callable[[Function], Function]:
    return click.option(*names, expose_value=False, callback=_choose, **attributes)


def env_file_option(command: Function) -> Function:
    """``--env-file``."""
    return _option(
        "--env-file",
        type=click.Path(path_type=Path),
        help="File of settings (default: .env in the current directory, if there is one).",
    )(command)


def json_option(command: Function) -> Function:
    """``--json``."""
    return _option("--json", "as_json", is_flag=True, help="Print one JSON object, of errors too.")(command)


def server_options(envvar: str | None = None) -> Callable[[Function], Function]:
    """``--socket`` and ``--timeout``.

    :param envvar: the environment's name of the socket, which must not hide what stands on the command line.
    """

    def decorate(command: Function) -> Function:
        command = _option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long the server may be silent (default: 10; 300 where it has work to do).",
        )(command)
        return _option(
            "--socket",
            type=click.Path(path_type=Path),
            envvar=envvar,
            show_envvar=envvar is not None,
            help="The server's control socket (default: CONTROL_SOCKET, or where servers put it).",
        )(command)

    return decorate


def reporting(function: Callable[P, None]) -> Callable[P, None]:
    """End a command as the operator expects: a :exc:`Failure` is told, with exit code 1; Ctrl-C is silent."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Failure as failure:
            _tell(failure)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    return run


def print_json(value: object, *, indent: int | None = 2) -> None:
    """One JSON object on standard output, in ASCII: it survives every pipe."""
    click.echo(json.dumps(value, indent=indent))


def _tell(failure: Failure) -> NoReturn:
    from mechamap_rt.cli.terminal import fit, safe

    if choices().as_json:
        print_json({"error": failure.as_json()})
    else:
        lines = [*f"Error: {failure.message}".split("\n"), *filter(None, [failure.hint])]
        click.echo("\n".join(fit(safe(line), sys.stderr) for line in lines), err=True)
    sys.exit(1)
