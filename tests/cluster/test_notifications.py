"""Notifications on several devices of two users, over three workers: read here, heard there, and counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from mechamap_rt.core.writing import GAP
from tests.auth.people import number, person
from tests.clients.native import COUNT, NativeClient
from tests.clients.node import NodeClient
from tests.clients.waiting import until
from tests.conftest import CLUSTER, ConnectNode
from tests.e2e.test_python_socketio import Client
from tests.mariadb import MariaDB
from tests.server import Server

#: Of the names of workers, with which the ids of their connections begin.
NAME = 6


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("site"), CLUSTER | mariadb.settings())
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()


def notify(mariadb: MariaDB, user: int, **columns: Any) -> int:
    """A notification of a user."""
    row = {"id": number(), "user_id": user, "type": "test"} | columns
    names = ", ".join(row)
    mariadb.sql(f"INSERT INTO notifications ({names}) VALUES ({', '.join(['%s'] * len(row))})", *row.values())
    return int(row["id"])


def is_read(mariadb: MariaDB, ident: int) -> bool:
    [(read, status, read_at, updated_at)] = mariadb.sql(
        "SELECT is_read, status, read_at, updated_at FROM notifications WHERE id = %s", ident
    )
    if read:
        assert status == "read"
        assert read_at <= updated_at
    return bool(read)


def devices(server: Server, connect_node: ConnectNode, token: str) -> list[NodeClient]:
    """socket.io-clients of one user, on two workers at least."""
    found: list[NodeClient] = []
    for attempt in range(60):
        client = connect_node(server.url, token).connected()
        found.append(client)
        if attempt >= 2 and len({one.message("connected")["socketId"][:NAME] for one in found}) > 1:
            return found
    raise AssertionError("all on one worker")


def test_what_one_device_reads_the_others_hear(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user, other = person(mariadb), person(mariadb)
    first, second, *_ = [notify(mariadb, user) for _ in range(3)]
    foreign = notify(mariadb, other)
    mine = devices(site, connect_node, mariadb.token(user))
    theirs = devices(site, connect_node, mariadb.token(other))
    for client, count in [*((one, 3) for one in mine), *((one, 1) for one in theirs)]:
        told = client.message(COUNT)
        assert (told["unreadCount"], told["userId"]) == (count, user if client in mine else other)
        names = [one["name"] for one in client.seen if one["event"] == "message"]
        assert names.index("connected") < names.index(COUNT)
    answer = mine[0].ask("notification_read", {"notificationId": first})
    assert (answer["status"], answer["state"], answer["unreadCount"]) == ("success", "stored", 2)
    assert answer["notificationId"] == first
    assert is_read(mariadb, first)
    for client in mine[1:]:
        told = client.message("notification_read")
        assert (told["notificationId"], told["readBy"]) == (first, user)
    for client in mine:
        assert client.message("notification.read")["notificationId"] == first
        client.message(COUNT, lambda data: data["unreadCount"] == 2)
    assert mine[0].messages("notification_read") == []
    refused = [mine[0].ask("notification_read", {"notification_id": ident}) for ident in (foreign, number())]
    assert {(one["status"], one["code"], one["details"]["field"]) for one in refused} == {
        ("error", "PERMISSION_DENIED", "notificationId")
    }
    assert mine[0].ask("notification_read", {})["code"] == "VALIDATION_ERROR"
    assert not is_read(mariadb, foreign)
    # the same again is a success, and no news
    marks = [client.mark for client in mine]
    assert mine[1].ask("notification_read", str(first))["state"] == "stored"
    assert mine[1].ask("notification_read", str(second))["unreadCount"] == 1
    for client, mark in zip(mine, marks, strict=True):
        client.message(COUNT, lambda data: data["unreadCount"] == 1, after=mark)
    assert [data["notificationId"] for data in mine[0].messages("notification_read")] == [second]
    assert all(client.messages("notification.read") == [] for client in theirs)


def test_all_are_read_at_once(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb)
    idents = [notify(mariadb, user) for _ in range(5)]
    archived = notify(mariadb, user, status="archived", archived_at="2026-01-01 00:00:00")
    expired = notify(mariadb, user, expires_at="2026-01-01 00:00:00")
    mine = devices(site, connect_node, mariadb.token(user))
    assert mine[0].message(COUNT)["unreadCount"] == 5
    answer = mine[0].ask("notifications_read_all", {})
    assert (answer["state"], answer["count"], answer["unreadCount"]) == ("stored", 5, 0)
    assert all(is_read(mariadb, ident) for ident in idents)
    assert not is_read(mariadb, archived)
    assert not is_read(mariadb, expired)
    for client in mine[1:]:
        assert client.message("notifications_read_all")["readBy"] == user
    for client in mine:
        client.message(COUNT, lambda data: data["unreadCount"] == 0)
    assert mine[0].messages("notifications_read_all") == []


def test_native_clients_and_python_s_socket_io(site: Server, mariadb: MariaDB) -> None:
    user = person(mariadb)
    first, second = notify(mariadb, user), notify(mariadb, user)
    token = mariadb.token(user)
    python = Client().connect(site.url, auth={"token": token})
    try:
        with NativeClient.open(site.ws_url, header=token) as native:
            native.counts = True
            native.greeted()
            told = native.event(COUNT)
            assert ("channel" in told, told["data"]["unreadCount"]) == (False, 2)
            assert python.wait(COUNT)["unreadCount"] == 2
            answer = native.ask(type="event", id=1, event="notification_read", data={"notificationId": first})
            assert (answer["type"], answer["event"]) == ("reply", "notification_read")
            assert (answer["data"]["state"], answer["data"]["unreadCount"]) == ("stored", 1)
            assert python.wait("notification_read")["notificationId"] == first
            assert python.wait(COUNT)["unreadCount"] == 1
            assert native.event("notification.read")["channel"] == f"private-user.{user}"
            assert python.ask("notification_read", {"notification_id": str(second)})["state"] == "stored"
            assert native.event("notification_read")["data"]["notificationId"] == second
            refused = native.ask(type="event", id=2, event="notification_read", data={"notificationId": number()})
            assert (refused["type"], refused["code"], refused["field"]) == (
                "error",
                "PERMISSION_DENIED",
                "notificationId",
            )
    finally:
        python.io.disconnect()


def test_a_flood_is_few_statements(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb)
    idents = [notify(mariadb, user) for _ in range(200)]
    token = mariadb.token(user)
    before, began = mariadb.count("Com_update"), time.monotonic()
    with NativeClient.open(site.ws_url, header=token) as one, NativeClient.open(site.ws_url, header=token) as two:
        for client in (one, two):
            client.greeted()
        for at, ident in enumerate(idents):
            # a connection's requests are carried out one after another
            (one, two)[at % 2].send(type="event", event="notification_read", id=at, data=ident)
            if at % 50 == 49:
                two.ask(type="event", event="notifications_read_all", id=1000 + at)
    until(lambda: all(is_read(mariadb, ident) for ident in idents), lambda: "not all are read", 20)
    statements = mariadb.count("Com_update") - before
    # of three workers, of which two at most have something to write of these
    assert statements <= 2 * ((time.monotonic() - began) / GAP + 1) + 3
    assert statements <= len(idents)


def test_when_users_were_seen(site: Server, mariadb: MariaDB) -> None:
    visible, invisible = person(mariadb), person(mariadb, permissions='["invisible"]')
    for user in (invisible, visible):
        with NativeClient.open(site.ws_url, header=mariadb.token(user)) as client:
            client.greeted()

    def seen(user: int) -> Any:
        return mariadb.sql("SELECT last_seen_at FROM users WHERE id = %s", user)[0][0]

    until(lambda: seen(visible) is not None, lambda: "last_seen_at is not written", 15.0)
    assert seen(invisible) is None
