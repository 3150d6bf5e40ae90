"""Tunnels: connections whose TLS is this process's, and whose session is another's.

A plain socket is given away with its descriptor. The state of TLS is in this process's memory and cannot be: so the
other process is given one end of a socket pair, which it serves as it would the client's own socket, and bytes are
pumped between the other end and the TLS session. Either side is read from only as long as the other takes what comes.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from itertools import count
from os import getpid
from struct import Struct
from time import monotonic
from typing import Any, Final, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IReactorSocket
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.bus.link import Link, adopt
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.system.direct import write

_log = Logger()

#: Bytes that the kernel keeps for each direction of a socket pair; it takes twice that for its own use.
KERNEL_BUFFER: Final = 64 * 1024
#: Seconds in which one side may read what is left, and go, when the other has ended.
LINGER: Final = 5.0
#: Seconds after which a session that came to move over a tunnel has done so.
SETTLED: Final = 2.0

#: The number of a tunnel, the length of the client's address, and its port; the address follows, then what was read.
_HEAD: Final = Struct(">QBH")


class Opening(NamedTuple):
    """What the owner of a session is told of a tunnel to it.

    :ivar number: of the tunnel, on this host.
    :ivar host: the client's address; empty for a unix socket's.
    :ivar head: what has been read of the connection.
    """

    number: int
    host: str
    port: int
    head: bytes

    def packed(self) -> bytes:
        host = self.host.encode()
        return _HEAD.pack(self.number, len(host), self.port) + host + self.head

    @classmethod
    def unpacked(cls, body: bytes) -> Opening:
        number, length, port = _HEAD.unpack_from(body)
        begin = _HEAD.size + length
        return cls(number, body[_HEAD.size : begin].decode(), port, body[begin:])

    @property
    def peer(self) -> IPv4Address | IPv6Address | None:
        """The client, as its own socket would name it."""
        if not self.host:
            return None
        return (IPv6Address if ":" in self.host else IPv4Address)("TCP", self.host, self.port)


class Tunnels:
    """The tunnels that begin in this process.

    :ivar open: those that there are.
    :ivar closing: none is begun any more: this process lets its clients go.
    """

    def __init__(self, reactor: IReactorSocket, wheel: Wheel) -> None:
        self._reactor = reactor
        self._wheel = wheel
        self._numbers = count(1)
        self.open: dict[Tunnel, None] = {}
        self.closing = False

    def dig(
        self, kind: int, owner: Link, transport: ProtocolWrapper, head: bytes, release: Callable[[int], object]
    ) -> None:
        """Connect a TLS session with the process that shall serve it.

        :param kind: of the request that takes the other end there, with an :class:`Opening`.
        :param head: what has been read.
        :param release: told the tunnel's number, asks the owner to take leave of the client.
        """
        number = (getpid() << 32) + next(self._numbers)
        address: Any = transport.getPeer()
        host = getattr(address, "host", "")
        if host:
            transport.setTcpNoDelay(True)
        near, far = socket.socketpair()
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
            end.setblocking(False)
        tunnel = Tunnel(self, self._wheel, transport, lambda: release(number))
        self.open[tunnel] = None
        with far:
            opening = Opening(number, host, getattr(address, "port", 0), head)
            given = owner.hand(kind, opening.packed(), far.fileno())
        adopt(self._reactor, near.detach(), tunnel.far)
        tunnel.begin()
        given.addErrback(tunnel.refused)

    def staying(self, *, young: bool = False) -> list[Tunnel]:
        """Those whose client nobody has taken leave of.

        :param young: also those to which a session may just be about to move?
        """
        return [tunnel for tunnel in self.open if not tunnel.released and (young or not tunnel.young)]

    @property
    def settling(self) -> bool:
        """Is a session just about to move to one?

        A client that has tried a WebSocket stops to poll, and for good: it must not end before the session has moved.
        """
        return any(tunnel.young and not tunnel.released for tunnel in self.open)

    def abort_all(self) -> None:
        """Cut what has not ended by itself."""
        for tunnel in tuple(self.open):
            tunnel.cut()


class Tunnel:
    """One of them.

    :ivar client: the protocol of the TLS session.
    :ivar far: the protocol of the end here of the socket pair.
    :ivar released: has the owner been asked to take leave of the client?
    """

    def __init__(
        self, tunnels: Tunnels, wheel: Wheel, transport: ProtocolWrapper, release: Callable[[], object]
    ) -> None:
        self._tunnels = tunnels
        self._wheel = wheel
        self._release = release
        self._cutting: Deadline | None = None
        self._secured: Any = transport
        self.client = _Client(self)
        self.far = _Far(self)
        self.released = False
        self._began = monotonic()

    @property
    def young(self) -> bool:
        return monotonic() - self._began < SETTLED

    def begin(self) -> None:
        secured: Any = self._secured
        pair: Any = self.far.transport
        secured.wrappedProtocol = self.client
        self.client.makeConnection(secured)
        pair.registerProducer(_Flow(secured), True)
        secured.registerProducer(_Flow(pair), True)
        # on a kept-alive connection, an HTTP channel may have stopped reading
        secured.resumeProducing()

    def dismiss(self, reason: Disconnect) -> None:
        """Have the client go: the owner says so to it, in the protocol that it speaks."""
        self.released = True
        self._release()
        self._linger()

    def refused(self, reason: Failure) -> None:
        """The owner has gone, or does not take it."""
        _log.info("A WebSocket could not be given to its owner: {reason}", reason=reason.getErrorMessage())
        self.cut()

    def cut(self) -> None:
        """End both sides now."""
        ends: tuple[Any, ...] = (self._secured, self.far.transport)
        for end in ends:
            if end is not None and end.connected:
                end.abortConnection()

    def _linger(self) -> None:
        if self._cutting is None:
            self._cutting = self._wheel.after(LINGER, self.cut)

    # what the two ends find

    def to_owner(self, data: bytes) -> None:
        if self.far.connected:
            write(self.far.transport, data)

    def to_client(self, data: bytes) -> None:
        if self.client.connected:
            write(self._secured, data)

    def owner_done(self) -> None:
        """The owner writes no more, but reads."""
        if self.client.connected:
            self._secured.loseWriteConnection()
            self._linger()

    def client_lost(self) -> None:
        """What the client has written the owner may still read."""
        pair: Any = self.far.transport
        if self.far.connected:
            pair.unregisterProducer()
            pair.loseConnection()
            self._linger()
        self._ended()

    def owner_lost(self) -> None:
        """What the owner has written the client may still read."""
        if self.client.connected:
            self._secured.unregisterProducer()
            self._secured.loseConnection()
            self._linger()
        self._ended()

    def _ended(self) -> None:
        """An end is gone: perhaps it was the last."""
        if self.client.connected or self.far.connected:
            return
        self._tunnels.open.pop(self, None)
        if self._cutting is not None:
            self._cutting.cancel()


@implementer(IPushProducer)
class _Flow:
    """What comes from one end, for as long as the other takes it. That an end is gone its protocol says."""

    def __init__(self, transport: Any) -> None:
        self.pauseProducing = transport.pauseProducing
        self.resumeProducing = transport.resumeProducing

    def stopProducing(self) -> None:
        """See above."""


class _Client(Protocol):
    """The side of the client."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def dataReceived(self, data: bytes) -> None:
        self._tunnel.to_owner(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        self._tunnel.client_lost()


@implementer(IHalfCloseableProtocol)
class _Far(Protocol):
    """The side of the owner."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def dataReceived(self, data: bytes) -> None:
        self._tunnel.to_client(data)

    def readConnectionLost(self) -> None:
        transport: Any = self.transport
        if _hung_up(transport.fileno()):
            transport.abortConnection()
        else:
            self._tunnel.owner_done()

    def writeConnectionLost(self) -> None:
        """Nobody here ends one direction."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        self._tunnel.owner_lost()


def _hung_up(descriptor: int) -> bool:
    """Has the other end of a socket pair been closed, and not only its writing?"""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
