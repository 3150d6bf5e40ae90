"""Groups, typing and debug mode with clients of three kinds, and what is said to whoever is over a limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from mechamap_rt.commands.typing import INTERVAL
from tests.clients.native import NativeClient
from tests.clients.node import NodeClient
from tests.conftest import ConnectNode, StartServer
from tests.e2e.test_python_socketio import Client
from tests.server import Server

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
AN, BINH, CHI = 1, 2, 3
#: Was a member once; was none ever.
FORMER, STRANGER = 4, 77
TEAM = 3


def native(server: Server, user_id: int, **claims: Any) -> NativeClient:
    client = NativeClient.open(server.ws_url, header=server.token(user_id, **claims))
    client.greeted()
    return client


def ask(client: NativeClient, event: str, data: Any) -> dict[str, Any]:
    """Ask, and be told with or without success."""
    return client.ask(type="event", id=event, event=event, data=data)


def settle(*clients: NodeClient) -> None:
    """Wait until all that was sent to these clients so far has arrived: answers come after it, in order."""
    for client in clients:
        client.ask("ping", {"timestamp": 1})


@pytest.fixture
def python() -> Iterator[Client]:
    client = Client()
    yield client
    if client.io.connected:
        client.io.disconnect()


def test_a_group_of_three_protocols(server: Server, connect_node: ConnectNode, python: Client) -> None:
    an, desktop = (connect_node(server.url, server.token(AN, name="An")).connected() for _ in range(2))
    binh = python.connect(server.url, auth={"token": server.token(BINH, name="Bình")})
    with native(server, CHI, name="Chi") as chi:
        answer = ask(chi, "join_group", {"group_id": TEAM})
        assert (answer["type"], answer["event"]) == ("reply", "subscribed")
        assert (answer["data"]["channel"], answer["data"]["group_id"]) == ("group.3", TEAM)
        assert (answer["data"]["status"], answer["data"]["total"]) == ("success", 1)

        joined = an.ask("join_group", {"group_id": str(TEAM)})
        assert (joined["status"], joined["group_id"], joined["total"]) == ("success", TEAM, 2)
        assert an.message("subscribed")["group_id"] == TEAM
        told = chi.event("member_joined")["data"]
        assert (told["group_id"], told["user"]["id"]) == (TEAM, AN)
        assert set(told["user"]) == {"id", "name", "avatar"}
        assert TIMESTAMP.fullmatch(told["timestamp"])
        # another device of the same user is no news
        assert desktop.ask("join_group", TEAM)["total"] == 2
        assert binh.ask("join_group", {"group_id": TEAM})["total"] == 3
        assert chi.event("member_joined")["data"]["user"]["id"] == BINH
        assert an.message("member_joined")["user"]["id"] == BINH
        assert ask(chi, "get_member_count", TEAM)["data"].items() >= {"count": 3, "online": 3}.items()
        an.emit("get_member_count", {"group_id": TEAM})
        assert an.message("member_count_updated").items() >= {"group_id": TEAM, "count": 3, "online": 3}.items()

        an.emit("group_typing_start", {"group_id": TEAM})
        for heard in (chi.event("group_typing_start")["data"], binh.wait("group_typing_start")):
            assert {name: heard[name] for name in heard if name != "timestamp"} == {
                "group_id": TEAM,
                "user_id": AN,
                "user_name": heard["user_name"],
            }
            assert heard["user_name"]
        assert desktop.message("group_typing_start")["user_id"] == AN
        an.emit("group_typing_stop", {"group_id": TEAM})
        assert chi.event("group_typing_stop")["data"]["user_id"] == AN

        said = binh.ask("group_message", {"group_id": TEAM, "message": "Họp lúc 9 giờ 🛠️", "timestamp": 12})
        assert (said["status"], said["group_id"], said["timestamp"]) == ("success", TEAM, 12)
        event = chi.event("group_message")
        assert (event["publication"], event["data"]["message"]) == (said["id"], "Họp lúc 9 giờ 🛠️")
        assert (event["data"]["user"]["id"], event["data"]["timestamp"]) == (BINH, 12)
        for device in (an, desktop):
            assert device.message("group_message")["user"]["id"] == BINH
        binh.ask("ping", {})
        assert "group_message" not in [name for name, _ in list(binh.events.queue)]

        assert an.ask("leave_group", {"group_id": TEAM})["status"] == "success"
        assert an.message("unsubscribed")["group_id"] == TEAM
        server.publish("group.3", "group.updated", {})
        desktop.message("group.updated")
        assert desktop.ask("leave_group", {"group_id": TEAM})["status"] == "success"
        events = [chi.next()["event"] for _ in range(2)]
        assert events[0] == "group.updated", "the first device was no news"
        left = chi.seen[-1]["data"]
        assert (events[1], left["group_id"], left["user"]["id"]) == ("member_left", TEAM, AN)
        settle(an, desktop)
        assert an.messages("group.updated") == []
        assert an.messages("group_typing_start") == []


@pytest.mark.parametrize("user", [FORMER, STRANGER])
def test_non_members(server: Server, connect_node: ConnectNode, python: Client, user: int) -> None:
    requests = [
        ("join_group", {"group_id": TEAM}),
        ("group_message", {"group_id": TEAM, "message": "let me in"}),
        ("group_typing_start", {"group_id": TEAM}),
        ("group_typing_stop", {"group_id": TEAM}),
        ("get_member_count", {"group_id": TEAM}),
    ]
    member = connect_node(server.url, server.token(AN)).connected()
    member.ask("join_group", TEAM)
    one = connect_node(server.url, server.token(user)).connected()
    other = python.connect(server.url, auth={"token": server.token(user)})
    with native(server, user) as third:
        for event, data in requests:
            answer = one.ask(event, data)
            assert (answer["status"], answer["code"]) == ("error", "PERMISSION_DENIED")
            assert answer["details"] == {"field": "group_id"}
            assert other.ask(event, data)["code"] == "PERMISSION_DENIED"
            error = ask(third, event, data)
            assert (error["type"], error["code"], error["field"]) == ("error", "PERMISSION_DENIED", "group_id")
    mark = one.mark
    one.emit("group_message", requests[1][1])
    assert one.message("error", after=mark)["code"] == "PERMISSION_DENIED", "without being asked for"
    settle(member)
    for event in ("group_message", "group_typing_start", "group_typing_stop", "member_joined"):
        assert member.messages(event) == []


def test_typing_ends_however_its_author_goes(server: Server, connect_node: ConnectNode) -> None:
    with native(server, CHI) as watcher:
        ask(watcher, "join_group", TEAM)
        for way in ("leave_group", "unsubscribe", "close", "break"):
            an = connect_node(server.url, server.token(AN)).connected()
            an.ask("join_group", TEAM)
            # two seconds after that of the last round, if need be
            an.emit("group_typing_start", TEAM)
            assert watcher.event("group_typing_start")["data"]["user_id"] == AN
            if way == "leave_group":
                an.ask(way, {"group_id": TEAM})
            elif way == "unsubscribe":
                an.ask(way, {"channel": "group.3"})
            elif way == "close":
                an.close()
            else:
                an.send_raw("9")
            assert watcher.event("group_typing_stop")["data"]["user_id"] == AN
            an.close()


def test_a_start_too_soon_after_a_stop_comes_later(server: Server, connect_node: ConnectNode) -> None:
    an = connect_node(server.url, server.token(AN)).connected()
    an.ask("subscribe", {"channel": "conversation.1"})
    with native(server, BINH) as binh:
        binh.ask(type="subscribe", id=1, channel="private-conversation.1")
        for event in ("typing_start", "typing_start", "typing_stop", "typing_start", "typing_start"):
            assert an.ask(event, {"channel": "conversation.1"})["status"] == "success"
        heard = [binh.next() for _ in range(3)]
        assert [one["event"] for one in heard] == ["user_typing", "user_stopped_typing", "user_typing"]
        first, second = (datetime.fromisoformat(heard[at]["data"]["timestamp"]) for at in (0, 2))
        assert INTERVAL - 0.01 <= (second - first).total_seconds() < INTERVAL + 1
        an.disconnect()
        assert binh.next()["event"] == "user_stopped_typing"


def test_debug_mode(server: Server, connect_node: ConnectNode, python: Client) -> None:
    admin = connect_node(server.url, server.token(8, role="admin")).connected()
    answer = admin.ask("debug_mode", {"enabled": True})
    assert (answer["status"], answer["enabled"]) == ("success", True)
    assert admin.message("debug_mode")["enabled"] is True
    for _ in range(2):
        mark = admin.mark
        connections = admin.message("connection_stats", after=mark)
        assert connections["cluster"]["connections"] == connections["connections"] >= 1
        assert admin.message("memory_usage", after=mark)["rss"] > 10_000_000
        metrics = admin.message("event_metrics", after=mark)
        assert metrics["received"]["debug_mode"] >= 1
        assert {"published", "delivered", "dropped", "coalesced", "bytesSent"} <= set(metrics)
    assert admin.ask("debug_mode", {"enabled": False})["enabled"] is False
    with native(server, 8, role="super_admin") as super_admin:
        assert ask(super_admin, "debug_mode", {"enabled": True})["event"] == "debug_mode"
        told = super_admin.event("connection_stats")
        assert "channel" not in told
        assert told["data"]["worker"]
    member = python.connect(server.url, auth={"token": server.token(AN, role="moderator")})
    assert member.ask("debug_mode", {"enabled": True})["code"] == "PERMISSION_DENIED"


# -- limits: whoever is over one is told, whether asked for or not -----------------------------------


@pytest.mark.parametrize(
    ("setting", "event", "data"),
    [
        ("CLIENT_EVENTS_PER_MINUTE", "ping", {"timestamp": 1}),
        ("CLIENT_EVENTS_PER_MINUTE", "user_activity", {"activity": "reading"}),
        ("CLIENT_EVENTS_PER_MINUTE", "no_such_event", {}),
        ("CLIENT_EVENTS_PER_MINUTE", "unsubscribe", {"channel": "public.x"}),
        ("TYPING_EVENTS_PER_MINUTE", "typing_start", {"channel": "private-user.1"}),
        ("TYPING_EVENTS_PER_MINUTE", "typing_stop", {"channel": "private-user.1"}),
        ("TYPING_EVENTS_PER_MINUTE", "group_typing_stop", {"group_id": TEAM}),
        ("CHANNEL_PUBLICATIONS_PER_MINUTE", "group_message", {"group_id": TEAM, "message": "x"}),
    ],
)
def test_over_a_limit(
    start_server: StartServer, connect_node: ConnectNode, setting: str, event: str, data: dict[str, Any]
) -> None:
    server = start_server(**{setting: "4"})
    one, two = (connect_node(server.url, server.token(AN)).connected() for _ in range(2))
    for client in (one, two) * 2:
        client.emit(event, data)
    # what is emitted is carried out in order, but these are two connections: until both have been heard
    settle_unlimited(one, two, setting)
    mark = two.mark
    two.emit(event, data)
    error = two.message("error", lambda told: told["code"] == "RATE_LIMITED", after=mark)
    assert 0 < error["details"]["retryAfter"] <= 15
    assert TIMESTAMP.fullmatch(error["timestamp"])
    answer = two.ask(event, data)
    assert (answer["status"], answer["code"]) == ("error", "RATE_LIMITED")
    assert answer["details"]["retryAfter"] > 0
    with native(server, AN) as third:
        refused = ask(third, event, data)
        assert (refused["type"], refused["code"]) == ("error", "RATE_LIMITED")
        assert refused["details"]["retryAfter"] > 0
    # another user's events are another matter; the limit of a channel is for all who are in it
    if setting != "CHANNEL_PUBLICATIONS_PER_MINUTE":
        with native(server, BINH) as bystander:
            assert bystander.ask(type="ping", id=1)["type"] == "pong"


def settle_unlimited(one: NodeClient, two: NodeClient, setting: str) -> None:
    """Wait until what these have emitted has been taken, without an event of the limit in question."""
    if setting == "CLIENT_EVENTS_PER_MINUTE":
        # a typing event has a limit of its own
        for client in (one, two):
            client.ask("typing_stop", {"channel": "private-user.1"})
    else:
        settle(one, two)


def test_the_limits_by_default(start_server: StartServer) -> None:
    unset = ("CLIENT_EVENTS_PER_MINUTE", "TYPING_EVENTS_PER_MINUTE", "CHANNEL_PUBLICATIONS_PER_MINUTE")
    server = start_server(**dict.fromkeys(unset))
    with native(server, AN) as client:
        for event, limit in (("ping", 100), ("typing_stop", 120)):
            for number in range(limit + 20):
                client.send(type="event", id=number, event=event, data="private-user.1")
            answers = [client.until(lambda message: "id" in message) for _ in range(limit + 20)]
            refused = [answer for answer in answers if answer["type"] == "error"]
            # as fast as they can: a few more have been earned meanwhile
            assert 15 <= len(refused) <= 20
            assert {answer["code"] for answer in refused} == {"RATE_LIMITED"}
            assert all(answer["details"]["retryAfter"] > 0 for answer in refused)
