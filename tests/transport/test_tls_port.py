"""TLS before anything is known of a connection: a handshake has as long as the head of a request has."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mechamap_rt.core.wheel import Wheel
from mechamap_rt.settings.credentials import Credentials
from mechamap_rt.system.tls import Terminal, make_context
from mechamap_rt.transport.pending import Pending
from mechamap_rt.transport.port import HEAD_TIMEOUT, Port
from tests.certificates import Authority


class Site(Factory):
    """Keeps what it is told."""

    noisy = False

    def __init__(self) -> None:
        self.heard = b""

    def buildProtocol(self, addr: object) -> Protocol:
        site = self

        class Hearing(Protocol):
            def dataReceived(self, data: bytes) -> None:
                site.heard += data

        return Hearing()


class Gate(Site):
    routes = {"/ws": None}


class Wire(StringTransport):
    """A TCP connection, in memory."""

    connected = True
    aborted = closed = False

    def fileno(self) -> int:
        return 5

    def abortConnection(self) -> None:
        self.aborted = True

    def loseConnection(self) -> None:
        self.closed = True


class Case:
    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        credentials = Credentials.parse(*authority.sign())
        self.clock = Clock()
        reactor: Any = self.clock
        gate: Any = Gate()
        self.site = Site()
        self.port = Port(self.site, gate, Wheel(reactor), Pending(0, 0), 10**9)
        terminal = Terminal(reactor)
        terminal.credentials, terminal._context = credentials, make_context(credentials)
        self.wire = Wire()
        self.server: Any = terminal.factory(self.port).buildProtocol(None)
        self.server.makeConnection(self.wire)
        self.to_client, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = authority.context.wrap_bio(self.to_client, self.to_server, server_hostname="localhost")

    def shake(self) -> None:
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.pass_on()

    def pass_on(self) -> None:
        sent = self.to_server.read()
        if sent:
            self.server.dataReceived(sent)
        self.to_client.write(self.wire.value())
        self.wire.clear()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_silent_handshake_is_cut(case: Case) -> None:
    case.clock.pump([1.0] * int(HEAD_TIMEOUT - 1))
    assert not case.wire.aborted
    case.clock.pump([0.5] * 6)
    assert case.wire.aborted


def test_a_slow_handshake_is_cut(case: Case) -> None:
    with contextlib.suppress(ssl.SSLWantReadError):
        case.client.do_handshake()
    for byte in case.to_server.read()[: int(HEAD_TIMEOUT) + 2]:
        case.server.dataReceived(bytes([byte]))
        case.clock.pump([0.5, 0.5])
    assert case.wire.aborted


def test_who_has_shaken_hands_and_asks_nothing_is_cut(case: Case) -> None:
    case.clock.pump([1.0] * int(HEAD_TIMEOUT - 2))
    case.shake()
    case.clock.pump([0.5] * 10)
    assert case.wire.aborted


def test_the_decision_is_made_by_what_is_inside(case: Case) -> None:
    case.shake()
    case.client.write(b"GET /live HTTP/1.1\r\n\r\n")
    case.pass_on()
    assert case.site.heard == b"GET /live HTTP/1.1\r\n\r\n"
    case.clock.pump([1.0] * 20)
    assert not case.wire.aborted
    assert len(case.port.pending) == 0


def test_plain_http_is_no_handshake(case: Case) -> None:
    case.server.dataReceived(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert case.wire.closed
    assert case.site.heard == b""


def test_the_end_is_told_and_not_waited_for(case: Case) -> None:
    """RFC 8446 section 6.1: ``close_notify``, then the end of the connection, whatever the peer says to it."""
    case.shake()
    case.server.loseConnection()
    assert case.wire.closed
    case.pass_on()
    assert case.client.read() == b"", "close_notify: otherwise it would want to read more"


def test_one_direction_can_end_alone(case: Case) -> None:
    case.shake()
    case.client.write(b"POST / HTTP/1.1\r\n")
    case.pass_on()
    case.server.write(b"no more")
    case.server.loseWriteConnection()
    case.pass_on()
    assert case.client.read() == b"no more"
    assert case.client.read() == b"", "close_notify: otherwise it would want to read more"
    assert not case.wire.closed
    case.client.write(b"Host: localhost\r\n\r\n")
    case.pass_on()
    assert case.site.heard == b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"
