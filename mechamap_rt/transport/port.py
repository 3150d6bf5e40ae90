"""One port for everything: looks at the first request of a connection and gives it to who speaks its protocol.

WebSocket handshakes go to Autobahn's factory straight away, so a WebSocket costs no HTTP channel. A handshake that
comes later, on a kept-alive connection (a proxy may do that), is passed on by :func:`hand_over`.

Until the head of its first request is here, a connection is undecided. Those are bounded, and the first to go when
descriptors run out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import Request

from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.transport.gate import Gate
from mechamap_rt.transport.handover import Handover
from mechamap_rt.transport.pending import Pending

#: Bytes of a handshake's request line and headers.
MAX_HEAD: Final = 16 * 1024
#: Seconds in which the head of the first request must be complete.
HEAD_TIMEOUT: Final = 15.0
#: Connections that go at once when descriptors have run out.
SHED: Final = 16
#: Seconds between two looks for idle HTTP connections, when there are very many.
SWEEP: Final = 1.0

#: What no head contains: NUL, and a line end that is only half of one (RFC 9112 section 2.2).
_BROKEN = re.compile(rb"\x00|(?<!\r)\n|\r(?!\n|\Z)")
#: A first line that could be one, after the empty lines that are to be ignored (RFC 9112 sections 2.2 and 3).
_FIRST_LINE = re.compile(rb"(?:\r\n)*[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^ \r]+ HTTP/1\.[01]\r")
#: A handshake that can be read in one way.
_HANDSHAKE = re.compile(rb"GET [!-~]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
#: What a handshake does not have: a body, or somebody who waits to be asked for it.
_BODY = re.compile(rb"\r\n(?:content-length:(?![ \t]*0[ \t]*\r\n)|transfer-encoding:|expect:)", re.IGNORECASE)


class Site(Shape):
    """What the port needs of the factory of HTTP connections."""

    channels: Collection[Any]

    def shed_idle(self, count: int, spare: int = 0) -> int:
        """Cut idle connections, the oldest first, but leave ``spare`` of them; how many were cut?"""


class Port(ServerFactory[Any]):
    """The factory that listens.

    :param site: serves HTTP.
    :param gate: serves WebSockets, on its routes' paths.
    :param pending: the connections that are undecided, and how many there may be.
    :param ceiling: the number of a descriptor that is one too many.
    """

    noisy = False

    def __init__(self, site: Any, gate: Gate, wheel: Wheel, pending: Pending, ceiling: int) -> None:
        self.site: Any = site
        self.gate = gate
        self.wheel = wheel
        #: Gives WebSockets of other processes' sessions to them.
        self.handover: Handover | None = None
        self.prefixes = tuple(b"GET " + path.encode() for path in gate.routes)
        self.pending = pending
        self.ceiling = ceiling
        self._swept = 0.0

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
        self.pending.cut_all()

    def make_room(self, newcomer: Doorman) -> None:
        """Descriptors run out: the oldest connections that wait for nothing go, or else the newcomer."""
        site: Site = self.site
        if not self.pending.cut_oldest(SHED, newcomer) and not site.shed_idle(SHED):
            newcomer.cut()

    def look_after_idle(self) -> None:
        """Idle HTTP connections are bounded as undecided ones are."""
        site: Site = self.site
        most = self.pending.most
        if most and len(site.channels) > most and self.wheel.seconds() - self._swept >= SWEEP:
            self._swept = self.wheel.seconds()
            site.shed_idle(len(site.channels), most)


class Doorman(Protocol):
    """Reads until it is clear what a connection is."""

    def __init__(self, port: Port, address: IAddress | None) -> None:
        self._port = port
        self._address = address
        self._head = b""
        self._deadline: Deadline | None = None

    def connectionMade(self) -> None:
        port = self._port
        port.pending.add(self, getattr(self._address, "host", ""))
        self._deadline = port.wheel.after(HEAD_TIMEOUT, self.cut)
        transport: Any = self.transport
        if transport.fileno() >= port.ceiling:
            port.make_room(self)

    def dataReceived(self, data: bytes) -> None:
        seen = len(self._head)
        head = self._head = self._head + data if seen else data
        end = head.find(b"\r\n\r\n", max(0, seen - 3))
        if end < 0:
            if len(head) > MAX_HEAD or hopeless(head):
                self._give(self._port.site)
            return
        if not (head.startswith(self._port.prefixes) and is_handshake(head[: end + 4])):
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
        if factory is self._port.site:
            self._port.look_after_idle()
        head, self._head = self._head, b""
        protocol = factory.buildProtocol(self._address)
        connect(self.transport, protocol)
        protocol.dataReceived(head)

    def _forget(self) -> None:
        self._port.pending.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


#: Bytes that are legal in a header's value but that Autobahn, which reads lines as Python does, takes for line ends.
_LINE_ENDS: Final = bytes.maketrans(b"\x0b\x0c\x1c\x1d\x1e\x85", b"??????")


def plain(head: bytes) -> bytes:
    """``head`` without the bytes by which one header could be made to look like two."""
    return head.translate(_LINE_ENDS)


def hopeless(head: bytes) -> bool:
    """Is this beginning of a head no head, whatever comes?"""
    return _BROKEN.search(head) is not None or (b"\r\n" in head.lstrip(b"\r\n") and not _FIRST_LINE.match(head))


def is_handshake(head: bytes) -> bool:
    """Is it the head of a WebSocket handshake, one that every reader reads in the same way?"""
    return is_upgrade(head[:-2]) and _HANDSHAKE.fullmatch(head) is not None and _BODY.search(head) is None


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
