"""The two ways in which a visitor meets Python: a terminal with line editing, and plain text for pipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.conch.insults import insults
from twisted.conch.manhole import CTRL_BACKSLASH, CTRL_C, CTRL_D, Manhole
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mechamap_rt.manhole.interpreter import Interpreter

#: Bytes of a line, and lines that the arrow keys bring back.
MAX_LINE: Final = 64 * 1024
MAX_HISTORY: Final = 1_000

#: Makes an interpreter for a console, which it is given, and what ends the session.
Make = Callable[[Any, Callable[[], object]], Interpreter]


class _Editor(Manhole):
    """Reads lines from a terminal.

    :param leave: ends the session.
    """

    interpreter: Interpreter

    def __init__(self, make: Make, greeting: str, leave: Callable[[], object]) -> None:
        super().__init__({})
        self._make = make
        self._greeting = greeting
        self._leave = leave

    def initializeScreen(self) -> None:
        # what is on the visitor's screen stays there
        self.terminal.write(self._greeting)
        self.terminal.write(self.ps[self.pn])
        self.setInsertMode()

    def connectionMade(self) -> None:
        super().connectionMade()
        self.interpreter = self._make(self, self._leave)

    def keystrokeReceived(self, keyID: Any, modifier: Any) -> None:
        if isinstance(keyID, bytes) and keyID >= b"\x80":
            # a part of a letter that is not English
            self.characterReceived(keyID, False)
        elif not isinstance(keyID, bytes) or keyID in self.keyHandlers or keyID in self._printableChars:
            super().keystrokeReceived(keyID, modifier)

    def characterReceived(self, ch: bytes, moreCharactersComing: bool) -> None:
        if len(self.lineBuffer) < MAX_LINE:
            super().characterReceived(ch, moreCharactersComing)

    def handle_RETURN(self) -> None:
        super().handle_RETURN()
        surplus = len(self.historyLines) - MAX_HISTORY
        if surplus > 0:
            del self.historyLines[:surplus]
            self.historyPosition = len(self.historyLines)

    def handle_QUIT(self) -> None:
        self._leave()


class _Display(insults.ServerProtocol):
    """The terminal's control sequences."""

    def loseConnection(self) -> None:
        # not reset(), which would clear the visitor's screen
        self.resetModes([insults.modes.IRM])


class TerminalConsole:
    """A terminal with line editing, history, and a greeting.

    :param write: takes what is shown.
    :param leave: ends the session, with a status.
    """

    def __init__(
        self, make: Make, greeting: str, size: tuple[int, int], write: Callable[[bytes], object], leave: Any
    ) -> None:
        self._leave = leave
        self._display: Any = _Display(_Editor, make, greeting, self.quit)
        self._write = write
        self._display.makeConnection(self)
        editor: Any = self._display.terminalProtocol
        editor.width, editor.height = size
        self._editor = editor

    def typed(self, data: bytes) -> None:
        self._display.dataReceived(data)

    def typed_all(self) -> None:
        self._editor.interpreter.when_quiet(self.quit)

    def resize(self, columns: int, rows: int) -> None:
        self._editor.terminalSize(columns, rows)

    def quit(self) -> None:
        self._display.nextLine()
        self._display.loseConnection()
        self._leave(0)

    def lost(self, reason: Failure = connectionDone) -> None:
        """Nobody is there any more."""
        self._display.connectionLost(reason)

    # as the transport of the control sequences

    def write(self, data: bytes) -> None:
        self._write(data)


class PlainConsole:
    """Lines in, text out: what a pipe brings, or one command; no prompt, and nothing is echoed.

    :param write: takes what is shown.
    :param leave: ends the session, with a status: 1 if the last statement has raised, or what it waited for.
    """

    def __init__(self, make: Make, write: Callable[[bytes], object], leave: Callable[[int], object]) -> None:
        self._write = write
        self._leave = leave
        self._rest = b""
        self._over = False
        self._interpreter = make(self, self.quit)

    def typed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > MAX_LINE:
            self._line(self._rest)
            self._rest = b""

    def _line(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        if line in (CTRL_C, CTRL_BACKSLASH, CTRL_D):
            self.quit()
        elif not self._over:
            self._interpreter.push(line[:MAX_LINE])

    def typed_all(self) -> None:
        """There is no more: finish what was begun."""
        if self._rest:
            self._line(self._rest)
        if not self._over and self._interpreter.buffer:
            self._interpreter.push(b"")
        if not self._over:
            self._interpreter.when_quiet(self.quit)

    def run(self, command: str) -> None:
        """Do one command, of one line or several, and leave."""
        self.typed(command.encode() + b"\n")
        self.typed_all()

    def resize(self, columns: int, rows: int) -> None:
        """There is nothing that has a size."""

    def quit(self) -> None:
        if not self._over:
            self._over = True
            self._leave(int(self._interpreter.failed))

    def lost(self, reason: Failure = connectionDone) -> None:
        """Nobody is there any more."""
        self._over = True

    # as the handler of the interpreter

    def addOutput(self, data: str | bytes, isAsync: bool | None = None) -> None:
        text = data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")
        if isAsync and not text.endswith(b"\n"):
            text += b"\n"
        self._write(text)
