"""Show what the configuration comes to, or everything that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from mechamap_rt.cli.terminal import fit
from mechamap_rt.settings import CATALOGUE, Fault, Line, Loaded, SettingsError, describe, load

_HEADINGS = ("setting", "value", "from", "meaning")


def run(
    environ: Mapping[str, str],
    env_file: Path | None,
    stdout: TextIO,
    stderr: TextIO,
    as_json: bool = False,
    explain: bool = False,
) -> int:
    """Load the settings and show the outcome.

    :param explain: say also what each setting means, or each that is faulty.
    :returns: the exit code: 0, or 1 when there is a fault.
    """
    outcome: Loaded | SettingsError
    try:
        outcome = load(environ, env_file)
    except SettingsError as error:
        outcome = error
    return render_check(outcome, stdout, stderr, as_json, explain)


def render_check(
    outcome: Loaded | SettingsError, stdout: TextIO, stderr: TextIO, as_json: bool = False, explain: bool = False
) -> int:
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
        shown = [line for line in lines if explain or line.section != "node" or line.source != "default"]
        if shown and stdout.isatty():
            _print_table(shown, stdout, explain)
        elif shown:
            _print_columns(shown, stdout, explain)
        _print((f"warning: {warning}" for warning in outcome.warnings), stderr)
    if faults:
        _print(["The settings are not valid:", *_tell(faults, explain)], stderr)
    return 1 if faults else 0


def _tell(faults: Sequence[Fault], explain: bool) -> Iterable[str]:
    meanings = {name: entry.option.doc for entry in CATALOGUE for name in (entry.option.file_name, *entry.option.names)}
    for fault in faults:
        yield f"  {fault}"
        if explain and fault.name in meanings:
            yield f"    {meanings[fault.name]}"


def _print(lines: Iterable[str], stream: TextIO) -> None:
    # One write: "--check | head" must not end in a traceback.
    stream.write("".join(f"{fit(line, stream)}\n" for line in lines))


def _row(line: Line, explain: bool) -> tuple[str, ...]:
    row = line.name, line.value or "-", line.source
    return (*row, line.doc) if explain else row


def _headings(explain: bool) -> tuple[str, ...]:
    return _HEADINGS if explain else _HEADINGS[:3]


def _print_columns(lines: Sequence[Line], stream: TextIO, explain: bool) -> None:
    rows = [_headings(explain), *(_row(line, explain) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    _print(("  ".join(row).rstrip() for row in padded), stream)


def _print_table(lines: Sequence[Line], stream: TextIO, explain: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_headings(explain))
    # The names are what one looks for: the others give way when the terminal is narrow.
    table.columns[0].no_wrap = explain
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        last = following is None or following.section != line.section
        # As Text: in a plain string, rich would take the brackets of "[::1]" for markup.
        cells = [Text(fit(cell, stream), overflow="fold") for cell in _row(line, explain)]
        table.add_row(*cells, style="dim" if line.source == "default" else None, end_section=last)
    Console(file=stream).print(table)
