"""The main scenario: npm's socket.io-client as the site's pages use it, and POSTs as Laravel sends them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.clients.node import NodeClient
from tests.conftest import ConnectNode, StartServer
from tests.server import MAX_BODY, Server

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
VIETNAMESE = "Kỹ sư Nguyễn Thị Hồng Ánh đã trả lời: “Ổ bi bị kẹt ở 80 °C” – đúng không? 🛠️👩🏽‍🔧𝄞"

AN, BINH, CHI = 1, 2, 3


def laravel(server: Server, channels: list[Any], event: str, data: Any, **more: Any) -> dict[str, Any]:
    """POST as Laravel's broadcaster does: no key, from loopback."""
    body = {"channels": channels, "event": event, "data": data} | more
    response = server.post("/api/laravel-broadcast", body, key=False)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def settle(*clients: NodeClient) -> None:
    """Wait until all that was sent to these clients so far has arrived: answers come after it, in order."""
    for client in clients:
        client.ask("ping", {"timestamp": 1})


@pytest.fixture
def three(server: Server, connect_node: ConnectNode) -> tuple[NodeClient, NodeClient, NodeClient]:
    """An, Bình and the moderator Chi, connected as the site connects them."""
    roles = {AN: "member", BINH: "member", CHI: "moderator"}
    an, binh, chi = (connect_node(server.url, server.token(user, role=role)) for user, role in roles.items())
    return an.connected(), binh.connected(), chi.connected()


Three = tuple[NodeClient, NodeClient, NodeClient]


def test_greeting(server: Server, three: Three) -> None:
    an = three[0]
    greeting = an.message("connected")
    assert greeting["userId"] == AN
    assert greeting["channels"] == ["private-user.1"]
    assert greeting["socketId"] == an.state["id"]
    assert TIMESTAMP.fullmatch(greeting["timestamp"])
    assert an.state["transport"] == "websocket"


def test_laravel_reaches_exactly_the_right_ones(server: Server, three: Three) -> None:
    an, binh, chi = three
    for client in (an, binh):
        assert client.ask("subscribe", {"channel": "private-conversation.1"})["status"] == "success"
    assert chi.ask("subscribe", {"channel": "private-conversation.1"})["status"] == "error"

    answer = laravel(
        server,
        ["private-conversation.1", {"name": "private-user.3"}],
        "message.sent",
        {"id": 12, "body": VIETNAMESE, "nested": {"list": [1, 2.5, None, True], "empty": {}}},
    )
    assert answer["success"] is True
    assert answer["event"] == "message.sent"
    assert answer["channelCount"] == 2
    assert answer["totalSubscribers"] == 3
    counts = {result["channel"]: result["subscriberCount"] for result in answer["results"]}
    assert counts == {"private-conversation.1": 2, "private-user.3": 1}

    for client in three:
        data = client.message("message.sent")
        assert data["body"] == VIETNAMESE
        assert data["nested"] == {"list": [1, 2.5, None, True], "empty": {}}
        assert data["source"] == "laravel"
        assert TIMESTAMP.fullmatch(data["timestamp"])

    laravel(server, ["private-user.2"], "notification.sent", {"id": 1})
    settle(*three)
    assert [len(client.messages("notification.sent")) for client in three] == [0, 1, 0]
    assert [len(client.messages("message.sent")) for client in three] == [1, 1, 1]


def test_empty_php_payload_is_an_object(server: Server, three: Three) -> None:
    an = three[0]
    laravel(server, [{"name": "private-user.1"}], "notification.deleted", [])
    assert set(an.message("notification.deleted")) == {"timestamp", "source"}


