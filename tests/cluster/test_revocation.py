"""Rights that the site takes away: every device of the user ends at once, on whichever worker, and nobody else's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.auth.people import number, person
from tests.clients.native import NativeClient
from tests.clients.node import MODES, NodeClient
from tests.clients.waiting import subscribers, wait_for_subscribers
from tests.conftest import CLUSTER, ConnectNode
from tests.mariadb import MariaDB
from tests.server import ADMIN_KEY, Server

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
#: Of the names of workers, with which the ids of their connections begin.
NAME = 6


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three workers that ask the database; the sweep does not interfere."""
    running = Server.start(tmp_path_factory.mktemp("site"), CLUSTER | mariadb.settings(AUTH_SWEEP_INTERVAL="3600000"))
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()


class Devices:
    """Devices of one user on every worker: native ones, and socket.io-clients with WebSockets and by polling."""

    def __init__(self, server: Server, connect_node: ConnectNode, token: str, *channels: str) -> None:
        self.natives: list[NativeClient] = []
        self.nodes: list[NodeClient] = []
        self._server = server
        wanted = {each["node"] for each in server.workers()}
        assert len(wanted) == 3
        self._fill(wanted, lambda: self._native(token, channels))
        for mode in ("websocket", "polling"):
            self._fill(wanted, lambda mode=mode: self._node(connect_node, token, mode, channels))

    def _fill(self, wanted: set[str], connect: Callable[[], str]) -> None:
        """Connect until there is one on two workers; on all of them if chance has it soon."""
        found: set[str] = set()
        for attempt in range(60):
            found.add(connect()[:NAME])
            if found == wanted or (attempt >= 12 and len(found) > 1):
                return
        raise AssertionError(f"on {found} only, of {wanted}")

    def _native(self, token: str, channels: tuple[str, ...]) -> str:
        client = NativeClient.open(self._server.ws_url, header=token)
        self.natives.append(client)
        ident: str = client.greeted()["socketId"]
        for channel in channels:
            assert client.ask(type="subscribe", id=1, channel=channel)["event"] == "subscribed"
        return ident

    def _node(self, connect_node: ConnectNode, token: str, mode: str, channels: tuple[str, ...]) -> str:
        client = connect_node(self._server.url, token, **MODES[mode])
        self.nodes.append(client)
        ident: str = client.message("connected")["socketId"]
        for channel in channels:
            assert client.ask("subscribe", {"channel": channel})["status"] == "success"
        return ident

    @property
    def count(self) -> int:
        return len(self.natives) + len(self.nodes)

    def ended(self) -> None:
        """All of them have been sent away because of the revocation, and stay away."""
        for native in self.natives:
            assert native.closed() == (4005, "token_revoked")
        for node in self.nodes:
            assert node.message("force_disconnect")["reason"] == "token_revoked"
            assert node.wait("disconnect")["reason"] == "io server disconnect"
            assert not node.state["active"]

    def alive(self) -> None:
        for native in self.natives:
            assert native.ask(type="ping", id=9)["type"] == "pong"
        for node in self.nodes:
            assert node.ask("ping", {"timestamp": 5})["status"] == "success"

    def close(self) -> None:
        for native in self.natives:
            native.connection.close()
        for node in self.nodes:
            node.close()


@pytest.fixture
def devices(site: Server, connect_node: ConnectNode) -> Iterator[Callable[..., Devices]]:
    made: list[Devices] = []

    def make(token: str, *channels: str) -> Devices:
        made.append(Devices(site, connect_node, token, *channels))
        return made[-1]

    yield make
    for each in made:
        each.close()


def everywhere(site: Server, token: str) -> list[dict[str, Any]]:
    """What the workers say to a token, asked more often than there are workers."""
    answers = []
    for _ in range(12):
        with NativeClient.open(site.ws_url, header=token) as client:
            answers.append(client.next())
    return answers


