"""One request is one answer: whatever could be read in two ways is refused, and its connection with it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.abuse import shapes
from tests.abuse.raw import Answered, exchange
from tests.nginx import Certificate, Front
from tests.server import LARAVEL_API_KEY, Server

LAST = b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FIRST = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


def keyed(request: bytes) -> bytes:
    return request.replace(b"{key}", LARAVEL_API_KEY.encode())


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    yield
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("name", shapes.SOUND)
def test_what_can_be_read_in_one_way_is_answered_once(server: Server, name: str) -> None:
    request, status = shapes.SOUND[name]
    alone = exchange(server.port, keyed(request), quiet=0.1)
    assert (alone.statuses, alone.rest) == ([status], b"")
    if b"HTTP/1.0" not in request:
        followed = exchange(server.port, keyed(request) + LAST)
        assert (followed.statuses, followed.ended) == ([status, 200], True)


def refused(answered: Answered, status: int = 400, before: tuple[int, ...] = ()) -> None:
    assert (answered.statuses, answered.ended, answered.rest) == ([*before, status], True, b"")
    assert b"\r\nConnection: close" in answered.heads[-1]
    assert json.loads(answered.bodies[-1])["success"] is False


@pytest.mark.parametrize("name", shapes.UNSOUND)
def test_what_can_be_read_in_two_ways_is_refused(server: Server, name: str) -> None:
    request = keyed(shapes.UNSOUND[name])
    status = 431 if "very many digits" in name else 400
    if status == 431:
        # a number as long as this is refused for one reason or the other
        status = exchange(server.port, request).statuses[0]
        assert status in (400, 431)
    refused(exchange(server.port, request), status)
    refused(exchange(server.port, request + LAST), status)
    refused(exchange(server.port, FIRST, request + LAST), status, (200,))


@pytest.mark.parametrize("name", shapes.OTHERWISE)
def test_what_is_too_large_is_refused_by_its_size(server: Server, name: str) -> None:
    request, status = shapes.OTHERWISE[name]
    refused(exchange(server.port, keyed(request)), status)


@pytest.mark.parametrize("first", [b"", FIRST], ids=["alone", "later"])
@pytest.mark.parametrize("name", shapes.ODD_HEADERS)
def test_a_handshake_has_no_body_and_no_odd_lines(server: Server, name: str, first: bytes) -> None:
    for path in (b"/ws", b"/socket.io/?EIO=4&transport=websocket"):
        request = shapes.get(shapes.UPGRADE + shapes.ODD_HEADERS[name], path) + shapes.SMUGGLED
        parts = [part for part in (first, request) if part]
        answered = exchange(server.port, *parts)
        assert 101 not in answered.statuses
        mine = answered.statuses[bool(first) :]
        # a body is no fault of HTTP: then it is one request that is no handshake, and what follows its body is another
        assert mine in ([400], [426], [400, 400], [426, 400]), answered


@pytest.mark.parametrize("name", shapes.ODD_HEADERS)
def test_a_poll_is_read_as_strictly(server: Server, name: str) -> None:
    opened = exchange(server.port, shapes.get(b"Connection: close\r\n", b"/socket.io/?EIO=4&transport=polling"))
    sid = json.loads(opened.bodies[0][1:])["sid"].encode()
    path = b"/socket.io/?EIO=4&transport=polling&sid=" + sid
    packet = b"40" + json.dumps({"token": server.token(5)}).encode()
    length = b"Content-Length: %d\r\nConnection: close\r\n" % len(packet)
    exchange(server.port, shapes.post(length, packet, target=path))
    answered = exchange(server.port, shapes.get(shapes.ODD_HEADERS[name], path) + shapes.SMUGGLED)
    if name in ("a length", "chunks"):
        # the request inside is its body, or the broken end of one
        assert answered.statuses in ([200], [400], [200, 400]), answered
        assert b"features" not in b"".join(answered.bodies)
    else:
        refused(answered)


# -- through nginx ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("nginx")
    one = Front(folder, Certificate(folder), server)
    try:
        yield one
    finally:
        one.end()


def test_what_nginx_forwards_we_read_in_the_same_way(front: Front, server: Server) -> None:
    """As many answers as nginx sees requests; and the connections it keeps to us are in step afterwards."""
    shaped = {name: request for name, (request, _) in shapes.SOUND.items()} | shapes.UNSOUND
    shaped |= {name: request for name, (request, _) in shapes.OTHERWISE.items()}
    shaped |= {
        f"a poll with {name}": shapes.get(line, b"/socket.io/?EIO=4&transport=polling") + shapes.SMUGGLED
        for name, line in shapes.ODD_HEADERS.items()
    }
    for number, (name, request) in enumerate(shaped.items()):
        before = exchange(front.port, keyed(request), tls=front.certificate.context, quiet=0.05)
        assert len(before.statuses) <= 1 + request.count(shapes.SMUGGLED), (name, before)
        for turn in (1, 2):
            channel = f"public.in-step-{number}-{turn}"
            answer = front.ask("GET", f"/api/channels/{channel}", **{"X-WebSocket-API-Key": LARAVEL_API_KEY})
            assert (answer.status, answer.json()["channel"]) == (200, channel), (name, answer.body)
    assert "Traceback" not in server.output()