def test_large_body(server: Server, three: Three) -> None:
    an = three[0]
    text = VIETNAMESE * (100_000 // len(VIETNAMESE.encode()) + 1)
    assert len(text.encode()) >= 100_000
    laravel(server, ["private-user.1"], "notification", {"message": text})
    assert an.message("notification")["message"] == text


def test_one_publication_to_two_channels_of_one_client(server: Server, three: Three) -> None:
    an = three[0]
    an.ask("subscribe", {"channel": "public.news"})
    laravel(server, ["public.news", "private-user.1"], "group.updated", {"id": 1})
    settle(an)
    assert len(an.messages("group.updated")) == 2, "each channel's subscription is served"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "Authentication failed: No token provided"),
        ("nonsense", "Authentication failed: Invalid token"),
        ({"expires_in": -60}, "Authentication failed: Token expired"),
        ({"permissions": ["something_else"]}, "Authentication failed: Insufficient permissions"),
    ],
    ids=["none", "garbage", "expired", "no permission"],
)
def test_refused_token(server: Server, connect_node: ConnectNode, token: Any, message: str) -> None:
    given = server.token(AN, **token) if isinstance(token, dict) else token
    client = connect_node(server.url, given)
    refusal = client.wait("connect_error")
    assert refusal["message"] == message
    assert refusal["active"] is False, "after a refusal socket.io-client must not hammer the server by itself"


@pytest.mark.parametrize(
    "options",
    [
        {"auth": {"token": "Bearer {token}"}},
        {"query": {"token": "{token}"}},
        {"extraHeaders": {"Authorization": "Bearer {token}"}},
        {"auth": {"token": "{token}"}, "query": {"token": "worthless"}},
    ],
    ids=["auth with Bearer", "query", "header", "auth goes first"],
)
def test_where_the_token_is_looked_for(server: Server, connect_node: ConnectNode, options: dict[str, Any]) -> None:
    token = server.token(BINH)
    filled = {
        place: {name: text.replace("{token}", token) for name, text in values.items()}
        for place, values in options.items()
    }
    client = connect_node(server.url, None, **filled)
    assert client.message("connected")["userId"] == BINH


def test_foreign_user_channel(three: Three) -> None:
    an = three[0]
    an.emit("subscribe", {"channel": "private-user.2"})
    error = an.message("subscription_error")
    assert error["channel"] == "private-user.2"
    assert error["error"] == "Unauthorized"
    answer = an.ask("subscribe", {"channel": "private-user.2"})
    assert (answer["status"], answer["error"], answer["code"]) == (
        "error",
        "Unauthorized",
        "PERMISSION_DENIED",
    )


def test_subscribe_without_a_channel(three: Three) -> None:
    an = three[0]
    an.emit("subscribe", {})
    assert an.message("subscription_error")["error"] == "Channel is required"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("subscribe", {"channel": "private-thread.1"}),
        ("subscribe_request", {"channel": "private-thread.1"}),
        ("join_channel", {"channel": "private-thread.1"}),
        ("join_channel", "private-thread.1"),
    ],
)
def test_three_names_to_subscribe(three: Three, event: str, data: Any) -> None:
    an = three[0]
    acknowledged = an.ask(event, data)
    answered = an.message("subscribed")
    assert acknowledged["status"] == "success"
    assert answered["channel"] == "private-thread.1"
    assert answered["status"] == "success"
    assert TIMESTAMP.fullmatch(answered["timestamp"])
    assert acknowledged["channel"] == answered["channel"]
    assert an.ask("unsubscribe", {"channel": "private-thread.1"})["status"] == "success"
    assert an.message("unsubscribed")["channel"] == "private-thread.1"


def test_one_resource_has_three_names(server: Server, three: Three) -> None:
    an, binh, chi = three
    an.ask("subscribe", {"channel": "conversation.9"})
    binh.ask("subscribe", {"channel": "private-conversation.9"})
    for number, name in enumerate(("private-conversation.9", "conversation.9", "presence-conversation.9")):
        laravel(server, [name], "message.sent", {"number": number})
    settle(*three)
    for client in (an, binh):
        assert [data["number"] for data in client.messages("message.sent")] == [0, 1, 2]
    assert chi.messages("message.sent") == []
    assert an.messages("subscribed")[-1]["channel"] == "conversation.9"


