"""Priorities: what need not leave at once leaves together, in time, and counters not more often than promised."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from mechamap_rt.core.batches import MARGIN, PROMISED
from mechamap_rt.core.publication import Priority
from tests.clients.counter import Counter
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.clients.watcher import Watcher
from tests.conftest import ConnectNode, StartServer
from tests.e2e.backend import POSTS, check_error
from tests.server import Server

MEDIUM, LOW = PROMISED[Priority.MEDIUM], PROMISED[Priority.LOW]
#: Seconds that a client may take to read what was written.
READING = 0.5


def with_members(path: str, **members: Any) -> Any:
    """A sound body of a POST with further members; inside its first publication, where there are several."""
    body = dict(POSTS[path])
    return {"broadcasts": [body["broadcasts"][0] | members]} if "broadcasts" in body else body | members


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("priority", "normal", "one of high, medium, low"),
        ("priority", "HIGH", "one of high, medium, low"),
        ("priority", 1, "one of high, medium, low"),
        ("priority", ["low"], "one of high, medium, low"),
        ("class", "fragile", "one of volatile, state, durable"),
        ("class", {}, "one of volatile, state, durable"),
        ("key", 5, "a string of at most 255 characters"),
        ("key", "x" * 256, "a string of at most 255 characters"),
    ],
)
def test_wrong_values_are_named(server: Server, path: str, name: str, value: Any, why: str) -> None:
    (detail,) = check_error(server.post(path, with_members(path, **{name: value})), 400)["details"]
    prefix = "broadcasts[0]." if path.endswith("multi") else ""
    assert detail == {"field": prefix + name, "message": why}


@pytest.mark.parametrize("path", POSTS)
def test_nothing_is_the_default(server: Server, path: str) -> None:
    for members in (
        {"priority": None},
        {"class": None, "key": None},
        {"priority": "high", "class": "state", "key": "k"},
    ):
        assert server.post(path, with_members(path, **members)).status_code == 200


def test_the_sites_own_priority_in_data_means_nothing(server: Server) -> None:
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        body = {"action": "send_to_user", "user_id": 5, "data": {"id": 1, "priority": "low"}}
        began = time.monotonic()
        assert server.post("/api/notify", body).status_code == 200
        assert client.event("notification")["data"]["priority"] == "low"
        assert time.monotonic() - began < 1


def test_every_form_takes_a_priority_and_counts_at_once(server: Server) -> None:
    """All of them on one channel: they leave together, by one write, after what was published at once."""
    forms: dict[str, Any] = {
        "/api/laravel-broadcast": {"channels": ["private-user.7"], "event": "laravel"},
        "/api/broadcast": {"to": "user", "user_id": 7, "event": "broadcast"},
        "/api/broadcast/multi": {"broadcasts": [{"channel": "user.7", "event": "multi", "priority": "medium"}]},
        "/api/broadcast/user/7": {"event": "user"},
        "/api/notify": {"action": "send_to_user", "user_id": 7, "data": {}},
    }
    with Watcher(server, 7) as client:
        began = time.monotonic()
        for path, body in forms.items():
            answer = server.post(path, body | {"priority": "medium"}).json()
            counts = [answer.get("totalSubscribers"), answer.get("subscriberCount")]
            counts += [result["subscriberCount"] for result in answer.get("results", ())]
            assert {count for count in counts if count is not None} == {1}
        server.publish("user.7", "urgent", {})
        posted = time.monotonic()
        until(lambda: len(client.came) == 6, lambda: f"{client.came}", MEDIUM + READING)
        urgent, *others = client.came
        assert urgent.event == "urgent"
        assert urgent.at - posted < READING
        assert [one.event for one in others] == ["laravel", "broadcast", "multi", "user", "notification"]
        assert len({one.read for one in others}) == 1, "they came in several pieces"
        assert MEDIUM - MARGIN <= others[0].at - began < MEDIUM + READING


def test_the_one_who_caused_it_does_not_get_it(server: Server) -> None:
    with (
        NativeClient.open(server.ws_url, header=server.token(8)) as sender,
        NativeClient.open(server.ws_url, header=server.token(8)) as other,
    ):
        ident = sender.greeted()["socketId"]
        other.greeted()
        body = {"channels": ["private-user.8"], "event": "e", "data": {}, "socket": ident, "priority": "medium"}
        assert server.post("/api/laravel-broadcast", body).json()["totalSubscribers"] == 1
        other.event("e")
        server.publish("private-user.8", "end", {})
        sender.event("end")
        assert "e" not in [message.get("event") for message in sender.seen]


def test_a_class_counts_for_what_is_gathered(server: Server) -> None:
    """A key makes an event the current value of something, unless its class says otherwise."""
    with Watcher(server, 9) as client:
        for number in range(3):
            for kind in ("durable", "state", "volatile"):
                body = {"event": kind, "data": {"n": number}, "key": "k", "class": kind, "priority": "medium"}
                assert server.post("/api/broadcast/user/9", body).status_code == 200
        until(lambda: len(client.came) >= 7, lambda: f"{client.came}", MEDIUM + READING)
        kinds = {kind: [one.data["n"] for one in client.of(kind)] for kind in ("durable", "state", "volatile")}
        assert kinds == {"durable": [0, 1, 2], "state": [2], "volatile": [0, 1, 2]}


def test_a_counter_reaches_each_client_at_most_once_an_interval(server: Server, connect_node: ConnectNode) -> None:
    channel = "public.counters"
    browsers = [
        connect_node(server.url, server.token(20 + number), transports=[transport]).connected()
        for number, transport in enumerate(("websocket", "polling"))
    ]
    for browser in browsers:
        browser.ask("subscribe", {"channel": channel})
    counter = Counter(server, channel)
    with ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(server, 10 + number, channel)) for number in range(3)]
        assert counter.publish() == [5, 5]
        began = counter.run(5.0)
        assert counter.rate > 100, "a counter that hardly changes shows nothing"
        ended = time.monotonic()
        last = counter.value
        until(
            lambda: (
                all(one.came and one.came[-1].data["n"] == last for one in watchers)
                and all(_values(browser, "likes")[-1:] == [last] for browser in browsers)
            ),
            lambda: f"{last}: {[one.came for one in watchers]}",
            MEDIUM + READING,
        )
        until(
            lambda: (
                all(one.of("views") and one.of("views")[-1].data["n"] == last for one in watchers)
                and all(_values(browser, "views")[-1:] == [last] for browser in browsers)
            ),
            lambda: f"{last}: {[one.came for one in watchers]}",
            LOW + READING,
        )
        for watcher in watchers:
            _check_pace([one.at for one in watcher.of("likes")], MEDIUM, began, ended)
            _check_pace([one.at for one in watcher.of("views")], LOW, began, ended)
    seen = {tuple(_values(browser, event)) for browser in browsers for event in ("likes",)}
    assert seen == {tuple(one.data["n"] for one in watchers[0].of("likes"))}, "everybody sees the same"


def _values(browser: Any, event: str) -> list[int]:
    return [data["n"] for data in browser.messages(event)]


def _check_pace(moments: list[float], promised: float, began: float, ended: float) -> None:
    """At most once an interval, and never later than promised."""
    # a client may read one late and the next in time: the intervals are the server's, the clock is not
    assert all(later - earlier > promised - MARGIN - READING for earlier, later in pairwise(moments))
    assert len(moments) <= (moments[-1] - began) / (promised - MARGIN) + 1
    assert moments[-1] - ended < promised + READING
    assert len(moments) >= (ended - began) // (promised + READING)


def test_what_is_gathered_arrives_before_the_server_stops(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server()
    browsers = [
        connect_node(server.url, server.token(1), transports=[transport]).connected()
        for transport in ("websocket", "polling")
    ]
    with Watcher(server, 1) as native:
        for number in range(20):
            body = {"event": "e", "data": {"n": number}, "priority": "low" if number % 2 else "medium"}
            assert server.post("/api/broadcast/user/1", body).json()["subscriberCount"] == 3
        server.stop()
        native.join(5)
        assert native.closed == (1012, "service_restart")
        whole = [*range(0, 20, 2), *range(1, 20, 2)]
        assert [one.data["n"] for one in native.of("e")] == whole
    for browser in browsers:
        browser.wait("disconnect")
        assert _values(browser, "e") == whole
