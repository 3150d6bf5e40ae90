"""The native protocol at ``/ws``, as docs/protocols.rst specifies it, with the ``websockets`` package."""

from __future__ import annotations

import re
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.clients.native import SUBPROTOCOL, NativeClient
from tests.conftest import StartServer
from tests.server import MAX_BODY, Server

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def signed_in(server: Server, user_id: int = 1, **claims: Any) -> NativeClient:
    """A client that has been greeted."""
    client = NativeClient.open(server.ws_url, header=server.token(user_id, **claims))
    client.greeted()
    return client


# -- authentication --------------------------------------------------------------------------------


def check_greeting(greeting: dict[str, Any], user_id: int) -> None:
    assert greeting["userId"] == user_id
    assert greeting["channels"] == [f"private-user.{user_id}"]
    assert isinstance(greeting["socketId"], str)
    assert greeting["socketId"]
    assert greeting["heartbeat"] > 0
    assert TIMESTAMP.fullmatch(greeting["timestamp"])


def test_token_in_the_header(server: Server) -> None:
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        assert client.connection.subprotocol == SUBPROTOCOL
        greeting = client.greeted()
        check_greeting(greeting, 5)
        assert "id" not in greeting


def test_token_in_the_query(server: Server) -> None:
    with NativeClient.open(server.ws_url, query=server.token(5)) as client:
        check_greeting(client.greeted(), 5)


@pytest.mark.parametrize("ident", [1, 0, "a request", "é" * 64], ids=["1", "0", "text", "long text"])
def test_token_in_the_first_message(server: Server, ident: int | str) -> None:
    with NativeClient.open(server.ws_url) as client:
        greeting = client.ask(type="auth", id=ident, token=server.token(5))
        check_greeting(greeting, 5)
        assert greeting["type"] == "connected"


def test_subprotocol_is_optional_but_not_arbitrary(server: Server) -> None:
    with NativeClient.open(server.ws_url, header=server.token(5), subprotocols=None) as client:
        assert client.connection.subprotocol is None
        client.greeted()
    with NativeClient.open(server.ws_url, header=server.token(5), subprotocols=["other", SUBPROTOCOL]) as client:
        assert client.connection.subprotocol == SUBPROTOCOL
    with pytest.raises(InvalidStatus) as refused:
        NativeClient.open(server.ws_url, header=server.token(5), subprotocols=["other"])
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("where", ["header", "query", "message"])
@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (None, "Authentication failed: Invalid token"),
        ({"expires_in": -60}, "Authentication failed: Token expired"),
        ({"permissions": []}, "Authentication failed: Insufficient permissions"),
    ],
    ids=["garbage", "expired", "no permission"],
)
def test_refused_token(server: Server, where: str, claims: dict[str, Any] | None, message: str) -> None:
    token = "worthless" if claims is None else server.token(5, **claims)
    with NativeClient.open(server.ws_url, **({} if where == "message" else {where: token})) as client:
        if where == "message":
            client.send(type="auth", id=3, token=token)
        error = client.next()
        assert (error["type"], error["code"], error["error"]) == ("error", "AUTH_FAILED", message)
        assert error.get("id") == (3 if where == "message" else None)
        assert client.closed()[0] == 4001


def test_a_request_before_authentication(server: Server) -> None:
    with NativeClient.open(server.ws_url) as client:
        error = client.ask(type="subscribe", id=1, channel="public.news")
        assert (error["type"], error["code"]) == ("error", "AUTH_FAILED")


def test_authentication_in_time(start_server: StartServer) -> None:
    server = start_server(CONNECTION_TIMEOUT="500")
    with NativeClient.open(server.ws_url) as client:
        assert client.closed()[0] == 4002


def test_authenticate_again(server: Server) -> None:
    with signed_in(server, 5) as client:
        answer = client.ask(type="auth", id=1, token=server.token(5))
        assert (answer["type"], answer["event"]) == ("reply", "authenticated")
        assert answer["data"]["user"]["id"] == 5
        refused = client.ask(type="auth", id=2, token=server.token(6))
        assert (refused["type"], refused["code"]) == ("error", "INVALID_TOKEN")
        worthless = client.ask(type="auth", id=3, token="worthless")
        assert (worthless["type"], worthless["code"]) == ("error", "AUTH_FAILED")
        assert client.ask(type="ping", id=4)["type"] == "pong", "the connection stays as it was"
        server.publish("private-user.5", "notification", {"id": 1})
        assert client.event("notification")["data"]["id"] == 1


