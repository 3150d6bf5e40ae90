"""Every socket.io-client that a browser may have cached: by polling, by WebSocket, and from the one to the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.node import MODES, VERSIONS, NodeClient
from tests.clients.waiting import wait_for_subscribers
from tests.conftest import ConnectNode
from tests.server import Server

VIETNAMESE = "Ổ bi bị kẹt ở 80 °C – đúng không? 🛠️👩🏽‍🔧𝄞"
LARGE = VIETNAMESE * (100_000 // len(VIETNAMESE.encode()) + 1)
BLOB = bytes(range(256)) * 40
AN, BINH = 1, 2

Connect = Callable[..., NodeClient]

pytestmark = [pytest.mark.parametrize("version", VERSIONS), pytest.mark.parametrize("mode", MODES)]


@pytest.fixture
def connect(server: Server, connect_node: ConnectNode, version: str, mode: str) -> Connect:
    """``connect(token)``: a client of this version that connects in this way."""
    return lambda token: connect_node(server.url, token, version=version, **MODES[mode])


@pytest.fixture
def an(server: Server, connect: Connect, mode: str) -> NodeClient:
    """An, greeted, and where her client wants to be."""
    client = connect(server.token(AN)).connected()
    if mode == "default":
        assert client.wait("open")["transport"] == "polling"
        assert client.wait("upgrade")["transport"] == "websocket"
    return client


def test_greeting(an: NodeClient, mode: str) -> None:
    greeting = an.message("connected")
    state = an.state
    assert (greeting["userId"], greeting["channels"]) == (AN, [f"private-user.{AN}"])
    assert state["connected"] is True
    assert greeting["socketId"] == state["id"]
    assert state["transport"] == ("polling" if mode == "polling" else "websocket")


def test_subscribe_and_receive(server: Server, an: NodeClient) -> None:
    answer = an.ask("subscribe", {"channel": "private-conversation.1"})
    assert (answer["status"], answer["channel"]) == ("success", "private-conversation.1")
    assert an.message("subscribed")["channel"] == "private-conversation.1"
    for number, body in enumerate((VIETNAMESE, LARGE, VIETNAMESE)):
        server.publish("conversation.1", "message.sent", {"number": number, "body": body})
    an.message("message.sent", lambda data: data["number"] == 2)
    received = [(data["number"], data["body"]) for data in an.messages("message.sent")]
    assert received == [(0, VIETNAMESE), (1, LARGE), (2, VIETNAMESE)]


def test_what_the_client_sends_arrives_whole(server: Server, an: NodeClient, version: str) -> None:
    answer = send(an, version, VIETNAMESE, padding=LARGE)
    assert answer["status"] == "success"
    if version != "2.5":
        assert answer["timestamp"] == an.message("pong")["timestamp"] == VIETNAMESE


def test_binary_event_with_acknowledgement(an: NodeClient, version: str) -> None:
    assert send(an, version, 5, blob=BLOB)["status"] == "success"
    answer = send(an, version, 6, blobs=[BLOB, b"", {"deep": b"\x00\xff"}])
    assert answer["status"] == "success"
    if version != "2.5":
        assert answer["timestamp"] == 6
    assert an.state["connected"] is True


def send(client: NodeClient, version: str, timestamp: object, **more: object) -> dict[str, Any]:
    """An event with more in it than the server needs; socket.io-client 2 keeps the name ``ping`` for itself."""
    event = "subscribe" if version == "2.5" else "ping"
    answer: dict[str, Any] = client.ask(event, {"channel": "public.news", "timestamp": timestamp, **more})
    return answer


def test_foreign_channel(an: NodeClient) -> None:
    answer = an.ask("subscribe", {"channel": f"private-user.{BINH}"})
    assert (answer["status"], answer["error"], answer["code"]) == ("error", "Unauthorized", "PERMISSION_DENIED")
    error = an.message("subscription_error")
    assert (error["channel"], error["error"]) == (f"private-user.{BINH}", "Unauthorized")


@pytest.mark.parametrize(
    ("token", "message"),
    [("worthless", "Authentication failed: Invalid token"), (None, "Authentication failed: No token provided")],
    ids=["garbage", "none"],
)
def test_refused_token(connect: Connect, version: str, token: str | None, message: str) -> None:
    refused = connect(token)
    assert refused.wait("error" if version == "2.5" else "connect_error")["message"] == message
    assert refused.state["connected"] is False


def test_clean_disconnect(server: Server, an: NodeClient) -> None:
    wait_for_subscribers(server, f"private-user.{AN}", 1)
    an.disconnect()
    assert an.wait("disconnect")["reason"] == "io client disconnect"
    wait_for_subscribers(server, f"private-user.{AN}", 0)
    assert len([one for one in an.seen if one["event"] == "connect"]) == 1
