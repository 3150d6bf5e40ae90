"""From polling to a WebSocket that another worker has accepted: it is given to the session's worker."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.clients.engine import RawSession, events
from tests.clients.publisher import Failures, Publisher
from tests.clients.swarm import Swarm
from tests.clients.waiting import until, wait_for_subscribers
from tests.cluster.test_polling import Fresh
from tests.nginx import Certificate, Front
from tests.server import Server

CHANNEL = "public.upgrade"
CLIENTS = 60
LIMIT = 20.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def front(tmp_path: Path, certificate: Certificate, cluster: Server) -> Iterator[Front]:
    """nginx as it ships, which keeps connections to whatever workers took them."""
    one = Front(tmp_path, certificate, cluster)
    try:
        yield one
    finally:
        one.end()


def upgrade_all(server: Server, swarm: Swarm, url: str, **options: object) -> None:
    """Sixty default clients while the backend publishes: all of them move, and nobody misses anything."""
    clients = {f"{user}": (server.token(user), CHANNEL) for user in range(1, CLIENTS + 1)}
    failures = Failures()
    with Publisher(server.port, server.settings["LARAVEL_API_KEY"], [CHANNEL], 50.0, failures) as publisher:
        swarm.add(url, clients, mode="default", **options)
        until(
            lambda: (swarm.subscribed(), swarm.upgraded()) == (CLIENTS, CLIENTS),
            lambda: f"{swarm.subscribed()} in, {swarm.upgraded()} upgraded: {swarm.accounts()[0]}",
            LIMIT,
        )
        before = len(publisher.published)
        until(lambda: len(publisher.published) >= before + 20, lambda: "publications go on")
    assert failures.failed == []
    published = publisher.published
    assert {each.total for each in published[before + 1 :]} == {CLIENTS}
    expected = sum(each.total for each in published)
    until(lambda: swarm.received() >= expected, lambda: f"{swarm.received()} of {expected}", LIMIT)
    for account in swarm.accounts():
        assert (len(account.stays), account.refused) == (1, 0), account
        first = account.seen[0]
        assert account.seen == [*range(first, len(published))], f"in order, and all of them: {account}"
    assert swarm.received() == expected
    rows = server.control("connections", "--limit", "200")["connections"]
    assert {row["transport"] for row in rows} == {"websocket"}
    assert len({row["worker"] for row in rows}) > 1
    swarm.clear()
    wait_for_subscribers(server, CHANNEL, 0)


def test_clients_move_to_a_websocket(cluster: Server, swarm: Swarm) -> None:
    upgrade_all(cluster, swarm, cluster.url)


def test_clients_move_to_a_websocket_behind_nginx(cluster: Server, swarm: Swarm, front: Front) -> None:
    upgrade_all(cluster, swarm, front.url, ca=front.certificate.pem)


def test_polling_behind_nginx(cluster: Server, swarm: Swarm, front: Front) -> None:
    """nginx sends each request to whatever worker has the connection that is free."""
    count, people = 30, 30
    clients = {f"{user}": (cluster.token(user), CHANNEL) for user in range(1, people + 1)}
    swarm.add(front.url, clients, mode="polling", ca=front.certificate.pem)
    until(lambda: swarm.subscribed() == people, lambda: f"{swarm.accounts()}", LIMIT)
    for number in range(count):
        assert cluster.publish(CHANNEL, "tick", {"n": number}).json()["subscriberCount"] == people
    until(lambda: swarm.received() >= people * count, lambda: f"{swarm.received()} of {people * count}", LIMIT)
    assert all(account.seen == [*range(count)] for account in swarm.accounts())
    swarm.clear()
    wait_for_subscribers(cluster, CHANNEL, 0)


def test_a_websocket_for_a_session_that_nobody_has(cluster: Server) -> None:
    """Refused by whoever gets it, also when the name is another worker's."""
    session = Fresh(cluster, 70)
    for sid in [session.sid[:6] + "B" * 14] * 6 + ["zzz999" + "B" * 14] * 2:
        answer = cluster.request(
            "GET",
            f"/socket.io/?EIO=4&transport=websocket&sid={sid}",
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
            Sec_WebSocket_Version="13",
        )
        assert (answer.status_code, answer.json()["code"]) == (400, 1)
    session.post("1")


def test_a_session_that_ends_while_it_moves_says_why(cluster: Server) -> None:
    """After ``3probe`` socket.io-client has paused polling for good: what it is told must come by the WebSocket.

    A rejection comes at that moment as soon as the master counts, for the client's CONNECT is answered before it knows.
    """
    with RawSession(cluster, 71) as session, session.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(LIMIT) == "3probe"
        assert cluster.control("disconnect", "71")["disconnected"] == 1
        websocket.send("5")
        received: list[str] = []
        with contextlib.suppress(ConnectionClosed):
            received.extend(str(packet) for packet in websocket)
        assert events(received, "force_disconnect")[0]["reason"] == "disconnected"
        assert "41" in received


def test_sessions_behind_nginx_are_shared(cluster: Server, swarm: Swarm, front: Front) -> None:
    people = 90
    clients = {f"{user}": (cluster.token(user), CHANNEL) for user in range(1, people + 1)}
    swarm.add(front.url, clients, mode="polling", ca=front.certificate.pem)
    until(lambda: swarm.subscribed() == people, lambda: f"{swarm.subscribed()}", LIMIT)
    rows = cluster.control("connections", "--limit", "200")["connections"]
    shares = Counter(row["worker"] for row in rows)
    swarm.clear()
    wait_for_subscribers(cluster, CHANNEL, 0)
    assert [shares[number] >= people / 6 for number in (1, 2, 3)] == [True] * 3, shares
