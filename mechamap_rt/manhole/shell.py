"""The shell in the process that a visitor looks at: the end of his stream, a console, and what is at hand there.

Nothing of it is imported before the first visitor comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.bus.link import adopt
from mechamap_rt.manhole.console import PlainConsole, TerminalConsole
from mechamap_rt.manhole.interpreter import Interpreter
from mechamap_rt.manhole.stream import DATA, END, EOF, OPEN, SIZE, Frames, Opening, unpacked

_log = Logger()

#: Bytes of output that may wait for a visitor; what does not fit is dropped, and he is told.
MAX_WAITING: Final = 1024 * 1024

#: The names that a session begins with, given what prints later.
Names = Callable[[Interpreter], Mapping[str, Any]]


class Shells:
    """The shells of this process.

    :param greeting: the first lines of a session.
    """

    def __init__(self, reactor: Any, greeting: str, names: Names) -> None:
        self._reactor = reactor
        self.greeting = greeting
        self._names = names

    def open(self, descriptor: int) -> None:
        """Take a visitor in, at the end of this stream; it is closed with the session."""
        adopt(self._reactor, descriptor, Shell(self))

    def make(self, console: Any, leave: Callable[[], object]) -> Interpreter:
        """An interpreter for one session."""
        names: dict[str, Any] = {"__name__": "__manhole__", "__doc__": None}
        made = Interpreter(console, names, leave)
        names.update(self._names(made))
        names["exit"] = names["quit"] = _exit
        return made


@implementer(IPushProducer)
class Shell(Frames):
    """One session."""

    def __init__(self, shells: Shells) -> None:
        self._shells = shells
        self._console: TerminalConsole | PlainConsole | None = None
        self._cut = self._over = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def took(self, kind: int, body: bytes) -> None:
        console = self._console
        try:
            if kind == OPEN and console is None:
                self._open(msgspec.json.decode(body, type=Opening))
            elif console is None or self._over:
                return
            elif kind == DATA:
                console.typed(body)
            elif kind == SIZE:
                console.resize(*unpacked(body))
            elif kind == EOF:
                console.typed_all()
        except Exception:
            # of the console itself: what a statement raises is printed there
            _log.failure("A session of the manhole failed")
            self._leave(1)

    def _open(self, opening: Opening) -> None:
        shells = self._shells
        if opening.command is not None or opening.size is None:
            plain = self._console = PlainConsole(shells.make, self._write, self._leave)
            if opening.command is not None:
                plain.run(opening.command)
        else:
            self._console = TerminalConsole(shells.make, shells.greeting, opening.size, self._write, self._leave)

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        if self._over or self._cut or transport is None:
            return
        room = MAX_WAITING - len(transport.dataBuffer) - transport._tempDataLen
        self._cut = len(data) > room
        self.send(DATA, data[: max(room, 0)])
        if self._cut and not transport.producerPaused:
            self._uncut()

    def _uncut(self) -> None:
        self._cut = False
        self.send(DATA, b"\r\n... what followed was more than fits, and is lost ...\r\n")

    def _leave(self, status: int) -> None:
        """The end, as far as this side is concerned."""
        if not self._over:
            if self._cut:
                self._uncut()
            self._over = True
            self.send(END, bytes((status,)))
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        console, self._console = self._console, None
        if console is not None:
            console.lost(reason)

    # what the transport calls: the visitor does not keep up with what is shown, or does again

    def pauseProducing(self) -> None:
        """What is shown waits in the transport, as far as it fits."""

    def resumeProducing(self) -> None:
        if self._cut:
            self._uncut()

    def stopProducing(self) -> None:
        """The stream has ended: :meth:`connectionLost` follows."""


def _exit(status: object = None) -> None:
    """End this session. Python's own would close standard input, which is the server's."""
    raise SystemExit(status)
