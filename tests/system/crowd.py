"""A worker of the spread experiment, in its own process: accepts on inherited sockets until its standard input ends.

``python crowd.py SCOREBOARD SLOT SHARED FD...``; SLOT numbers the worker, SHARED is 1 to be fair, 0 for Twisted's port.
"""

from __future__ import annotations

import os
import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO

from mechamap_rt.system.listening import adopt
from mechamap_rt.system.scoreboard import FairShare, Scoreboard


class Greeter(Protocol):
    """Does about as much for a connection as a handshake costs, and says whose it is."""

    work = int(os.environ.get("WORK", "0"))

    def connectionMade(self) -> None:
        sum(range(self.work))
        self.transport.write(self.factory.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()


class Master(Protocol):
    def connectionLost(self, reason: object = None) -> None:
        if reactor.running:
            reactor.stop()


def main() -> None:
    board, slot, shared, *descriptors = map(int, sys.argv[1:])
    scoreboard = Scoreboard.attach(board)
    share = FairShare(reactor, scoreboard, scoreboard.slot(slot))
    factory = Factory.forProtocol(Greeter)
    factory.noisy = False
    factory.greeting = b"%d\n" % slot
    for descriptor in descriptors:
        if shared:
            adopt(reactor, descriptor, factory, share=share)
        else:
            import socket

            reactor.adoptStreamPort(descriptor, socket.AF_INET, factory)
    StandardIO(Master())
    share.start()
    reactor.run()


if __name__ == "__main__":
    main()
