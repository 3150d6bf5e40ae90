"""Why somebody did not get a message: real clients, several workers, and every answer there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import ConnectNode, StartServer
from tests.e2e.backend import check_error
from tests.server import REQUEST_LIMIT, Server


def trace(server: Server, ident: str, user: int | None = None) -> requests.Response:
    query = "" if user is None else f"?user={user}"
    headers = {"X-Admin-Key": server.settings["ADMIN_KEY"], "Connection": "close"}
    return requests.get(f"{server.url}/api/trace/{ident}{query}", headers=headers, timeout=REQUEST_LIMIT)


def publish(server: Server, channel: str, **more: Any) -> str:
    body = {"channel": channel, "event": "order.paid", "data": {"n": 1}} | more
    answer = server.post("/api/broadcast", body, **{"X-Request-ID": "order-99"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def outcome(server: Server, ident: str, user: int) -> str:
    found = trace(server, ident, user)
    assert found.status_code == 200, found.text
    return str(found.json()["user"]["outcome"])


def test_every_publisher_is_told_the_id(server: Server) -> None:
    one = {"event": "e", "data": {}}
    answers = [
        server.post("/api/broadcast", one | {"channel": "public.x"}).json(),
        server.post("/api/broadcast/user/5", one).json(),
        server.post("/api/notify", {"action": "send_to_user", "user_id": 5, "data": {}}).json(),
    ]
    several = server.post("/api/broadcast/multi", {"broadcasts": [one | {"channel": "public.x"}] * 2}).json()
    laravel = server.post("/api/laravel-broadcast", one | {"channels": ["thread.1", "presence-thread.1", "user.5"]})
    idents = [*(each["id"] for each in answers), *several["ids"]]
    assert len(set(idents)) == 5
    by_channel = laravel.json()["ids"]
    assert by_channel[0] == by_channel[1] != by_channel[2]
    for ident in (*idents, *by_channel):
        assert trace(server, ident).status_code == 200


def test_who_has_it_and_who_has_not(start_cluster: StartServer, connect_node: ConnectNode) -> None:
    server = start_cluster(workers=3)
    with (
        NativeClient.open(server.ws_url, header=server.token(5)) as native,
        NativeClient.open(server.ws_url, header=server.token(6)) as other,
    ):
        native.greeted()
        other.greeted()
        node = connect_node(server.url, server.token(5))
        node.connected()
        native.ask(type="subscribe", id=1, channel="public.news")
        ident = publish(server, "public.news")
        native.until(lambda message: message.get("event") == "order.paid")
        story = trace(server, ident, 5).json()
        assert story["publication"] | {"at": "", "worker": ""} == {
            "id": ident,
            "at": "",
            "worker": "",
            "channel": "public.news",
            "resource": "public.news",
            "event": "order.paid",
            "class": "durable",
            "priority": "high",
            "source": "api",
            "request": "order-99",
            "sender": "",
            "bytes": story["publication"]["bytes"],
        }
        assert (story["recipients"], story["lost"]) == (1, 0)
        assert story["workers"][0]["users"] == [5]
        # of the two devices of the user, one has subscribed
        assert story["user"]["outcome"] == "written"
        assert sorted(each["outcome"] for each in story["user"]["connections"]) == ["not_subscribed", "written"]
        assert {each["protocol"] for each in story["user"]["connections"]} == {"native", "socket.io"}
        assert outcome(server, ident, 6) == "not_subscribed"
        assert outcome(server, ident, 7) == "absent"
        native.ask(type="unsubscribe", id=2, channel="public.news")
        assert outcome(server, publish(server, "public.news"), 5) == "not_subscribed"
        assert outcome(server, ident, 5) == "written"
    until(lambda: not _connected(server, 6), lambda: "6 is still there")
    assert outcome(server, publish(server, "user.6"), 6) == "left_before"
    with NativeClient.open(server.ws_url, header=server.token(8)) as late:
        late.greeted()
        assert outcome(server, ident, 8) == "came_later"
    server.stop()


def _connected(server: Server, user: int) -> bool:
    headers = {"X-Admin-Key": server.settings["ADMIN_KEY"]}
    found = requests.get(f"{server.url}/api/connections/user/{user}", headers=headers, timeout=REQUEST_LIMIT)
    return bool(found.json()["connected"])


@pytest.mark.parametrize("protocol", ["native", "socket.io"])
def test_a_heartbeat_confirms(start_server: StartServer, connect_node: ConnectNode, protocol: str) -> None:
    server = start_server(WS_PING_INTERVAL="300", WS_PING_TIMEOUT="200", HEARTBEAT_INTERVAL="300")
    if protocol == "native":
        with NativeClient.open(server.ws_url, header=server.token(5)) as client:
            client.greeted()
            ident = publish(server, "user.5")
            until(lambda: outcome(server, ident, 5) == "confirmed", lambda: outcome(server, ident, 5))
    else:
        connect_node(server.url, server.token(5)).connected()
        ident = publish(server, "user.5")
        until(lambda: outcome(server, ident, 5) == "confirmed", lambda: outcome(server, ident, 5))
    server.stop()


def test_who_is_behind(start_server: StartServer) -> None:
    """A client that does not read: volatile events are dropped, states replaced, the rest waits, then it is closed."""
    server = start_server(OUTBOX_SOFT_LIMIT="64k", OUTBOX_HARD_LIMIT="2m")
    pad = {"pad": "x" * 50_000}
    with NativeClient.open(server.ws_url, header=server.token(5), reads_ahead=1) as client:
        client.greeted()
        waiting = _fill(lambda: publish(server, "user.5", data=pad), lambda ident: outcome(server, ident, 5))
        # of volatile ones some are traced
        dropped = [publish(server, "user.5", data=pad, **{"class": "volatile"}) for _ in range(40)]
        traced = [ident for ident in dropped if trace(server, ident).status_code == 200]
        assert 1 <= len(traced) <= 10
        assert {outcome(server, ident, 5) for ident in traced} == {"dropped"}
        older, newer = (publish(server, "user.5", data=pad, **{"class": "state", "key": "k"}) for _ in range(2))
        assert (outcome(server, older, 5), outcome(server, newer, 5)) == ("replaced", "waiting")
        assert outcome(server, waiting, 5) == "waiting"
        last = _fill(
            lambda: publish(server, "user.5", data=pad), lambda ident: outcome(server, ident, 5), until_="slow_consumer"
        )
        story = trace(server, last, 5).json()
        assert story["workers"][0]["byReason"] == {"slow_consumer": 1}
        assert story["user"]["connections"][0]["reason"] == "slow_consumer"
        assert outcome(server, waiting, 5) == "slow_consumer"
    server.stop()


def _fill(publish: Callable[[], str], outcome: Callable[[str], str], until_: str = "waiting") -> str:
    """Publish until a publication comes to this end; its id."""
    for _ in range(400):
        ident = publish()
        if outcome(ident) == until_:
            return ident
    raise AssertionError(f"nothing is ever {until_}")


def test_what_is_held_back(server: Server) -> None:
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        first, second = (
            publish(server, "user.5", priority="medium", **{"class": "state", "key": "likes"}) for _ in range(2)
        )
        assert outcome(server, second, 5) == "held_back"
        assert outcome(server, first, 5) == "replaced"
        client.until(lambda message: message.get("event") == "order.paid")
        assert outcome(server, second, 5) == "written"


def test_who_has_sent_it(server: Server) -> None:
    with (
        NativeClient.open(server.ws_url, header=server.token(5)) as one,
        NativeClient.open(server.ws_url, header=server.token(6)) as other,
    ):
        greeting = one.greeted()
        other.greeted()
        for client in (one, other):
            client.ask(type="subscribe", id=1, channel="public.news")
        body = {"channels": ["public.news"], "event": "e", "data": {}, "socket": greeting["socketId"]}
        (ident,) = server.post("/api/laravel-broadcast", body).json()["ids"]
        assert (outcome(server, ident, 5), outcome(server, ident, 6)) == ("sender", "written")


@pytest.mark.parametrize("ident", ["nothing", "abc-!", "-1"])
def test_what_is_no_id(server: Server, ident: str) -> None:
    error = check_error(trace(server, ident), 400)
    assert [detail["field"] for detail in error["details"]] == ["publication"]


def test_what_is_no_user(server: Server) -> None:
    ident = publish(server, "public.x")
    headers = {"X-Admin-Key": server.settings["ADMIN_KEY"]}
    for user in ("", "x", "0", "-1", "9" * 30):
        found = requests.get(f"{server.url}/api/trace/{ident}?user={user}", headers=headers, timeout=REQUEST_LIMIT)
        assert [detail["field"] for detail in check_error(found, 400)["details"]] == ["user"]


def test_what_was_never_published(server: Server) -> None:
    check_error(trace(server, "abc001-123"), 404)


def test_nothing_is_remembered_if_nobody_wants_it(start_server: StartServer) -> None:
    server = start_server(TRACE_PUBLICATIONS="0")
    check_error(trace(server, publish(server, "public.x")), 404)
    server.stop()


def test_the_operators_command(start_cluster: StartServer) -> None:
    server = start_cluster(workers=2)
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        ident = publish(server, "user.5")
        client.until(lambda message: message.get("event") == "order.paid")
        said = server.mechamapctl("trace", ident, "--user", "5").stdout
        assert "order.paid" in said
        assert "It was written to the socket" in said
        assert server.control("trace", ident, "--user", "6")["user"]["outcome"] == "absent"
        assert server.refusal("trace", "nonsense")["field"] == "publication"
        assert server.refusal("trace", "abc001-1")["code"] == "UNKNOWN_PUBLICATION"
        top = {of: server.control("top", of)["top"] for of in ("channels", "users", "events")}
        assert top["channels"] == [{"name": "user.5", "count": 1}]
        assert top["users"] == [{"name": "5", "count": 1}]
        assert {"name": "order.paid", "count": 1} in top["events"]
        assert "order.paid" in server.mechamapctl("top", "events").stdout
    server.stop()