@pytest.mark.parametrize(
    ("channel", "allowed"),
    [
        # channel, then who of (An, Bình, the moderator Chi) may see it
        ("public.anything", (True, True, True)),
        ("notifications", (True, True, True)),
        ("product.5", (True, True, True)),
        ("private-user.1", (True, False, False)),
        ("private-user.1.inbox", (True, False, False)),
        ("forum.1", (True, True, True)),
        ("forum.2", (False, False, True)),
        ("thread.1", (True, True, True)),
        ("thread.2", (False, False, True)),
        ("thread.3", (False, True, True)),
        ("thread.4711", (False, False, False)),
        ("presence-thread.1", (True, True, True)),
        ("conversation.1", (True, True, False)),
        ("group.3", (True, True, True)),
        ("seller.1", (False, True, False)),
        ("notifications.role.member", (True, True, False)),
        ("moderator.queue", (False, False, True)),
        ("admin.anything", (False, False, False)),
        ("unheard-of.1", (False, False, False)),
    ],
)
def test_who_may_subscribe(three: Three, channel: str, allowed: tuple[bool, bool, bool]) -> None:
    answers = [client.ask("subscribe", {"channel": channel}) for client in three]
    assert tuple(answer["status"] == "success" for answer in answers) == allowed
    refused = [answer["error"] for answer in answers if answer["status"] == "error"]
    assert set(refused) <= {"Unauthorized"}


def test_unsubscribed_means_silence(server: Server, three: Three) -> None:
    an = three[0]
    an.ask("subscribe", {"channel": "thread.1"})
    laravel(server, ["thread.1"], "comment.created", {"id": 1})
    an.ask("unsubscribe", {"channel": "thread.1"})
    laravel(server, ["thread.1"], "comment.created", {"id": 2})
    settle(an)
    assert [data["id"] for data in an.messages("comment.created")] == [1]


def test_typing(three: Three) -> None:
    an, binh, chi = three
    for client in (an, binh):
        client.ask("subscribe", {"channel": "conversation.1"})
    an.emit("typing_start", {"channel": "conversation.1"})
    typing = binh.message("user_typing")
    assert (typing["userId"], typing["channel"]) == (AN, "conversation.1")
    assert typing["name"]
    an.emit("typing_stop", {"channel": "conversation.1"})
    assert binh.message("user_stopped_typing")["userId"] == AN

    assert chi.ask("typing_start", {"channel": "conversation.1"})["code"] == "PERMISSION_DENIED"
    settle(*three)
    assert an.messages("user_typing") == []
    assert len(binh.messages("user_typing")) == 1


def test_leaving_stops_typing(three: Three) -> None:
    an, binh, _ = three
    for client in (an, binh):
        client.ask("subscribe", {"channel": "thread.1"})
    an.ask("typing_start", {"thread_id": 1})
    assert binh.message("user_typing")["channel"] == "thread.1"
    an.close()
    assert binh.message("user_stopped_typing")["userId"] == AN


def test_unknown_events_are_ignored(server: Server, three: Three) -> None:
    an = three[0]
    mark = an.mark
    an.emit("no_such_event", {"channel": "thread.1"})
    an.emit("another", 1, "two", None, [3])
    settle(an)
    laravel(server, ["private-user.1"], "notification", {"id": 1})
    an.message("notification")
    names = {one["name"] for one in an.seen[mark:] if one["event"] == "message"}
    assert names <= {"pong", "notification"}


def test_ping(three: Three) -> None:
    an = three[0]
    an.emit("ping", {"timestamp": 1764239400000})
    assert an.message("pong")["timestamp"] == 1764239400000


def test_authenticate_again(server: Server, three: Three) -> None:
    an = three[0]
    answer = an.ask("authenticate", {"token": server.token(AN)})
    assert answer["status"] == "success"
    told = an.message("authenticated")
    assert told["user"]["id"] == AN
    assert {"id", "name", "email", "role"} <= set(told["user"])
    assert told["permissions"] == ["receive_notifications"]
    assert told["socketId"] == an.state["id"]

    an.emit("authenticate", {"token": server.token(BINH)})
    refused = an.message("authentication_error")
    assert refused["code"] == "AUTH_FAILED"
    assert refused["error"]
    assert an.state["connected"] is True


