"""How long a request may take to come."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from mechamap_rt.http.deadlines import BODY_TIME, HEAD_TIME, MIN_RATE, Deadlines
from mechamap_rt.http.replies import Reply
from tests.server import Server


class _Request(Request):
    _received = 0

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        super().handleContentChunk(data)

    def process(self) -> None:
        self.finish()


class _Channel(Deadlines, HTTPChannel):
    requestFactory = _Request
    _refused = False
    refusal: Reply | None = None

    def refuse(self, reply: Reply) -> None:
        self._refused = True
        self.refusal = reply


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        factory = HTTPFactory(timeout=65, reactor=self.clock)
        self.channel = _Channel()
        self.channel.site = self.channel.factory = factory
        self.channel.callLater = self.clock.callLater
        self.channel.timeOut = 65
        self.channel.makeConnection(StringTransport())

    def status(self) -> int:
        return 0 if self.channel.refusal is None else self.channel.refusal.status

    def drip(self, data: bytes, seconds: float, pause: float = 1.0) -> float:
        """Send ``data`` again and again; after how long is it refused?"""
        passed = 0.0
        while passed < seconds and not self.status():
            self.channel.dataReceived(data)
            self.clock.advance(pause)
            passed += pause
        return passed

    def test_a_head(self) -> None:
        self.channel.dataReceived(b"GET / HTTP/1.1\r\n")
        self.assertApproximates(self.drip(b"x", 60), HEAD_TIME, 1)
        self.assertEqual(self.status(), 408)

    def test_a_head_on_a_kept_connection(self) -> None:
        self.channel.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.clock.advance(60)
        self.channel.dataReceived(b"G")
        self.clock.advance(HEAD_TIME - 1)
        self.assertEqual(self.status(), 0)
        self.clock.advance(2)
        self.assertEqual(self.status(), 408)

    def test_a_small_body(self) -> None:
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        self.assertApproximates(self.drip(b"x", 600), BODY_TIME, 2)
        self.assertEqual(self.status(), 408)

    def test_a_body_in_chunks(self) -> None:
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertApproximates(self.drip(b"1\r\nx\r\n", 600), BODY_TIME, 2)
        self.assertEqual(self.status(), 408)

    def test_a_large_body_over_a_slow_line(self) -> None:
        size = 200 * MIN_RATE
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        self.assertEqual(self.drip(b"x" * MIN_RATE, 200), 200)
        self.assertEqual(self.status(), 0)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.func == self.channel._overdue], [])

    def test_a_large_body_that_stops(self) -> None:
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        self.drip(b"x" * MIN_RATE, 50)
        self.assertEqual(self.status(), 0)
        self.assertApproximates(self.drip(b"", 200), BODY_TIME, 2)

    def test_what_comes_in_time_leaves_no_timer(self) -> None:
        for part in (b"POST / HTTP/1.1\r\nHost: x\r\nCont", b"ent-Length: 2\r\n\r\nx", b"y", b"G"):
            self.channel.dataReceived(part)
        self.channel.connectionLost()
        self.assertIsNone(self.channel._late)


def test_the_first_head_and_later_ones(server: Server) -> None:
    """Real ones, at the same time: each is ended after 15 s, though a byte comes every second."""
    ended: dict[str, tuple[float, bytes]] = {}

    def drip(name: str, first: bytes, beginning: bytes) -> None:
        with socket.create_connection(("127.0.0.1", server.port), 5) as one:
            if first:
                one.sendall(first)
                one.recv(65536)
            one.sendall(beginning)
            began, got = time.monotonic(), b""
            with contextlib.suppress(OSError):
                while time.monotonic() - began < 25:
                    one.settimeout(1)
                    with contextlib.suppress(TimeoutError):
                        data = one.recv(65536)
                        got += data
                        if not data:
                            break
                    one.sendall(b"x")
            ended[name] = time.monotonic() - began, got

    ask = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    slow = {
        "nothing": (b"", b""),
        "handshake": (b"", b"GET /ws HTTP/1.1\r\nHost: x\r\nX: "),
        "first": (b"", b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nX: "),
        "later": (ask, b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nX: "),
    }
    threads = [threading.Thread(target=drip, args=(name, *parts)) for name, parts in slow.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(14 < seconds < 18 for seconds, _ in ended.values()), ended
    assert ended["later"][1].startswith(b"HTTP/1.1 408 Request Timeout\r\n")
