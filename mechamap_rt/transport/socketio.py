"""Socket.IO over one Engine.IO session: namespaces, events, acknowledgements.

:class:`SocketIOClient` is what a browser's ``Manager`` is on the other side: it may hold one socket in each namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt.auth.jwt import bare
from mechamap_rt.commands.outcome import Outcome, unavailable
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.wheel import Deadline
from mechamap_rt.errors import AuthRefused, ClientFault, Code, Disconnect, Unavailable
from mechamap_rt.transport.handshake import Credentials
from mechamap_rt.transport.lobby import Lobby, Rejected, Visit
from mechamap_rt.wire import json, socketio
from mechamap_rt.wire.attachments import Assembly, detach
from mechamap_rt.wire.engineio import Revision
from mechamap_rt.wire.socketio import Packet, PacketType

_log = Logger()

#: Connects of one session that may be refused before the session is closed.
MAX_REFUSALS: Final = 8
#: Acknowledgements of one session that the server may be waiting for.
MAX_AWAITED: Final = 64

_ENCODERS: Final = {"/": socketio.EventEncoder("/")}


def encoder_of(namespace: str) -> socketio.EventEncoder:
    """The encoder that all sockets of one (configured) namespace share."""
    encoder = _ENCODERS.get(namespace)
    if encoder is None:
        encoder = _ENCODERS[namespace] = socketio.EventEncoder(namespace)
    return encoder


class Engine(Protocol):
    """What a Socket.IO client needs of the Engine.IO session below it."""

    sid: str
    revision: Revision

    @property
    def outbox(self) -> Outbox: ...

    def send(self, packet: bytes) -> None:
        """Send one Socket.IO packet."""

    def send_binary(self, part: bytes) -> None:
        """Send one attachment."""

    def finish(self, reason: Disconnect) -> None:
        """Close the transport after what is queued."""

    def refused(self) -> None:
        """A request was refused that cost more to read than it was worth."""


class _Gone:
    """What a client whose session has ended talks to."""

    sid = ""
    revision = Revision.V4

    @property
    def outbox(self) -> Outbox:
        raise RuntimeError("the session has ended")

    def send(self, packet: bytes) -> None:
        """Nobody is there."""

    send_binary = send

    def finish(self, reason: Disconnect) -> None:
        """It has ended."""

    def refused(self) -> None:
        """Nobody is there."""


_GONE: Final = _Gone()


class SocketIOClient:
    """The sockets of one Engine.IO session.

    :param namespaces: those that exist.
    :param max_attached: bytes of all attachments of one packet.
    """

    __slots__ = (
        "_assembly",
        "_awaited",
        "_credentials",
        "_engine",
        "_lobby",
        "_max_attached",
        "_namespaces",
        "_refusals",
        "_sockets",
        "_visit",
    )

    def __init__(
        self,
        lobby: Lobby,
        engine: Engine,
        visit: Visit,
        credentials: Credentials,
        namespaces: frozenset[str],
        max_attached: int,
    ) -> None:
        self._lobby = lobby
        self._engine: Engine = engine
        self._visit = visit
        self._credentials: Credentials | None = credentials
        self._namespaces = namespaces
        self._max_attached = max_attached
        self._assembly: Assembly | None = None
        self._sockets: dict[str, Connection | None] = {}
        self._refusals = 0
        self._awaited: dict[int, tuple[Deferred[list[Any]], Deadline]] | None = None

    @property
    def connected(self) -> bool:
        """Is there a socket in any namespace, or one whose token is being checked?"""
        return bool(self._sockets)

    def receive(self, raw: bytes) -> None:
        """Take the data of one Engine.IO message.

        :raises SocketIOError: it is malformed, or the client is in no state to send it; the session must end.
        """
        if self._assembly is not None:
            raise socketio.SocketIOError("an attachment is missing")
        packet = socketio.decode(raw)
        if packet.attachments:
            self._assembly = Assembly(packet, self._max_attached)
        else:
            self._take(packet)

    def receive_binary(self, part: bytes) -> None:
        """Take one attachment.

        :raises SocketIOError: no packet announced it, or it does not fit.
        """
        if self._assembly is None:
            raise socketio.SocketIOError("an attachment that no packet announced")
        packet = self._assembly.add(part)
        if packet is not None:
            self._assembly = None
            self._take(packet)

    def _take(self, packet: Packet) -> None:
        kind = packet.type
        if kind is PacketType.CONNECT:
            return self._connect(packet)
        connection = self._sockets.get(packet.namespace)
        if connection is None:
            raise socketio.SocketIOError("not connected to this namespace")
        if kind in (PacketType.EVENT, PacketType.BINARY_EVENT):
            self._event(connection, packet)
        elif kind in (PacketType.ACK, PacketType.BINARY_ACK):
            self._acknowledged(packet)
        elif kind is PacketType.DISCONNECT:
            del self._sockets[packet.namespace]
            self._lobby.leave(connection, Disconnect.NORMAL)
        else:
            raise socketio.SocketIOError("a client does not send this")

    # connecting

    def _connect(self, packet: Packet) -> None:
        namespace = packet.namespace
        if namespace in self._sockets:
            raise socketio.SocketIOError("connected to this namespace already")
        if namespace not in self._namespaces:
            return self._refuse(namespace, "Invalid namespace")
        self._begin(namespace, bare(packet.data.get("token")) if packet.data else None)

    def connect_root(self) -> None:
        """Connect to ``/`` without being asked to, as clients of revision 3 expect."""
        self._begin("/", None)

    def _begin(self, namespace: str, token: str | None) -> None:
        self._sockets[namespace] = None
        if token is None and self._credentials is not None:
            token = self._credentials.first()
        letting = self._lobby.let_in(
            self._visit,
            token,
            ident=self._engine.sid if self._old and namespace == "/" else self._lobby.new_id(),
            encoder=encoder_of(namespace),
            outbox=lambda: self._engine.outbox,
            end=lambda reason: self._end(namespace, reason),
            wanted=lambda: namespace in self._sockets,
        )
        checking = Deferred.fromCoroutine(letting)
        checking.addCallbacks(self._admitted, self._refused, callbackArgs=(namespace,), errbackArgs=(namespace,))
        checking.addErrback(self._unexpected, namespace)

    def _admitted(self, connection: Connection | None, namespace: str) -> None:
        if connection is None:
            return
        self._sockets[namespace] = connection
        # the session may have moved to a WebSocket meanwhile
        self._lobby.node.move(connection, self._engine.outbox)
        if len(self._namespaces) == 1:
            self._credentials = None
        self._send_connected(namespace, connection.id)
        connection.emit("connected", self._lobby.greeting(connection))

    def _refused(self, failure: Failure, namespace: str) -> None:
        error = failure.value
        if namespace not in self._sockets:
            return
        if isinstance(error, Rejected):
            return self._reject(namespace, error.reason)
        failure.trap(AuthRefused)
        self._refuse(namespace, str(error))

    def _unexpected(self, failure: Failure, namespace: str) -> None:
        if failure.check(Unavailable) is None:
            _log.failure("Authentication failed unexpectedly", failure, connection=self._engine.sid)
        if namespace in self._sockets:
            fault = unavailable("Authentication failed: ")
            self._refuse(namespace, fault.message, {"data": {"code": fault.code} | fault.details})

    def _refuse(self, namespace: str, message: str, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Answer a connect with ``CONNECT_ERROR``; the client may try again, though not for ever."""
        self._sockets.pop(namespace, None)
        told = message if self._old else {"message": message, **more}
        self._send(PacketType.CONNECT_ERROR, namespace, json.encode(told))
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            self._engine.finish(Disconnect.AUTH_FAILED)

    def _reject(self, namespace: str, reason: Disconnect) -> None:
        """Let the client in just to tell it that it cannot stay, so that it stays away."""
        self._sockets.pop(namespace, None)
        self._send_connected(namespace, self._lobby.new_id())
        self._farewell(namespace, "connection_rejected", {"reason": reason.reason, "message": reason.message})
        self._engine.finish(reason)

    @property
    def _old(self) -> bool:
        """Does the client speak the Socket.IO of revision 3?"""
        return self._engine.revision is Revision.V3

    def _send_connected(self, namespace: str, ident: str) -> None:
        self._send(PacketType.CONNECT, namespace, b"" if self._old else json.encode({"sid": ident}))

    # events

    def _event(self, connection: Connection, packet: Packet) -> None:
        respond: Callable[[Outcome], None] = lambda outcome: self._answer(connection, packet, outcome)  # noqa: E731
        if packet.fault is not None:
            fault = ClientFault(Code.VALIDATION_ERROR, packet.fault, field="data")
            return self._lobby.dispatcher.refuse(fault, respond)
        name, *arguments = packet.data
        self._lobby.dispatcher.submit(connection, name, arguments[0] if arguments else None, respond)

    def _answer(self, connection: Connection, packet: Packet, outcome: Outcome) -> None:
        if outcome.fault is not None and outcome.fault.code in (Code.RATE_LIMITED, Code.VALIDATION_ERROR):
            self._engine.refused()
        if outcome.event is not None:
            connection.emit(outcome.event, outcome.payload)
        if packet.id is not None:
            body = b"[%b]" % json.encode(outcome.acknowledgement())
            self._engine.send(socketio.encode(PacketType.ACK, packet.namespace, body, packet.id))

    def request(self, namespace: str, event: str, payload: dict[str, Any], timeout: float) -> Deferred[list[Any]]:
        """Emit an event that the client must acknowledge.

        :returns: fires with the acknowledgement's arguments; fails with ``TimeoutError`` after ``timeout`` seconds, or
            with ``ConnectionLost``.
        """
        awaited = self._awaited
        if awaited is None:
            awaited = self._awaited = {}
        if len(awaited) >= MAX_AWAITED:
            self._abandon(next(iter(awaited)), TimeoutError("too many acknowledgements are awaited"))
        ident = next(number for number in range(MAX_AWAITED + 1) if number not in awaited)
        answer: Deferred[list[Any]] = Deferred()
        late = TimeoutError("no acknowledgement in time")
        awaited[ident] = (answer, self._lobby.wheel.after(timeout, lambda: self._abandon(ident, late)))
        parts: list[bytes] = []
        body = json.encode([event, detach(payload, parts)])
        if parts:
            self._engine.send(socketio.encode_binary(PacketType.BINARY_EVENT, len(parts), namespace, body, ident))
            for part in parts:
                self._engine.send_binary(part)
        else:
            self._engine.send(socketio.encode(PacketType.EVENT, namespace, body, ident))
        return answer

    def _acknowledged(self, packet: Packet) -> None:
        """An acknowledgement nobody waits for (any more) is ignored, as the reference server does."""
        waiting = self._awaited.pop(packet.id, None) if self._awaited and packet.id is not None else None
        if waiting is not None:
            waiting[1].cancel()
            waiting[0].callback(packet.data or [])

    def _abandon(self, ident: int, error: Exception) -> None:
        waiting = self._awaited.pop(ident, None) if self._awaited else None
        if waiting is not None:
            waiting[1].cancel()
            waiting[0].errback(error)

    # the end

    def _end(self, namespace: str, reason: Disconnect) -> None:
        """Somebody ended the connection of one namespace.

        A client that may come back must see its *transport* close: after a DISCONNECT packet it stays away.
        """
        if not reason.reconnect:
            connection = self._sockets.pop(namespace, None)
            words = reason.reason
            if connection is not None:
                self._lobby.leave(connection, reason)
                words = connection.words or words
            self._farewell(namespace, "force_disconnect", {"reason": words, "message": reason.message})
        if reason.reconnect or not self._sockets:
            self._engine.finish(reason)

    def _farewell(self, namespace: str, event: str, payload: dict[str, Any]) -> None:
        packet = encoder_of(namespace).event(event, json.encode(payload))
        self._engine.send(packet[1:])
        self._send(PacketType.DISCONNECT, namespace)

    def _send(self, kind: PacketType, namespace: str, data: bytes = b"") -> None:
        self._engine.send(socketio.encode(kind, namespace, data))

    def moved(self, outbox: Outbox) -> None:
        """The session has moved to another transport."""
        for connection in self._sockets.values():
            if connection is not None:
                self._lobby.node.move(connection, outbox)

    def confirmed(self, moment: float) -> None:
        """What was written before ``moment``, by the monotonic clock, has reached the client."""
        for connection in self._sockets.values():
            if connection is not None:
                connection.confirmed = moment

    def leave(self, reason: Disconnect) -> None:
        """The session has ended: every socket with it."""
        self._assembly = None
        sockets, self._sockets = self._sockets, {}
        for connection in sockets.values():
            if connection is not None:
                self._lobby.leave(connection, reason)
        for ident in tuple(self._awaited or ()):
            self._abandon(ident, ConnectionLost("the client is gone"))

    def release(self) -> None:
        """The session is gone: let go of it, or the two would keep each other alive."""
        self._engine = _GONE
