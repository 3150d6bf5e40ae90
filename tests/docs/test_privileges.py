"""``docs/privileges.rst``: every cell of its table, against a live server and over every protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from websockets.exceptions import InvalidStatus

from mechamap_rt.core.rules import RESOURCES
from tests.clients.native import NativeClient
from tests.clients.node import Node
from tests.docs.events import known_events
from tests.mariadb import MariaDB
from tests.server import REQUEST_LIMIT, Server

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "privileges.rst"
WHO: Final = ("nobody", "user", "sanctum", "moderator", "admin", "backend", "admin key")
CONNECTED: Final = ("user", "sanctum", "moderator", "admin")
ADMIN: Final = 7_000_001
IDS: Final = {"user": 1, "sanctum": 1, "moderator": 3, "admin": ADMIN}

#: Pages, which are not the API's.
PAGES: Final = ("GET /docs", "GET /dashboard")

Rows = dict[str, dict[str, str]]


def table() -> Rows:
    """The cells, by row and column."""
    text = DOCUMENT.read_text().split(":name: who-may-what", 1)[1]
    lines = [line for line in text.splitlines() if line.startswith("   ")]
    rulers = [line for line in lines if line.startswith("   ====")]
    spans = [match.span() for match in re.finditer("=+", rulers[0])]
    body = lines[lines.index(rulers[0]) + 1 :]
    cells = [[line[begin : end + 1].strip() for begin, end in spans] for line in body if not line.startswith("   ====")]
    heading, *rows = [row for row in cells if len(row) == len(WHO) + 1 and row[0]]
    assert tuple(heading[1:]) == WHO
    return {row[0]: dict(zip(WHO, row[1:], strict=True)) for row in rows}


TABLE: Final = table()
HTTP: Final = [name for name in TABLE if re.match("(GET|POST|PUT) ", name)]
SUBSCRIPTIONS: Final = [name for name in TABLE if name.startswith("subscribe ")]
EVENTS: Final = [name for name in TABLE if name.startswith("event ")]


class World:
    """The server with the site's database, and everybody's tokens.

    :ivar notification: one of each user, by what it is for.
    """

    def __init__(self, server: Server, mariadb: MariaDB) -> None:
        self.server = server
        self._mariadb = mariadb
        self.tokens = {
            "user": server.token(1),
            "sanctum": mariadb.token(1),
            "moderator": server.token(3, role="moderator"),
            "admin": server.token(ADMIN, role="admin"),
            "backend": server.settings["LARAVEL_API_KEY"],
            "admin key": server.settings["ADMIN_KEY"],
        }

    @cached_property
    def publication(self) -> str:
        """The id of a publication."""
        answer = self.server.post("/api/broadcast", {"channel": "public.x", "event": "e", "data": {}})
        return str(answer.json()["id"])

    def notification(self, user_id: int) -> int:
        """The id of an unread notification of a user."""
        self._mariadb.sql(
            "INSERT INTO notifications (user_id, type, title, message, data) VALUES (%s, 'x', 't', 'm', '{}')", user_id
        )
        return int(self._mariadb.sql("SELECT MAX(id) FROM notifications WHERE user_id = %s", user_id)[0][0])

    def headers(self, who: str) -> dict[str, str]:
        if who == "nobody":
            return {}
        if who == "backend":
            return {"X-WebSocket-API-Key": self.tokens[who]}
        if who == "admin key":
            return {"X-Admin-Key": self.tokens[who]}
        return {"Authorization": f"Bearer {self.tokens[who]}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[World]:
    mariadb.user(ADMIN, "admin")
    settings = mariadb.settings(AUTH_FAILURES_PER_MINUTE="0")
    server = Server.start(tmp_path_factory.mktemp("server"), settings)
    try:
        yield World(server, mariadb)
        server.stop()
    finally:
        server.end()


# the table is whole


def test_every_endpoint_is_in_the_table(world: World) -> None:
    paths = world.server.get("/api/openapi.json").json()["paths"]
    described = {
        f"{method.upper()} {path.replace('{', '<').replace('}', '>')}"
        for path, each in paths.items()
        for method in each
    }
    assert described - {"GET /console/config.json"} == {name for name in HTTP if name not in PAGES}


def test_every_resource_is_in_the_table() -> None:
    named = {name.removeprefix("subscribe ") for name in SUBSCRIPTIONS}
    assert {resource.pattern for resource in RESOURCES} <= named


def test_every_event_is_in_the_table() -> None:
    assert {name.split()[1] for name in EVENTS} == set(known_events())


# HTTP

EVENT: Final = {"channel": "public.x", "event": "e", "data": {}}
BODIES: Final[dict[str, Any]] = {
    "POST /api/laravel-broadcast": {"channels": ["public.x"], "event": "e"},
    "POST /api/broadcast": EVENT,
    "POST /api/broadcast/multi": {"broadcasts": [EVENT]},
    "POST /api/broadcast/user/<id>": {"event": "e"},
    "POST /api/notify": {"action": "send_to_user", "user_id": 999, "data": {}},
    "POST /api/presence/online": {"user_ids": [999]},
    "POST /api/auth/revoke": {"user_id": 999},
    "POST /api/channels/revoke": {"channel": "public.nobody"},
    "PUT /api/monitoring/thresholds": {"cpu": 90},
    "POST /api/cluster/restart": {"worker": 1},
    "POST /api/cluster/scale": {"workers": 2},
}


def ask(world: World, name: str, who: str) -> str:
    method, path = name.split()
    url = world.server.url + path.replace("<id>", "999").replace("<channel>", "public.x")
    url = url.replace("<publication>", world.publication)
    if who in ("backend", "admin key") and path == "/api/test-auth":
        headers = {"Authorization": f"Bearer {world.tokens[who]}"}
    else:
        headers = world.headers(who)
    answer = requests.request(method, url, headers=headers, json=BODIES.get(name), timeout=REQUEST_LIMIT)
    # who may steer workers is told that this server has none
    return "yes" if answer.status_code in (200, 409) else str(answer.status_code)


@pytest.mark.parametrize("name", HTTP)
def test_http(world: World, name: str) -> None:
    assert {who: ask(world, name, who) for who in WHO} == TABLE[name]


def test_from_elsewhere_nobody_publishes(world: World) -> None:
    for headers in ({"Origin": "http://x"}, {"Sec-Fetch-Site": "same-origin"}, {"X-Forwarded-For": "127.0.0.1"}):
        answer = world.server.post(
            "/api/laravel-broadcast", {"channels": ["public.x"], "event": "e"}, key=False, **headers
        )
        assert answer.status_code == 401


# connecting


def native_opens(world: World, token: str | None) -> bool:
    try:
        with NativeClient.open(world.server.ws_url, query=token) as client:
            return client.next()["type"] == "connected"
    except (InvalidStatus, TimeoutError):
        return False


def test_native_connections(world: World) -> None:
    found = {who: "yes" if native_opens(world, world.tokens.get(who, "")) else "no" for who in WHO}
    assert found == TABLE["connect"]


def test_socketio_connections(world: World, node: Node) -> None:
    found = {}
    for who in WHO:
        client = node.connect(world.server.url, world.tokens.get(who), reconnection=False)
        seen = client.wait_any("connect", "connect_error")
        found[who] = "no" if "error" in str(seen).lower() and "connect_error" in str(seen) else "yes"
        client.close()
    assert found == TABLE["connect"]


# what connected people may


def channel(name: str, who: str) -> str:
    """A channel of the kind that a row is about."""
    pattern = name.removeprefix("subscribe ").split(" (")[0]
    ids = {"thread": "1", "forum": "1", "conversation": "1", "group": "3", "seller": "1", "marketplace.seller": "1"}
    number = ids.get(pattern.removesuffix(".<id>"), "1")
    return pattern.replace("<id>", number).replace("<rest>", "x").replace("<role>", "member")


class Native:
    """A client of the native protocol; answers are ``yes`` or ``denied``."""

    def __init__(self, world: World, who: str, node: Node) -> None:
        self.client = NativeClient.open(world.server.ws_url, header=world.tokens[who])
        self.client.greeted()

    def subscribe(self, name: str) -> str:
        return self._said(self.client.ask(type="subscribe", id=1, channel=name))

    def event(self, name: str, data: Any) -> str:
        if name in ("subscribe", "subscribe_request", "join_channel"):
            return self.subscribe(data["channel"])
        if name == "unsubscribe":
            return self._said(self.client.ask(type="unsubscribe", id=2, **data))
        if name == "authenticate":
            return self._said(self.client.ask(type="auth", id=3, **data))
        if name == "ping":
            return self._said(self.client.ask(type="ping", id=4))
        return self._said(self.client.ask(type="event", id=5, event=name, data=data))

    def _said(self, answer: dict[str, Any]) -> str:
        if answer["type"] != "error":
            return "yes"
        assert answer["code"] == "PERMISSION_DENIED", answer
        return "denied"

    def close(self) -> None:
        self.client.__exit__(None, None, None)


class SocketIO:
    """npm's socket.io-client; the same."""

    def __init__(self, world: World, who: str, node: Node) -> None:
        self.client = node.connect(world.server.url, world.tokens[who]).connected()

    def subscribe(self, name: str) -> str:
        return self.event("subscribe", {"channel": name})

    def event(self, name: str, data: Any) -> str:
        answer = self.client.ask(name, data)
        if answer.get("status") != "error":
            return "yes"
        assert answer["code"] == "PERMISSION_DENIED", answer
        return "denied"

    def close(self) -> None:
        self.client.close()


