"""Limits over several hosts: real servers with a real Redis between them, and ``REDIS_SESSION_STORE=true``."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mechamap_rt.settings import load
from tests.clients.native import NativeClient
from tests.conftest import StartServer
from tests.redis_server import RedisServer
from tests.server import Server

USER = 7
#: Seconds of a lease, and some for the machine.
HEAL_LIMIT = 15.0 + 2.0


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def start_hosts(start_server: StartServer, redis: RedisServer) -> Callable[..., list[Server]]:
    """``start_hosts({…}, {…}, NAME="value")``: a server for each dict, with its settings and the common ones."""

    def start(*hosts: dict[str, str], **settings: str) -> list[Server]:
        common = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port), "REDIS_SESSION_STORE": "true", **settings}
        return [start_server(**common, **own, HOST_ID=name * 3) for name, own in zip("ab", hosts, strict=False)]

    return start


def answer(server: Server, opened: ExitStack, user: int = USER) -> tuple[NativeClient, str]:
    """Connect; the client, and ``connected`` or why not."""
    client = opened.enter_context(NativeClient.open(server.ws_url, header=server.token(user)))
    message: dict[str, Any] = client.next()
    return client, "connected" if message["type"] == "connected" else message["details"]["reason"]


def at_once(jobs: list[Callable[[], str]]) -> Counter[str]:
    """Do all of them at the same moment."""
    start, done = threading.Barrier(len(jobs)), []

    def run(job: Callable[[], str]) -> None:
        start.wait()
        done.append(job())

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(done)


@pytest.mark.parametrize(
    "first",
    [{}, {"CLUSTER_ENABLED": "true", "CLUSTER_WORKERS": "2"}, {"REDIS_ADAPTER_ENABLED": "false"}],
    ids=["single", "workers", "not joined"],
)
def test_connections_of_a_user_over_two_hosts(
    start_hosts: Callable[..., list[Server]], redis: RedisServer, first: dict[str, str]
) -> None:
    servers = start_hosts(first, {}, MAX_CONNECTIONS_PER_USER="5")
    with ExitStack() as opened:
        jobs = [lambda server=server: answer(server, opened)[1] for server in servers * 6]
        assert at_once(jobs) == {"connected": 5, "user_limit_reached": 7}
        assert answer(servers[0], opened, USER + 1)[1] == "connected"
    # all of them are gone: everything is to be had again, and nothing is left
    deadline = time.monotonic() + 5
    while redis.run("KEYS", "mechamap:user:*") != [""] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert redis.run("KEYS", "mechamap:user:*") == [""]
    for server in servers:
        server.stop()
    assert redis.run("KEYS", "mechamap:lease:*") == [""], "a server that stops takes its lease with it"


def test_events_of_a_user_over_two_hosts(start_hosts: Callable[..., list[Server]]) -> None:
    servers = start_hosts({}, {}, CLIENT_EVENTS_PER_MINUTE="20")
    with ExitStack() as opened:
        clients = [answer(server, opened)[0] for server in servers]
        begun = time.monotonic()

        def ask(client: NativeClient) -> str:
            for number in range(1, 31):
                client.send(type="event", id=number, event="user_activity", data={"activity": "x"})
            answers = [client.until(lambda message, n=number: message.get("id") == n) for number in range(1, 31)]
            taken.append(sum(one.get("code") != "RATE_LIMITED" for one in answers))
            return "done"

        taken: list[int] = []
        at_once([lambda client=client: ask(client) for client in clients])
        assert sum(taken) == 20
        assert time.monotonic() - begun < 3.0, "before there was a new one"


def test_a_killed_server_s_places_are_free_within_the_lease(start_hosts: Callable[..., list[Server]]) -> None:
    one, two = start_hosts({}, {}, MAX_CONNECTIONS_PER_USER="1")
    with ExitStack() as opened:
        assert answer(one, opened)[1] == "connected"
        assert answer(two, opened)[1] == "user_limit_reached"
        os.kill(one.pid, signal.SIGKILL)
        killed = time.monotonic()
        while answer(two, opened)[1] != "connected":
            assert time.monotonic() - killed < HEAL_LIMIT
            time.sleep(0.2)


def test_with_a_redis_cluster_each_host_counts_for_itself_and_says_so() -> None:
    warnings = load({"REDIS_SESSION_STORE": "true", "REDIS_CLUSTER_NODES": "a:1,b:2"}, None).warnings
    assert [line for line in warnings if line.startswith("REDIS_SESSION_STORE")] == [
        "REDIS_SESSION_STORE has no effect with REDIS_CLUSTER_NODES: each host counts for itself"
    ]
