"""python-socketio's client: an implementation of the protocol that shares no code with npm's."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest
import socketio

from tests.conftest import ConnectNode
from tests.server import Server

LIMIT = 8.0


class Client:
    """A client that keeps every event in a queue."""

    def __init__(self) -> None:
        self.io = socketio.Client(reconnection=False)
        self.events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.io.on("*", lambda name, *arguments: self.events.put((name, arguments[0] if arguments else None)))
        self.io.on("disconnect", lambda reason: self.events.put(("disconnect", reason)))

    def connect(self, url: str, **options: Any) -> Client:
        self.io.connect(url, transports=["websocket"], wait_timeout=LIMIT, **options)
        return self

    def wait(self, name: str) -> Any:
        """The argument of the next event of that name; others before it are dropped."""
        while True:
            try:
                seen, argument = self.events.get(timeout=LIMIT)
            except queue.Empty:
                raise AssertionError(f"no {name!r} within {LIMIT:g} s") from None
            if seen == name:
                return argument

    def ask(self, event: str, data: Any) -> Any:
        return self.io.call(event, data, timeout=LIMIT)


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    """Two clients that are disconnected afterwards, whatever happened."""
    made = [Client(), Client()]
    yield made
    for client in made:
        if client.io.connected:
            client.io.disconnect()


def test_connect_subscribe_receive(server: Server, clients: list[Client]) -> None:
    an = clients[0].connect(server.url, auth={"token": server.token(1)})
    greeting = an.wait("connected")
    assert greeting["userId"] == 1
    assert greeting["socketId"] == an.io.get_sid()
    assert an.ask("subscribe", {"channel": "thread.1"})["status"] == "success"
    assert an.wait("subscribed")["channel"] == "thread.1"
    server.publish("presence-thread.1", "comment.created", {"body": "Chào bạn 🛠️"})
    assert an.wait("comment.created")["body"] == "Chào bạn 🛠️"
    assert an.ask("unsubscribe", {"channel": "thread.1"})["status"] == "success"


def test_token_in_a_header(server: Server, clients: list[Client]) -> None:
    an = clients[0].connect(server.url, headers={"Authorization": f"Bearer {server.token(1)}"})
    assert an.wait("connected")["userId"] == 1


def test_token_in_the_query(server: Server, clients: list[Client]) -> None:
    an = clients[0].connect(f"{server.url}?token={server.token(1)}")
    assert an.wait("connected")["userId"] == 1


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        (None, "Authentication failed: No token provided"),
        ({"token": "worthless"}, "Authentication failed: Invalid token"),
        ({"token": 5}, "Authentication failed: "),
        ({"token": {"$ne": None}}, "Authentication failed: "),
    ],
)
def test_refused(server: Server, clients: list[Client], auth: Any, message: str) -> None:
    refused: queue.Queue[Any] = queue.Queue()
    clients[0].io.on("connect_error", refused.put)
    with pytest.raises(socketio.exceptions.ConnectionError):
        clients[0].connect(server.url, auth=auth)
    assert refused.get(timeout=LIMIT)["message"].startswith(message)


def test_unknown_namespace(server: Server, clients: list[Client]) -> None:
    refused: queue.Queue[Any] = queue.Queue()
    clients[0].io.on("connect_error", refused.put, namespace="/admin")
    with pytest.raises(socketio.exceptions.ConnectionError):
        clients[0].connect(server.url, auth={"token": server.token(1)}, namespaces=["/admin"])
    assert refused.get(timeout=LIMIT)["message"] == "Invalid namespace"


def test_pong_and_errors_as_acknowledgements(server: Server, clients: list[Client]) -> None:
    an = clients[0].connect(server.url, auth={"token": server.token(1)})
    assert an.ask("ping", {"timestamp": 5})["timestamp"] == 5
    refused = an.ask("subscribe", {"channel": "private-user.2"})
    assert (refused["status"], refused["error"], refused["code"]) == (
        "error",
        "Unauthorized",
        "PERMISSION_DENIED",
    )
    assert an.ask("no_such_event", {"any": "thing"})["status"] in ("success", "error")
    assert an.ask("authenticate", {"token": server.token(1)})["status"] == "success"
    assert an.ask("authenticate", {"token": server.token(2)})["status"] == "error"


def test_binary_arguments_hurt_nobody(server: Server, clients: list[Client]) -> None:
    """The contract knows no binary event: whatever the answer, others are served."""
    an = clients[0].connect(server.url, auth={"token": server.token(1)})
    binh = clients[1].connect(server.url, auth={"token": server.token(2)})
    an.io.emit("user_activity", {"activity": b"\x00\xff"})
    server.publish("private-user.2", "notification", {"id": 1})
    assert binh.wait("notification")["id"] == 1


def test_with_another_implementation(server: Server, clients: list[Client], connect_node: ConnectNode) -> None:
    an = clients[0].connect(server.url, auth={"token": server.token(1)})
    binh = connect_node(server.url, server.token(2)).connected()
    an.ask("subscribe", {"channel": "private-conversation.1"})
    binh.ask("subscribe", {"channel": "conversation.1"})
    an.io.emit("typing_start", {"channel": "private-conversation.1"})
    assert binh.message("user_typing")["userId"] == 1
    an.io.disconnect()
    assert binh.message("user_stopped_typing")["userId"] == 1
    assert an.wait("disconnect") == "client disconnect"
