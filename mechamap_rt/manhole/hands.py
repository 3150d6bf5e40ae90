"""What is at hand in a shell: names of what runs there, and what prints tables."""

from __future__ import annotations

import inspect
import io
import pydoc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from mechamap_rt.cli import views
from mechamap_rt.cli.terminal import Block, Cell, Column, Pairs, Table, show
from mechamap_rt.manhole.heap import Heap, view
from mechamap_rt.manhole.interpreter import Interpreter

if TYPE_CHECKING:
    from mechamap_rt.app import Realtime

#: Names, and in words what each of them is.
Things = Mapping[str, tuple[Any, str]]
#: Makes functions for one session.
Tools = Callable[[Interpreter], Sequence[Callable[..., Any]]]

#: How deep a story is followed, and how long one of its values may be.
_DEPTH: Final = 4
_LONGEST: Final = 200


class Hands:
    """The names with which a session begins.

    :param reactor: of this process.
    """

    def __init__(self, reactor: Any, things: Things, tools: Tools) -> None:
        self._things = {**things, "reactor": (reactor, "Twisted's reactor")}
        self._tools = tools
        self._heap = Heap(reactor)

    def names(self, session: Interpreter) -> dict[str, Any]:
        """All of them, for one session."""

        # typeshed does not know it
        plain: Any = vars(pydoc)["plaintext"]

        def heap(limit: int = 20) -> None:
            """the types whose objects have the most memory, and what has grown since the last call"""
            session.later(self._heap.count, lambda found: text(view(found[0], found[1], limit)))

        def help(about: Any = None) -> None:
            """this list; help(x) tells about x"""
            if about is None:
                print(text([self._listed(functions)]), end="")
            else:
                print(pydoc.render_doc(about, renderer=plain))

        functions: list[Callable[..., Any]] = [*self._tools(session), heap, help]
        found = {name: thing for name, (thing, _) in self._things.items()}
        found |= {function.__name__: function for function in functions}
        return found | {"input": _no_input, "breakpoint": _no_input}

    def _listed(self, functions: Sequence[Callable[..., Any]]) -> Block:
        pairs = [(name, Cell(words)) for name, (_, words) in self._things.items()]
        for function in functions:
            names = ", ".join(
                name if parameter.default in (None, inspect.Parameter.empty) else f"{name}={parameter.default!r}"
                for name, parameter in inspect.signature(function).parameters.items()
            )
            pairs.append((f"{function.__name__}({names})", Cell(function.__doc__ or "")))
        return Pairs(pairs)


def tools_of(app: Realtime) -> Tools:
    """What prints tables of clients, channels and publications, in a process that serves them."""

    def tools(session: Interpreter) -> list[Callable[..., Any]]:
        def who(user: int | None = None, limit: int = 20) -> None:
            """the connections of this process, or those of one user (an id)"""
            print(text(views.connections(app.census.connections_here(user, limit))), end="")

        def channels(match: str | None = None, limit: int = 20) -> None:
            """the channels that have subscribers in this process; those with this text in their names"""
            print(text(views.channels(app.census.channels_here(match, limit))), end="")

        def trace(id: str) -> None:
            """what became of a publication, by the id that its answer has"""
            story = getattr(getattr(app, "tracing", None), "story", None)
            if story is None:
                print("This server keeps no trace of publications.")
            else:
                session.later(lambda: story(id), lambda told: text(told_of(told, id)))

        return [who, channels, trace]

    return tools


def text(blocks: Sequence[Block]) -> str:
    """Tables and pairs as they are printed."""
    stream = io.StringIO()
    show(blocks, stream)
    return stream.getvalue()


def told_of(told: Any, ident: str) -> list[Block]:
    """The story of a publication: what it says, in the order in which it does."""
    if not told:
        return [f"Nothing is known of {ident}."]
    return _blocks(told, _DEPTH)


def _blocks(told: Any, depth: int) -> list[Block]:
    """Members below one another; lists of objects with the same members are tables."""
    if not isinstance(told, Mapping) or not depth:
        return [_short(told)]
    plain = [(str(name), Cell(_short(value))) for name, value in told.items() if not _nested(value)]
    blocks: list[Block] = [Pairs(plain)] if plain else []
    for name, value in told.items():
        if not _nested(value):
            continue
        blocks += ["", f"{name}:"]
        if isinstance(value, Mapping):
            blocks += _blocks(value, depth - 1)
        else:
            blocks.append(_table(value))
    return blocks


def _nested(value: Any) -> bool:
    """Is it more than fits a line?"""
    rows = isinstance(value, list | tuple) and bool(value) and all(isinstance(each, Mapping) for each in value)
    return rows or (isinstance(value, Mapping) and bool(value))


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[Cell(_short(row.get(name, ""))) for name in columns] for row in rows]
    return Table([Column(str(name)) for name in columns], cells)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple) and not any(isinstance(each, Mapping | list | tuple) for each in value):
        shown = ", ".join(map(str, value)) or "-"
    else:
        shown = str(value)
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


def _no_input(*ignored: Any, **too: Any) -> NoReturn:
    """Python's own would wait at the server's standard input, and the server with it."""
    raise RuntimeError("there is nobody at the server's standard input")
