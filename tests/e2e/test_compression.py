"""gzip for HTTP answers, permessage-deflate for WebSockets: only where asked for, only where switched on."""

from __future__ import annotations

import gzip
import json
import random
import socket
import string
import time
import zlib
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

from tests.clients.native import LIMIT, SUBPROTOCOL, NativeClient
from tests.conftest import ConnectNode, StartServer
from tests.server import ADMIN_KEY, Server

MEBIBYTE = 1024 * 1024
POLLING = "/socket.io/?EIO=4&transport=polling"
NOISE = "".join(random.Random(3).choices(string.ascii_letters + string.digits, k=100_000))
TEXTS = {
    "1 byte": "x",
    "vietnamese": "Bạn có một thông báo mới từ diễn đàn cơ khí. " * 30,
    "emoji": "🌅🚀👩‍🔧 " * 300,
    "short": "x" * 100,
    "100 kB": "<b>được</b> " * 8_000,
    "incompressible": NOISE,
}


class Got:
    """One HTTP answer, as it came over the wire."""

    def __init__(self, server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        self.status = response.status
        self.headers: Message = response.headers
        self.raw = response.read()
        connection.close()

    @property
    def compressed(self) -> bool:
        encoding = self.headers.get("Content-Encoding")
        assert encoding in (None, "gzip")
        assert (self.raw[:2] == b"\x1f\x8b") == (encoding == "gzip")
        return encoding == "gzip"

    @property
    def varies(self) -> set[str]:
        return {part.strip().lower() for part in ",".join(self.headers.get_all("Vary", [])).split(",")}

    def text(self) -> bytes:
        """The body; the length must be that of what was sent."""
        assert self.headers["Content-Length"] == str(len(self.raw))
        return gzip.decompress(self.raw) if self.compressed else self.raw


def polled(server: Server, size: int, *, lane: str, **headers: str) -> Got:
    """The answer to a GET of long polling for which an event of ``size`` bytes waits."""
    path = f"{POLLING}&sid={json.loads(Got(server, 'GET', POLLING).raw[1:])['sid']}"
    connect_packet = b"40" + json.dumps({"token": server.token(5)}).encode()
    assert Got(server, "POST", path, connect_packet).raw == b"ok"
    assert Got(server, "GET", path).raw.startswith(b'40{"sid"')
    server.publish("private-user.5", "news", {"text": "x" * size})
    return Got(server, "GET", path, **headers | ({"Content_Length": "0"} if lane == "full" else {}))


def news(answer: Got) -> Any:
    """The data of the event; the number of unread notifications may have come with it."""
    (packet,) = [one for one in answer.text().split(b"\x1e") if one.startswith(b'42["news"')]
    return json.loads(packet[2:])[1]


def multi(server: Server, count: int, **headers: str) -> Got:
    """The answer to ``/api/broadcast/multi``, which grows with its request."""
    body = {"broadcasts": [{"channel": "public.news", "event": "e", "data": {}}] * count}
    key = {"X_WebSocket_API_Key": server.settings["LARAVEL_API_KEY"], "Content_Type": "application/json"}
    return Got(server, "POST", "/api/broadcast/multi", json.dumps(body).encode(), **key | headers)


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that compresses nothing."""
    server = Server.start(tmp_path_factory.mktemp("off"), {"COMPRESSION_ENABLED": "false"})
    try:
        yield server
        server.stop()
    finally:
        server.end()


# -- HTTP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["express", "full"])
def test_polling(server: Server, off: Server, lane: str) -> None:
    """On by default, for answers over 1 kB."""
    asked = "gzip, deflate, br"
    large = polled(server, 20_000, lane=lane, Accept_Encoding=asked)
    assert large.compressed
    assert "accept-encoding" in large.varies
    assert news(large)["text"] == "x" * 20_000
    assert len(large.raw) < 1000
    assert not polled(server, 400, lane=lane, Accept_Encoding=asked).compressed
    for answer in (
        polled(server, 20_000, lane=lane),
        polled(server, 20_000, lane=lane, Accept_Encoding="br"),
        polled(server, 20_000, lane=lane, Accept_Encoding="identity"),
        polled(off, 20_000, lane=lane, Accept_Encoding=asked),
    ):
        assert not answer.compressed
        assert news(answer)["text"] == "x" * 20_000


@pytest.mark.parametrize("lane", ["express", "full"])
def test_compressed_polling_still_varies_by_origin(start_server: StartServer, lane: str) -> None:
    server = start_server(CORS_ORIGIN="https://www.example.org")
    answer = polled(server, 20_000, lane=lane, Accept_Encoding="gzip", Origin="https://www.example.org")
    assert answer.compressed
    assert answer.varies == {"origin", "accept-encoding"}


@pytest.mark.parametrize("lane", ["express", "full"])
@pytest.mark.parametrize(
    ("accepted", "may"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br;q=1.0, gzip;q=0.5, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("gzipped", False),
        ("", False),
    ],
)
def test_what_accept_encoding_says_is_heeded(server: Server, lane: str, accepted: str, may: bool) -> None:
    """RFC 9110 section 12.5.3: a weight of 0 means "not acceptable"."""
    assert polled(server, 5_000, lane=lane, Accept_Encoding=accepted).compressed == may


def test_answers_of_the_api(server: Server, off: Server) -> None:
    large = multi(server, 100, Accept_Encoding="gzip")
    assert large.compressed
    assert "accept-encoding" in large.varies
    assert len(json.loads(large.text())["results"]) == 100
    assert not multi(server, 2, Accept_Encoding="gzip").compressed
    for answer in (multi(server, 100), multi(off, 100, Accept_Encoding="gzip")):
        assert not answer.compressed
        assert len(json.loads(answer.text())["results"]) == 100


def test_errors_of_the_api(server: Server) -> None:
    body = json.dumps({"broadcasts": [{}] * 200}).encode()
    headers = {"X_Admin_Key": ADMIN_KEY, "Accept_Encoding": "gzip"}
    answer = Got(server, "POST", "/api/broadcast/multi", body, **headers)
    assert (answer.status, answer.compressed) == (400, True)
    assert len(json.loads(answer.text())["details"]) == 400


@pytest.mark.parametrize(
    "path", ["/console", "/console/console.css", "/console/main.js", "/socket.io/socket.io.min.js"]
)
def test_pages(server: Server, off: Server, path: str) -> None:
    plain = Got(server, "GET", path)
    small = Got(server, "GET", path, Accept_Encoding="gzip, br")
    head = Got(server, "HEAD", path, Accept_Encoding="gzip, br")
    assert not plain.compressed
    assert small.compressed == (len(plain.raw) >= 1024)
    assert "accept-encoding" in small.varies
    assert small.text() == plain.text() == Got(off, "GET", path, Accept_Encoding="gzip").text()
    assert (head.headers["Content-Length"], head.raw) == (small.headers["Content-Length"], b"")
    for one, encoding in ((plain, "identity"), (small, "gzip")):
        again = Got(server, "GET", path, Accept_Encoding=encoding, If_None_Match=one.headers["ETag"])
        assert (again.status, again.raw) == (304, b"")


# -- permessage-deflate ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deflating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that accepts permessage-deflate; without the demo nobody is told of notifications."""
    settings = {"WS_PERMESSAGE_DEFLATE": "true", "DEMO_ENABLED": "false"}
    server = Server.start(tmp_path_factory.mktemp("deflating"), settings)
    try:
        yield server
        server.stop()
    finally:
        server.end()


def native(server: Server, user: int = 5, **options: Any) -> NativeClient:
    """A client of the native protocol that has been greeted; by default it offers what ``websockets`` always does."""
    opening = connect(
        server.ws_url,
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        additional_headers={"Authorization": f"Bearer {server.token(user)}"},
        proxy=None,
        open_timeout=LIMIT,
        close_timeout=1,
        ping_interval=None,
        max_size=None,
        **options,
    )
    client = NativeClient(opening.__enter__())
    client.greeted()
    return client


def negotiated(connection: ClientConnection) -> str | None:
    assert connection.response is not None
    return connection.response.headers.get("Sec-WebSocket-Extensions")


def test_it_is_off_by_default(server: Server) -> None:
    with native(server) as client:
        assert negotiated(client.connection) is None
        assert client.connection.protocol.extensions == []
        client.send(type="ping", id=1, padding="x" * 5000)
        client.until(lambda message: message["type"] == "pong")


def exercise(server: Server, client: NativeClient) -> None:
    """Messages in both directions, several, so that a client that keeps its context refers to earlier ones."""
    for number in range(3):
        answer = client.ask(type="subscribe", id=number, channel="public.news", padding="lặp lại " * 200)
        assert answer["type"] == "reply"
    for name, text in TEXTS.items():
        server.publish("public.news", "news", {"name": name, "text": text})
        data = client.event("news")["data"]
        assert (data["name"], data["text"]) == (name, text)


@pytest.mark.parametrize(
    ("offer", "accepted"),
    [
        ({}, True),
        ({"client_max_window_bits": True}, True),
        ({"client_max_window_bits": 9}, True),
        ({"client_max_window_bits": 15}, True),
        ({"server_max_window_bits": 9}, False),
        ({"server_max_window_bits": 10}, False),
        ({"server_max_window_bits": 11}, True),
        ({"server_max_window_bits": 12, "client_max_window_bits": 12}, True),
        ({"server_max_window_bits": 15}, True),
        ({"server_no_context_takeover": True}, True),
        ({"client_no_context_takeover": True}, True),
        ({"server_no_context_takeover": True, "client_no_context_takeover": True, "client_max_window_bits": 10}, True),
    ],
    ids=str,
)
def test_offers(deflating: Server, offer: dict[str, Any], accepted: bool) -> None:
    """Windows that shared messages do not fit into are declined: the connection is then uncompressed."""
    with native(deflating, compression=None, extensions=[ClientPerMessageDeflateFactory(**offer)]) as client:
        answer = negotiated(client.connection)
        assert (answer is not None) == accepted
        assert len(client.connection.protocol.extensions) == accepted
        exercise(deflating, client)


def test_a_second_offer_is_taken_where_the_first_cannot_be(deflating: Server) -> None:
    extensions = [ClientPerMessageDeflateFactory(server_max_window_bits=9), ClientPerMessageDeflateFactory()]
    with native(deflating, compression=None, extensions=extensions) as client:
        assert negotiated(client.connection) is not None
        exercise(deflating, client)


def test_the_default_offer_of_a_client_library(deflating: Server) -> None:
    with native(deflating) as client:
        assert negotiated(client.connection) is not None
        exercise(deflating, client)


def test_everybody_gets_the_same(deflating: Server, connect_node: ConnectNode) -> None:
    """Compressed or not, native or Socket.IO, over WebSocket or polling."""
    websocket = connect_node(deflating.url, deflating.token(7), transports=["websocket"]).connected()
    polling = connect_node(deflating.url, deflating.token(8), transports=["polling"]).connected()
    plain = connect_node(
        deflating.url, deflating.token(9), transports=["websocket"], perMessageDeflate=False
    ).connected()
    nodes = [websocket, polling, plain]
    for node in nodes:
        node.ask("subscribe", {"channel": "public.news", "padding": "độn " * 500})
    small = [native(deflating, user) for user in (1, 2, 3)]
    large = [native(deflating, user, compression=None) for user in (4, 5, 6)]
    for client in small + large:
        client.ask(type="subscribe", id=1, channel="public.news")
    for name, text in TEXTS.items():
        deflating.publish("public.news", "news", {"name": name, "text": text})
        expected = [client.event("news")["data"] for client in large]
        assert {data["text"] for data in expected} == {text}
        assert [client.event("news")["data"] for client in small] == expected
        for node in nodes:
            assert node.message("news", lambda data, name=name: data["name"] == name)["text"] == text
    for client in small + large:
        client.connection.close()


class Raw:
    """A WebSocket as bytes."""

    def __init__(self, server: Server, path: str, *lines: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), LIMIT)
        head = [
            f"GET {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            *lines,
        ]
        self.socket.sendall("\r\n".join([*head, "", ""]).encode())
        self._got = b""
        while b"\r\n\r\n" not in self._got:
            self._more()
        self.head, _, self._got = self._got.partition(b"\r\n\r\n")

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    @property
    def extensions(self) -> bytes:
        found = [line for line in self.head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-extensions:")]
        return b"".join(found).partition(b":")[2].strip()

    def _more(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"closed after {self._got!r}"
        self._got += data

    def _take(self, size: int) -> bytes:
        while len(self._got) < size:
            self._more()
        taken, self._got = self._got[:size], self._got[size:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        first, size = self._take(2)
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return first, self._take(size)

    def closed(self) -> int:
        """Read up to the close frame; its code."""
        while True:
            first, payload = self.frame()
            if first == 0x88:
                return int.from_bytes(payload[:2], "big")

    def send(self, first: int, payload: bytes) -> None:
        """One frame, masked with nothing."""
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 65536:
            length = b"\xfe" + size.to_bytes(2, "big")
        else:
            length = b"\xff" + size.to_bytes(8, "big")
        self.socket.sendall(bytes([first]) + length + b"\0\0\0\0" + payload)


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


def test_what_is_on_the_wire(deflating: Server) -> None:
    """A long message is one frame with RSV1 set, a fraction of its length; a short one is not compressed."""
    raw = Raw(deflating, f"/ws?token={deflating.token(5)}", DEFLATE)
    assert raw.extensions.startswith(b"permessage-deflate")
    first, payload = raw.frame()
    assert (first, json.loads(payload)["type"]) == (0x81, "connected")
    deflating.publish("private-user.5", "news", {"text": "x" * 50_000})
    first, payload = raw.frame()
    assert first == 0xC1
    assert len(payload) < 1000
    message = json.loads(zlib.decompressobj(-11).decompress(payload + b"\0\0\xff\xff"))
    assert message["data"]["text"] == "x" * 50_000
    deflating.publish("private-user.5", "news", {"text": NOISE[:1000]})
    first, payload = raw.frame()
    assert len(payload) < 1200
    raw.socket.close()


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=x",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=12; client_max_window_bits=12",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; unknown=1",
        "x-webkit-deflate-frame",
        "permessage-bzip2, permessage-snappy",
        ";",
    ],
)
def test_other_offers_are_declined_or_refused(deflating: Server, offer: str) -> None:
    """RFC 7692 has them declined; a 400 is as good. Never accepted, never a fault of the server."""
    raw = Raw(deflating, f"/ws?token={deflating.token(5)}", f"Sec-WebSocket-Extensions: {offer}")
    assert raw.status in (101, 400)
    assert raw.extensions == b""
    raw.socket.close()
    assert "Traceback" not in deflating.output()


def deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def test_a_compressed_frame_that_was_not_negotiated(server: Server) -> None:
    raw = Raw(server, f"/ws?token={server.token(5)}", DEFLATE)
    raw.send(0xC1, deflated(b'{"type":"ping","id":1}'))
    assert raw.closed() == 1002


@pytest.mark.parametrize("payload", [b"\xff" * 100, b"\x07", deflated(b"\xff\xfe")], ids=["noise", "cut", "not UTF-8"])
def test_a_broken_compressed_frame(deflating: Server, payload: bytes) -> None:
    raw = Raw(deflating, f"/ws?token={deflating.token(5)}", DEFLATE)
    raw.send(0xC1, payload)
    assert raw.closed() in (1002, 1007)
    assert "Traceback" not in deflating.output()


def peak(server: Server) -> int:
    """The most memory the server has held since :func:`forget_peak`, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak(server: Server) -> int:
    """:returns: what it holds now."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    return peak(server)


BOMB = 50 * MEBIBYTE


@pytest.mark.parametrize("fragments", [1, 10], ids=["one frame", "fragments"])
@pytest.mark.parametrize("path", ["/ws?token=", "/socket.io/?EIO=4&transport=websocket&token="])
def test_a_compression_bomb(deflating: Server, path: str, fragments: int) -> None:
    """50 kB that inflate to 50 MB: closed with 1009 without inflating it, and nobody else notices."""
    bomb = deflated(b" " * BOMB)
    assert len(bomb) < 60_000
    cut = -(-len(bomb) // fragments)
    parts = [bomb[at : at + cut] for at in range(0, len(bomb), cut)]
    with native(deflating, 1) as bystander:
        held = forget_peak(deflating)
        for _ in range(5):
            raw = Raw(deflating, path + deflating.token(5), DEFLATE)
            assert raw.extensions.startswith(b"permessage-deflate")
            for at, part in enumerate(parts):
                raw.send((0x41 if at == 0 else 0) | (0x80 if part is parts[-1] else 0), part)
            assert raw.closed() == 1009
            raw.socket.close()
            begun = time.monotonic()
            bystander.ask(type="ping", id=1)
            assert time.monotonic() - begun < 1
        assert peak(deflating) - held < 10 * MEBIBYTE


def test_a_message_of_the_largest_size_is_no_bomb(deflating: Server) -> None:
    request = b'{"type":"ping","id":"still here"}'
    raw = Raw(deflating, f"/ws?token={deflating.token(5)}", DEFLATE)
    raw.send(0xC1, deflated(request.ljust(1_000_000)))
    while b'"still here"' not in raw.frame()[1]:
        pass
    raw.send(0xC1, deflated(request.ljust(1_000_001)))
    assert raw.closed() == 1009
