"""Deployments with one transport, limits and namespaces over polling, and python-socketio."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket

from tests.clients.engine import LIMIT, RawSession
from tests.clients.node import MODES, NEWEST, VERSIONS, NodeClient
from tests.clients.waiting import subscribers, until, wait_for_subscribers
from tests.conftest import ConnectNode, StartServer
from tests.e2e.test_python_socketio import Client
from tests.server import Server

OLD_AND_NEW = ("2.5", NEWEST)
#: A user for each test that counts connections.
USERS = itertools.count(1000)
UNKNOWN_TRANSPORT = {"code": 0, "message": "Transport unknown"}


def assert_served(server: Server, client: NodeClient, user: int) -> None:
    """It can ask and is answered, and gets what is published."""
    client.connected()
    assert client.ask("subscribe", {"channel": "public.news"})["status"] == "success"
    server.publish(f"private-user.{user}", "notification", {"body": "Chào bạn 🛠️"})
    assert client.message("notification")["body"] == "Chào bạn 🛠️"


# -- WS_TRANSPORTS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", OLD_AND_NEW)
def test_polling_only(start_server: StartServer, connect_node: ConnectNode, version: str) -> None:
    server = start_server(WS_TRANSPORTS="polling")
    with RawSession(server, 1) as session:
        assert session.opening["upgrades"] == []
        with pytest.raises(InvalidStatus) as refused:
            session.websocket()
        assert refused.value.response.status_code == 400
    client = connect_node(server.url, server.token(2), version=version, **MODES["default"])
    assert_served(server, client, 2)
    assert client.state["transport"] == "polling"
    turned_away = connect_node(server.url, server.token(3), version=version, **MODES["websocket"])
    assert turned_away.wait("connect_error")["message"] == "websocket error"


def test_polling_only_says_why(start_server: StartServer) -> None:
    server = start_server(WS_TRANSPORTS="polling")
    with pytest.raises(InvalidStatus) as refused:
        open_websocket(f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket", proxy=None)
    response = refused.value.response
    assert (response.status_code, response.body) == (400, b'{"code":0,"message":"Transport unknown"}')


@pytest.mark.parametrize("version", OLD_AND_NEW)
def test_websocket_only(start_server: StartServer, connect_node: ConnectNode, version: str) -> None:
    server = start_server(WS_TRANSPORTS="websocket")
    for query in ("", "&sid=AAAAAAAAAAAAAAAAAAAA"):
        refused = server.get(f"/socket.io/?EIO=4&transport=polling{query}")
        assert (refused.status_code, refused.json()) == (400, UNKNOWN_TRANSPORT)
    # as the site connects: WebSocket first
    client = connect_node(server.url, server.token(2), version=version)
    assert_served(server, client, 2)
    assert client.state["transport"] == "websocket"
    turned_away = connect_node(server.url, server.token(3), version=version, **MODES["polling"])
    assert turned_away.wait("connect_error")["message"] == "xhr poll error"


def test_the_newest_client_tries_the_other_transport(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server(WS_TRANSPORTS="websocket")
    client = connect_node(server.url, server.token(1), **MODES["default"], tryAllTransports=True)
    assert_served(server, client, 1)
    assert client.state["transport"] == "websocket"


# -- limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", OLD_AND_NEW)
@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("MAX_CONNECTIONS_PER_USER", "user_limit_reached"),
        ("MAX_CONNECTIONS_PER_IP", "connection_throttled"),
        ("MAX_CONNECTIONS", "global_limit_reached"),
        ("CONNECTION_ATTEMPTS_PER_MINUTE", "connection_throttled"),
    ],
)
def test_a_limit_reached_by_polling(
    start_server: StartServer, connect_node: ConnectNode, version: str, setting: str, reason: str
) -> None:
    server = start_server(**{setting: "1"})
    first = connect_node(server.url, server.token(1), version=version, **MODES["polling"]).connected()
    second = connect_node(server.url, server.token(1), version=version, **MODES["polling"])
    rejected = second.message("connection_rejected")
    assert rejected["reason"] == reason
    assert rejected["message"]
    gone = second.wait("disconnect")
    assert gone["reason"] == "io server disconnect"
    assert gone["active"] in (False, None), "2.x does not say"
    assert_served(server, first, 1)
    assert second.messages("connected") == []
    assert len([one for one in second.seen if one["event"] in ("open", "reconnect")]) == 1, "it stays away"
    assert subscribers(server, "private-user.1") == 1


def test_too_many_events_by_polling(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server(CLIENT_EVENTS_PER_MINUTE="10")
    hasty = connect_node(server.url, server.token(1), **MODES["polling"]).connected()
    answers = [hasty.ask("ping", {"timestamp": number}) for number in range(12)]
    assert [answer["status"] for answer in answers] == ["success"] * 10 + ["error"] * 2
    assert hasty.message("error")["code"] == "RATE_LIMITED"
    assert hasty.state["connected"] is True


# -- how polling ends -------------------------------------------------------------------------------------


def test_a_token_that_expires(server: Server, connect_node: ConnectNode) -> None:
    """The farewell is seen before the transport closes: from 4.5 on, clients take a payload's messages a turn late."""
    clients = {
        version: connect_node(server.url, server.token(user, expires_in=2), version=version, **MODES["polling"])
        for user, version in enumerate(VERSIONS, 1)
    }
    for version, client in clients.items():
        assert client.connected().message("force_disconnect")["reason"] == "token_expired", version
        gone = client.wait("disconnect")
        assert (version, gone["reason"]) == (version, "io server disconnect")
        assert gone["active"] in (False, None), "2.x does not say"
        assert len([one for one in client.seen if one["event"] == "disconnect"]) == 1


