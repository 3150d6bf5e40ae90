"""Clients come back by themselves: after a restart, after a cut network, after sleep."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.clients.network import Network
from tests.clients.node import MODES, NEWEST, VERSIONS, Node, NodeClient
from tests.clients.waiting import subscribers, until, wait_for_subscribers
from tests.conftest import ConnectNode, StartServer, required
from tests.server import Server

#: Heartbeats fast enough to be waited for.
BRISK = {"WS_PING_INTERVAL": "400", "WS_PING_TIMEOUT": "400"}

#: How a dead network ends for the client: no ping came, or no answer to its own.
NOTICED = ("ping timeout", "transport close", "transport error")


def own(user: int) -> str:
    return f"private-user.{user}"


def assert_back(server: Server, client: NodeClient, user: int, mark: int) -> None:
    """The client has come back since ``mark``, as another connection, and gets events, once."""
    before = client.messages("connected")[0]["socketId"]
    greeting = client.message("connected", after=mark)
    assert greeting["socketId"] != before
    wait_for_subscribers(server, own(user), 1)
    server.publish(own(user), "notification", {"user": user})
    client.message("notification", after=mark)
    client.ask("unsubscribe", {"channel": "public.anything"})
    assert [data["user"] for data in client.messages("notification")] == [user]


@pytest.mark.parametrize("mode", MODES)
def test_restart(start_server: StartServer, connect_node: ConnectNode, mode: str) -> None:
    first = start_server()
    users = dict(enumerate(VERSIONS, 1))
    clients = {
        user: connect_node(first.url, first.token(user), version=version, **MODES[mode])
        for user, version in users.items()
    }
    for client in clients.values():
        client.connected()
        if mode == "default":
            client.wait("upgrade")
    marks = {user: client.mark for user, client in clients.items()}
    first.stop()
    for user, client in clients.items():
        gone = client.wait("disconnect", after=marks[user])
        assert gone["reason"] in ("transport close", "transport error")
        assert gone["active"] in (True, None), "2.x does not say"
    second = start_server(PORT=str(first.port))
    for user, client in clients.items():
        assert_back(second, client, user, marks[user])


@pytest.mark.parametrize("mode", MODES)
def test_cut_network(start_server: StartServer, connect_node: ConnectNode, mode: str) -> None:
    server = start_server(**BRISK)
    users = {1: NEWEST, 2: "4.0", 3: "2.5"}
    with Network(server.port) as network:
        clients = {
            # timeout: an attempt that the dead network swallows is given up soon
            user: connect_node(network.url, server.token(user), version=version, timeout=500, **MODES[mode])
            for user, version in users.items()
        }
        for user, client in clients.items():
            client.connected()
            if mode == "default":
                client.wait("upgrade")
            wait_for_subscribers(server, own(user), 1)
        marks = {user: client.mark for user, client in clients.items()}
        network.cut()
        for user, client in clients.items():
            wait_for_subscribers(server, own(user), 0)
            assert client.wait("disconnect", after=marks[user])["reason"] in NOTICED
        relayed = network.relayed
        network.mend()
        for user, client in clients.items():
            assert_back(server, client, user, marks[user])
        assert network.relayed > relayed


@pytest.fixture
def sleeper() -> Iterator[Node]:
    """A Node process of this test's own, to be stopped; its clients end with it."""
    process = Node(required("node", "nodejs"))
    try:
        yield process
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.end()


@pytest.mark.parametrize("mode", MODES)
def test_sleep(start_server: StartServer, sleeper: Node, mode: str) -> None:
    server = start_server(**BRISK)
    users = {1: NEWEST, 2: "4.0", 3: "2.5"}
    clients = {
        user: sleeper.connect(server.url, server.token(user), version=version, **MODES[mode])
        for user, version in users.items()
    }
    for client in clients.values():
        client.connected()
        if mode == "default":
            client.wait("upgrade")
    marks = {user: client.mark for user, client in clients.items()}
    os.kill(sleeper.pid, signal.SIGSTOP)
    until(
        lambda: not any(subscribers(server, own(user)) for user in users),
        lambda: f"the server forgets who sleeps: {[subscribers(server, own(user)) for user in users]}",
    )
    server.publish(own(1), "missed", {"nobody": "is there"})
    os.kill(sleeper.pid, signal.SIGCONT)
    for user, client in clients.items():
        assert client.wait("disconnect", after=marks[user])["reason"] in NOTICED
        assert_back(server, client, user, marks[user])
    assert clients[1].messages("missed") == []