def revoke(site: Server, path: str = "/api/auth/revoke", **body: Any) -> dict[str, Any]:
    answer = site.post(path, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["success"] is True
    assert TIMESTAMP.fullmatch(found["timestamp"])
    return found


def test_a_user_is_sent_away_from_every_worker(site: Server, mariadb: MariaDB, devices: Any) -> None:
    user, other = person(mariadb), person(mariadb)
    sanctum, second, jwt = mariadb.token(user), mariadb.token(user), site.token(user)
    mine, by_second, by_jwt = devices(sanctum), devices(second), devices(jwt)
    bystanders = devices(mariadb.token(other))
    # the user has no right here any more: every token is deleted, and the account is closed
    mariadb.sql("DELETE FROM personal_access_tokens WHERE tokenable_id = %s", user)
    mariadb.sql("UPDATE users SET status = 'banned' WHERE id = %s", user)
    answer = revoke(site, user_id=user)
    assert answer["disconnected"] == mine.count + by_second.count + by_jwt.count
    assert answer["user_id"] == user
    for each in (mine, by_second, by_jwt):
        each.ended()
    bystanders.alive()
    # no worker remembers what it knew
    for token, reason in ((sanctum, "Invalid token"), (second, "Invalid token"), (jwt, "User account is not active")):
        assert {one["error"] for one in everywhere(site, token)} == {f"Authentication failed: {reason}"}
    assert revoke(site, user_id=user)["disconnected"] == 0


def test_one_token_and_not_the_user_s_others(site: Server, mariadb: MariaDB, devices: Any) -> None:
    user = person(mariadb)
    lost, kept = mariadb.token(user), mariadb.token(user)
    ident = int(lost.split("|")[0])
    mine, others, by_jwt = devices(lost), devices(kept), devices(site.token(user))
    mariadb.sql("DELETE FROM personal_access_tokens WHERE id = %s", ident)
    answer = revoke(site, token_id=str(ident))
    assert (answer["token_id"], answer["disconnected"]) == (ident, mine.count)
    mine.ended()
    others.alive()
    by_jwt.alive()
    assert {one["error"] for one in everywhere(site, lost)} == {"Authentication failed: Invalid token"}
    assert {one["type"] for one in everywhere(site, kept)} == {"connected"}


def test_who_may_revoke_and_what(site: Server, mariadb: MariaDB) -> None:
    user = person(mariadb)
    token = mariadb.token(user)
    with NativeClient.open(site.ws_url, header=token) as client:
        client.greeted()
        for path, body in (
            ("/api/auth/revoke", {"user_id": user}),
            ("/api/channels/revoke", {"channel": f"user.{user}"}),
        ):
            keys: list[dict[str, str]] = [{}, {"X_WebSocket_API_Key": "x"}, {"X_Admin_Key": "x"}]
            keys += [
                {"Authorization": f"Bearer {token}"},
                {"Authorization": f"Bearer {site.token(user, role='admin')}"},
            ]
            for headers in keys:
                answer = site.post(path, body, key=False, **headers)
                assert answer.status_code in (401, 403), (headers, answer.text)
                assert answer.json()["success"] is False
            assert site.get(path, key=True).status_code == 405
        for body, field in (
            ({}, "user_id"),
            ({"user_id": user, "token_id": 1}, "user_id"),
            ({"user_id": None, "token_id": None}, "user_id"),
            ({"user_id": 0}, "user_id"),
            ({"user_id": -user}, "user_id"),
            ({"user_id": user + 0.5}, "user_id"),
            ({"user_id": [user]}, "user_id"),
            ({"user_id": True}, "user_id"),
            ({"user_id": f"{user} OR 1=1"}, "user_id"),
            ({"token_id": 2**63}, "token_id"),
            ({"token_id": token}, "token_id"),
            ([], "body"),
            ("x", "body"),
        ):
            answer = site.post("/api/auth/revoke", body)
            assert answer.status_code == 400, body
            assert [one["field"] for one in answer.json()["details"]] == [field], body
        for body, fields in (
            ({}, ["channel"]),
            ({"user_id": user}, ["channel"]),
            ({"channel": "a b", "user_id": "x"}, ["channel", "user_id"]),
            ({"channel": "x" * 165}, ["channel"]),
            ({"channel": "user.1", "user_id": 0}, ["user_id"]),
        ):
            answer = site.post("/api/channels/revoke", body)
            assert answer.status_code == 400, body
            assert [one["field"] for one in answer.json()["details"]] == fields
        assert client.ask(type="ping", id=1)["type"] == "pong"
        answer = site.post("/api/auth/revoke", {"user_id": user}, key=False, X_Admin_Key=ADMIN_KEY)
        assert (answer.status_code, answer.json()["disconnected"]) == (200, 1)
        assert client.closed() == (4005, "token_revoked")
    answer = site.post(
        "/api/auth/revoke", {"token_id": 1}, key=False, Authorization=f"Bearer {site.settings['LARAVEL_API_KEY']}"
    )
    assert answer.status_code == 200


def unsubscribed(device: NativeClient | NodeClient) -> dict[str, Any]:
    if isinstance(device, NativeClient):
        data: dict[str, Any] = device.event("unsubscribed")["data"]
        return data
    return device.message("unsubscribed")


def test_a_channel_of_one_user_and_of_everybody(site: Server, mariadb: MariaDB, devices: Any) -> None:
    user, other, talk = person(mariadb), person(mariadb), number()
    for each in (user, other):
        mariadb.sql("INSERT INTO conversation_participants (conversation_id, user_id) VALUES (%s, %s)", talk, each)
    channel = f"conversation.{talk}"
    private = f"private-{channel}"
    mine = devices(mariadb.token(user), channel, "public.rest")
    others = devices(mariadb.token(other), private)
    wait_for_subscribers(site, channel, mine.count + others.count)

    mariadb.sql("DELETE FROM conversation_participants WHERE user_id = %s", user)
    answer = revoke(site, "/api/channels/revoke", channel=f"presence-{channel}", user_id=user)
    assert (answer["unsubscribed"], answer["user_id"]) == (mine.count, user)
    for device in (*mine.natives, *mine.nodes):
        told = unsubscribed(device)
        assert (told["channel"], told["reason"]) == (channel, "Revoked")
        assert TIMESTAMP.fullmatch(told["timestamp"])
    assert subscribers(site, channel) == others.count
    # what was decided is forgotten on every worker
    for native in mine.natives:
        assert native.ask(type="subscribe", id=3, channel=channel)["error"] == "Unauthorized"
    for node in mine.nodes:
        assert node.ask("subscribe", {"channel": channel})["error"] == "Unauthorized"
    site.publish(private, "message.sent", {"n": 1})
    site.publish("public.rest", "after", {})
    for native in mine.natives:
        native.event("after")
        assert [one for one in native.seen if one.get("event") == "message.sent"] == []
    for node in mine.nodes:
        node.message("after")
        assert node.messages("message.sent") == []
    for native in others.natives:
        assert native.event("message.sent")["data"]["n"] == 1
    for node in others.nodes:
        assert node.message("message.sent")["n"] == 1

    answer = revoke(site, "/api/channels/revoke", channel=channel)
    assert (answer["unsubscribed"], answer["user_id"]) == (others.count, None)
    for device in (*others.natives, *others.nodes):
        assert unsubscribed(device)["channel"] == private, "told by the name it was subscribed by"
    assert subscribers(site, channel) == 0
    # the others have their right still, and may come back
    assert others.natives[0].ask(type="subscribe", id=4, channel=private)["event"] == "subscribed"
    mine.alive()
    others.alive()


def test_names_of_one_resource_end_together(site: Server, mariadb: MariaDB) -> None:
    user = person(mariadb)
    names = [f"{prefix}user.{user}.orders" for prefix in ("", "private-", "presence-")]
    with NativeClient.open(site.ws_url, header=mariadb.token(user)) as client:
        client.greeted()
        for name in names:
            assert client.ask(type="subscribe", id=1, channel=name)["event"] == "subscribed"
        assert revoke(site, "/api/channels/revoke", channel=names[1])["unsubscribed"] == 1
        assert {client.event("unsubscribed")["data"]["channel"] for _ in names} == set(names)
        assert client.ask(type="ping", id=2)["type"] == "pong"
