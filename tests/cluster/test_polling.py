"""Long polling without sticky sessions: each request over a connection of its own, to whatever worker takes it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.clients.engine import LIMIT, event_packet, events
from tests.clients.native import NativeClient
from tests.clients.swarm import Swarm
from tests.clients.waiting import subscribers, until, wait_for_subscribers
from tests.conftest import ConnectNode
from tests.server import MAX_BODY, Server

CHANNEL = "public.polling"


class Fresh:
    """An Engine.IO session whose every request has a connection of its own."""

    def __init__(self, server: Server, user: int) -> None:
        self.server = server
        self.seen: list[str] = []
        status, opening = self.request("GET")
        assert status == 200, opening
        self.sid: str = json.loads(opening[1:])["sid"]
        self.post("40" + json.dumps({"token": server.token(user)}))
        while not self.events("connected"):
            self.poll()

    def path(self) -> str:
        sid = f"&sid={self.sid}" if hasattr(self, "sid") else ""
        return f"/socket.io/?EIO=4&transport=polling{sid}"

    def request(self, method: str, body: bytes | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=LIMIT)
        try:
            connection.request(method, self.path(), body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def post(self, packet: str) -> None:
        assert self.request("POST", packet.encode()) == (200, "ok")

    def poll(self) -> list[str]:
        status, answer = self.request("GET")
        assert status == 200, answer
        packets = answer.split("\x1e")
        self.seen += packets
        if "2" in packets:
            self.post("3")
        return packets

    def events(self, name: str) -> list[dict[str, int]]:
        return events(self.seen, name)

    def subscribe(self, channel: str) -> None:
        self.post(event_packet("subscribe", {"channel": channel}, 1))
        while not self.events("subscribed"):
            self.poll()

    def wait_for(self, count: int) -> list[int]:
        """Poll until so many steps have come."""
        while len(self.events("step")) < count:
            self.poll()
        return [data["n"] for data in self.events("step")]


def owners(server: Server, sessions: list[Fresh]) -> int:
    """How many workers have them: the first characters of a session's id name its worker."""
    return len({session.sid[:6] for session in sessions})


def several(server: Server, users: Sequence[int]) -> list[Fresh]:
    """A session of each user; whose turn it is next is the workers' matter, so one more until two workers have some."""
    opened = [Fresh(server, user) for user in users]
    while owners(server, opened) < 2:
        assert len(opened) < 60, "the sessions are all on one worker"
        opened.append(Fresh(server, users[-1] + len(opened)))
    return opened


@pytest.fixture
def sessions(cluster: Server) -> Iterator[list[Fresh]]:
    """Some sessions, of several workers."""
    opened = several(cluster, range(1, 13))
    for session in opened:
        session.subscribe(CHANNEL)
    yield opened
    for session in opened:
        session.request("POST", b"1")


def test_every_request_may_go_to_another_worker(cluster: Server, sessions: list[Fresh]) -> None:
    """All at once, and nothing is lost, doubled or out of order for anybody."""
    count = 30
    got: dict[int, list[int]] = {}

    def follow(place: int) -> None:
        got[place] = sessions[place].wait_for(count)

    threads = [threading.Thread(target=follow, args=(place,)) for place in range(len(sessions))]
    for thread in threads:
        thread.start()
    for number in range(count):
        answer = cluster.publish(CHANNEL, "step", {"n": number}).json()
        assert answer["subscriberCount"] == len(sessions)
    for thread in threads:
        thread.join(LIMIT)
    assert got == {place: [*range(count)] for place in range(len(sessions))}


def test_large_payloads(cluster: Server, sessions: list[Fresh]) -> None:
    """Down and up, over whatever worker; one byte too much is refused everywhere."""
    text = "Chào 🌅" * 20_000
    cluster.publish(CHANNEL, "large", {"text": text})
    for session in sessions:
        while not session.events("large"):
            session.poll()
        assert session.events("large")[0]["text"] == text
    for session in sessions:
        padding = "x" * (MAX_BODY - len(event_packet("unsubscribe", {"channel": "public.x", "padding": ""}, 7)))
        session.post(event_packet("unsubscribe", {"channel": "public.x", "padding": padding}, 7))
        while not any(packet.startswith("437[") for packet in session.seen):
            session.poll()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            status, _ = session.request("POST", b"4" + b"x" * MAX_BODY)
            assert status == 413
        session.post(event_packet("unsubscribe", {"channel": "public.x"}, 8))


def test_binary_attachments(cluster: Server, sessions: list[Fresh]) -> None:
    """An event with an attachment, in one body, is taken and refused as on one worker: no event takes binary data."""
    for session in sessions:
        session.post('451-9["unsubscribe",{"_placeholder":true,"num":0}]\x1ebAQIDBA==')
        while not any(packet.startswith("439[") for packet in session.seen):
            session.poll()
        (answer,) = (packet for packet in session.seen if packet.startswith("439["))
        assert json.loads(answer[3:])[0]["code"] == "VALIDATION_ERROR"


def test_a_malformed_body_ends_the_session_wherever_it_arrives(cluster: Server, sessions: list[Fresh]) -> None:
    for session in sessions:
        status, answer = session.request("POST", b"nonsense")
        assert (status, json.loads(answer)["code"]) == (400, 3)
        status, answer = session.request("GET")
        assert (status, json.loads(answer)["code"]) == (400, 1)
    assert subscribers(cluster, CHANNEL) == 0


