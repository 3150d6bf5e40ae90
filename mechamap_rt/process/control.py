"""The operator's socket: ``mechamapctl`` asks, one request to a connection.

A request is one line of JSON, ``{"command": …, "arguments": {…}}``. Any number of ``{"progress": {…}}`` lines follow,
then one ``{"ok": true, "result": {…}}`` or ``{"ok": false, "error": {"code": …, "message": …, "field": …}}``.
The socket belongs to the account that the server runs as, mode 0600: whoever can open it may do everything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IAuditLog
from mechamap_rt.process.acts import act_of, noted, operator_of
from mechamap_rt.process.journal import Journal
from mechamap_rt.process.operations import integer
from mechamap_rt.settings import Settings
from mechamap_rt.settings.control_socket import server_path
from mechamap_rt.settings.listeners import UnixListener
from mechamap_rt.system import listening
from mechamap_rt.system.audit import Actor
from mechamap_rt.wire import json

_log = Logger()

#: Bytes of a request.
MAX_REQUEST: Final = 2 * 1024 * 1024
#: Bytes that an operator may leave unread, and seconds that it may take to ask.
MAX_UNREAD: Final = 16 * 1024 * 1024
PATIENCE: Final = 10.0
#: Operators who may be connected at once.
MAX_OPERATORS: Final = 64

Say = Callable[[dict[str, Any]], object]
#: Does what is asked, telling its progress.
Command = Callable[[Mapping[str, Any], Say], Awaitable[dict[str, Any]]]


class Control(Factory):
    """Listens for operators.

    :param run: runs one command; raises :class:`~mechamap_rt.process.operations.OperationFault`.
    :param audit: is told of every command that changes something.
    :param journal: has the last lines of the log.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        run: Callable[[str, Mapping[str, Any], Say], Awaitable[dict[str, Any]]],
        audit: IAuditLog,
        journal: Journal,
    ) -> None:
        self.reactor: Any = reactor
        self._run = run
        self._audit = audit
        self.journal = journal
        self.operators: dict[_Operator, None] = {}
        self._bound: listening.Bound | None = None
        self._port: IListeningPort | None = None

    def listen(self, settings: Settings, port: int) -> None:
        """Listen where ``mechamapctl`` looks.

        :param port: the server's TCP port, which names the socket; 0 for none.
        :raises OSError, ValueError, ListenError: it cannot.
        """
        path: Path = server_path(settings, os.environ, os.getuid(), port)
        self._bound = listening.bind_unix(UnixListener(str(path), 0o600))
        factory: Any = self
        self._port = listening.adopt(self.reactor, self._bound, factory)
        _log.info("mechamapctl is listened to on {path}", path=str(path))

    async def stop(self) -> None:
        for operator in tuple(self.operators):
            operator.end()
        port, self._port = self._port, None
        if port is not None:
            stopped = port.stopListening()
            if stopped is not None:
                await stopped
        if self._bound is not None:
            self._bound.socket.close()
            self._bound.unlink()
            self._bound = None

    def buildProtocol(self, addr: object) -> _Operator | None:
        return _Operator(self) if len(self.operators) < MAX_OPERATORS else None

    async def run(self, command: str, asked: Mapping[str, Any], say: Say, operator: Actor) -> dict[str, Any]:
        """Do what ``operator`` asks.

        :raises OperationFault: it cannot be done.
        """
        action = act_of(command, asked)
        if action is not None:
            # the log says who ended a worker, too
            told = {name: value for name, value in asked.items() if name != "data" and value is not None}
            _log.info("An operator asks for {command} {told}", command=command, told=told)
            with noted(self._audit, operator, action, told):
                return await self._run(command, asked, say)
        if command == "logs":
            return await self._logs(asked, say)
        return await self._run(command, asked, say)

    async def _logs(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        for line in self.journal.last(integer(asked, "lines", 0, 20)):
            say({"line": line})
        if asked.get("follow"):
            forget = self.journal.follow(lambda line: say({"line": line}))
            # until the operator has had enough
            for_ever: Deferred[None] = Deferred()
            try:
                await for_ever
            except CancelledError:
                pass
            finally:
                forget()
        return {}


class _Operator(LineOnlyReceiver):
    """One operator's connection."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST
    _running: Deferred[None] | None = None
    _late: IDelayedCall | None = None
    _actor = Actor("operator")

    def __init__(self, control: Control) -> None:
        self._control = control

    def connectionMade(self) -> None:
        self._control.operators[self] = None
        transport: Any = self.transport
        self._actor = operator_of(transport.getHandle())
        self._late = self._control.reactor.callLater(PATIENCE, self.end)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._control.operators.pop(self, None)
        self._asked()
        if self._running is not None:
            self._running.cancel()

    def end(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()

    def _asked(self) -> None:
        """There is nothing to wait for any more."""
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()

    def lineReceived(self, line: bytes) -> None:
        if self._running is not None:
            return
        self._asked()
        running = self._running = Deferred.fromCoroutine(self._answer(line))
        running.addErrback(lambda reason: reason.trap(CancelledError))
        running.addErrback(lambda reason: _log.failure("An operator's request failed", reason))
        running.addBoth(lambda _: self.end())

    async def _answer(self, line: bytes) -> None:
        try:
            command, asked = _request(line)
            result = await self._control.run(command, asked, self._say, self._actor)
            answer: dict[str, Any] = {"ok": True, "result": result}
        except OperationFault as fault:
            answer = {"ok": False, "error": fault.members()}
        except CancelledError:
            raise
        except Exception:
            _log.failure("An operator's request failed")
            answer = {"ok": False, "error": {"code": "SERVER_ERROR", "message": "Internal error; the log says more"}}
        self._write(answer)

    def _say(self, progress: dict[str, Any]) -> None:
        self._write({"progress": progress})

    def _write(self, answer: dict[str, Any]) -> None:
        transport: Any = self.transport
        transport.write(json.encode(answer) + b"\n")
        if len(transport.dataBuffer) + transport._tempDataLen > MAX_UNREAD:
            transport.abortConnection()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._write({"ok": False, "error": {"code": "TOO_LARGE", "message": "The request is too long"}})
        self.end()


def _request(line: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        request = json.decode(line)
    except json.BadJSON:
        raise OperationFault("BAD_REQUEST", "A request is one JSON object") from None
    command = request.get("command") if isinstance(request, dict) else None
    asked = request.get("arguments", {}) if isinstance(request, dict) else None
    if not isinstance(command, str) or not isinstance(asked, dict):
        raise OperationFault("BAD_REQUEST", "A request has a command and arguments")
    return command, asked


def tcp_port(bound: list[listening.Bound]) -> int:
    """The first TCP port that is listened on; 0 for none."""
    for each in bound:
        if each.family in (socket.AF_INET, socket.AF_INET6):
            port: int = each.socket.getsockname()[1]
            return port
    return 0
