"""Put text, pairs and tables on a stream: by rich on a terminal, in plain columns of full width elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

# Control characters, line separators, what turns the direction of writing, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Cell(NamedTuple):
    """A text, and how it looks on a terminal.

    :ivar style: in rich's terms, ``bold green``; "" for plain.
    """

    text: str
    style: str = ""


class Column(NamedTuple):
    """One column of a table.

    :ivar right: numbers: set to the right, and never broken.
    :ivar spare: left out of a terminal that is too narrow, the largest first; 0 for never.
    """

    heading: str
    right: bool = False
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of as many cells as there are columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names and values below one another; a name that is "" goes on with the one before."""

    pairs: Sequence[tuple[str, Cell]]


Block = str | Table | Pairs


def safe(text: str) -> str:
    """``text`` in which nothing commands the terminal: user names and log lines are chosen by strangers."""
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)


def fit(text: str, stream: TextIO) -> str:
    """``text`` with what the stream's encoding lacks escaped: a Vietnamese name must not end the command."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def show(blocks: Sequence[Block], stream: TextIO) -> None:
    """Write the blocks, each on lines of its own, and flush."""
    if stream.isatty() and not all(isinstance(block, str) for block in blocks):
        _show_rich(blocks, stream)
    else:
        lines = [line for block in blocks for line in _plain_lines(block)]
        stream.write("".join(f"{fit(line, stream)}\n" for line in lines))
    stream.flush()


def _plain_lines(block: Block) -> list[str]:
    if isinstance(block, str):
        return [safe(line) for line in block.split("\n")]
    if isinstance(block, Pairs):
        width = max(len(name) for name, _ in block.pairs)
        return [f"{name:<{width}}  {safe(cell.text)}" for name, cell in block.pairs]
    rows = [[column.heading for column in block.columns], *([safe(cell.text) for cell in row] for row in block.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(row, widths, block.columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def _show_rich(blocks: Sequence[Block], stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    for block in blocks:
        if isinstance(block, Table):
            _print_table(block, console, stream)
        elif isinstance(block, Pairs):
            width = max(len(name) for name, _ in block.pairs)
            for name, cell in block.pairs:
                line = Text.assemble((f"{name:<{width}}  ", "dim"), _text(cell, stream))
                console.print(line, soft_wrap=True)
        else:
            console.print(Text("\n".join(fit(line, stream) for line in _plain_lines(block))), soft_wrap=True)


def _print_table(table: Table, console: Console, stream: TextIO) -> None:
    """Print as many columns as find room, and say which ones did not."""
    kept = list(range(len(table.columns)))
    drawn = _draw(table, kept, stream)
    while console.measure(drawn, options=console.options.update(max_width=10_000)).maximum > console.width:
        spare = max(kept, key=lambda place: table.columns[place].spare)
        if not table.columns[spare].spare:
            break
        kept.remove(spare)
        drawn = _draw(table, kept, stream)
    console.print(drawn)
    hidden = [column.heading for place, column in enumerate(table.columns) if place not in kept]
    if hidden:
        console.print(
            f"no room for: {', '.join(hidden)} (a wider terminal, | cat or --json)", style="dim", soft_wrap=True
        )


def _draw(table: Table, kept: Sequence[int], stream: TextIO) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    lines = box.SIMPLE_HEAD if stream.encoding.lower().startswith("utf") else box.ASCII2
    drawn = RichTable(box=lines, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place in kept:
        column = table.columns[place]
        drawn.add_column(
            column.heading, justify="right" if column.right else "left", no_wrap=column.right, overflow="fold"
        )
    for row in table.rows:
        drawn.add_row(*(_text(row[place], stream) for place in kept))
    return drawn


def _text(cell: Cell, stream: TextIO) -> Text:
    from rich.text import Text

    # As Text: in a plain string, rich would take the brackets of "[::1]" for markup.
    return Text(fit(safe(cell.text), stream), style=cell.style, overflow="fold")
