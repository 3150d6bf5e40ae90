"""What is at hand in a shell: names of what runs there, and what prints tables."""

from __future__ import annotations

import inspect
import io
import pydoc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mechamap_rt.cli import views
from mechamap_rt.cli.terminal import Block, Cell, Pairs, show
from mechamap_rt.manhole.heap import Heap, view
from mechamap_rt.manhole.interpreter import Interpreter

if TYPE_CHECKING:
    from mechamap_rt.app import Realtime

#: Names, and in words what each of them is.
Things = Mapping[str, tuple[Any, str]]
#: Makes functions for one session.
Tools = Callable[[Interpreter], Sequence[Callable[..., Any]]]


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

        def trace(id: str, user: int | None = None) -> None:
            """what became of a publication, by the id that its answer has; and why a user has it, or has not"""
            session.later(lambda: app.watching.stories.story(id, user), lambda story: text(_told(story)))

        return [who, channels, trace]

    return tools


def text(blocks: Sequence[Block]) -> str:
    """Tables and pairs as they are printed."""
    stream = io.StringIO()
    show(blocks, stream)
    return stream.getvalue()


def _told(story: dict[str, Any]) -> list[Block]:
    return views.trace(story) if story["found"] else [f"Nothing is remembered of {story['id']}."]


def _no_input(*ignored: Any, **too: Any) -> NoReturn:
    """Python's own would wait at the server's standard input, and the server with it."""
    raise RuntimeError("there is nobody at the server's standard input")
