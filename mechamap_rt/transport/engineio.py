"""Engine.IO sessions: handshake, heartbeat and closing; the messages are Socket.IO's."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.wheel import Deadline
from mechamap_rt.errors import Disconnect
from mechamap_rt.transport.entrance import Credentials, credentials, enter
from mechamap_rt.transport.lobby import Lobby, new_id
from mechamap_rt.transport.socketio import SocketIOClient
from mechamap_rt.transport.websocket import Accepted, Denied, Handshake, Pipe
from mechamap_rt.wire import engineio
from mechamap_rt.wire.engineio import PacketType
from mechamap_rt.wire.socketio import SocketIOError

_log = Logger()


class EngineDoor:
    """Makes Engine.IO sessions; all times are seconds.

    :param namespaces: the Socket.IO namespaces that exist.
    """

    def __init__(
        self,
        lobby: Lobby,
        *,
        ping_interval: float,
        ping_timeout: float,
        connect_timeout: float,
        max_payload: int,
        transports: tuple[str, ...],
        namespaces: frozenset[str] = frozenset(("/",)),
    ) -> None:
        self.lobby = lobby
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.connect_timeout = connect_timeout
        self.max_payload = max_payload
        self.transports = transports
        self.namespaces = namespaces

    def accept(self, pipe: Pipe, handshake: Handshake) -> Accepted:
        """A WebSocket handshake on the Socket.IO path."""
        refusal = self._refusal(handshake)
        if refusal is not None:
            raise Denied(refusal.status, refusal.body())
        over = enter(self.lobby.admission, handshake)
        return Accepted(EngineSession(self, pipe, handshake.address, credentials(handshake), over), None)

    def _refusal(self, handshake: Handshake) -> engineio.Refusal | None:
        """Why the reference server would refuse this handshake."""
        query = handshake.query
        if query.get("transport") != "websocket" or "websocket" not in self.transports:
            return engineio.UNKNOWN_TRANSPORT
        if "sid" in query:
            return engineio.UNKNOWN_SID
        if query.get("EIO") != engineio.PROTOCOL:
            return engineio.UNSUPPORTED_VERSION
        return None


class EngineSession:
    """One Engine.IO session over a WebSocket."""

    __slots__ = ("_address", "_alone_since", "_awaiting", "_client", "_deadline", "_door", "_finished", "_pipe")

    def __init__(
        self, door: EngineDoor, pipe: Pipe, address: str, tokens: Credentials, over: Disconnect | None
    ) -> None:
        self._door = door
        self._pipe = pipe
        self._address = address
        self._client = SocketIOClient(door.lobby, self, address, tokens, door.namespaces, over)
        self._deadline: Deadline | None = None
        self._awaiting = False
        self._finished = False
        #: When the session was first seen without a namespace, or ``None``.
        self._alone_since: float | None = door.lobby.clock()

    @property
    def outbox(self) -> Outbox:
        return self._pipe.outbox

    # what the pipe calls

    def opened(self) -> None:
        door = self._door
        self._pipe.send_text(
            engineio.open_packet(
                new_id(),
                upgrades=(),
                interval=door.ping_interval,
                timeout=door.ping_timeout,
                max_payload=door.max_payload,
            )
        )
        self._arm(min(door.ping_interval, door.connect_timeout), self._first)

    def text(self, payload: bytes) -> None:
        if self._finished:
            return
        try:
            packet = engineio.decode(payload)
            if packet.type is PacketType.MESSAGE:
                self._client.receive(packet.data)
            elif packet.type is PacketType.PONG:
                self._alive()
            elif packet.type is PacketType.CLOSE:
                self.finish(Disconnect.NORMAL)
            elif packet.type is not PacketType.NOOP:
                raise engineio.EngineIOError("a client does not send this")
        except (engineio.EngineIOError, SocketIOError) as error:
            _log.debug("Parse error from {address}: {error}", address=self._address, error=str(error))
            self.finish(Disconnect.BAD_MESSAGE)

    def binary(self, payload: bytes) -> None:
        """An attachment that no packet announced."""
        self.finish(Disconnect.BAD_MESSAGE)

    def heard(self) -> None:
        """Liveness is shown by Engine.IO's own heartbeat."""

    def lost(self) -> None:
        self._leave()
        self._door.lobby.admission.leave(self._address)

    def dismiss(self, reason: Disconnect) -> None:
        self.finish(reason)

    # what the Socket.IO client calls

    def send(self, packet: bytes) -> None:
        self._pipe.send_text(b"4" + packet)

    def finish(self, reason: Disconnect) -> None:
        if not self._finished:
            self._leave()
            self._pipe.finish(reason)

    # time

    def _arm(self, seconds: float, call: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._door.lobby.wheel.after(seconds, call)

    def _first(self) -> None:
        """The first deadline: by now a namespace should be joined, or it is time for the first ping."""
        door = self._door
        if door.connect_timeout <= door.ping_interval:
            if not self._client.connected:
                return self.finish(Disconnect.AUTH_TIMEOUT)
            self._arm(door.ping_interval - door.connect_timeout, self._beat)
            return
        self._beat()

    def _beat(self) -> None:
        """Time for a ping."""
        self._awaiting = True
        self._pipe.send_text(b"2")
        self._arm(self._door.ping_timeout, self._silent)

    def _alive(self) -> None:
        """The pong. A session that joined no namespace, or left the last, does not stay for ever."""
        if not self._awaiting:
            return
        self._awaiting = False
        now = self._door.lobby.clock()
        if self._client.connected:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since >= self._door.connect_timeout:
            return self.finish(Disconnect.AUTH_TIMEOUT)
        self._arm(self._door.ping_interval, self._beat)

    def _silent(self) -> None:
        self.finish(Disconnect.HEARTBEAT)

    def _leave(self) -> None:
        self._finished = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._client.leave()