def test_what_was_accepted_before_a_stop_is_delivered(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server()
    clients = [
        connect_node(server.url, server.token(user), version=version, **MODES["polling"]).connected()
        for user, version in enumerate(VERSIONS, 1)
    ]
    for number in range(20):
        for user in range(1, len(clients) + 1):
            server.publish(f"private-user.{user}", "notification", {"number": number, "padding": "x" * 5000})
    server.stop()
    for client in clients:
        gone = client.wait("disconnect")
        assert gone["reason"] in ("transport close", "transport error"), "after a DISCONNECT packet it would stay away"
        seen = [one for one in client.seen[: client.seen.index(gone)] if one["event"] == "message"]
        assert [one["args"][0]["number"] for one in seen if one["name"] == "notification"] == [*range(20)]


# -- namespaces -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("server"), {"WS_NAMESPACES": "/,/admin"})
    try:
        yield running
        running.stop()
    finally:
        running.end()


@pytest.mark.parametrize("version", OLD_AND_NEW)
@pytest.mark.parametrize("mode", MODES)
def test_namespaces(namespaces: Server, connect_node: ConnectNode, mode: str, version: str) -> None:
    admin = connect_node(f"{namespaces.url}/admin", namespaces.token(1), version=version, **MODES[mode])
    assert_served(namespaces, admin, 1)
    assert len(admin.messages("notification")) == 1
    assert admin.ask("subscribe", {"channel": "private-user.2", "blob": b"\x00\xff"})["code"] == "PERMISSION_DENIED"


@pytest.mark.parametrize("version", OLD_AND_NEW)
@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_namespace(namespaces: Server, connect_node: ConnectNode, mode: str, version: str) -> None:
    refused = connect_node(f"{namespaces.url}/nope", namespaces.token(1), version=version, **MODES[mode])
    assert refused.wait("error" if version == "2.5" else "connect_error")["message"] == "Invalid namespace"


@pytest.mark.parametrize("version", OLD_AND_NEW)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("leaving", ["/", "/admin"])
def test_leaving_one_namespace(
    namespaces: Server, connect_node: ConnectNode, mode: str, version: str, leaving: str
) -> None:
    user = next(USERS)
    own = f"private-user.{user}"
    root = connect_node(namespaces.url, namespaces.token(user), version=version, **MODES[mode]).connected()
    admin = root.join("/admin", namespaces.token(user)).connected()
    wait_for_subscribers(namespaces, own, 2)
    namespaces.publish(own, "first", {"id": 1})
    for client in (root, admin):
        client.message("first")
    gone, stays = (root, admin) if leaving == "/" else (admin, root)
    gone.disconnect()
    assert gone.wait("disconnect")["reason"] == "io client disconnect"
    wait_for_subscribers(namespaces, own, 1)
    namespaces.publish(own, "second", {"id": 2})
    stays.message("second")
    assert stays.ask("unsubscribe", {"channel": "public.anything"})["status"] == "success"
    assert gone.messages("second") == []
    for client in (root, admin):
        assert client.messages("first") == [client.message("first")]
    if (version, leaving) != ("2.5", "/"):  # 2.x never asks to join /
        gone.open()
        wait_for_subscribers(namespaces, own, 2)
    admin.close()
    wait_for_subscribers(namespaces, own, 0)


# -- python-socketio --------------------------------------------------------------------------------------

PYTHON_TRANSPORTS: dict[str, dict[str, Any]] = {"polling": {"transports": ["polling"]}, "default": {}}


@pytest.fixture
def python() -> Iterator[Client]:
    client = Client()
    yield client
    if client.io.connected:
        client.io.disconnect()


@pytest.mark.parametrize("mode", PYTHON_TRANSPORTS)
def test_python_socketio(server: Server, python: Client, mode: str) -> None:
    python.io.connect(server.url, auth={"token": server.token(1)}, wait_timeout=int(LIMIT), **PYTHON_TRANSPORTS[mode])
    greeting = python.wait("connected")
    assert greeting["socketId"] == python.io.get_sid()
    assert python.io.transport() == ("websocket" if mode == "default" else "polling")
    assert python.ask("subscribe", {"channel": "thread.1"})["status"] == "success"
    large = "Chào bạn 🛠️ " * 7000
    server.publish("presence-thread.1", "comment.created", {"body": large})
    assert python.wait("comment.created")["body"] == large
    answer = python.ask("ping", {"timestamp": 5, "blob": bytes(range(256)), "padding": large})
    assert (answer["status"], answer["timestamp"]) == ("success", 5)
    assert python.ask("subscribe", {"channel": "private-user.2"})["error"] == "Unauthorized"
    python.io.disconnect()
    until(lambda: subscribers(server, "thread.1") == 0, lambda: "python-socketio left, and is still there")
