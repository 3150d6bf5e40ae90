"""From polling to WebSocket: nothing is lost, doubled or reordered while traffic flows both ways."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.clients.engine import LIMIT, RawSession, event_packet, events
from tests.clients.node import MODES, VERSIONS, NodeClient
from tests.clients.waiting import subscribers, until
from tests.conftest import ConnectNode, StartServer
from tests.server import Server

CHANNEL = "public.upgrades"
UPGRADES, PUBLICATIONS = 200, 2000
#: Clients that move at the same time as others are published to, and the publications they see together.
BATCH = 20
PER_BATCH = PUBLICATIONS * BATCH // UPGRADES
SPOKEN = 12
UPGRADE_TIMEOUT = 0.3


def numbers(data: list[dict[str, int]]) -> list[int]:
    return [one["number"] for one in data]


@pytest.mark.parametrize("batch", range(UPGRADES // BATCH))
def test_two_thousand_publications_across_two_hundred_upgrades(
    server: Server, connect_node: ConnectNode, batch: int
) -> None:
    """Clients of all versions; each subscribes by polling, and moves a few publications later."""
    movers = [
        connect_node(
            server.url,
            server.token(user),
            version=VERSIONS[(user + batch) % len(VERSIONS)],
            **MODES["default"],
            upgrade=False,
        )
        for user in range(1, BATCH + 1)
    ]
    for mover in movers:
        mover.connected()
        assert mover.state["transport"] == "polling"
    first: dict[NodeClient, int] = {}
    spoken = {}
    step = PER_BATCH // BATCH
    for number in range(PER_BATCH):
        mover, stage = movers[number // step], number % step
        if stage == 0:
            # every second one is subscribed from the start
            for one in movers[::2] if number == 0 else [mover]:
                if one not in first:
                    assert one.ask("subscribe", {"channel": CHANNEL})["status"] == "success"
                    first[one] = number
        elif stage == 2:
            spoken[mover] = mover.chatter(SPOKEN, gap=1)
        elif stage == 3:
            mover.upgrade()
        server.publish(CHANNEL, "step", {"number": number})
    for mover in movers:
        assert mover.wait("upgrade")["transport"] == "websocket"
        assert spoken[mover]() == [1] * SPOKEN, "each acknowledged exactly once"
        mover.ask("unsubscribe", {"channel": CHANNEL})
        assert numbers(mover.messages("step")) == [*range(first[mover], PER_BATCH)]
        assert [data["channel"] for data in mover.messages("unsubscribed")][:SPOKEN] == [
            f"public.{number}" for number in range(SPOKEN)
        ]
        assert mover.state["transport"] == "websocket"
        assert not [one for one in mover.seen if one["event"] == "disconnect"]


def test_upgrades_by_the_libraries_themselves(server: Server, connect_node: ConnectNode) -> None:
    """Probing begins with the handshake: the greeting and the first answers come while it moves."""
    movers = [
        connect_node(server.url, server.token(1), version=version, **MODES["default"]) for version in VERSIONS * 3
    ]
    for mover in movers:
        mover.connected()
        assert mover.ask("subscribe", {"channel": CHANNEL})["status"] == "success"
        server.publish(CHANNEL, "step", {"number": 1})
    server.publish(CHANNEL, "step", {"number": 2})
    for position, mover in enumerate(movers):
        mover.wait("upgrade")
        mover.message("step", lambda data: data["number"] == 2)
        assert numbers(mover.messages("step")) == [1] * (len(movers) - position) + [2]
        assert len(mover.messages("connected")) == 1


# -- upgrades that fail -----------------------------------------------------------------------------------


@pytest.fixture
def impatient(start_server: StartServer) -> Server:
    return start_server(WS_UPGRADE_TIMEOUT=str(round(UPGRADE_TIMEOUT * 1000)))


def subscribed(session: RawSession) -> RawSession:
    session.emit("subscribe", {"channel": CHANNEL}, 0)
    assert session.poll_for_ack(0)["status"] == "success"
    return session


def assert_polling_lost_nothing(server: Server, session: RawSession, expected: list[int]) -> None:
    """The session goes on by polling, both ways, and has got exactly these publications."""
    last = expected[-1] + 1
    server.publish(CHANNEL, "step", {"number": last})
    session.emit("ping", {"timestamp": 5}, 77)
    assert session.poll_for_ack(77)["timestamp"] == 5
    while last not in numbers(session.events("step")):
        session.poll()
    assert numbers(session.events("step")) == [*expected, last]


def test_by_hand(server: Server) -> None:
    """The whole exchange, packet by packet, with a GET waiting when the probe comes."""
    with subscribed(RawSession(server, 1)) as session, session.websocket() as websocket:
        assert session.opening["upgrades"] == ["websocket"]
        waiting = session.polling()
        server.publish(CHANNEL, "step", {"number": 0})
        assert numbers(events(waiting.answer(), "step")) == [0]
        waiting = session.polling()
        websocket.send("2probe")
        assert websocket.recv(LIMIT) == "3probe"
        assert waiting.answer() == ["6"], "the GET that waits is ended, so that the client can pause polling"
        server.publish(CHANNEL, "step", {"number": 1})
        server.publish(CHANNEL, "step", {"number": 2})
        websocket.send("5")
        websocket.send(event_packet("ping", {"timestamp": 5}, 3))
        received: list[str] = []
        while not any(packet.startswith("433[") for packet in received):
            received.append(str(websocket.recv(LIMIT)))
        assert numbers(events(received, "step")) == [1, 2]
        refused = session.request("GET")
        assert (refused.status_code, refused.json()["code"]) == (400, 3)
        assert session.request("POST", "3").status_code == 400
        websocket.send(event_packet("ping", {"timestamp": 6}, 4))
        assert '"timestamp":6' in str(websocket.recv(LIMIT))


def test_a_probe_that_never_upgrades(impatient: Server) -> None:
    with subscribed(RawSession(impatient, 1)) as session, session.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(LIMIT) == "3probe"
        impatient.publish(CHANNEL, "step", {"number": 0})
        begun = time.monotonic()
        with pytest.raises(ConnectionClosed):
            websocket.recv(LIMIT)
        assert time.monotonic() - begun < UPGRADE_TIMEOUT + 1
        assert_polling_lost_nothing(impatient, session, [0])


def test_a_websocket_that_never_probes(impatient: Server) -> None:
    with subscribed(RawSession(impatient, 1)) as session, session.websocket() as websocket:
        impatient.publish(CHANNEL, "step", {"number": 0})
        with pytest.raises(ConnectionClosed):
            websocket.recv(LIMIT)
        assert_polling_lost_nothing(impatient, session, [0])


def test_a_probe_that_dies(server: Server) -> None:
    with subscribed(RawSession(server, 1)) as session:
        with session.websocket() as websocket:
            websocket.send("2probe")
            assert websocket.recv(LIMIT) == "3probe"
            server.publish(CHANNEL, "step", {"number": 0})
            websocket.socket.shutdown(socket.SHUT_RDWR)
        assert_polling_lost_nothing(server, session, [0])
        with session.websocket() as another:
            another.send("2probe")
            assert another.recv(LIMIT) == "3probe", "after a failed upgrade another may come"


def test_polling_goes_on_while_a_probe_hangs(server: Server) -> None:
    """What is published meanwhile comes by polling; and polling does not run in circles."""
    with subscribed(RawSession(server, 1)) as session, session.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(LIMIT) == "3probe"
        server.publish(CHANNEL, "step", {"number": 0})
        while not session.events("step"):
            session.poll()
        begun, polls = time.monotonic(), 0
        while time.monotonic() - begun < 0.5:
            session.poll()
            polls += 1
        assert polls <= 10, "the reference server ends a GET every 100 ms while a probe hangs"
        websocket.close()
        assert_polling_lost_nothing(server, session, [0])


@pytest.mark.parametrize("packet", ["5", "2", "40", "2probe!", "6", b"2probe"])
def test_a_websocket_that_says_something_else(server: Server, packet: str | bytes) -> None:
    with subscribed(RawSession(server, 1)) as session, session.websocket() as websocket:
        server.publish(CHANNEL, "step", {"number": 0})
        websocket.send(packet)
        with pytest.raises(ConnectionClosed):
            websocket.recv(LIMIT)
        assert_polling_lost_nothing(server, session, [0])


def test_a_second_websocket_while_one_probes(server: Server) -> None:
    with subscribed(RawSession(server, 1)) as session, session.websocket() as first:
        first.send("2probe")
        assert first.recv(LIMIT) == "3probe"
        with pytest.raises(InvalidStatus) as refused:
            session.websocket()
        assert refused.value.response.status_code == 400
        server.publish(CHANNEL, "step", {"number": 0})
        first.send("5")
        assert numbers(events([str(first.recv(LIMIT))], "step")) == [0]


def test_two_websockets_that_open_before_either_probes(server: Server) -> None:
    """The later one is refused at once, or as soon as it probes after the first."""
    with subscribed(RawSession(server, 1)) as session, session.websocket() as first:
        with contextlib.suppress(InvalidStatus), session.websocket() as second:
            first.send("2probe")
            assert first.recv(LIMIT) == "3probe"
            second.send("2probe")
            with pytest.raises(ConnectionClosed):
                second.recv(LIMIT)
        first.close()
        server.publish(CHANNEL, "step", {"number": 0})
        assert_polling_lost_nothing(server, session, [0])


def test_a_second_websocket_after_the_upgrade(server: Server) -> None:
    with subscribed(RawSession(server, 1)) as session, session.websocket() as first:
        first.send("2probe")
        assert first.recv(LIMIT) == "3probe"
        first.send("5")
        first.send(event_packet("ping", {"timestamp": 1}, 1))
        first.recv(LIMIT)
        first.recv(LIMIT)
        with pytest.raises(InvalidStatus) as refused:
            session.websocket()
        assert refused.value.response.status_code == 400
        first.send(event_packet("ping", {"timestamp": 2}, 2))
        assert '"timestamp":2' in str(first.recv(LIMIT))


def test_an_upgrade_of_nothing(server: Server) -> None:
    with RawSession(server, 1) as session:
        session.sid = "A" * 20
        with pytest.raises(InvalidStatus) as refused:
            session.websocket()
    response = refused.value.response
    assert response.status_code == 400
    assert json.loads(response.body)["code"] == 1


def test_a_client_that_leaves_while_it_moves(server: Server) -> None:
    with subscribed(RawSession(server, 9)) as session, session.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(LIMIT) == "3probe"
        session.post("1")
        with pytest.raises(ConnectionClosed):
            websocket.recv(LIMIT)
        until(lambda: subscribers(server, "private-user.9") == 0, lambda: "the session is still there")
