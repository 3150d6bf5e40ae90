"""Whoever is asked answers for all workers; what a client does reaches those on other workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from tests.clients.crowd import Crowd, Member
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import ConnectNode
from tests.server import REQUEST_LIMIT, Server

CHANNEL = "public.answers"
#: Requests over fresh connections, so that every worker is asked.
ASKED = 12

Open = Callable[[int], NativeClient]


@pytest.fixture
def open_native(cluster: Server) -> Iterator[Open]:
    with ExitStack() as stack:

        def connect(user: int) -> NativeClient:
            client = stack.enter_context(NativeClient.open(cluster.ws_url, header=cluster.token(user)))
            client.greeted()
            client.ask(type="subscribe", id=1, channel=CHANNEL)
            return client

        yield connect
    until(lambda: ask(cluster, "/api/status")["connections"]["total"] == 0, lambda: "everybody has left")


def ask(server: Server, path: str) -> dict[str, Any]:
    """One GET over a connection of its own."""
    headers = {"X-WebSocket-API-Key": server.settings["LARAVEL_API_KEY"], "Connection": "close"}
    answer = requests.get(server.url + path, headers=headers, timeout=REQUEST_LIMIT)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def worker(client: NativeClient) -> str:
    name: str = client.seen[0]["socketId"][:6]
    return name


def scattered(open_native: Open, user: int) -> tuple[NativeClient, NativeClient]:
    """Two devices of a user on two workers."""
    first = open_native(user)
    for _ in range(20):
        second = open_native(user)
        if worker(second) != worker(first):
            return first, second
    raise AssertionError("all on one worker")


def test_every_worker_answers_for_all(cluster: Server, open_native: Open) -> None:
    # so many that no worker can have taken them all: one may be eight over the average
    clients = [open_native(user) for user in range(1, 16) for _ in range(2)]
    assert len({worker(client) for client in clients}) > 1
    answering = {ask(cluster, "/api/health")["worker"] for _ in range(ASKED * 2)}
    assert len(answering) > 1, "several workers answer"
    for _ in range(ASKED):
        channel = ask(cluster, f"/api/channels/{CHANNEL}")
        assert channel["subscriberCount"] == 30
        assert channel["metadata"]["users"] == 15
        assert [row["connections"] for row in channel["subscribers"]] == [2] * 15
        stats = ask(cluster, "/api/channels/stats")["stats"]
        assert (stats["totalChannels"], stats["totalSubscriptions"]) == (16, 60)
        assert stats["topChannels"][0] == {"channel": CHANNEL, "subscriberCount": 30}
        assert ask(cluster, "/api/status")["connections"] == {"total": 30, "users": 15}
        answer = cluster.publish(CHANNEL, "note", {}).json()
        assert answer["subscriberCount"] == 30


def test_the_sender_is_left_out_on_whatever_worker_it_is(cluster: Server, open_native: Open) -> None:
    one, two = scattered(open_native, 1)
    sender = one.seen[0]["socketId"]
    headers = {"X-WebSocket-API-Key": cluster.settings["LARAVEL_API_KEY"], "Connection": "close"}
    for number in range(ASKED):
        body = {"channels": [CHANNEL], "event": "note", "data": {"n": number}, "socket": sender}
        answer = requests.post(cluster.url + "/api/laravel-broadcast", json=body, headers=headers, timeout=10)
        others = ask(cluster, f"/api/channels/{CHANNEL}")["subscriberCount"] - 1
        assert answer.json()["totalSubscribers"] == others
    cluster.publish(CHANNEL, "last", {})
    for client in (one, two):
        client.event("last")
    assert [message["data"]["n"] for message in two.seen if message.get("event") == "note"] == [*range(ASKED)]
    assert not [message for message in one.seen if message.get("event") == "note"]


def test_typing_reaches_the_other_workers(open_native: Open) -> None:
    one, two = scattered(open_native, 1)
    one.ask(type="event", id=2, event="typing_start", data={"channel": CHANNEL})
    assert two.event("user_typing")["data"]["userId"] == 1
    one.ask(type="event", id=3, event="typing_stop", data={"channel": CHANNEL})
    assert two.event("user_stopped_typing")["data"]["userId"] == 1
    assert not [message for message in one.seen if message.get("event") == "user_typing"], "not to the typist"


def test_typing_ends_when_the_typist_leaves(open_native: Open) -> None:
    one, two = scattered(open_native, 1)
    one.ask(type="event", id=2, event="typing_start", data={"channel": CHANNEL})
    two.event("user_typing")
    one.connection.close()
    assert two.event("user_stopped_typing")["data"]["channel"] == CHANNEL


def test_a_user_is_disconnected_everywhere(cluster: Server, connect_node: ConnectNode) -> None:
    """Every device, of every protocol, on every worker; nobody else."""
    # so many that no worker can have them all
    native = [Member(cluster.port, cluster.token(5)) for _ in range(24)]
    browsers = [
        connect_node(cluster.url, cluster.token(5), transports=[transport]).connected()
        for transport in ("websocket", "polling") * 3
    ]
    bystander = Member(cluster.port, cluster.token(6))
    with Crowd([*native, bystander]):
        rows = cluster.control("connections", "--user", "5")
        assert rows["total"] == 30
        assert len({row["worker"] for row in rows["connections"]}) > 1
        assert cluster.control("disconnect", "5") == {"user": 5, "disconnected": 30}
        for member in native:
            member.wait_for(b'"PERMISSION_DENIED"')
            assert member.drain_to_close() == (4004, "disconnected")
        for browser in browsers:
            assert browser.message("force_disconnect")["reason"] == "disconnected"
            assert browser.wait("disconnect")["reason"] == "io server disconnect"
        assert cluster.control("disconnect", "5") == {"user": 5, "disconnected": 0}
        cluster.publish("private-user.6", "note", {})
        bystander.wait_for(b'"note"')
    until(lambda: ask(cluster, "/api/status")["connections"]["total"] == 0, lambda: "everybody has left")