def test_a_get_that_is_dropped_ends_the_session(cluster: Server) -> None:
    """Although it waits on one worker and the session is on another."""
    users = range(21, 33)
    opened = [Fresh(cluster, user) for user in users]
    waiting = []
    for session in opened:
        one = socket.create_connection(("127.0.0.1", cluster.port))
        one.sendall(f"GET {session.path()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        waiting.append(one)
    # one that waits has been asked: an event answers it
    cluster.publish("private-user.21", "step", {"n": 0})
    waiting[0].settimeout(LIMIT)
    assert b'"step"' in waiting[0].recv(65_536)
    for one in waiting[1:]:
        one.close()
    until(
        lambda: [user for user in users if subscribers(cluster, f"private-user.{user}")] == [21],
        lambda: "those whose GET was dropped have left",
    )
    waiting[0].close()
    opened[0].post("1")
    wait_for_subscribers(cluster, "private-user.21", 0)


def test_two_gets_at_once_end_the_session(cluster: Server) -> None:
    """Also when two workers have one each."""
    for user in range(41, 47):
        session = Fresh(cluster, user)
        with socket.create_connection(("127.0.0.1", cluster.port)) as waiting:
            waiting.settimeout(LIMIT)
            waiting.sendall(f"GET {session.path()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            # the two requests go over two connections: which is first is nobody's promise
            answers = {session.request("GET")[0], int(waiting.recv(65_536).split(b" ", 2)[1])}
        assert answers == {200, 400}
        wait_for_subscribers(cluster, f"private-user.{user}", 0)


def test_what_a_session_does_not_have_is_refused(cluster: Server, sessions: list[Fresh]) -> None:
    for session in sessions:
        known, session.sid = session.sid, session.sid[:6] + "A" * 14
        status, answer = session.request("GET")
        assert (status, json.loads(answer)["code"]) == (400, 1)
        session.sid = "zzz999" + "A" * 14
        status, answer = session.request("POST", b"3")
        assert (status, json.loads(answer)["code"]) == (400, 1)
        session.sid = known


@pytest.mark.parametrize("keep_alive", [False, True], ids=["fresh", "kept"])
def test_real_clients(cluster: Server, swarm: Swarm, keep_alive: bool) -> None:
    """socket.io-client of three versions, whose every request may go over another connection, or over shared ones."""
    count, each = 40, 8
    versions = ("2.5", "3.1", "4.8")
    for version in versions:
        clients = {f"{version}-{user}": (cluster.token(user), CHANNEL) for user in range(1, each + 1)}
        swarm.add(cluster.url, clients, mode="polling", version=version, keep_alive=keep_alive)
    people = each * len(versions)
    until(lambda: swarm.subscribed() == people, lambda: f"{swarm.subscribed()} of {people}: {swarm.accounts()}")
    for number in range(count):
        assert cluster.publish(CHANNEL, "tick", {"n": number}).json()["subscriberCount"] == people
    until(lambda: swarm.received() >= people * count, lambda: f"{swarm.received()} of {people * count}")
    for account in swarm.accounts():
        assert account.seen == [*range(count)], account
        assert (len(account.stays), account.refused) == (1, 0), account
    swarm.clear()
    wait_for_subscribers(cluster, CHANNEL, 0)


@pytest.mark.parametrize("version", ["2.5", "3.1", "4.8"])
def test_acknowledgements_come_back_over_any_worker(cluster: Server, connect_node: ConnectNode, version: str) -> None:
    client = connect_node(cluster.url, cluster.token(60), version=version, transports=["polling"]).connected()
    assert client.chatter(40, gap=1)() == [1] * 40


def test_the_body_of_a_forwarded_get_is_no_request_of_its_own(cluster: Server) -> None:
    """It would run in the owner's process, unseen by whatever stands before this server."""
    inner_body = json.dumps({"channel": "public.smuggled", "event": "e", "data": {}})
    key = cluster.settings["LARAVEL_API_KEY"]
    inner = (
        f"POST /api/broadcast HTTP/1.1\r\nHost: a\r\nX-WebSocket-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(inner_body)}\r\n\r\n{inner_body}"
    )
    with NativeClient.open(cluster.ws_url, header=cluster.token(1)) as listener:
        listener.ask(type="subscribe", id=1, channel="public.smuggled")
        _smuggle(cluster, inner)
        cluster.publish("public.smuggled", "marker", {})
        heard = listener.until(lambda message: message["type"] == "event")
    assert (heard["channel"], heard["event"]) == ("public.smuggled", "marker")


def _smuggle(cluster: Server, inner: str) -> None:
    """Send it as the body of a GET: of openings, and of polls that other workers have to forward."""
    for _ in range(12):
        sid = ""
        for target in ("", "&sid=%s"):
            with socket.create_connection(("127.0.0.1", cluster.port), 5) as client:
                path = "/socket.io/?EIO=4&transport=polling" + (target % sid if target else "")
                client.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(inner)}\r\n\r\n{inner}".encode()
                )
                if not target:
                    sid = json.loads(client.recv(65536).partition(b"\r\n\r\n0")[2])["sid"]
                    posted = cluster.post(path + f"&sid={sid}", raw=b'40{"token":"x"}', key=False)
                    assert posted.text == "ok"
                else:
                    assert b"HTTP/1.1" in client.recv(65536)
