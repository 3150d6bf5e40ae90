"""WebSocket by Autobahn: the handshake, the frames of clients, and the closing; what is said is a session's business.

Sending bypasses Autobahn's ``sendMessage``: frames come ready-made from the hub and leave through the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol

from autobahn.exception import Disconnected
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.outbox import SocketOutbox
from mechamap_rt.core.wheel import Deadline
from mechamap_rt.errors import Disconnect
from mechamap_rt.system.direct import direct
from mechamap_rt.transport.handshake import Denied, Handshake
from mechamap_rt.transport.pacing import Paced
from mechamap_rt.wire import json
from mechamap_rt.wire.websocket import text_message

_log = Logger()

#: Seconds a peer has to read what is left for it before its connection is cut.
LINGER: Final = 5.0

#: Bytes of a frame's header (RFC 6455 section 5.2).
MAX_HEADER: Final = 14
#: Payload bytes of a control frame (RFC 6455 section 5.5).
MAX_CONTROL: Final = 125
#: Fragments of one message, and one more for each so many bytes of it: a frame of one byte costs as much as any.
MAX_FRAGMENTS: Final = 1024
FRAGMENT_SIZE: Final = 256
#: Refused requests, or control frames, that a client may send before it is made to wait.
FREE_REFUSALS: Final = 100
#: Seconds without a refusal after which they are forgotten.
FORGIVEN_AFTER: Final = 30.0

_STATS: Final = TrafficStats()


class Session(Protocol):
    """What is said over one WebSocket."""

    def opened(self) -> None:
        """The handshake is complete."""

    def text(self, payload: bytes) -> None:
        """A text message came; it is valid UTF-8."""

    def binary(self, payload: bytes) -> None:
        """A binary message came."""

    def heard(self) -> None:
        """Something came."""

    def ponged(self) -> None:
        """A pong frame came."""

    def dismiss(self, reason: Disconnect) -> None:
        """End it, telling the client why."""

    def lost(self) -> None:
        """The socket is gone."""


class Accepted(NamedTuple):
    """A handshake is accepted."""

    session: Session
    subprotocol: str | None


#: Makes a session, or raises :class:`Denied`.
Accept = Callable[["Pipe", Handshake], Accepted]


class _Quiet:
    """The part of Autobahn's log that is worth keeping.

    It writes a line for every handshake that fails and every connection that ends, with parts of the request in them:
    what a stranger sends must not fill, or forge, the log.
    """

    error = staticmethod(_log.error)
    failure = staticmethod(_log.failure)

    def trace(self, *args: object, **fields: object) -> None:
        """Dropped, as the levels below."""

    debug = info = warn = trace


class Pipe(Paced):
    """One WebSocket. Autobahn speaks the protocol; :attr:`session` decides what is said.

    Autobahn copies some thirty options onto every instance; here they are class attributes (:class:`Gate` makes the
    class), and what the handshake leaves behind is dropped when the socket is open.
    """

    CONFIG_ATTRS: list[str] = []
    log: Any = _Quiet()
    message_data: Any
    _perMessageCompress: Any
    closeHandshakeTimeoutCall: Any
    outbox: SocketOutbox
    session: Session | None = None

    def connectionMade(self) -> None:
        transport = self.transport
        self.peer = getattr(transport.getPeer(), "host", "")
        self.outbox = SocketOutbox(
            self.factory.turn, transport, direct(transport), lambda: self.dismiss(Disconnect.SLOW_CONSUMER)
        )
        if self.peer:
            transport.setTcpNoDelay(True)
        self._connectionMade()
        self.trafficStats = _STATS
        self.factory.pipes[self] = None

    def dataReceived(self, data: bytes) -> None:
        if self.session is not None:
            self.session.heard()
        super().dataReceived(data)

    def received(self, data: bytes) -> None:
        try:
            self._dataReceived(data)
        except Disconnected:
            pass
        except Exception:
            _log.failure("A WebSocket session failed unexpectedly")
            self.dismiss(Disconnect.SERVER_ERROR)
        if self.failedByMe and len(self.data) >= MAX_HEADER:
            # Autobahn keeps what it will never read: the frame that was refused, and all that comes after it
            self.data = b""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connectionLost(reason)  # type: ignore[arg-type]
        self.outbox.abandon()
        self.factory.pipes.pop(self, None)
        session, self.session = self.session, None
        if session is not None:
            session.lost()
        if self._lingering is not None:
            self._lingering.cancel()
        timer, self.closeHandshakeTimeoutCall = self.closeHandshakeTimeoutCall, None
        if timer is not None:
            # Autobahn lets it run, and hold this object, to the end
            timer.cancel()
        # each holds a reference to this object: a cycle that only a full collection would break
        self.is_open = self.is_closed = None

    # what Autobahn calls

    def onConnect(self, request: ConnectionRequest) -> str | None:
        query = {name: values[0] for name, values in request.params.items()}
        address = self.factory.address_of(self.peer or "", request.headers)
        handshake = Handshake(address, request.path, query, request.headers, tuple(request.protocols))
        try:
            if self.factory.draining:
                raise Denied(503, json.encode({"success": False, "error": "UNAVAILABLE", "message": "Going down"}))
            accept: Accept | None = self.factory.routes.get(request.path)
            if accept is None:
                raise Denied(404, json.encode({"success": False, "error": "NOT_FOUND", "message": "No such path"}))
            accepted = accept(self, handshake)
        except Denied as denied:
            # its traceback holds this object: another cycle
            self._denial = denied.with_traceback(None)
            raise ConnectionDeny(denied.status) from None
        self.session = accepted.session
        return accepted.subprotocol

    _denial: Denied | None = None
    _lingering: Deadline | None = None

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:
        """Refuse a handshake: Autobahn's reasons hold parts of the request, which belong in no status line."""
        denial = self._denial
        body = denial.body if denial else json.encode({"success": False, "error": "BAD_HANDSHAKE", "message": reason})
        headers = [*(responseHeaders or ()), *(denial.headers if denial else ())]
        lines = [f"HTTP/1.1 {code} {HTTPStatus(code).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
        self.sendData("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def _onOpen(self) -> None:
        if self._perMessageCompress is not None:
            self.outbox = self.outbox.deflating()
        for name in _HANDSHAKE_LEFTOVERS:
            self.__dict__.pop(name, None)
        if self.session is not None:
            self.session.opened()

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)
        self.message_data = b""
        self._fragments = 0

    _fragments = 0

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        self._fragments += 1
        most = MAX_FRAGMENTS + self.message_data_total_length // FRAGMENT_SIZE
        if self._fragments > most and not self.failedByMe:
            self._fail_connection(Disconnect.TOO_BIG.code, Disconnect.TOO_BIG.reason)

    def onMessageFrameData(self, payload: bytes) -> None:
        """Bytes are what is kept, not pieces: of those a client may send any number."""
        if self.failedByMe or not payload:
            return
        data = self.message_data
        if not data:
            self.message_data = payload
        elif isinstance(data, bytearray):
            data += payload
        else:
            self.message_data = bytearray(data) + payload

    def onFrameEnd(self) -> Any:
        if self.failedByMe and self.current_frame.opcode <= 7:
            # its end is no end of a compressed message, of which the rest was not inflated
            self.current_frame = None
            return None
        return super().onFrameEnd()

    def onMessageFrameEnd(self) -> None:
        self.frame_data = []

    def onMessageEnd(self) -> None:
        if not self.failedByMe and self.session is not None:
            payload = bytes(self.message_data)
            if self.message_is_binary:
                self.session.binary(payload)
            elif _is_utf8(payload):
                self.session.text(payload)
            else:
                self._invalid_payload("not valid UTF-8")
        self.message_data = None

    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:
        self._fail_connection(Disconnect.TOO_BIG.code, Disconnect.TOO_BIG.reason)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        """Autobahn gives up on a peer that broke the protocol: its session ends now, not when the socket does."""
        super()._fail_connection(code, reason)
        if self.session is not None:
            self.session.dismiss(Disconnect.BAD_MESSAGE)

    def onFrameData(self, payload: bytes) -> bool | None:
        frame = self.current_frame
        if self.failedByMe if frame.opcode <= 7 else frame.length > MAX_CONTROL:
            # refused already; what still comes of it must not be kept, or inflated again
            return None
        return super().onFrameData(payload)

    def onPing(self, payload: bytes) -> None:
        self.count_control()
        super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        self.count_control()
        if self.session is not None:
            self.session.ponged()

    def count_control(self) -> None:
        """Control frames, and packets like them, cost no limit of the user's, so they have one of the socket's."""
        self._controls += 1
        if self._controls % FREE_REFUSALS == 0:
            self.slow_down()

    # slowing down who asks for what is refused

    _controls = 0
    _refusals = 0
    _refused_at = 0.0

    def refused(self) -> None:
        """A request was refused that cost more to read than it was worth."""
        now = self.factory.reactor.seconds()
        if now - self._refused_at > FORGIVEN_AFTER:
            self._refusals = 0
        self._refused_at = now
        self._refusals += 1
        if self._refusals > FREE_REFUSALS:
            self.slow_down()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The session learns it from :meth:`connectionLost`."""

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Everything that Autobahn sends goes through the outbox too, so that nothing overtakes."""
        if self.outbox.shut:
            self.transport.write(data)
        else:
            self.outbox.push(Frame(data))

    def _closeConnection(self, abort: bool = False) -> None:
        self.outbox.close()
        if abort and not self.wasClean and hasattr(self.transport, "abortConnection"):
            self.transport.abortConnection()
            return
        self.transport.loseConnection()
        self._lingering = self.factory.wheel.after(LINGER, self._cut)

    def _cut(self) -> None:
        if self in self.factory.pipes:
            self.transport.abortConnection()

    # what sessions call

    def send_text(self, payload: bytes) -> None:
        """Send one text message to this client alone."""
        self.outbox.push(Frame(text_message(payload)))

    def ping(self) -> None:
        self.outbox.push(_PING)

    def finish(self, reason: Disconnect) -> None:
        """Close the WebSocket after what is queued; the client sees the reason's code."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=reason.code, reasonUtf8=reason.reason.encode())
        elif self.state == self.STATE_CONNECTING:
            self.dropConnection(abort=False)

    def dismiss(self, reason: Disconnect) -> None:
        """End what is said over it, telling the client why."""
        if self.session is None:
            self.finish(reason)
        else:
            self.session.dismiss(reason)


_PING: Final = Frame(b"\x89\x00")
_HANDSHAKE_LEFTOVERS: Final = (
    "_denial",
    "_wskey",
    "http_headers",
    "http_request_data",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
    "send_queue",
    "utf8validator",
    "websocket_extensions",
    "websocket_extensions_in_use",
    "websocket_origin",
    "websocket_protocols",
)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
