"""Show what the configuration comes to, or everything that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from mechamap_rt.settings import Line, Loaded, SettingsError, describe, load

_HEADINGS = ("setting", "value", "from")


def run(
    environ: Mapping[str, str], env_file: Path | None, stdout: TextIO, stderr: TextIO, as_json: bool = False
) -> int:
    """Load the settings and show the outcome.

    :returns: the exit code: 0, or 1 when there is a fault.
    """
    outcome: Loaded | SettingsError
    try:
        outcome = load(environ, env_file)
    except SettingsError as error:
        outcome = error
    return render_check(outcome, stdout, stderr, as_json)


def render_check(outcome: Loaded | SettingsError, stdout: TextIO, stderr: TextIO, as_json: bool = False) -> int:
    """Show settings on ``stdout``; their faults, or without ``as_json`` their warnings too, on ``stderr``.

    With ``as_json``, ``stdout`` gets one object ``{ok, settings, warnings, faults}`` whatever the outcome.

    :returns: the exit code: 0, or 1 when there is a fault.
    """
    faults = outcome.faults if isinstance(outcome, SettingsError) else ()
    lines = describe(outcome.settings) if isinstance(outcome, Loaded) else []
    if as_json:
        report = {
            "ok": not faults,
            "settings": [line._asdict() for line in lines],
            "warnings": list(outcome.warnings),
            "faults": [{"name": fault.name, "message": fault.message} for fault in faults],
        }
        print(json.dumps(report, indent=2), file=stdout)
    else:
        shown = [line for line in lines if line.section != "node" or line.source != "default"]
        if shown and stdout.isatty():
            _print_table(shown, stdout)
        elif shown:
            _print_columns(shown, stdout)
        _print((f"warning: {warning}" for warning in outcome.warnings), stderr)
    if faults:
        _print(["The settings are not valid:", *(f"  {fault}" for fault in faults)], stderr)
    return 1 if faults else 0


def _print(lines: Iterable[str], stream: TextIO) -> None:
    # One write: "--check | head" must not end in a traceback.
    stream.write("".join(f"{_fit(line, stream)}\n" for line in lines))


def _fit(text: str, stream: TextIO) -> str:
    """``text`` with what the stream's encoding lacks escaped: a Vietnamese path must not end the command."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _row(line: Line) -> tuple[str, str, str]:
    return line.name, line.value or "-", line.source


def _print_columns(lines: Sequence[Line], stream: TextIO) -> None:
    rows = [_HEADINGS, *map(_row, lines)]
    name, value = (max(len(row[column]) for row in rows) for column in (0, 1))
    _print((f"{row[0]:<{name}}  {row[1]:<{value}}  {row[2]}" for row in rows), stream)


def _print_table(lines: Sequence[Line], stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_HEADINGS)
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        last = following is None or following.section != line.section
        # As Text: in a plain string, rich would take the brackets of "[::1]" for markup.
        cells = [Text(_fit(cell, stream), overflow="fold") for cell in _row(line)]
        table.add_row(*cells, style="dim" if line.source == "default" else None, end_section=last)
    Console(file=stream).print(table)
