"""Notifications while the site's database is stopped: accepted, kept, written when it is back, and told only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.auth.people import number, person
from tests.clients.native import COUNT, NativeClient
from tests.clients.waiting import until
from tests.cluster.test_notifications import is_read, notify
from tests.conftest import ConnectNode, StartServer
from tests.mariadb import MariaDB
from tests.server import Server

QUICK = {"DB_TIMEOUT": "2000", "AUTH_SWEEP_INTERVAL": "1000"}
#: Seconds until what has waited is written.
BACK = 6.0


@pytest.fixture(scope="module")
def site() -> Iterator[MariaDB]:
    one = MariaDB("--innodb-flush-log-at-trx-commit=1")
    try:
        yield one
    finally:
        one.end()


@contextmanager
def stopped(site: MariaDB) -> Iterator[Callable[[], None]]:
    """Stop it; what is given starts it again, and so does the end."""
    site.stop()
    running = False

    def start() -> None:
        nonlocal running
        if not running:
            running = True
            site.start()

    try:
        yield start
    finally:
        start()


def goes_down(server: Server) -> None:
    # a worker that wants nothing of it looks every five seconds
    until(lambda: server.get("/api/health").json()["database"]["status"] == "down", server.output, 12.0)


def known_everywhere(server: Server, token: str, workers: int) -> None:
    """Every worker has seen the token: who comes in the outage is known to whichever it is."""
    seen: set[str] = set()

    def another() -> bool:
        with NativeClient.open(server.ws_url, header=token) as client:
            seen.add(client.greeted()["socketId"][:6])
        return len(seen) == workers

    until(another, lambda: f"only {seen}")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_read_in_an_outage_is_written_afterwards(
    start_server: StartServer, start_cluster: StartServer, site: MariaDB, connect_node: ConnectNode, workers: int
) -> None:
    start = start_server if workers == 1 else lambda **settings: start_cluster(workers, **settings)
    server = start(**site.settings(**QUICK))
    user, other = person(site), person(site)
    token = site.token(user)
    first, second = notify(site, user), notify(site, user)
    foreign = notify(site, other)
    mine = [connect_node(server.url, token).connected() for _ in range(2)]
    binh = connect_node(server.url, site.token(other)).connected()
    for client in mine:
        assert client.message(COUNT)["unreadCount"] == 2
    binh.message(COUNT)
    known_everywhere(server, token, workers)
    with stopped(site) as start_again:
        goes_down(server)
        marks = [client.mark for client in mine]
        for ident in (first, first, foreign):
            answer = mine[0].ask("notification_read", {"notificationId": ident})
            assert (answer["status"], answer["state"]) == ("success", "accepted")
            assert "unreadCount" not in answer
        assert binh.ask("notifications_read_all", {})["state"] == "accepted"
        # a new device has no count to be told, and no error
        with NativeClient.open(server.ws_url, header=token) as late:
            late.counts = True
            late.greeted()
            assert late.ask(type="ping", id=1)["type"] == "pong"
            for client in mine:
                assert [one for one in client.seen[marks[0] :] if one.get("name", "").startswith("notif")] == []
            start_again()
            until(lambda: is_read(site, first) and is_read(site, foreign), server.output, BACK)
            late.until(lambda message: message.get("event") == COUNT and message["data"]["unreadCount"] == 1)
    assert mine[1].message("notification_read")["notificationId"] == first
    for client in mine:
        client.message(COUNT, lambda data: data["unreadCount"] == 1)
    error = mine[0].message("error")
    assert (error["code"], error["details"]["notificationId"]) == ("PERMISSION_DENIED", foreign)
    assert not is_read(site, second)
    assert mine[1].messages("error") == []
    assert "Traceback" not in server.output()
    assert server.stop() < 5.0


def test_what_waits_is_written_at_the_stop(start_server: StartServer, site: MariaDB, connect_node: ConnectNode) -> None:
    server = start_server(**site.settings(**QUICK))
    user = person(site)
    idents = [notify(site, user) for _ in range(3)]
    client = connect_node(server.url, site.token(user)).connected()
    for ident in idents:
        client.emit("notification_read", {"notificationId": ident})
    client.ask("ping", {})
    assert server.stop() < 5.0
    assert all(is_read(site, ident) for ident in idents)
    assert site.sql("SELECT last_seen_at FROM users WHERE id = %s", user)[0][0] is not None


def test_a_stop_waits_for_no_database_that_is_away(
    start_server: StartServer, site: MariaDB, connect_node: ConnectNode
) -> None:
    server = start_server(**site.settings(**QUICK))
    user = person(site)
    client = connect_node(server.url, site.token(user)).connected()
    site.freeze()
    try:
        for _ in range(3):
            client.emit("notification_read", {"notificationId": number()})
        assert server.stop() < 5.0
    finally:
        site.thaw()
    assert "Traceback" not in server.output()
