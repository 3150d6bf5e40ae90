"""One port for everything: looks at the first request of a connection and gives it to who speaks its protocol.

WebSocket handshakes go to Autobahn's factory straight away, so a WebSocket costs no HTTP channel. A handshake that
comes later, on a kept-alive connection (a proxy may do that), is passed on by :func:`hand_over`.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import Request

from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.transport.gate import Gate
from mechamap_rt.transport.handover import Handover

#: Bytes of a handshake's request line and headers.
MAX_HEAD: Final = 16 * 1024
#: Seconds in which the head of the first request must be complete.
HEAD_TIMEOUT: Final = 15.0


class Port(ServerFactory[Any]):
    """The factory that listens.

    :param site: serves HTTP.
    :param gate: serves WebSockets, on its routes' paths.
    """

    noisy = False

    def __init__(self, site: IProtocolFactory, gate: Gate, wheel: Wheel) -> None:
        self.site = site
        self.gate = gate
        self.wheel = wheel
        #: Gives WebSockets of other processes' sessions to them.
        self.handover: Handover | None = None
        self.prefixes = tuple(b"GET " + path.encode() for path in gate.routes)
        #: Connections that have not sent enough to tell what they are.
        self.undecided: dict[Doorman, None] = {}

    def buildProtocol(self, addr: IAddress | None) -> Doorman:
        return Doorman(self, addr)

    def doStart(self) -> None:
        super().doStart()
        self.site.doStart()
        self.gate.doStart()

    def doStop(self) -> None:
        super().doStop()
        self.site.doStop()
        self.gate.doStop()

    def abort_all(self) -> None:
        for doorman in tuple(self.undecided):
            doorman.cut()


class Doorman(Protocol):
    """Reads until it is clear what a connection is."""

    def __init__(self, port: Port, address: IAddress | None) -> None:
        self._port = port
        self._address = address
        self._head = b""
        self._deadline: Deadline | None = None

    def connectionMade(self) -> None:
        self._port.undecided[self] = None
        self._deadline = self._port.wheel.after(HEAD_TIMEOUT, self.cut)

    def dataReceived(self, data: bytes) -> None:
        head = self._head = self._head + data if self._head else data
        prefixes = self._port.prefixes
        if not head.startswith(prefixes):
            if any(prefix.startswith(head) for prefix in prefixes):
                return
            return self._give(self._port.site)
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if len(head) > MAX_HEAD:
                self._give(self._port.site)
            return
        if not is_upgrade(head[: end + 2]):
            return self._give(self._port.site)
        self._head = plain(head[:end]) + head[end:]
        handover = self._port.handover
        if handover is not None and handover.give(self.transport, self._head):
            return self._forget()
        self._give(self._port.gate)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()

    def cut(self) -> None:
        """The head does not come: end it."""
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _give(self, factory: Any) -> None:
        """Replace this protocol by one of ``factory``, and give that what was read."""
        self._forget()
        head, self._head = self._head, b""
        protocol = factory.buildProtocol(self._address)
        connect(self.transport, protocol)
        protocol.dataReceived(head)

    def _forget(self) -> None:
        self._port.undecided.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


#: Bytes that are legal in a header's value but that Autobahn, which reads lines as Python does, takes for line ends.
_LINE_ENDS: Final = bytes.maketrans(b"\x0b\x0c\x1c\x1d\x1e\x85", b"??????")


def plain(head: bytes) -> bytes:
    """``head`` without the bytes by which one header could be made to look like two."""
    return head.translate(_LINE_ENDS)


def is_upgrade(head: bytes) -> bool:
    """Do the headers ask for a WebSocket (RFC 6455 section 4.1)?"""
    at = head.lower().find(b"\r\nupgrade:")
    if at < 0:
        return False
    line = head[at + 10 : head.find(b"\r\n", at + 10)]
    return b"websocket" in line.lower()


def connect(transport: Any, protocol: Any) -> None:
    """Make ``protocol`` the one that ``transport`` talks to."""
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


def may_upgrade(request: Request) -> bool:
    """Is ``request`` a WebSocket handshake that can be handed over: plain HTTP/1.1, without a body?"""
    headers = request.requestHeaders
    upgrade = headers.getRawHeaders(b"Upgrade", [b""])[0]
    return (
        request.method == b"GET"
        and request.clientproto == b"HTTP/1.1"
        and is_upgrade(b"\r\nupgrade:" + upgrade + b"\r\n")
        and not any(headers.hasHeader(name) for name in (b"Expect", b"Content-Length", b"Transfer-Encoding"))
    )


def hand_over(request: Request, gate: Gate, handover: Handover | None = None) -> None:
    """Make the connection of ``request``, a WebSocket handshake on a kept-alive connection, a WebSocket.

    The request is written out again for Autobahn, every header line as it came (two ``Cookie`` lines stay two).
    """
    channel: Any = request.channel
    channel.site.channels.pop(channel, None)
    raw, channel.transport = channel.transport, None
    lines = [request.method + b" " + request.uri + b" HTTP/1.1"]
    headers = request.requestHeaders.getAllRawHeaders()
    lines += [name + b": " + value for name, values in headers for value in values]
    channel.setTimeout(None)
    raw.unregisterProducer()
    head = plain(b"\r\n".join(lines)) + b"\r\n\r\n"
    if handover is not None and handover.give(raw, head):
        return
    protocol: Any = gate.buildProtocol(raw.getPeer())
    # what follows the handshake in the same segment is still in the channel's hands
    channel.rawDataReceived = protocol.dataReceived
    connect(raw, protocol)
    raw.resumeProducing()
    protocol.dataReceived(head)