@pytest.fixture(params=[Native, SocketIO], ids=["native", "socket.io"], scope="module")
def people(request: pytest.FixtureRequest, world: World, node: Node) -> Iterator[dict[str, Any]]:
    made = {who: request.param(world, who, node) for who in CONNECTED}
    yield made
    for client in made.values():
        client.close()


def only(row: dict[str, str]) -> dict[str, str]:
    """The cells of those who can connect; the others have a dash."""
    assert {row[who] for who in WHO if who not in CONNECTED} == {"–"}
    return {who: row[who] for who in CONNECTED}


@pytest.mark.parametrize("name", SUBSCRIPTIONS)
def test_subscriptions(people: dict[str, Any], name: str) -> None:
    asked = channel(name, "")
    found = {who: client.subscribe(asked) for who, client in people.items()}
    for client in people.values():
        client.event("unsubscribe", {"channel": asked})
    assert found == only(TABLE[name])


@pytest.mark.parametrize("name", EVENTS)
def test_events(world: World, people: dict[str, Any], name: str) -> None:
    event = name.split()[1]
    found = {}
    for who, client in people.items():
        own = IDS[who]
        other = 1 if own != 1 else 3
        data: Any = {
            "authenticate": lambda who=who: {"token": world.tokens[who]},
            "notification_read": lambda own=own, other=other: {
                "notificationId": world.notification(own if "own" in name else other)
            },
            "who_is_online": lambda: {"user_ids": [1]},
            "debug_mode": lambda: {"enabled": True},
            "ping": lambda: {"timestamp": 1},
            "user_activity": lambda: {"activity": "reading"},
            "notifications_read_all": dict,
            "group_message": lambda: {"group_id": 3, "message": "x"},
        }.get(event, lambda: {"group_id": 3} if "group" in event or "member" in event else {"channel": "public.cell"})()
        if "(subscribed)" in name:
            assert client.subscribe("public.cell") == "yes"
        if "(not subscribed)" in name:
            client.event("unsubscribe", {"channel": "public.cell"})
        if event.startswith("group_"):
            client.event("join_group", {"group_id": 3})
        found[who] = client.event(event, data)
        if event == "debug_mode":
            client.event("debug_mode", {"enabled": False})
    assert found == only(TABLE[name])
