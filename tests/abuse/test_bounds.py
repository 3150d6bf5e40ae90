"""Connections that ask for nothing: how many there may be, of whom, and what happens when descriptors run out."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.abuse.crowds import still_open
from tests.abuse.raw import exchange
from tests.chaos.processes import descriptors
from tests.clients.crowd import Member
from tests.clients.waiting import until
from tests.conftest import StartServer
from tests.server import Server

TWISTD = str(Path(sys.executable).with_name("twistd"))
ASK = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def opened(
    stack: ExitStack, server: Server, count: int, source: str = "127.0.0.9", text: bytes = b""
) -> list[socket.socket]:
    ones = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", server.port), 5, source_address=(source, 0))
        stack.callback(one.close)
        if text:
            one.sendall(text)
            one.recv(65536)
        ones.append(one)
    return ones


def alive(ones: list[socket.socket]) -> list[bool]:
    return [still_open([one]) == 1 for one in ones]


def test_the_oldest_of_an_address_go_first(start_server: StartServer, stack: ExitStack) -> None:
    server = start_server(MAX_PENDING_CONNECTIONS_PER_IP="10")
    others = opened(stack, server, 5, "127.0.0.8")
    mine = opened(stack, server, 12)
    until(lambda: alive(mine) == [False] * 2 + [True] * 10, lambda: str(alive(mine)))
    assert alive(others) == [True] * 5
    # who has begun to ask is no better than who has not, until the head is here
    mine[-1].sendall(b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\n")
    more = opened(stack, server, 10)
    until(lambda: not any(alive(mine)), lambda: str(alive(mine)))
    assert alive(more) == [True] * 10
    for one in more:
        one.sendall(ASK)
    # they have asked now, and make room
    opened(stack, server, 10)
    assert all(alive(more))
    assert server.get("/live").status_code == 200
    server.stop()


def test_the_oldest_of_all_go_first(start_server: StartServer, stack: ExitStack) -> None:
    server = start_server(MAX_PENDING_CONNECTIONS="20", MAX_PENDING_CONNECTIONS_PER_IP="0")
    first = opened(stack, server, 15)
    second = opened(stack, server, 15, "127.0.0.10")
    until(lambda: alive(first) == [False] * 10 + [True] * 5, lambda: str(alive(first)))
    assert all(alive(second))
    server.stop()


@pytest.mark.parametrize("trust", ["1", "127.0.0.0/8"])
def test_a_proxys_address_is_nobodys(start_server: StartServer, stack: ExitStack, trust: str) -> None:
    server = start_server(MAX_PENDING_CONNECTIONS_PER_IP="5", TRUST_PROXY=trust)
    ones = opened(stack, server, 30)
    assert server.get("/live").status_code == 200
    assert all(alive(ones))
    server.stop()


def test_nought_is_no_limit(start_server: StartServer, stack: ExitStack) -> None:
    server = start_server(MAX_PENDING_CONNECTIONS_PER_IP="0", MAX_PENDING_CONNECTIONS="0")
    ones = opened(stack, server, 300)
    assert server.get("/live").status_code == 200
    assert all(alive(ones))
    server.stop()


def test_idle_connections_are_bounded_too(start_server: StartServer, stack: ExitStack) -> None:
    server = start_server(MAX_PENDING_CONNECTIONS="20", MAX_PENDING_CONNECTIONS_PER_IP="0")
    idle = opened(stack, server, 30, text=ASK)
    until(lambda: descriptors(server.pid) > 30, lambda: str(descriptors(server.pid)))

    def swept() -> bool:
        # a look a second, when somebody comes
        assert exchange(server.port, ASK).statuses == [200]
        return sum(alive(idle)) <= 20

    until(swept, lambda: str(alive(idle)))
    assert all(alive(idle[-10:]))
    server.stop()


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Server]:
    """A server that may have 400 descriptors."""
    server = Server.start(
        tmp_path,
        {"MAX_PENDING_CONNECTIONS_PER_IP": "0"},
        ("sh", "-c", 'ulimit -n 400; exec "$0" "$@"', TWISTD),
    )
    try:
        yield server
        server.stop()
    finally:
        server.end()


@pytest.mark.parametrize("text", [b"", ASK], ids=["silent", "idle"])
def test_when_descriptors_run_out_those_go_that_wait_for_nothing(narrow: Server, stack: ExitStack, text: bytes) -> None:
    members = [Member(narrow.port, narrow.token(number)) for number in range(1, 6)]
    for member in members:
        member.subscribe("public.news")
        stack.callback(member.socket.close)
    for number in range(12):
        opened(stack, narrow, 100, f"127.0.1.{number + 1}", text)
        newcomer = Member(narrow.port, narrow.token(20 + number))
        stack.callback(newcomer.socket.close)
        assert narrow.publish("public.news", "news", {"n": number}).json()["subscriberCount"] == 5
    for member in members:
        member.wait_for(b'"n": 11')
    assert descriptors(narrow.pid) <= 400
    assert "EMFILE" not in narrow.output()
    assert "Traceback" not in narrow.output()


def test_a_server_that_is_full_of_clients_refuses_and_recovers(narrow: Server, stack: ExitStack) -> None:
    """Nobody who has been let in goes for somebody who wants to come in."""
    members: list[Member] = []
    with suppress(AssertionError, OSError):
        for number in range(400):
            members.append(Member(narrow.port, narrow.token(1000 + number)))
            stack.callback(members[-1].socket.close)
    assert 250 < len(members) < 400
    members[0].subscribe("public.news")
    for member in members[100:]:
        member.socket.close()
    until(lambda: descriptors(narrow.pid) < 250, lambda: str(descriptors(narrow.pid)))
    assert narrow.publish("public.news", "news", {"n": 1}).json()["subscriberCount"] == 1
    members[0].wait_for(b'"n": 1')


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    server = Server.start(
        tmp_path,
        {"CLUSTER_ENABLED": "true", "CLUSTER_WORKERS": "1"},
        ("sh", "-c", 'ulimit -Sn 256; exec "$0" "$@"', TWISTD),
    )
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for pid in (server.pid, server.workers()[0]["pid"]):
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
        server.stop()
    finally:
        server.end()
