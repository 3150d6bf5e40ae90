"""What a running server says over the native protocol is what docs/asyncapi.yaml says, and all of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from mechamap_rt.commands.table import MAX_SUBSCRIPTIONS
from mechamap_rt.errors import Code, Disconnect
from mechamap_rt.transport.native import RETURN_WITHIN
from mechamap_rt.wire import native
from tests.clients.crowd import Member
from tests.clients.native import LIMIT
from tests.docs import people  # noqa: F401 - has scenarios
from tests.docs.asyncapi import (
    REALTIME,
    RECEIVED,
    SENT,
    the_one,
)
from tests.docs.stage import SCENARIOS, UNHEARD, UNPROVOKED, Client, Scenario, Stage, scenario
from tests.redis_server import RedisServer
from tests.server import MAX_BODY, Server


@scenario
def the_token_in_three_places(stage: Stage) -> None:
    token = stage.server.token(5)
    with stage.open(header=token) as client:
        client.greeted()
    with stage.open(query=f"Bearer%20{token}") as client:
        client.greeted()
    with stage.open() as client:
        assert client.answers(type="auth", id=1, token=token) == "connected"
    with stage.open(header=token, query="worthless") as client:
        client.greeted()


@scenario
def a_token_that_is_refused(stage: Stage) -> None:
    expired = stage.server.token(5, expires_in=-60)
    for token in ("worthless", expired, stage.server.token(5, permissions=[]), "x" * 9000):
        with stage.open() as client:
            assert client.refused(type="auth", id=1, token=token) == Code.AUTH_FAILED
            assert client.ends() == Disconnect.AUTH_FAILED.code
    with stage.open(header=expired, query=stage.server.token(5)) as client:
        assert client.ends() == Disconnect.AUTH_FAILED.code
        assert client.seen[-1]["error"] == "Authentication failed: Token expired"


@scenario
def before_the_token(stage: Stage) -> None:
    with stage.open() as client:
        assert client.refused(type="subscribe", id=1, channel="public.news") == Code.AUTH_FAILED
        assert client.answers(type="ping", id=2) == "pong"
        assert client.answers(type="auth", id=3, token=stage.server.token(5)) == "connected"


@scenario
def a_token_that_is_revoked(stage: Stage) -> None:
    with stage.user(77) as client:
        assert stage.server.post("/api/auth/revoke", {"user_id": 77}).json()["disconnected"] == 1
        assert client.ends() == Disconnect.REVOKED.code


@scenario
def a_subscription_that_is_revoked(stage: Stage) -> None:
    with stage.user(78) as client:
        assert client.answers(type="subscribe", id=1, channel="public.revoked") == "subscribed"
        answer = stage.server.post("/api/channels/revoke", {"channel": "public.revoked", "user_id": 78})
        assert answer.json()["unsubscribed"] == 1
        assert client.next()["data"]["reason"] == "Revoked"


@scenario
def a_fresh_token(stage: Stage) -> None:
    with stage.user(5) as client:
        assert client.answers(type="auth", id=1, token=stage.server.token(5, email="ha@example.com")) == "authenticated"
        assert client.refused(type="auth", id=2, token=stage.server.token(6)) == Code.INVALID_TOKEN
        assert client.refused(type="auth", id=3, token="worthless") == Code.AUTH_FAILED
        assert client.answers(type="ping", id=4) == "pong"


@scenario
def subscriptions(stage: Stage) -> None:
    with stage.user() as client:
        for number, name in enumerate(("thread.1", "private-thread.1", "presence-thread.1", "public.a=b@c,d;e:f-g_h")):
            assert client.answers(type="subscribe", id=number, channel=name) == "subscribed"
            assert client.answers(type="unsubscribe", id=f"u{number}", channel=name) == "unsubscribed"
        assert client.answers(type="unsubscribe", id="never", channel="thread.1") == "unsubscribed"
        assert client.answers(type="subscribe", id="x" * 64, channel="public.news", unknown="member") == "subscribed"
        assert client.refused(type="subscribe", id=-(2**53) + 1, channel="user.2") == Code.PERMISSION_DENIED
        assert client.seen[-1]["error"] == "Unauthorized"
        client.send(type="subscribe", channel="public.news")
        assert "id" not in client.next()


@scenario
def too_many_subscriptions(stage: Stage) -> None:
    with stage.user() as client:
        for number in range(MAX_SUBSCRIPTIONS - 1):
            client.send(type="subscribe", id=number, channel=f"public.{number}")
        assert client.refused(type="subscribe", id="over", channel="public.over") == Code.RATE_LIMITED
        assert client.seen[-1]["field"] == "channel"


@scenario
def pings(stage: Stage) -> None:
    with stage.user() as client:
        for sent in (0, -1.5, 1795429800000, "", "x" * 64):
            assert client.answers(type="ping", id=1, timestamp=sent) == "pong"
            assert client.seen[-1]["timestamp"] == sent
        assert client.answers(type="ping", id=2) == "pong"


@scenario
def requests_by_event_name(stage: Stage) -> None:
    with stage.user(1) as client:
        for event in ("subscribe", "subscribe_request", "join_channel"):
            for data in ("thread.1", {"channel": "thread.1"}):
                assert client.answers(type="event", id=1, event=event, data=data) == "subscribed"
        assert client.answers(type="event", id=2, event="unsubscribe", data="thread.1") == "unsubscribed"
        token = stage.server.token(1)
        for data in (token, f"Bearer {token}", {"token": token}):
            assert client.answers(type="event", id=3, event="authenticate", data=data) == "authenticated"
        assert client.answers(type="event", id=4, event="ping", data={"timestamp": 5}) == "pong"
        assert client.answers(type="event", id=5, event="ping") == "pong"


@scenario
def unknown_events(stage: Stage) -> None:
    with stage.user() as client:
        for event in ("unheard_of", "", "x" * 1000, "connect"):
            assert client.refused(type="event", id=1, event=event, data=[1]) == Code.VALIDATION_ERROR
            assert client.seen[-1]["field"] == "event"


@scenario
def publications(stage: Stage) -> None:
    data = {"id": 1, "nested": {"list": [1, None, "Xin chào 🛠️"]}}
    bodies = {
        "/api/broadcast": {"channel": "thread.1", "event": "one", "data": data, "class": "volatile"},
        "/api/broadcast/multi": {"broadcasts": [{"channel": "thread.1", "event": "two", "data": data, "key": "k"}]},
        "/api/broadcast/user/1": {"event": "three", "data": data},
        "/api/notify": {"action": "send_to_user", "user_id": 1, "data": data},
        "/api/laravel-broadcast": {
            "channels": [{"name": "private-thread.1"}],
            "event": "App\\Events\\CommentCreated",
            "data": [],
            "timestamp": "just now",
        },
    }
    with stage.user() as client:
        client.ask(type="subscribe", id=1, channel="presence-thread.1")
        for path, body in bodies.items():
            assert stage.server.post(path, body).status_code == 200
            message = client.next()
            assert the_one(message, SENT) == "publication"
            assert message["publication"]
            assert message["channel"] == ("presence-thread.1" if "thread.1" in json.dumps(body) else "private-user.1")
        assert message["data"] == {"timestamp": "just now", "source": "laravel"}


@scenario
def malformed_requests(stage: Stage) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "type"),
        ({"type": 5}, "type"),
        ({"type": "unheard-of"}, "type"),
        ({"type": "ping", "id": 1.5}, "id"),
        ({"type": "ping", "id": True}, "id"),
        ({"type": "ping", "id": 2**53}, "id"),
        ({"type": "ping", "id": "x" * 65}, "id"),
        ({"type": "auth"}, "token"),
        ({"type": "auth", "token": 5}, "token"),
        ({"type": "subscribe"}, "channel"),
        ({"type": "subscribe", "channel": 5}, "channel"),
        ({"type": "subscribe", "channel": "has a blank"}, "channel"),
        ({"type": "unsubscribe", "channel": "private-"}, "channel"),
        ({"type": "subscribe", "channel": "x" * 165}, "channel"),
        ({"type": "event"}, "event"),
        ({"type": "event", "event": 5}, "event"),
        ({"type": "event", "event": "user_activity", "data": {"activity": 5}}, "activity"),
        ({"type": "event", "event": "user_activity", "data": "x" * 129}, "activity"),
        ({"type": "event", "event": "typing_start"}, "channel"),
        ({"type": "event", "event": "typing_start", "data": {"channel": ""}}, "channel"),
        ({"type": "event", "event": "typing_stop", "data": {"thread_id": 0}}, "thread_id"),
        ({"type": "event", "event": "typing_stop", "data": {"thread_id": "01"}}, "thread_id"),
        ({"type": "event", "event": "join_group"}, "group_id"),
        ({"type": "event", "event": "leave_group", "data": {"group_id": 0}}, "group_id"),
        ({"type": "event", "event": "group_typing_start", "data": "03"}, "group_id"),
        ({"type": "event", "event": "group_message", "data": {"message": "x"}}, "group_id"),
        ({"type": "event", "event": "group_message", "data": {"group_id": 3}}, "message"),
        ({"type": "event", "event": "group_message", "data": {"group_id": 3, "message": ""}}, "message"),
        ({"type": "event", "event": "group_message", "data": {"group_id": 3, "message": "x" * 10_001}}, "message"),
        ({"type": "event", "event": "get_member_count", "data": {}}, "group_id"),
        ({"type": "event", "event": "debug_mode"}, "enabled"),
        ({"type": "event", "event": "debug_mode", "data": {"enabled": 1}}, "enabled"),
        ({"type": "event", "event": "who_is_online"}, "user_ids"),
        ({"type": "event", "event": "who_is_online", "data": {"user_ids": []}}, "user_ids"),
        ({"type": "event", "event": "who_is_online", "data": {"userIds": [1] * 1001}}, "userIds"),
        ({"type": "event", "event": "who_is_online", "data": [1, "2"]}, "user_ids[1]"),
        ({"type": "event", "event": "notification_read"}, "notificationId"),
        ({"type": "event", "event": "notification_read", "data": {"notificationId": 0}}, "notificationId"),
        ({"type": "event", "event": "notification_read", "data": {"notification_id": "x"}}, "notificationId"),
        ({"type": "event", "event": "subscribe"}, "channel"),
        ({"type": "event", "event": "join_channel", "data": ["thread.1"]}, "channel"),
    ]
    with stage.user() as client:
        for request, field in wrong:
            error = client.send_wrong(request)
            assert (error["code"], error["field"]) == (Code.VALIDATION_ERROR, field), request
            client.ask(type="ping", id=1)


@scenario
def ten_in_a_row_that_are_no_requests(stage: Stage) -> None:
    with stage.user() as client:
        nine = ("no json", "[]", "5", "null", '"text"', "{}", '{"type": "x"}', '{"type": "auth"}', '{"id": {}}')
        for text in (*nine, '{"type": "ping"}', *nine, "[" * 1000):
            client.connection.send(text)
        assert client.ends() == Disconnect.BAD_MESSAGE.code
        assert len(client.seen) == 1 + 9 + 1 + 10


@scenario
def a_fault_of_the_server(stage: Stage) -> None:
    folder = stage._paths.mktemp("database")
    with sqlite3.connect(folder / "other.sqlite") as database:
        database.execute("CREATE TABLE something_else (id INTEGER)")
    database.close()
    server = stage.start(DB_SQLITE_PATH=str(folder / "other.sqlite"))
    with stage.user(1, server) as client:
        assert client.refused(type="subscribe", id=1, channel="thread.1") == Code.SERVER_ERROR
        assert client.answers(type="ping", id=2) == "pong"
        server.stop()
        assert 0 <= client.told("reconnect")["delay"] < 1000 * RETURN_WITHIN
        assert client.ends() == Disconnect.RESTART.code


@scenario
def other_hosts_out_of_reach(stage: Stage) -> None:
    redis = RedisServer()
    try:
        server = stage.start(REDIS_HOST="127.0.0.1", REDIS_PORT=str(redis.port), REDIS_TIMEOUT="500")
        with stage.user(1, server) as early:
            assert "status" not in early.seen[0]
            redis.kill()
            assert early.told("serviceStatus")["data"]["status"] == "degraded"
            with stage.user(2, server) as late:
                assert late.seen[0]["status"] == "degraded"
                redis.start()
                for client in (early, late):
                    assert client.told("serviceStatus")["data"]["status"] == "ok"
    finally:
        redis.end()


@scenario
def too_many_requests(stage: Stage) -> None:
    with stage.user(11, stage.strict) as an:
        an.ask(type="subscribe", id=1, channel="presence-public.news")
        assert an.answers(type="event", id=2, event="user_activity", data="a") == "done"
        for what in ("events on this channel", "events"):
            assert an.refused(type="event", id=3, event="user_activity", data="b") == Code.RATE_LIMITED
            assert an.seen[-1]["error"] == f"Too many {what}"
            assert an.seen[-1]["details"]["retryAfter"] > 0
            an.ask(type="ping", id=4)
        assert an.refused(type="subscribe", id=5, channel="public.more") == Code.RATE_LIMITED


@scenario
def too_many_connections(stage: Stage) -> None:
    with stage.user(21, stage.strict):
        with stage.open(stage.strict, header=stage.strict.token(21)) as second:
            assert second.ends() == Disconnect.USER_LIMIT.code
            assert second.seen[-1]["code"] == Code.RATE_LIMITED
        with stage.open(stage.strict, header=stage.strict.token(21)) as third:
            assert third.ends() == Disconnect.THROTTLED.code
            assert third.seen[-1]["code"] == Code.RATE_LIMITED
        with stage.user(22, stage.strict), stage.user(23, stage.strict), stage.open(stage.strict) as fourth:
            assert fourth.ends() == Disconnect.GLOBAL_LIMIT.code
            assert fourth.seen[-1]["code"] == Code.RATE_LIMITED


@scenario
def no_token_in_time(stage: Stage) -> None:
    with stage.open(stage.strict) as client:
        assert client.ends() == Disconnect.AUTH_TIMEOUT.code
        assert client.seen[-1]["code"] == Code.AUTH_FAILED


@scenario
def the_token_expires(stage: Stage) -> None:
    with stage.user(5, expires_in=2) as client:
        assert client.ends() == Disconnect.TOKEN_EXPIRED.code
        assert client.seen[-1]["code"] == Code.AUTH_FAILED


@scenario
def no_sign_of_life(stage: Stage) -> None:
    member = Member(stage.strict.port, stage.strict.token(31))
    # a member answers pings when it takes messages out of its buffer: none before the end
    member.socket.settimeout(LIMIT)
    while Disconnect.HEARTBEAT.reason.encode() not in member.buffer:
        data = member.socket.recv(4096)
        assert data
        member.buffer += data
    member.messages()
    member.socket.close()
    assert member.closed is not None
    assert stage.heard.note_closing(*member.closed) == Disconnect.HEARTBEAT.code


@scenario
def reading_too_slowly(stage: Stage) -> None:
    with stage.open(header=stage.server.token(1), reads_ahead=1) as client:
        client.ask(type="subscribe", id=1, channel="public.big")
        # until the server has had enough: the kernel's buffers may take tens of megabytes
        body = {"text": "x" * 900_000}
        assert any(not stage.server.publish("public.big", "flood", body).json()["subscriberCount"] for _ in range(80))
        assert client.ends() == Disconnect.SLOW_CONSUMER.code


@scenario
def what_is_no_native_message(stage: Stage) -> None:
    with stage.user() as client:
        client.connection.send(b"\x00\x01")
        assert client.ends() == Disconnect.UNSUPPORTED_DATA.code
    with stage.user() as client:
        client.connection.send("x" * (MAX_BODY + 1))
        assert client.ends() == Disconnect.TOO_BIG.code
    assert stage.ends_raw(b"\x81\x81\0\0\0\0\xff") == 1007
    assert stage.ends_raw(b"\x81\x02{}") == 1002, "not masked"
    client = stage.user()
    client.connection.close(1000, "normal")
    stage.heard.note_closing(client.connection.close_code, client.connection.close_reason)


_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@scenario
def refusals_of_the_handshake(stage: Stage) -> None:
    documented = {row["status"] for row in REALTIME["x-handshake-refusals"]}
    assert documented == {400, 403, 404, 426, 429, 503}
    token = stage.server.token(1)
    for path, subprotocols in (("/ws", ["other"]), ("/ws/", None)):
        with pytest.raises(InvalidStatus) as refused:
            Client.open(f"ws://127.0.0.1:{stage.server.port}{path}", header=token, subprotocols=subprotocols)
        assert refused.value.response.status_code in documented
    assert stage.server.get("/ws").status_code == 426
    assert stage.strict.get("/ws", **_UPGRADE, Origin="https://else.example.com").status_code == 403
    with stage.open(header=token, subprotocols=["other", native.SUBPROTOCOL]) as client:
        client.greeted()


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    one = Stage(server, tmp_path_factory)
    try:
        yield one
    finally:
        one.end()


@pytest.mark.parametrize("play", SCENARIOS, ids=lambda play: play.__name__)
def test_what_is_said(stage: Stage, play: Scenario) -> None:
    stage.play(play)


def test_everything_in_the_document_was_said(stage: Stage) -> None:
    for play in SCENARIOS:
        if play not in stage.played:
            stage.play(play)
    heard = stage.heard
    assert heard.requests == set(RECEIVED)
    assert heard.messages == set(SENT) - UNHEARD
    assert heard.codes == set(Code)
    documented = {row["code"] for part in ("x-close-codes", "x-websocket-close-codes") for row in REALTIME[part]}
    assert heard.closings == documented - UNPROVOKED