def test_an_expired_token_ends_the_connection(server: Server, connect_node: ConnectNode) -> None:
    client = connect_node(server.url, server.token(AN, expires_in=2)).connected()
    assert client.message("force_disconnect")["reason"] == "token_expired"
    gone = client.wait("disconnect")
    assert (gone["reason"], gone["active"]) == ("io server disconnect", False)


# -- one client misbehaves, a bystander must not notice --------------------------------------------


def assert_unharmed(server: Server, bystander: NodeClient) -> None:
    mark = bystander.mark
    laravel(server, ["private-user.2"], "notification", {"id": 99})
    assert bystander.message("notification", after=mark)["id"] == 99
    assert not [one for one in bystander.seen if one["event"] == "disconnect"]


def test_malformed_json(server: Server, three: Three) -> None:
    an, binh, _ = three
    an.send_raw('42["subscribe",{"channel":')
    # as the reference server: a parse error closes the transport, and the client comes back by itself
    gone = an.wait("disconnect")
    assert (gone["reason"], gone["active"]) == ("transport close", True)
    an.wait("reconnect")
    assert_unharmed(server, binh)


def test_oversized_frame(server: Server, three: Three) -> None:
    an, binh, _ = three
    an.emit("user_activity", {"activity": "x" * MAX_BODY})
    gone = an.wait("disconnect")
    assert (gone["reason"], gone["code"]) == ("transport close", 1009)
    assert_unharmed(server, binh)


def test_lone_surrogate(server: Server, three: Three) -> None:
    an, binh, _ = three
    an.emit("user_activity", {"activity": "half of an emoji: \ud83d"})
    error = an.message("error")
    assert error["code"] == "VALIDATION_ERROR"
    answer = an.ask("user_activity", {"activity": "again, asking: \ud83d"})
    assert (answer["status"], answer["code"]) == ("error", "VALIDATION_ERROR")
    assert an.state["connected"] is True
    assert_unharmed(server, binh)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9",
        "4",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        '42["connect"]',
        "47",
        "4" + "[" * 5000,
        '451-["a"]',
        "43[1]",
    ],
)
def test_protocol_garbage(server: Server, connect_node: ConnectNode, text: str) -> None:
    """Whatever it is, it hurts its sender at most, and the sender can come back."""
    sender = connect_node(server.url, server.token(AN)).connected()
    bystander = connect_node(server.url, server.token(BINH)).connected()
    sender.send_raw(text)
    sender.send_raw('42["ping",{}]')
    sender.wait_any("disconnect", "message:pong")
    assert_unharmed(server, bystander)


# -- limits and restarts ---------------------------------------------------------------------------


def test_too_many_connections_of_one_user(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server(MAX_CONNECTIONS_PER_USER="1")
    first = connect_node(server.url, server.token(AN)).connected()
    second = connect_node(server.url, server.token(AN))
    assert second.message("connection_rejected")["reason"] == "user_limit_reached"
    gone = second.wait("disconnect")
    assert (gone["reason"], gone["active"]) == ("io server disconnect", False)
    first.close()
    second.open()
    second.connected()


def test_too_many_events(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server(CLIENT_EVENTS_PER_MINUTE="10")
    hasty = connect_node(server.url, server.token(AN)).connected()
    bystander = connect_node(server.url, server.token(BINH)).connected()
    answers = [hasty.ask("ping", {"timestamp": number}) for number in range(12)]
    assert [answer["status"] for answer in answers] == ["success"] * 10 + ["error"] * 2
    assert answers[-1]["code"] == "RATE_LIMITED"
    assert hasty.message("error")["code"] == "RATE_LIMITED"
    assert bystander.ask("ping", {"timestamp": 1})["status"] == "success"


def test_clients_come_back_after_a_restart(start_server: StartServer, connect_node: ConnectNode) -> None:
    first = start_server()
    client = connect_node(first.url, first.token(AN)).connected()
    mark = client.mark
    first.stop()
    assert client.wait("disconnect", after=mark)["active"] is True
    second = start_server(PORT=str(first.port))
    client.wait("reconnect", after=mark)
    client.message("connected", after=mark)
    laravel(second, ["private-user.1"], "notification", {"id": 7})
    assert client.message("notification", after=mark)["id"] == 7
