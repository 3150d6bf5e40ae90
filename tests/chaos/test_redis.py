"""Two hosts joined by a real Redis: exact while it is there; each goes on by itself while it is not."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.chaos.bystanders import Bystanders, Client
from tests.chaos.conftest import StartCluster
from tests.chaos.processes import Operation, kill, status, wait_for_workers, workers
from tests.clients.waiting import until
from tests.redis_server import RedisServer
from tests.server import Server


def joined(redis: RedisServer, host: str) -> dict[str, str]:
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port), "HOST_ID": host}


@pytest.fixture
def hosts(start: StartCluster, redis: RedisServer) -> tuple[Server, Server]:
    """Two hosts of two workers."""
    one = start(2, **joined(redis, "aaa"))
    other = start(2, **joined(redis, "bbb"))
    return one, other


def ready(server: Server) -> str:
    """What ``/ready`` says; every worker must say so."""
    said = {server.get("/ready", Connection="close").json()["status"] for _ in range(6)}
    return said.pop() if len(said) == 1 else f"{said}"


def test_one_host_with_redis_delivers_each_publication_once(
    start: StartCluster, redis: RedisServer, bystanders: Bystanders
) -> None:
    server = start(3, **joined(redis, "aaa"))
    bystanders.join(server, 300)
    assert len({client.node for client in bystanders.clients}) == 3
    publishing = bystanders.publish_steadily(server, rate=100)
    until(lambda: len(bystanders.publications) >= 200, lambda: "", 20)
    bystanders.stop(publishing)
    bystanders.settle()
    count = len(bystanders.publications)
    got = sum(len(client.visit.got) for client in bystanders.clients)
    print(f"{got} deliveries of {300 * count}")
    assert got == 300 * count
    assert {one.subscribers for one in bystanders.publications} == {300}
    assert bystanders.disturbed(bystanders.clients) == []


def test_two_hosts_deliver_each_publication_once_everywhere(
    hosts: tuple[Server, Server], bystanders: Bystanders
) -> None:
    for server in hosts:
        bystanders.join(server, 100)
    assert len({client.node for client in bystanders.clients}) == 4
    publishing = bystanders.publish_steadily(*hosts, rate=100)
    until(lambda: len(bystanders.publications) >= 200, lambda: "", 20)
    bystanders.stop(publishing)
    bystanders.settle()
    count = len(bystanders.publications)
    got = sum(len(client.visit.got) for client in bystanders.clients)
    wrong = [one.subscribers for one in bystanders.publications if one.subscribers != 200]
    print(f"{got} deliveries of {200 * count}; {len(wrong)} counts are not 200: {wrong[:10]}")
    assert got == 200 * count
    assert wrong == []


def test_a_worker_that_dies_on_one_host_is_no_matter_to_the_other(
    hosts: tuple[Server, Server], bystanders: Bystanders
) -> None:
    for server in hosts:
        bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(*hosts)
    node, pid = next(iter(workers(hosts[0]).items()))
    others = [client for client in bystanders.clients if client.node != node]
    kill(pid)
    wait_for_workers(hosts[0], 2, without=pid)
    bystanders.wait_all_live()
    time.sleep(0.5)
    bystanders.stop(publishing)
    bystanders.settle()
    assert bystanders.disturbed(others) == []
    assert len(bystanders.failed()) <= 3
    # nobody is waited for any more, and nobody is forgotten
    last = [bystanders.publish(server) for server in hosts]
    assert [one.subscribers for one in last] == [24, 24]
    assert max(one.took for one in last) < 0.5


def test_a_reload_of_one_host_loses_and_doubles_nothing_on_either(
    hosts: tuple[Server, Server], bystanders: Bystanders
) -> None:
    for server in hosts:
        bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(*hosts)
    others = [client for client in bystanders.clients if client.server is hosts[1]]
    Operation(hosts[0], "reload").result()
    bystanders.wait_all_live()
    bystanders.stop(publishing)
    bystanders.settle()
    assert bystanders.disturbed(others) == []
    assert bystanders.failed() == []
    # who does not answer in a quarter of a second is not counted
    counts: list[list[int]] = []

    def counted() -> bool:
        counts.append([bystanders.publish(server).subscribers for server in hosts])
        return counts[-1] == [24, 24]

    until(counted, lambda: str(counts))


@contextmanager
def killed(redis: RedisServer) -> Iterator[None]:
    """Dead, nothing listens at its port; started again, empty."""
    redis.kill()
    yield
    redis.start()


@contextmanager
def frozen(redis: RedisServer) -> Iterator[None]:
    """It answers nothing, and no connection breaks."""
    redis.freeze()
    try:
        yield
    finally:
        redis.thaw()


@contextmanager
def refusing(redis: RedisServer) -> Iterator[None]:
    """It accepts connections and refuses each with an error."""
    with socket.create_connection(("127.0.0.1", redis.port)) as only:
        only.sendall(b"CONFIG SET maxclients 1\r\nCLIENT KILL TYPE pubsub\r\nCLIENT KILL TYPE normal\r\n")
        yield
        only.sendall(b"CONFIG SET maxclients 1000\r\n")
        until(lambda: only.recv(1000).endswith(b"+OK\r\n"), lambda: "Redis does not answer")


@pytest.mark.parametrize("outage", [killed, frozen, refusing])
def test_while_redis_is_away_each_host_goes_on_and_afterwards_the_other_hears_of_it(
    hosts: tuple[Server, Server],
    redis: RedisServer,
    bystanders: Bystanders,
    outage: Callable[[RedisServer], AbstractContextManager[None]],
) -> None:
    one, other = hosts
    for server in hosts:
        bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(*hosts)
    time.sleep(0.5)
    with outage(redis):
        began = time.monotonic()
        until(lambda: ready(one) == ready(other) == "degraded", lambda: f"{ready(one)} {ready(other)}", 6)
        found = time.monotonic() - began
        until(
            lambda: all(client.visit.told == ["degraded"] for client in bystanders.clients), lambda: _told(bystanders)
        )
        since = time.monotonic()
        # who comes now is told so, and has what is its own
        late = [*bystanders.join(one, 4), *bystanders.join(other, 4)]
        assert [client.visit.greeting.get("status") for client in late] == ["degraded"] * 8
        _own(bystanders, late, "same")
        time.sleep(1)
        assert ready(one) == ready(other) == "degraded"
        during = bystanders.slowest(since)
    began = time.monotonic()
    until(lambda: ready(one) == ready(other) == "ready", lambda: f"{ready(one)} {ready(other)}", 10)
    back = time.monotonic() - began
    until(lambda: all(client.visit.told[-1:] == ["ok"] for client in bystanders.clients), lambda: _told(bystanders))
    _own(bystanders, late, "other")
    time.sleep(0.5)
    bystanders.stop(publishing)
    lost = bystanders.lost()
    print(
        f"found in {found:.2f} s, back in {back:.2f} s; slowest {bystanders.slowest():.2f} s, during {during:.2f} s; "
        f"{len(bystanders.publications)} publications, {len(lost)} lost yet, {len(bystanders.doubled())} doubled"
    )
    bystanders.settle()
    assert bystanders.failed() == []
    assert bystanders.slowest() < 1
    assert found < 3.5
    assert bystanders.disturbed(bystanders.clients) == []
    for server in hosts:
        until(lambda: not status(server)["degraded"], lambda: str(status(server)))  # noqa: B023
    assert {bystanders.publish(server).subscribers for server in hosts} == {32}


def _told(bystanders: Bystanders) -> str:
    return str([client.visit.told for client in bystanders.clients])


def _own(bystanders: Bystanders, clients: list[Client], where: str) -> None:
    """Each gets what is published on its own channel, from its own host or from the other."""
    ports = {client.server.port: client.server for client in clients}
    for client in clients:
        server = next(server for port, server in ports.items() if (port == client.server.port) is (where == "same"))
        sent = bystanders.publish(server, channel=f"private-user.{client.user}", event="own")
        assert sent.status == 200
        until(lambda: sent.number in client.visit.own, lambda: f"{client.visit}", 3)  # noqa: B023


def test_what_waited_for_redis_comes_in_order_and_once(
    hosts: tuple[Server, Server], redis: RedisServer, bystanders: Bystanders
) -> None:
    one, other = hosts
    bystanders.join(other, 6)
    # one connection, so one worker: what comes from one comes in order
    one.publish("public.chaos", "tick", {"n": -1000})
    until(lambda: all(client.visit.got == [-1000] for client in bystanders.clients), lambda: "")
    with killed(redis):
        until(lambda: ready(one) == ready(other) == "degraded", lambda: ready(one))
        for number in range(-999, 0):
            one.publish("public.chaos", "tick", {"n": number})
    until(lambda: all(len(client.visit.got) >= 1000 for client in bystanders.clients), lambda: "", 10)
    time.sleep(0.5)
    assert all(client.visit.got == list(range(-1000, 0)) for client in bystanders.clients)


def test_a_host_that_starts_without_redis_finds_it_later(start: StartCluster, bystanders: Bystanders) -> None:
    redis = RedisServer()
    try:
        redis.kill()
        one = start(2, REDIS_TIMEOUT="500", **joined(redis, "aaa"))
        other = start(2, REDIS_TIMEOUT="500", **joined(redis, "bbb"))
        assert ready(one) == "degraded"
        bystanders.join(one, 4)
        bystanders.join(other, 4)
        redis.start()
        until(lambda: ready(one) == ready(other) == "ready", lambda: ready(one), 10)
        until(lambda: bystanders.publish(one).subscribers == 8, lambda: str(status(one)), 3)
    finally:
        redis.end()
