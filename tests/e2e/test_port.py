"""One port: whatever comes first on a connection, it reaches who speaks it."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.server import Server

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def handshake(path: str, *extra: str, method: str = "GET") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Raw:
    """A TCP connection, and what came over it."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), 5)
        self.got = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until(self, text: bytes) -> bytes:
        while text not in self.got:
            data = self.socket.recv(65536)
            assert data, f"closed before {text!r} came, after {self.got!r}"
            self.got += data
        return self.got

    def to_end(self) -> bytes:
        while data := self.socket.recv(65536):
            self.got += data
        return self.got


@pytest.fixture
def raw(server: Server):  # type: ignore[no-untyped-def]
    connection = Raw(server)
    yield connection
    connection.socket.close()


def test_a_handshake_may_come_one_byte_at_a_time(server: Server, raw: Raw) -> None:
    for byte in handshake(f"/ws?token={server.token(5)}"):
        raw.send(bytes([byte]))
    answer = raw.until(b'"type":"connected"')
    assert b"101 Switching Protocols" in answer and ACCEPT in answer


def test_a_request_may_come_one_byte_at_a_time(raw: Raw) -> None:
    for byte in b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n":
        raw.send(bytes([byte]))
    assert b'"status":"healthy"' in raw.until(b'"timestamp":"')


def test_a_handshake_may_follow_requests_on_the_same_connection(server: Server, raw: Raw) -> None:
    """A proxy that keeps its connections does this."""
    for _ in range(3):
        raw.got = b""
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        raw.until(b'"timestamp":"')
    raw.got = b""
    raw.send(handshake("/ws", f"Authorization: Bearer {server.token(5)}", "Cookie: a=1", "Cookie: b=2"))
    raw.until(b'"type":"connected"')
    ping = json.dumps({"type": "ping", "id": 1}).encode()
    raw.send(b"\x81" + bytes([0x80 | len(ping)]) + b"\0\0\0\0" + ping)
    raw.until(b'"type":"pong","id":1')
    assert server.publish("private-user.5", "hello", {}).json()["subscriberCount"] >= 1
    raw.until(b'"event":"hello"')


def test_a_first_message_may_come_with_the_handshake(server: Server, raw: Raw) -> None:
    auth = json.dumps({"type": "auth", "token": server.token(5)}).encode()
    frame = b"\x81\xfe" + len(auth).to_bytes(2, "big") + b"\0\0\0\0" + auth
    raw.send(handshake("/ws") + frame)
    raw.until(b'"type":"connected"')


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake("/nowhere"), b"404"),
        (handshake("/ws", "Sec-WebSocket-Protocol: other"), b"400"),
        (handshake("/socket.io/?EIO=4"), b"400"),
        (handshake("/socket.io/?EIO=9&transport=websocket"), b"400"),
        (handshake("/socket.io/?EIO=4&transport=websocket&sid=unknown"), b"400"),
        (handshake("/ws", method="POST"), b"426"),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (handshake("/ws").replace(b"13", b"12"), b"400"),
        (handshake("/ws").replace(KEY.encode(), b"short"), b"400"),
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", b"400"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /console/../../app.py HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
    ],
)
def test_what_is_wrong_gets_a_json_error(raw: Raw, request_: bytes, status: bytes) -> None:
    raw.send(request_)
    head, _, body = raw.until(b"\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status), head
    size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < size:
        body += raw.socket.recv(65536)
    assert "message" in json.loads(body)
    assert b"python" not in head.lower() and b"twisted" not in head.lower() and b"autobahn" not in head.lower()


def test_a_long_body_is_refused_before_it_is_read(raw: Raw) -> None:
    raw.send(b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n")
    assert raw.until(b"PAYLOAD_TOO_LARGE").startswith(b"HTTP/1.1 413")


def test_a_long_body_without_a_length_is_cut_off(raw: Raw) -> None:
    raw.send(b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(17):
        raw.send(chunk)
    assert raw.until(b"PAYLOAD_TOO_LARGE").startswith(b"HTTP/1.1 413")


def greeted(raw: Raw, server: Server) -> None:
    """A native connection that has been told all it is told unasked, so that what comes next is an answer."""
    raw.send(handshake(f"/ws?token={server.token(5)}"))
    raw.until(b"notification.unread_count")
    raw.got = b""


def test_an_oversized_frame_is_refused_by_its_header(server: Server, raw: Raw) -> None:
    greeted(raw, server)
    raw.send(b"\x81\xff" + (10**9).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 1000)
    assert raw.until(b"\x03\xf1")[0] == 0x88  # a close frame with code 1009


def test_a_message_that_is_not_utf8_ends_only_its_sender(server: Server, raw: Raw) -> None:
    greeted(raw, server)
    raw.send(b"\x81\x82\0\0\0\0\xff\xfe")
    assert raw.until(b"\x03\xef")[0] == 0x88  # 1007


def test_half_a_request_line_holds_nobody_up(server: Server, raw: Raw) -> None:
    raw.send(b"GET /socket.i")
    begun = time.monotonic()
    assert server.get("/health").status_code == 200
    assert time.monotonic() - begun < 2