def test_expiry_and_extension(server: Server) -> None:
    with signed_in(server, 5, expires_in=2) as lapsing, signed_in(server, 5, expires_in=2) as renewed:
        answer = renewed.ask(type="auth", id=1, token=server.token(5))
        assert answer["event"] == "authenticated"
        code, _ = lapsing.closed()
        assert code == 4003
        assert renewed.ask(type="ping", id=2)["type"] == "pong"


# -- requests --------------------------------------------------------------------------------------


def test_subscribe_receive_unsubscribe(server: Server) -> None:
    with signed_in(server) as client:
        answer = client.ask(type="subscribe", id="s", channel="conversation.1")
        assert (answer["type"], answer["event"]) == ("reply", "subscribed")
        assert answer["data"]["channel"] == "conversation.1"
        assert answer["data"]["status"] == "success"

        body = {"body": "Xin chào 🛠️", "list": [1, None]}
        assert server.publish("private-conversation.1", "message.sent", body).json()["subscriberCount"] == 1
        event = client.event("message.sent")
        assert event["channel"] == "conversation.1", "the name it subscribed by"
        assert event["publication"]
        assert event["data"].items() >= body.items()

        left = client.ask(type="unsubscribe", id="u", channel="conversation.1")
        assert (left["event"], left["data"]["channel"]) == ("unsubscribed", "conversation.1")
        assert server.publish("conversation.1", "message.sent", {}).json()["subscriberCount"] == 0
        mark = len(client.seen)
        client.ask(type="ping", id="p")
        assert [message["type"] for message in client.seen[mark:]] == ["pong"]


@pytest.mark.parametrize(
    ("request_members", "code", "field"),
    [
        ({"type": "subscribe", "channel": "private-user.2"}, "PERMISSION_DENIED", None),
        ({"type": "subscribe", "channel": "no-such-thing.1"}, "PERMISSION_DENIED", None),
        ({"type": "subscribe"}, "VALIDATION_ERROR", "channel"),
        ({"type": "subscribe", "channel": 5}, "VALIDATION_ERROR", "channel"),
        ({"type": "subscribe", "channel": "has a blank"}, "VALIDATION_ERROR", "channel"),
        ({"type": "subscribe", "channel": "x" * 165}, "VALIDATION_ERROR", "channel"),
        ({"type": "event"}, "VALIDATION_ERROR", "event"),
        ({"type": "auth"}, "VALIDATION_ERROR", "token"),
        ({"type": "unheard-of"}, "VALIDATION_ERROR", "type"),
        ({}, "VALIDATION_ERROR", "type"),
        (
            {"type": "event", "event": "typing_start", "data": {"channel": "thread.1"}},
            "PERMISSION_DENIED",
            None,
        ),
    ],
)
def test_coded_errors(server: Server, request_members: dict[str, Any], code: str, field: str | None) -> None:
    with signed_in(server) as client:
        error = client.ask(id=1, **request_members)
        assert (error["type"], error["code"]) == ("error", code)
        assert error["error"]
        assert TIMESTAMP.fullmatch(error["timestamp"])
        if field is not None:
            assert error["field"] == field
        if request_members["type"] == "subscribe" if "type" in request_members else False:
            assert code != "PERMISSION_DENIED" or error["error"] == "Unauthorized"


@pytest.mark.parametrize("ident", [1.5, True, [], {}, "x" * 65, 2**70])
def test_unsound_request_id(server: Server, ident: object) -> None:
    with signed_in(server) as client:
        client.send(type="ping", id=ident)
        error = client.next()
        assert (error["type"], error["code"], error["field"]) == ("error", "VALIDATION_ERROR", "id")
        assert "id" not in error


def test_one_answer_each_in_order(server: Server) -> None:
    with signed_in(server) as client:
        for number in range(20):
            # some of these ask the database, some do not: the order must hold all the same
            kind = ("subscribe", "ping", "unsubscribe", "event")[number % 4]
            channel = ("conversation.1", "thread.1", "private-user.2")[number % 3]
            client.send(type=kind, id=number, channel=channel, event="typing_stop", data={"channel": channel})
        client.send(type="ping", id="last")
        client.until(lambda message: message.get("id") == "last")
        answered = [message["id"] for message in client.seen if message["type"] in ("reply", "error", "pong")]
        assert answered == [*range(20), "last"]


