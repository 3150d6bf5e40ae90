"""A port on a shared socket leaves it to the others as it was, and counts what is open."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mechamap_rt.settings import load
from mechamap_rt.system.listening import Bound, adopt, bind
from mechamap_rt.system.scoreboard import FairShare, Scoreboard


class Greeter(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()


class AcceptingTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.board = Scoreboard.create(4)
        self.addCleanup(self.board.close)

    def bind(self, listener: str) -> Bound:
        [bound] = bind(load({"LISTEN": listener}, None).settings, {})
        self.addCleanup(bound.socket.close)
        self.addCleanup(bound.unlink)
        return bound

    def share(self, number: int) -> FairShare:
        share = FairShare(reactor, self.board, self.board.slot(number))
        share.start()
        self.addCleanup(share.stop)
        return share

    def connect(self, bound: Bound) -> socket.socket:
        client = socket.socket(bound.family, socket.SOCK_STREAM)
        client.connect(bound.socket.getsockname())
        client.setblocking(False)
        self.addCleanup(client.close)
        return client

    async def until(self, condition) -> None:
        while not condition():
            await deferLater(reactor, 0.005)

    def heard(self, client: socket.socket, data: bytes = b"hello") -> bool:
        try:
            return client.recv(len(data)) == data
        except BlockingIOError:
            return False

    async def _one_stops(self, bound: Bound) -> None:
        first, second = (adopt(reactor, bound, Factory.forProtocol(Greeter)) for _ in range(2))
        await first.stopListening()
        client = self.connect(bound)
        await self.until(lambda: self.heard(client))
        client.close()
        await second.stopListening()
        client = self.connect(bound)  # it waits in the queue for whoever comes
        third = adopt(reactor, bound.socket.fileno(), Factory.forProtocol(Greeter))
        await self.until(lambda: self.heard(client))
        client.close()
        await third.stopListening()
        await deferLater(reactor, 0.02)

    def test_who_stops_leaves_a_tcp_socket_to_the_others(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._one_stops(self.bind("tcp:127.0.0.1:0")))

    def test_who_stops_leaves_a_unix_socket_to_the_others(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._unix())

    async def _unix(self) -> None:
        path = Path(self.mktemp()).absolute()
        path = Path(f"/tmp/mechamap-{os.getpid()}-{path.name}")
        bound = self.bind(f"unix:{path}:600")
        await self._one_stops(bound)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    async def _counted(self, bound: Bound) -> None:
        port = adopt(reactor, bound, Factory.forProtocol(Greeter), share=self.share(1))
        slot = self.board.slot(1)
        clients = [self.connect(bound) for _ in range(10)]
        await self.until(lambda: slot.connections == 10)
        for client in clients[:4]:
            client.close()
        await self.until(lambda: slot.connections == 6)
        for client in clients[4:]:
            client.send(b"bye")
        await self.until(lambda: slot.connections == 0)
        await port.stopListening()

    def test_what_is_open_is_counted(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._counted(self.bind("tcp:[::1]:0")))

    def test_and_over_unix(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._counted(self.bind(f"unix:/tmp/mechamap-{os.getpid()}-counted")))

    async def _yields(self) -> None:
        bound = self.bind("tcp:127.0.0.1:0")
        full, empty = self.share(0), self.share(1)
        for _ in range(100):
            full.arrived()
        port = adopt(reactor, bound, Factory.forProtocol(Greeter), share=full)
        client = self.connect(bound)
        await deferLater(reactor, 0.1)
        self.assertFalse(self.heard(client))
        empty.leave()
        await self.until(lambda: self.heard(client))
        empty.start()
        self.connect(bound)
        await self.until(lambda: port._pause is not None)
        await port.stopListening()
        client.close()
        await deferLater(reactor, 0.02)
        self.assertEqual(self.board.slot(0).connections, 100)

    def test_a_port_with_too_many_waits_for_the_others(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._yields())
