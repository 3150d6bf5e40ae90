"""Sessions of the native protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from random import random
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt.auth.jwt import bare
from mechamap_rt.commands.outcome import Outcome, unavailable
from mechamap_rt.commands.table import echo
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.wheel import Deadline
from mechamap_rt.errors import AuthRefused, Code, Disconnect, Unavailable
from mechamap_rt.transport.handshake import Denied, Handshake, Origins, credentials, enter
from mechamap_rt.transport.lobby import Lobby, Rejected, Visit
from mechamap_rt.transport.websocket import Accepted, Pipe
from mechamap_rt.wire import json, native

_log = Logger()

#: Messages in a row that are not understood before the connection is closed.
MAX_BAD: Final = 10
#: Seconds over which the clients of a process that goes down are asked to spread their return.
RETURN_WITHIN: Final = 2.0
#: Requests that may wait for authentication to end.
MAX_WAITING: Final = 32

_ENCODER: Final = native.EventEncoder()

#: Endings that the client is told of before the close code says so, and the code of the error.
_TOLD: Final = {
    Disconnect.TOKEN_EXPIRED: Code.AUTH_FAILED,
    Disconnect.REVOKED: Code.AUTH_FAILED,
    Disconnect.FORCED: Code.PERMISSION_DENIED,
    Disconnect.INACTIVE: Code.PERMISSION_DENIED,
}


class _State(Enum):
    """``NEW`` waits for a token, ``CHECKING`` for the answer to it, ``OPEN`` has its connection, ``DONE`` is ending."""

    NEW = auto()
    CHECKING = auto()
    OPEN = auto()
    DONE = auto()


class NativeDoor:
    """Makes native sessions.

    :param heartbeat: seconds between two pings; 0 is none.
    :param ping_timeout: seconds after an unanswered ping.
    :param connect_timeout: seconds to authenticate in; 0 is no limit.
    """

    def __init__(
        self, lobby: Lobby, origins: Origins, *, heartbeat: float, ping_timeout: float, connect_timeout: float
    ) -> None:
        self.lobby = lobby
        self.origins = origins
        self.heartbeat = heartbeat
        self.ping_timeout = ping_timeout
        self.connect_timeout = connect_timeout

    def accept(self, pipe: Pipe, handshake: Handshake) -> Accepted:
        offered = handshake.subprotocols
        if offered and native.SUBPROTOCOL not in offered:
            body = {"success": False, "error": "BAD_HANDSHAKE", "message": f"Offer {native.SUBPROTOCOL}"}
            raise Denied(400, json.encode(body))
        if not self.origins.allows(handshake.headers):
            body = {"success": False, "error": "FORBIDDEN", "message": "Pages of this origin may not connect"}
            raise Denied(403, json.encode(body))
        visit = enter(self.lobby, handshake)
        session = NativeSession(self, pipe, visit, credentials(handshake).first())
        return Accepted(session, native.SUBPROTOCOL if offered else None)


class NativeSession:
    """One native client, from its handshake to its end."""

    __slots__ = (
        "_awaiting",
        "_bad",
        "_connection",
        "_deadline",
        "_door",
        "_pinged",
        "_pipe",
        "_state",
        "_token",
        "_visit",
        "_waiting",
    )

    def __init__(self, door: NativeDoor, pipe: Pipe, visit: Visit, token: str | None) -> None:
        self._door = door
        self._pipe = pipe
        self._visit = visit
        self._token = token
        self._state = _State.NEW
        self._connection: Connection | None = None
        self._deadline: Deadline | None = None
        self._awaiting = False
        self._pinged = 0.0
        self._bad = 0
        self._waiting: list[native.Request] | None = None

    # what the pipe calls

    def opened(self) -> None:
        if self._door.connect_timeout:
            self._arm(self._door.connect_timeout, self._too_late)
        token, self._token = self._token, None
        self._visit.verdict().addCallback(self._judged)
        if token is not None and self._state is _State.NEW:
            self._authenticate(None, token)

    def _judged(self, over: Disconnect | None) -> None:
        """It is known whether the transport is over a limit."""
        if over is not None:
            self._reject(None, over)

    def text(self, payload: bytes) -> None:
        self._awaiting = False
        if self._state is _State.DONE:
            return
        try:
            request = native.decode(payload)
        except native.NativeError as error:
            return self._not_understood(error)
        self._bad = 0
        if self._state is _State.OPEN:
            self._request(request)
        elif request.type is native.RequestType.PING:
            self._pipe.send_text(native.pong(request.id, self._pong(request)))
        elif self._state is _State.CHECKING:
            self._wait(request)
        elif request.type is native.RequestType.AUTH:
            self._authenticate(request.id, request.body["token"])
        else:
            self._error(request.id, Code.AUTH_FAILED, "Authenticate first")

    def binary(self, payload: bytes) -> None:
        self.dismiss(Disconnect.UNSUPPORTED_DATA)

    def heard(self) -> None:
        self._awaiting = False

    def ponged(self) -> None:
        pinged, self._pinged = self._pinged, 0.0
        if pinged and self._connection is not None:
            self._connection.confirmed = pinged

    def lost(self) -> None:
        self._leave(Disconnect.GOING_AWAY)
        self._visit.leave()

    def dismiss(self, reason: Disconnect) -> None:
        if reason is Disconnect.RESTART and self._state is not _State.DONE:
            # each its own delay, or all of them would be back at the same moment
            delay = int(random() * RETURN_WITHIN * 1000)
            self._pipe.send_text(native.reconnect(delay))
        self._leave(reason)
        self._pipe.finish(reason)

    # authentication

    def _authenticate(self, ident: int | str | None, token: str) -> None:
        self._state = _State.CHECKING
        lobby = self._door.lobby
        letting = lobby.let_in(
            self._visit,
            bare(token),
            ident=lobby.new_id(),
            encoder=_ENCODER,
            outbox=lambda: self._pipe.outbox,
            end=self._end,
            wanted=lambda: self._state is _State.CHECKING,
        )
        checking = Deferred.fromCoroutine(letting)
        checking.addCallbacks(self._admitted, self._refused, callbackArgs=(ident,), errbackArgs=(ident,))
        checking.addErrback(self._unexpected, ident)

    def _admitted(self, connection: Connection | None, ident: int | str | None) -> None:
        if connection is None:
            return
        lobby = self._door.lobby
        self._connection = connection
        self._state = _State.OPEN
        greeting = lobby.greeting(connection) | {"heartbeat": self._door.heartbeat}
        self._pipe.send_text(native.connected(ident, greeting))
        self._disarm()
        if self._door.heartbeat:
            self._arm(self._door.heartbeat, self._beat)
        waiting, self._waiting = self._waiting, None
        for request in waiting or ():
            self._request(request)

    def _refused(self, failure: Failure, ident: int | str | None) -> None:
        error = failure.value
        if isinstance(error, Rejected):
            return self._reject(ident, error.reason)
        failure.trap(AuthRefused)
        self._refuse(ident, Code.AUTH_FAILED, str(error), Disconnect.AUTH_FAILED)

    def _reject(self, ident: int | str | None, reason: Disconnect) -> None:
        """A limit is reached."""
        self._refuse(ident, Code.RATE_LIMITED, reason.message, reason)

    def _unexpected(self, failure: Failure, ident: int | str | None) -> None:
        if failure.check(Unavailable) is None:
            known = None if self._connection is None else self._connection.id
            _log.failure("Authentication failed unexpectedly", failure, connection=known)
        fault = unavailable("Authentication failed: ")
        self._refuse(ident, fault.code, fault.message, Disconnect.SERVER_ERROR, fault.details)

    def _refuse(
        self,
        ident: int | str | None,
        code: Code,
        message: str,
        reason: Disconnect,
        details: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if self._state is not _State.DONE:
            self._error(ident, code, message, {"details": {"reason": reason.reason, **details}})
            self.dismiss(reason)

    def _wait(self, request: native.Request) -> None:
        if self._waiting is None:
            self._waiting = []
        if len(self._waiting) >= MAX_WAITING:
            return self._error(request.id, Code.RATE_LIMITED, "Too many requests before authentication")
        self._waiting.append(request)

    # requests

    def _request(self, request: native.Request) -> None:
        connection = self._connection
        if connection is None:
            return
        kind, body = request.type, request.body
        if kind is native.RequestType.EVENT:
            name, data = body["event"], body.get("data")
        else:
            name, data = ("authenticate" if kind is native.RequestType.AUTH else kind.value), body
        if name == "ping":
            respond: Callable[[Outcome], None] = lambda outcome: self._ponged(request, outcome)  # noqa: E731
        else:
            respond = lambda outcome: self._answer(request.id, name, outcome)  # noqa: E731
        self._door.lobby.dispatcher.submit(connection, name, data, respond)

    def _answer(self, ident: int | str | None, name: str, outcome: Outcome) -> None:
        fault = outcome.fault
        if fault is None:
            self._pipe.send_text(native.reply(ident, outcome.event or name, outcome.payload))
            return
        extra: dict[str, Any] = {}
        if fault.field is not None:
            extra["field"] = fault.field
        if fault.details:
            extra["details"] = fault.details
        self._error(ident, fault.code, fault.message, extra)

    def _ponged(self, request: native.Request, outcome: Outcome) -> None:
        if outcome.fault is not None:
            return self._answer(request.id, "ping", outcome)
        self._pipe.send_text(native.pong(request.id, outcome.payload))

    def _pong(self, request: native.Request) -> dict[str, Any]:
        return {"timestamp": echo(request.body.get("timestamp"), self._door.lobby.clock())}

    def _error(self, ident: int | str | None, code: Code, message: str, extra: dict[str, Any] | None = None) -> None:
        if code in (Code.RATE_LIMITED, Code.VALIDATION_ERROR) or self._state is not _State.OPEN:
            self._pipe.refused()
        members = {"code": code, "error": message} | (extra or {})
        members["timestamp"] = json.timestamp(self._door.lobby.clock())
        self._pipe.send_text(native.error(ident, members))

    def _not_understood(self, error: native.NativeError) -> None:
        extra = {"field": error.field} if error.field else {}
        self._error(error.id, Code.VALIDATION_ERROR, str(error), extra)
        self._bad += 1
        if self._bad >= MAX_BAD:
            self.dismiss(Disconnect.BAD_MESSAGE)

    # time

    def _arm(self, seconds: float, call: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self._door.lobby.wheel.after(seconds, call)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _beat(self) -> None:
        """Time for a ping, or, when nothing came since the last, for the end."""
        if self._awaiting:
            return self.dismiss(Disconnect.HEARTBEAT)
        self._awaiting = True
        self._pinged = monotonic()
        self._pipe.ping()
        self._arm(self._door.ping_timeout, self._check)

    def _check(self) -> None:
        if self._awaiting:
            return self.dismiss(Disconnect.HEARTBEAT)
        self._arm(max(self._door.heartbeat - self._door.ping_timeout, 0.0), self._beat)

    def _too_late(self) -> None:
        self._refuse(None, Code.AUTH_FAILED, "Authentication failed: No token in time", Disconnect.AUTH_TIMEOUT)

    # the end

    def _end(self, reason: Disconnect) -> None:
        """Somebody ended the connection; the client is told why before the close code says it again."""
        code = _TOLD.get(reason)
        if code is not None:
            words = "" if self._connection is None else self._connection.words
            self._error(None, code, reason.message, {"details": {"reason": words or reason.reason}})
        self.dismiss(reason)

    def _leave(self, reason: Disconnect) -> None:
        """No more requests, events or timers."""
        self._state = _State.DONE
        self._disarm()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._door.lobby.leave(connection, reason)