def test_answers_without_an_id(server: Server) -> None:
    with signed_in(server) as client:
        client.send(type="subscribe", channel="public.news")
        answer = client.next()
        assert (answer["type"], answer["event"]) == ("reply", "subscribed")
        assert "id" not in answer


def test_ping(server: Server) -> None:
    with signed_in(server) as client:
        assert client.ask(type="ping", id=1, timestamp=12345)["timestamp"] == 12345
        assert client.ask(type="ping", id=2)["timestamp"]


def test_client_events(server: Server) -> None:
    with signed_in(server, 1) as an, signed_in(server, 2) as binh:
        an.ask(type="subscribe", id=1, channel="conversation.1")
        binh.ask(type="subscribe", id=1, channel="private-conversation.1")
        answer = an.ask(type="event", id=2, event="typing_start", data={"channel": "conversation.1"})
        assert answer["type"] == "reply"
        typing = binh.event("user_typing")
        assert typing["channel"] == "private-conversation.1"
        assert typing["data"]["userId"] == 1
        an.connection.close()
        assert binh.event("user_stopped_typing")["data"]["userId"] == 1


def test_unknown_event_is_answered_and_harmless(server: Server) -> None:
    with signed_in(server) as client:
        for number in range(15):
            answer = client.ask(type="event", id=number, event="no_such_event", data={})
            assert answer["type"] in ("reply", "error")
        assert client.ask(type="ping", id="p")["type"] == "pong"


# -- what ends a connection ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["no json", "[]", "5", "null", '{"type": "x"}', '{"type": 5}', "{}", "[" * 100_000])
def test_ten_bad_messages_in_a_row(server: Server, text: str) -> None:
    with signed_in(server) as client:
        for _ in range(9):
            client.connection.send(text)
        assert client.ask(type="ping", id=1)["type"] == "pong", "nine are forgiven"
        assert [message["code"] for message in client.seen if message["type"] == "error"] == ["VALIDATION_ERROR"] * 9
        for _ in range(10):
            client.connection.send(text)
        assert client.closed()[0] == 4000


def test_binary_message(server: Server) -> None:
    with signed_in(server) as client:
        client.connection.send(b"\x00\x01")
        assert client.closed()[0] == 1003


def test_text_that_is_not_utf8(server: Server) -> None:
    with signed_in(server) as client:
        client.connection.send(b'{"type": "ping", "timestamp": "\xff"}', text=True)
        assert client.closed()[0] == 1007


def test_oversized_message(server: Server) -> None:
    with signed_in(server, 1) as client, signed_in(server, 2) as bystander:
        client.send(type="ping", id=1, timestamp="x" * MAX_BODY)
        assert client.closed()[0] == 1009
        server.publish("private-user.2", "notification", {"id": 3})
        assert bystander.event("notification")["data"]["id"] == 3


def test_lone_surrogate(server: Server) -> None:
    with signed_in(server) as client:
        client.connection.send('{"type": "event", "id": 1, "event": "user_activity", "data": {"activity": "\\ud83d"}}')
        error = client.next()
        assert (error["type"], error["code"]) == ("error", "VALIDATION_ERROR")
        assert client.ask(type="ping", id=2)["type"] == "pong"


def test_limits_on_people(start_server: StartServer) -> None:
    server = start_server(MAX_CONNECTIONS_PER_USER="2", MAX_CONNECTIONS="4", CONNECTION_ATTEMPTS_PER_MINUTE="6")
    with signed_in(server, 5), signed_in(server, 5) as second:
        with NativeClient.open(server.ws_url, header=server.token(5)) as third:
            assert third.closed()[0] == 4101
        with (
            signed_in(server, 6),
            signed_in(server, 7),
            NativeClient.open(server.ws_url, header=server.token(8)) as fifth,
        ):
            assert fifth.closed()[0] == 4102
        assert second.ask(type="ping", id=1)["type"] == "pong"


def test_connection_attempts(start_server: StartServer) -> None:
    server = start_server(CONNECTION_ATTEMPTS_PER_MINUTE="3")
    for _ in range(3):
        signed_in(server, 5).connection.close()
    with NativeClient.open(server.ws_url, header=server.token(5)) as throttled:
        assert throttled.closed()[0] == 4100
    with signed_in(server, 6) as another:
        assert another.ask(type="ping", id=1)["type"] == "pong", "one user's haste is not another's harm"
