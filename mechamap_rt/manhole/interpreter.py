"""Python, statement by statement, for a visitor: what it prints goes to him, and what it breaks stays where it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from twisted.conch.manhole import ManholeInterpreter
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

#: Bytes of a statement that is not complete yet.
MAX_SOURCE: Final = 256 * 1024


class Handler(Protocol):
    """Where output goes."""

    def addOutput(self, data: str | bytes, isAsync: bool | None = None) -> None: ...


class Interpreter(ManholeInterpreter):
    """As twisted.conch's, for a server: coroutines are run, and ``exit()`` ends the session and nothing else.

    :param leave: ends the session.

    :ivar failed: has the last statement raised?
    """

    def __init__(self, handler: Handler, names: dict[str, Any], leave: Callable[[], object]) -> None:
        super().__init__(handler, names)
        self._leave = leave
        self._waiting: set[Deferred[Any]] = set()
        self._quiet: list[Callable[[], object]] = []
        self.failed = False

    def push(self, line: bytes) -> bool:
        """Take one line; is there more to come of its statement?"""
        if sum(map(len, self.buffer)) + len(line) > MAX_SOURCE:
            self.resetBuffer()
            self.write(f"A statement has at most {MAX_SOURCE // 1024} kB: this one is forgotten.\n")
            return False
        try:
            line.decode()
        except UnicodeDecodeError:
            self.resetBuffer()
            self.write("That is no UTF-8: it is forgotten.\n")
            return False
        return bool(super().push(line))

    def runcode(self, *given: Any, **more: Any) -> None:
        self.failed = False
        try:
            super().runcode(*given, **more)
        except SystemExit:
            self._leave()

    def excepthook(self, kind: Any, error: Any, trace: Any) -> None:
        self.failed = True
        super().excepthook(kind, error, trace)

    def displayhook(self, shown: Any) -> None:
        if inspect.iscoroutine(shown):
            shown = self._run(shown)
        super().displayhook(shown)
        if shown is not None:
            self.write("\n")
        if isinstance(shown, Deferred) and not shown.called:
            self._wait(shown)

    def _run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine returns, or the Deferred of it.

        :raises Exception: as it does, at once.
        """
        running: Deferred[Any] = Deferred.fromCoroutine(steps)
        if not running.called:
            # nobody else waits for it, so that nobody else is to be told that it has failed
            running.addErrback(self._not_there)
            return running
        came: list[Any] = []
        running.addBoth(came.append)
        if isinstance(came[0], Failure):
            came[0].raiseException()
        return came[0]

    # what comes later

    def later(self, work: Callable[[], Any], view: Callable[[Any], str]) -> None:
        """Print what comes of ``work``, or why nothing does, when it is there.

        :param work: returns a result, a Deferred or a coroutine.
        """
        working = maybeDeferred(work)
        working.addCallback(view)
        working.addCallbacks(lambda text: self.write(text, True), self._not_there)
        self._wait(working)

    def _not_there(self, reason: Failure) -> None:
        self.failed = True
        self.write(f"{reason.type.__name__ if reason.type else 'It failed'}: {reason.getErrorMessage()}\n", True)

    def _wait(self, waited: Deferred[Any]) -> None:
        self._waiting.add(waited)

        def come(result: Any) -> Any:
            self._waiting.discard(waited)
            if not self._waiting:
                quiet, self._quiet = self._quiet, []
                for done in quiet:
                    done()
            return result

        waited.addBoth(come)

    def when_quiet(self, done: Callable[[], object]) -> None:
        """Call ``done`` as soon as nothing is waited for."""
        if self._waiting:
            self._quiet.append(done)
        else:
            done()
