"""The HTTP API for the backend: every endpoint, its keys, its answers and its errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.native import NativeClient
from tests.conftest import StartServer
from tests.e2e.backend import GETS, OPEN, POSTS, check_error
from tests.server import ADMIN_KEY, LARAVEL_API_KEY, Server

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def an(server: Server) -> Iterator[NativeClient]:
    """An, subscribed to ``public.news`` and ``thread.1``."""
    with NativeClient.open(server.ws_url, header=server.token(1)) as client:
        client.greeted()
        for channel in ("public.news", "thread.1"):
            assert client.ask(type="subscribe", id=channel, channel=channel)["type"] == "reply"
        yield client


# -- what is open to everybody ---------------------------------------------------------------------


@pytest.mark.parametrize("path", OPEN)
def test_open_pages(server: Server, path: str) -> None:
    response = server.get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert isinstance(response.json(), dict)
    head = server.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")


def test_health(server: Server) -> None:
    health = server.get("/api/health").json()
    assert health["status"]
    assert health["memory"]
    assert TIMESTAMP.fullmatch(health["timestamp"])


def test_no_secret_is_told(server: Server) -> None:
    for path in OPEN:
        text = server.get(path).text
        for secret in (LARAVEL_API_KEY, ADMIN_KEY, server.settings["JWT_SECRET"]):
            assert secret not in text


# -- answers ---------------------------------------------------------------------------------------


def test_laravel_broadcast(server: Server, an: NativeClient) -> None:
    body = {
        "channels": ["public.news", {"name": "private-user.1"}, "product.7"],
        "event": "news.created",
        "data": {"id": 5},
    }
    response = server.post("/api/laravel-broadcast", body, key=False)
    answer = response.json()
    assert response.status_code == 200
    assert answer["success"] is True
    assert answer["message"]
    assert (answer["event"], answer["channelCount"], answer["totalSubscribers"]) == ("news.created", 3, 2)
    assert answer["results"] == [
        {"channel": "public.news", "subscriberCount": 1},
        {"channel": "private-user.1", "subscriberCount": 1},
        {"channel": "product.7", "subscriberCount": 0},
    ]
    assert TIMESTAMP.fullmatch(answer["timestamp"])
    for channel in ("public.news", "private-user.1"):
        event = an.event("news.created")
        assert event["channel"] == channel
        assert set(event["data"]) == {"id", "timestamp", "source"}
        assert event["data"]["source"] == "laravel"


def test_the_backends_own_members_do_not_win(server: Server, an: NativeClient) -> None:
    data = {"id": 5, "source": "elsewhere"}
    server.post("/api/laravel-broadcast", {"channels": ["public.news"], "event": "e", "data": data}, key=False)
    assert an.event("e")["data"]["source"] == "laravel"


@pytest.mark.parametrize("empty", [[], {}])
def test_empty_payload(server: Server, an: NativeClient, empty: Any) -> None:
    server.post("/api/laravel-broadcast", {"channels": ["public.news"], "event": "e", "data": empty}, key=False)
    assert set(an.event("e")["data"]) == {"timestamp", "source"}


def test_numbers_pass_as_they_are(server: Server, an: NativeClient) -> None:
    raw = b'{"channels": ["public.news"], "event": "e", "data": {"id": 123456789012345678901234567890}}'
    assert server.post("/api/laravel-broadcast", raw=raw, key=False).status_code == 200
    assert an.event("e")["data"]["id"] == 123456789012345678901234567890


@pytest.mark.parametrize(
    ("body", "channel"),
    [
        ({"channel": "public.news", "event": "e", "data": {"n": 1}}, "public.news"),
        ({"event": "e", "to": "user", "user_id": 1, "data": {"n": 1}}, "private-user.1"),
        ({"event": "e", "to": "thread", "thread_id": 1, "data": {"n": 1}}, "thread.1"),
    ],
)
def test_broadcast(server: Server, an: NativeClient, body: dict[str, Any], channel: str) -> None:
    answer = server.post("/api/broadcast", body).json()
    assert answer["success"] is True
    assert answer["message"]
    assert answer["event"] == "e"
    assert answer["channel"].endswith(channel)
    assert answer["subscriberCount"] == 1
    assert TIMESTAMP.fullmatch(answer["timestamp"])
    event = an.event("e")
    assert event["channel"] == channel
    assert event["data"]["n"] == 1


def test_broadcast_to_a_user(server: Server, an: NativeClient) -> None:
    answer = server.post("/api/broadcast/user/1", {"event": "e", "data": {"n": 1}}).json()
    assert (answer["success"], answer["event"], answer["userId"], answer["subscriberCount"]) == (
        True,
        "e",
        1,
        1,
    )
    assert an.event("e")["data"]["n"] == 1


def test_broadcast_multi(server: Server, an: NativeClient) -> None:
    broadcasts = [
        {"channel": "public.news", "event": "first", "data": {"n": 1}},
        {"channel": "product.9", "event": "nobody", "data": {}},
        {"channel": "private-user.1", "event": "second", "data": {"n": 2}},
    ]
    answer = server.post("/api/broadcast/multi", {"broadcasts": broadcasts}).json()
    assert answer["success"] is True
    assert TIMESTAMP.fullmatch(answer["timestamp"])
    assert [
        (result["channel"], result["event"], result["subscriberCount"], result["success"])
        for result in answer["results"]
    ] == [
        ("public.news", "first", 1, True),
        ("product.9", "nobody", 0, True),
        ("private-user.1", "second", 1, True),
    ]
    assert an.event("first")["data"]["n"] == 1
    assert an.event("second")["data"]["n"] == 2


def test_notify(server: Server, an: NativeClient) -> None:
    sent = {"action": "send_to_user", "user_id": 1, "data": {"id": 3}}
    assert server.post("/api/notify", sent).json()["success"] is True
    event = an.event("notification")
    assert (event["channel"], event["data"]["id"]) == ("private-user.1", 3)

    sent = {
        "action": "broadcast_to_channel",
        "channel": "public.news",
        "data": {"type": "news.updated", "id": 4},
    }
    assert server.post("/api/notify", sent).json()["success"] is True
    event = an.event("news.updated")
    assert (event["channel"], event["data"]["id"]) == ("public.news", 4)


def test_channel(server: Server, an: NativeClient) -> None:
    answer = server.get("/api/channels/public.news", key=True).json()
    assert (answer["channel"], answer["subscriberCount"]) == ("public.news", 1)
    assert len(answer["subscribers"]) == 1
    assert "metadata" in answer
    assert server.get("/api/channels/private-public.news", key=True).json()["subscriberCount"] == 1


def test_channel_stats(server: Server, an: NativeClient) -> None:
    answer = server.get("/api/channels/stats", key=True).json()
    assert answer["success"] is True
    stats = answer["stats"]
    assert stats["totalChannels"] == 3
    assert stats["totalSubscriptions"] == 3
    assert stats["channelsByType"]
    assert stats["topChannels"]


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in POSTS if path != "/api/laravel-broadcast"])
def test_posts_need_a_key(server: Server, path: str) -> None:
    body = POSTS[path]
    check_error(server.post(path, body, key=False), 401)
    check_error(server.post(path, body, key=False, X_WebSocket_API_Key="wrong"), 401)
    check_error(server.post(path, body, key=False, X_WebSocket_API_Key=""), 401)
    check_error(server.post(path, body, key=False, Authorization="Bearer wrong"), 401)
    check_error(server.post(path, body, key=False, Authorization=f"Bearer {server.token(1)}"), 403)
    for headers in (
        {"X_WebSocket_API_Key": LARAVEL_API_KEY},
        {"Authorization": f"Bearer {LARAVEL_API_KEY}"},
        {"Authorization": f"Bearer {server.token(1, role='admin')}"},
        {"Authorization": f"Bearer {server.token(1, permissions=['receive_notifications', 'broadcast'])}"},
    ):
        response = server.post(path, body, key=False, **headers)
        assert response.status_code == 200, (headers, response.text)


@pytest.mark.parametrize("path", GETS)
def test_channel_pages_need_a_key(server: Server, path: str) -> None:
    check_error(server.get(path), 401)
    assert server.get(path, key=True).status_code == 200


def test_laravel_broadcast_from_elsewhere_needs_the_key(start_server: StartServer) -> None:
    server = start_server(LARAVEL_BROADCAST_ALLOW_FROM="192.0.2.0/24")
    path = "/api/laravel-broadcast"
    check_error(server.post(path, POSTS[path], key=False), 401)
    check_error(server.post(path, POSTS[path], key=False, X_Forwarded_For="192.0.2.7"), 401)
    assert server.post(path, POSTS[path], key=True).status_code == 200
