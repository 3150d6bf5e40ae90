"""Ports on a listening socket that several processes share.

Twisted's own ports assume that the socket is theirs. A ``unix.Port`` that adopts one changes the file's mode to 0666,
listens again with another backlog and, when it stops, removes the file and shuts the socket down, for every process.
And a ``tcp.Port`` accepts 100 connections in a row, so that in a rush whoever wakes first gets nearly everybody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.python.failure import Failure

from mechamap_rt.system.scoreboard import FairShare

#: Connections that one turn of the reactor accepts: enough for the rate, too few to run away from the others.
AT_ONCE: Final = 2
#: The same in a process that shares its socket with nobody.
AT_MOST: Final = 32

if TYPE_CHECKING:
    _Transport = tcp.Server
    _Port = tcp.Port
else:
    _Transport = _Port = object


class _Counted(_Transport):
    """A connection that is counted as long as it is open."""

    #: Of a connection that another process has accepted.
    share: FairShare

    def __init__(self, sock: Any, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any) -> None:
        super().__init__(sock, protocol, client, server, sessionno, reactor)
        self._share: FairShare = self.share if server is None else server.share
        self._share.arrived()

    def connectionLost(self, reason: Failure) -> None:
        # Twisted may call it twice; the socket is what it goes by itself
        if hasattr(self, "socket"):
            self._share.departed()
        super().connectionLost(reason)


class _CountedTcp(_Counted, tcp.Server):
    pass


class _CountedUnix(_Counted, unix.Server):
    pass


class Tunnelled(unix.Server):
    """The end of a socket pair that stands for a client whose own connection another process has, and counts.

    :ivar peer: that client's address.
    :ivar gone: called when it has ended.
    """

    peer: IAddress | None = None
    gone: Callable[[], object] | None = None

    def getPeer(self) -> Any:
        return super().getPeer() if self.peer is None else self.peer

    def setTcpNoDelay(self, enabled: bool) -> None:
        """The other process has."""

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        gone, self.gone = self.gone, None
        if gone is not None:
            gone()


class _Sharing(_Port):
    """Accepts a few connections at a time, and none for a moment while this process has more than its share."""

    share: FairShare | None = None
    _pause: IDelayedCall | None = None

    def doRead(self) -> None:
        share = self.share
        if share is None:
            # Twisted raises it as long as there are more, until a rush has the reactor for itself
            self.numberAccepts = min(self.numberAccepts, AT_MOST)
            super().doRead()
            return
        if share.should_yield():
            self.stopReading()
            self._pause = share.rest(self._resume)
            return
        # the port raises it by itself when it finds as many waiting
        self.numberAccepts = AT_ONCE
        super().doRead()

    def _resume(self) -> None:
        self._pause = None
        self.startReading()

    def loseConnection(self, *arguments: Any) -> Any:
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.cancel()
        return super().loseConnection(*arguments)

    stopListening = loseConnection


class TcpPort(_Sharing, tcp.Port):
    """A port on an adopted TCP socket."""

    def startListening(self) -> None:
        if self.share is not None:
            self.transport: type[tcp.Server] = _CountedTcp
        super().startListening()


class UnixPort(_Sharing, unix.Port):
    """A port on an adopted unix socket, which leaves the file and the socket as they are."""

    def startListening(self) -> None:
        # what tcp.Port does with an adopted socket, less its port number
        adopted, factory = self._preexistingSocket, self.factory
        if adopted is None or factory is None:
            raise CannotListenError(None, None, "the port has been used before")
        if self.share is not None:
            self.transport: type[unix.Server] = _CountedUnix
        tcp._reservedFD.reserve()
        self._preexistingSocket = None
        self._shouldShutdown = False
        factory.doStart()
        self.connected = True
        self.socket = adopted
        self.fileno = adopted.fileno  # type: ignore[method-assign]
        self.numberAccepts = AT_ONCE
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)


def take_end(reactor: Any, descriptor: int, factory: Any, peer: IAddress | None) -> Tunnelled | None:
    """Serve the client at the other end of a socket pair; the descriptor is duplicated.

    :param peer: the client's address; None for one that has come by a unix socket.
    :returns: None when ``factory`` does not want it.
    """
    end: Tunnelled | None = Tunnelled._fromConnectedSocket(descriptor, factory, reactor)
    if end is not None:
        end.peer = peer
    return end


def take_over(reactor: Any, descriptor: int, factory: Any, share: FairShare | None) -> None:
    """Go on with a connection that another process has accepted; the descriptor is duplicated.

    :param share: counts it; None for nobody.
    """
    with socket.socket(fileno=os.dup(descriptor)) as given:
        family = given.family
    if share is None:
        reactor.adoptStreamConnection(descriptor, family, factory)
    elif family == socket.AF_UNIX:
        type("Given", (_CountedUnix,), {"share": share})._fromConnectedSocket(descriptor, factory, reactor)  # type: ignore[attr-defined]
    else:
        type("Given", (_CountedTcp,), {"share": share})._fromConnectedSocket(descriptor, family, factory, reactor)  # type: ignore[attr-defined]
