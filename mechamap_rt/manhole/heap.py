"""How many objects of which type there are, and how large they are: counted a part at a time, between other work."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator

from mechamap_rt.cli import units
from mechamap_rt.cli.terminal import Block, Cell, Column, Table

#: Objects that are looked at, and how many in one turn of the reactor.
MAX_OBJECTS: Final = 5_000_000
TURN: Final = 10_000
#: Types that are remembered for the next time.
MAX_TYPES: Final = 5_000

_COLUMNS: Final = (
    Column("type"),
    Column("objects", right=True),
    Column("more", right=True),
    Column("size", right=True),
    Column("larger", right=True),
)


class Kind(NamedTuple):
    """All objects of one type: how many, and their bytes, without those of what they refer to."""

    number: int = 0
    size: int = 0


class Count(NamedTuple):
    """What was counted.

    :ivar at: seconds of the monotonic clock.
    :ivar whole: was everything looked at?
    """

    at: float
    kinds: dict[str, Kind]
    whole: bool


class Heap:
    """Counts, and remembers the last count.

    :param reactor: calls the parts.
    """

    def __init__(self, reactor: Any) -> None:
        self._cooperator = Cooperator(scheduler=lambda call: reactor.callLater(0, call))
        self._before: Count | None = None

    async def count(self) -> tuple[Count, Count | None]:
        """The objects that the garbage collector knows, and the count before this one."""
        objects = _objects()
        tally: dict[type, list[int]] = {}
        counting: Deferred[Any] = self._cooperator.coiterate(_tally(objects, tally))
        await counting
        whole = len(objects) <= MAX_OBJECTS
        del objects
        kinds: dict[str, Kind] = {}
        for kind, (count, size) in tally.items():
            name = _name(kind)
            before = kinds.get(name, Kind())
            kinds[name] = Kind(before.number + count, before.size + size)
        largest = sorted(kinds.items(), key=lambda each: -each[1].size)
        counted = Count(time.monotonic(), dict(largest[:MAX_TYPES]), whole)
        last, self._before = self._before, counted
        return counted, last


def _objects() -> list[Any]:
    """What the collector tracks. Frozen objects are hidden, so that they are thawed for a moment."""
    frozen = gc.get_freeze_count()
    if frozen:
        gc.unfreeze()
    try:
        return gc.get_objects()
    finally:
        if frozen:
            gc.freeze()


def _tally(objects: list[Any], tally: dict[type, list[int]]) -> Iterator[None]:
    for start in range(0, min(len(objects), MAX_OBJECTS), TURN):
        for each in objects[start : start + TURN]:
            entry = tally.setdefault(type(each), [0, 0])
            entry[0] += 1
            try:
                entry[1] += sys.getsizeof(each)
            except Exception:
                # a type that cannot say it
                continue
        yield


def _name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def view(counted: Count, before: Count | None, limit: int) -> list[Block]:
    """The ``limit`` types that have the most memory, and how they have grown since ``before``."""
    rows = list(counted.kinds.items())[: max(0, limit)]
    then = {} if before is None else before.kinds
    cells = [
        [
            Cell(name),
            Cell(units.count(kind.number)),
            Cell(_more(kind.number - then.get(name, Kind()).number, before)),
            Cell(units.size(kind.size)),
            Cell(_larger(kind.size - then.get(name, Kind()).size, before)),
        ]
        for name, kind in rows
    ]
    total, size = (sum(values) for values in zip(*counted.kinds.values(), strict=True))
    since = "" if before is None else f"; growth is that of {units.duration(counted.at - before.at)}"
    summary = f"{units.count(total)} objects of {units.count(len(counted.kinds))} types, {units.size(size)}{since}"
    return [Table(_COLUMNS, cells), summary, *([] if counted.whole else [f"Only {MAX_OBJECTS:,d} were looked at."])]


def _more(number: int, before: Count | None) -> str:
    return units.UNKNOWN if before is None else f"{number:+,d}"


def _larger(number: int, before: Count | None) -> str:
    return units.UNKNOWN if before is None else f"{number / 2**10:+,.0f} kB"
