"""Sessions of other processes of the host: their polls are asked there, their WebSockets are given away.

A client's requests come over whatever connection is free, and the kernel gives each connection to whichever process
asks first. The first characters of a session's id name the process that has it. A poll is a request of its own and is
forwarded with its answer; a WebSocket handshake is given to the owner with its socket, so that it costs nothing more,
or, where the connection is one of TLS, over a tunnel (:mod:`mechamap_rt.transport.tunnel`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from struct import Struct
from typing import Any, Final

from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IReactorSocket
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from mechamap_rt.bus.link import Link
from mechamap_rt.bus.relay import FREE_KIND, RelayBus
from mechamap_rt.errors import Disconnect
from mechamap_rt.system.accepting import Tunnelled, take_end, take_over
from mechamap_rt.system.scoreboard import FairShare
from mechamap_rt.transport.tunnel import Opening, Tunnels
from mechamap_rt.transport.upgrade import Probe

_log = Logger()

SOCKET: Final = FREE_KIND
POLL: Final = FREE_KIND + 1
CANCEL: Final = FREE_KIND + 2
HURRY: Final = FREE_KIND + 3
TUNNEL: Final = FREE_KIND + 4
RELEASE: Final = FREE_KIND + 5
#: The kinds of requests that come with a descriptor.
WITH_DESCRIPTOR: Final = frozenset((SOCKET, TUNNEL))

#: Polls of other processes that may wait here.
MAX_ERRANDS: Final = 50_000

#: The number of an errand, and the length of the address that follows.
_NUMBER: Final = Struct(">QB")
_SID = re.compile(rb"[?&]sid=([A-Za-z0-9_-]{20})[& ]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_NOWHERE: Final = IPv4Address("TCP", "127.0.0.1", 0)


class Handover:
    """Finds the owners of sessions, and answers for the sessions of this process.

    :param name: of this process.
    :param port: the factory of connections.
    :param site: the factory of HTTP connections.
    :param tunnels: to other processes.
    :param share: counts the sockets that are given to this process, and knows who has the fewest clients.
    :param name_of: the name of a worker of this host, by its number.
    """

    def __init__(
        self,
        reactor: IReactorSocket,
        relay: RelayBus,
        name: str,
        port: IProtocolFactory,
        site: IProtocolFactory,
        tunnels: Tunnels,
        share: FairShare | None = None,
        name_of: Callable[[int], str] = str,
    ) -> None:
        self._reactor = reactor
        self._relay = relay
        self._name = name
        self._share = share
        self._name_of = name_of
        self._port = port
        self._site = site
        self._tunnels = tunnels
        #: The ends here of other processes' tunnels.
        self._ends: dict[int, Tunnelled] = {}
        self._numbers = count(1)
        self._errands: dict[int, Errand] = {}
        #: Sessions that other workers were asked to open and have not yet.
        self._sent: Counter[int] = Counter()
        #: Polls that were asked elsewhere, and sockets given away, since the start.
        self.forwarded = self.given = 0
        relay.serve(SOCKET, self._take_socket)
        relay.serve(POLL, self._take_poll)
        relay.serve(CANCEL, self._take_cancel)
        relay.serve(HURRY, self._take_hurry)
        relay.serve(TUNNEL, self._take_tunnel)
        relay.serve(RELEASE, self._take_release)

    def owner(self, sid: str) -> Link | None:
        """The process that has this session, if it is another one of this host."""
        name = sid[: len(self._name)]
        return None if name == self._name else self._relay.neighbour(name)

    def host(self) -> int | None:
        """The number of the worker that should have the next session, when that is another one."""
        return None if self._share is None else self._share.lightest(self._sent)

    def opened(self) -> None:
        """A session has been opened here."""
        if self._share is not None:
            self._share.show_clients()

    # polls

    def forward(self, owner: Link, request: bytes, peer: str = "") -> Forwarded:
        """Ask the owner to answer a whole HTTP request.

        :param peer: the address that it came from; needed for the request that opens a session.
        """
        self.forwarded += 1
        number = (os.getpid() << 32) + next(self._numbers)
        who = peer.encode()
        return Forwarded(owner, number, owner.ask(POLL, _NUMBER.pack(number, len(who)) + who + request))

    def open_at(self, worker: int, request: bytes, peer: str) -> Forwarded | None:
        """Have that worker open a session for a whole HTTP request; ``None`` when it has just gone."""
        link = self._relay.neighbour(self._name_of(worker))
        if link is None:
            return None
        self._sent[worker] += 1
        forwarded = self.forward(link, request, peer)
        forwarded.answer.addBoth(self._has_opened, worker)
        return forwarded

    def _has_opened(self, answer: Any, worker: int) -> Any:
        self._sent[worker] -= 1
        if not self._sent[worker]:
            del self._sent[worker]
        return answer

    def _take_poll(self, body: bytes, descriptor: int) -> Deferred[bytes]:
        number, length = _NUMBER.unpack_from(body)
        begin = _NUMBER.size + length
        if len(self._errands) >= MAX_ERRANDS:
            raise RuntimeError("too many polls of other processes wait here")
        errand = self._errands[number] = Errand(self._reactor, body[_NUMBER.size : begin].decode())
        errand.done.addBoth(self._answered, number)
        errand.run(self._site, body[begin:])
        return errand.done

    def _answered(self, response: Any, number: int) -> Any:
        self._errands.pop(number, None)
        return response

    def _take_cancel(self, body: bytes, descriptor: int) -> None:
        errand = self._errands.get(_NUMBER.unpack_from(body)[0])
        if errand is not None:
            errand.drop()

    def _take_hurry(self, body: bytes, descriptor: int) -> None:
        errand = self._errands.get(_NUMBER.unpack_from(body)[0])
        if errand is not None:
            errand.hurry()

    # sockets

    def give(self, transport: Any, head: bytes) -> bool:
        """Give a connection, of which ``head`` has been read, to the owner of the session it names; is there one?"""
        line = head[: head.find(b"\r\n")]
        sid = _SID.search(line) if line.startswith(b"GET /socket.io") else None
        owner = None if sid is None else self.owner(sid[1].decode())
        if owner is None:
            return False
        if isinstance(transport, tcp.Connection) and not transport.TLS:
            self._give_socket(owner, transport, head)
        elif isinstance(transport, ProtocolWrapper) and not self._tunnels.closing:
            link = owner
            self._tunnels.dig(TUNNEL, link, transport, head, lambda number: link.tell(RELEASE, _NUMBER.pack(number, 0)))
        else:
            # refused, as a session that nobody has: its client goes on polling, and need not leave in a moment
            return False
        self.given += 1
        return True

    def _give_socket(self, owner: Link, transport: Any, head: bytes) -> None:
        owner.hand(SOCKET, head, transport.socket.fileno()).addErrback(_lost)
        # the owner has a duplicate: this one is closed without a word to the client
        transport.protocol = Protocol()
        transport._shouldShutdown = False
        transport.connectionLost(Failure(ConnectionDone()))

    def _take_socket(self, head: bytes, descriptor: int) -> None:
        if descriptor < 0:
            raise RuntimeError("a socket was announced and none came")
        try:
            adopted = _Adopted(self._port)
            take_over(self._reactor, descriptor, adopted, self._share)
        finally:
            os.close(descriptor)
        if adopted.protocol_made is not None:
            adopted.protocol_made.dataReceived(head)

    def _take_tunnel(self, body: bytes, descriptor: int) -> None:
        if descriptor < 0:
            raise RuntimeError("a tunnel was announced and none came")
        opening = Opening.unpacked(body)
        try:
            adopted = _Adopted(self._port, opening.peer)
            end = take_end(self._reactor, descriptor, adopted, opening.peer)
        finally:
            os.close(descriptor)
        if end is not None:
            self._ends[opening.number] = end
            end.gone = lambda: self._ends.pop(opening.number, None)
            adopted.protocol_made.dataReceived(opening.head)

    def _take_release(self, body: bytes, descriptor: int) -> None:
        """The process in which a tunnel begins lets its clients go."""
        end: Any = self._ends.get(_NUMBER.unpack_from(body)[0])
        if end is None:
            return
        session = getattr(end.protocol, "session", None)
        if session is None:
            end.loseConnection()
        elif isinstance(session, Probe):
            session.release(Disconnect.RESTART)
        else:
            session.dismiss(Disconnect.RESTART)


class Forwarded:
    """A poll that another process answers.

    :ivar answer: fires with the whole HTTP response, or fails with :class:`~mechamap_rt.bus.link.LinkLost`.
    """

    __slots__ = ("_number", "_owner", "answer")

    def __init__(self, owner: Link, number: int, answer: Deferred[bytes]) -> None:
        self._owner = owner
        self._number = number
        self.answer = answer

    def hurry(self) -> None:
        """Have it answered now, with nothing if there is nothing: this process lets its clients go."""
        self._owner.tell(HURRY, _NUMBER.pack(self._number, 0))

    def drop(self) -> None:
        """The client is gone."""
        self._owner.tell(CANCEL, _NUMBER.pack(self._number, 0))


class Errand:
    """A poll that is answered for another process: the transport of an HTTP connection that is only memory."""

    disconnecting = False

    def __init__(self, reactor: Any, peer: str) -> None:
        self._reactor = reactor
        self._peer = IPv4Address("TCP", peer, 0)
        self.done: Deferred[bytes] = Deferred()
        self._written = b""
        self._channel: Any = None

    def run(self, site: IProtocolFactory, request: bytes) -> None:
        self._channel = site.buildProtocol(self._peer)
        self._channel.one_request = True
        self._channel.makeConnection(self)
        self._channel.dataReceived(request)

    def hurry(self) -> None:
        """Answer it now, if it waits."""
        if self._channel is not None:
            self._channel.hurry()

    def drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.connectionLost(connectionDone)
        if not self.done.called:
            self.done.callback(b"")

    def write(self, data: bytes) -> None:
        self._written += data
        end = self._written.find(b"\r\n\r\n")
        length = _LENGTH.search(self._written, 0, end + 2) if end >= 0 else None
        if length is not None and len(self._written) >= end + 4 + int(length[1]) and not self.done.called:
            self.done.callback(self._written)
            # not within this call: the request that writes has still to be finished
            self._reactor.callLater(0, self.drop)

    def writeSequence(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def loseConnection(self) -> None:
        # not within the call of the request that has just been answered
        self._reactor.callLater(0, self.drop)

    abortConnection = loseConnection

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return _NOWHERE

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nothing here is ever too much: answers are bounded."""

    def unregisterProducer(self) -> None:
        """See :meth:`registerProducer`."""

    pauseProducing = resumeProducing = stopProducing = unregisterProducer


class _Adopted(Factory):
    """Keeps the protocol that the real factory makes."""

    noisy = False
    protocol_made: Any = None

    def __init__(self, port: IProtocolFactory, peer: Any = None) -> None:
        self._port = port
        self._peer = peer

    def buildProtocol(self, addr: Any) -> Any:
        self.protocol_made = self._port.buildProtocol(self._peer or addr)
        return self.protocol_made


def _lost(reason: Failure) -> None:
    _log.info("A WebSocket could not be given to its owner: {reason}", reason=reason.getErrorMessage())
