"""What is limited is limited for the host, not for each worker."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.clients.native import NativeClient
from tests.clients.waiting import subscribers, until, wait_for_subscribers
from tests.conftest import ConnectNode, StartServer
from tests.server import Server

USER = 7
#: The kernel deals connections out by chance, within bounds: a few may all go to one worker, this many do not.
MANY = 40
ROUNDS = 20


class Devices:
    """Native clients that connect at the same moment."""

    def __init__(self, server: Server, tokens: list[str]) -> None:
        self.server = server
        self.admitted: list[NativeClient] = []
        self.rejected: Counter[tuple[int | None, str]] = Counter()
        self._tokens = tokens
        self._lock = threading.Lock()
        self._start = threading.Barrier(len(tokens))
        threads = [threading.Thread(target=self._connect, args=(token,)) for token in tokens]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _connect(self, token: str) -> None:
        self._start.wait()
        client = NativeClient.open(self.server.ws_url, header=token)
        message = client.next()
        if message["type"] == "connected":
            with self._lock:
                self.admitted.append(client)
        else:
            code, _ = client.closed()
            with self._lock:
                self.rejected[code, message["details"]["reason"]] += 1
            client.connection.close()

    def workers(self) -> set[str]:
        """The workers that have them, by the first characters of the connections' ids."""
        return {client.seen[0]["socketId"][:6] for client in self.admitted}

    def leave(self) -> None:
        for client in self.admitted:
            client.connection.close()


Connect = Callable[..., Devices]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(server, *users)``: a device of each, all at once; they leave in the end."""
    with ExitStack() as stack:

        def together(server: Server, *users: int) -> Devices:
            devices = Devices(server, [server.token(user) for user in users])
            stack.callback(devices.leave)
            return devices

        yield together


def test_connections_of_a_user(start_cluster: StartServer, connect: Connect) -> None:
    """Twenty at once: five are let in. When they have left, five again, whatever workers have them."""
    server = start_cluster(MAX_CONNECTIONS_PER_USER="5")
    workers: set[str] = set()
    rounds = 0
    while rounds < 3 or len(workers) < 2:
        rounds += 1
        assert rounds < ROUNDS, "the devices are never on two workers"
        devices = connect(server, *[USER] * 20)
        assert len(devices.admitted) == 5
        assert devices.rejected == {(4101, "user_limit_reached"): 15}
        workers |= devices.workers()
        assert subscribers(server, f"private-user.{USER}") == 5
        devices.leave()
        wait_for_subscribers(server, f"private-user.{USER}", 0)


def test_connections_of_a_user_over_socketio(start_cluster: StartServer, connect_node: ConnectNode) -> None:
    server = start_cluster(MAX_CONNECTIONS_PER_USER="5")
    transports = [["websocket"], ["polling"]]
    clients = [connect_node(server.url, server.token(USER), transports=transports[number % 2]) for number in range(15)]
    outcomes = Counter(
        client.wait_any("message:connected", "message:connection_rejected")["name"] for client in clients
    )
    assert outcomes == {"connected": 5, "connection_rejected": 10}
    (reason,) = {message["reason"] for client in clients for message in client.messages("connection_rejected")}
    assert reason == "user_limit_reached"


def test_connections_of_an_address(start_cluster: StartServer, connect: Connect) -> None:
    server = start_cluster(MAX_CONNECTIONS_PER_IP="10")
    for _ in range(2):
        devices = connect(server, *range(1, 21))
        assert len(devices.admitted) == 10
        assert devices.rejected == {(4100, "connection_throttled"): 10}
        devices.leave()
        until(lambda: server.get("/api/status").json()["connections"]["total"] == 0, lambda: "all have left")


def test_connections_in_all(start_cluster: StartServer, connect: Connect) -> None:
    server = start_cluster(MAX_CONNECTIONS="10")
    devices = connect(server, *range(1, 21))
    assert len(devices.admitted) == 10
    assert devices.rejected == {(4102, "global_limit_reached"): 10}


def test_attempts_to_connect(start_cluster: StartServer, connect: Connect) -> None:
    """Those that were let in count too, and so do those that have left."""
    server = start_cluster(CONNECTION_ATTEMPTS_PER_MINUTE="8", MAX_CONNECTIONS_PER_USER="0")
    devices = connect(server, *[USER] * 12)
    assert len(devices.admitted) == 8
    assert devices.rejected == {(4100, "connection_throttled"): 4}
    devices.leave()
    again = connect(server, *[USER] * 3)
    # 8 a minute: one more after 7.5 s
    assert len(again.admitted) <= 1
    assert len(connect(server, *[USER + 1] * 8).admitted) == 8, "another user is another matter"


def test_events_of_a_user(start_cluster: StartServer, connect: Connect) -> None:
    """Two devices on two workers send eighty each as fast as they can: a hundred are taken."""
    server = start_cluster(CLIENT_EVENTS_PER_MINUTE="100")
    one, two = _on_two_workers(connect(server, *[USER] * MANY))
    answers: Counter[str] = Counter()
    codes: set[str] = set()
    lock = threading.Lock()

    def send(client: NativeClient) -> None:
        for number in range(80):
            client.send(type="unsubscribe", id=number, channel="public.x")
        found: list[dict[str, Any]] = [client.until(lambda message: "id" in message) for _ in range(80)]
        with lock:
            answers.update(message["type"] for message in found)
            codes.update(message["code"] for message in found if message["type"] == "error")

    threads = [threading.Thread(target=send, args=(client,)) for client in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # a hundred at once, and then one each 0.6 s
    assert 100 <= answers["reply"] <= 102
    assert answers.total() == 160
    assert codes == {"RATE_LIMITED"}


def _on_two_workers(devices: Devices) -> tuple[NativeClient, NativeClient]:
    by_worker = {client.seen[0]["socketId"][:6]: client for client in devices.admitted}
    assert len(by_worker) > 1, "they are on several workers"
    one, two, *_ = by_worker.values()
    return one, two
