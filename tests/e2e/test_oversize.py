"""Bodies and frames over ``WS_MAX_HTTP_BUFFER_SIZE``: refused as soon as that is known, never buffered whole.

A sender announces 500 MB and goes on sending whatever it is told; the server's memory must not follow, and a bystander
must not notice.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.clients.native import NativeClient
from tests.conftest import StartServer
from tests.server import MAX_BODY, Server

MEBIBYTE = 1024 * 1024
ANNOUNCED = 500 * MEBIBYTE
#: What is really sent, so far as the server lets it.
SENT = 40 * MEBIBYTE
#: How much the server may hold more for it, the limit of 1 MB included.
MAY_GROW = 8 * MEBIBYTE
BLOCK = b" " * 65536
LIMIT = 10.0
POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKETS = {
    "native": "/ws?token={token}",
    "native without a token": "/ws",
    "socketio": "/socket.io/?EIO=4&transport=websocket&token={token}",
}
websockets = pytest.mark.parametrize("path", WEBSOCKETS.values(), ids=WEBSOCKETS)


class Sender:
    """A TCP connection that sends more than anybody wants, and reads what it is answered at the same time."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), LIMIT)
        self._changed = threading.Condition()
        self._got = b""
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := self.socket.recv(65536):
                with self._changed:
                    self._got += data
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def until(self, text: bytes) -> bytes:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self._got or self._ended, LIMIT), self._got
            assert text in self._got, f"closed before {text!r} came, after {self._got!r}"
            return self._got

    def flood(self, block: bytes = BLOCK, size: int = SENT) -> int:
        """Send until it is enough, or until the server has hung up; how much went."""
        gone = 0
        with suppress(OSError):
            while gone < size:
                self.socket.sendall(block)
                gone += len(block)
        return gone

    def close_frame(self) -> int:
        """The code of the close frame at the end of what came."""
        # a server's frame is not masked: 0x88, length, code, and the reason
        return int.from_bytes(self.until(b"\x88").rpartition(b"\x88")[2][1:3], "big")

    def forget(self) -> None:
        with self._changed:
            self._got = b""

    def end(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(LIMIT)
        self.socket.close()


@pytest.fixture
def sender(server: Server) -> Iterator[Sender]:
    one = Sender(server)
    yield one
    one.end()


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """Around every test: a bystander is served at once all the time, and the server does not grow."""
    with NativeClient.open(server.ws_url, header=server.token(1)) as bystander:
        bystander.greeted()
        bystander.ask(type="subscribe", id=0, channel="public.news")
        held = forget_peak(server)
        slowest = 0.0
        stop = threading.Event()

        def live() -> None:
            nonlocal slowest
            number = 0
            while not stop.wait(0.05):
                begun = time.monotonic()
                bystander.ask(type="ping", id=number)
                slowest = max(slowest, time.monotonic() - begun)
                number += 1

        living = threading.Thread(target=live)
        living.start()
        try:
            yield
        finally:
            stop.set()
            living.join(LIMIT)
        assert peak(server) - held < MAY_GROW, f"the server grew by {(peak(server) - held) / MEBIBYTE:.1f} MiB"
        assert slowest < 1
        server.publish("public.news", "news", {"id": 1})
        assert bystander.event("news")["data"]["id"] == 1
    assert "Traceback" not in server.output()


def peak(server: Server) -> int:
    """The most memory the server has held since :func:`forget_peak`, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak(server: Server) -> int:
    """:returns: what it holds now."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    return peak(server)


# -- HTTP ------------------------------------------------------------------------------------------


def opened(server: Server) -> str:
    """The path of a polling session."""
    return f"{POLLING}&sid={json.loads(server.get(POLLING).text[1:])['sid']}"


def target(server: Server, kind: str) -> str:
    """The path of something that takes bodies, or does not expect any."""
    return {
        "polling": opened(server),
        "polling, unknown session": f"{POLLING}&sid=unknown",
        "API": "/api/broadcast",
        "laravel": "/api/laravel-broadcast",
        "page": "/console",
        "nowhere": "/nowhere",
    }[kind]


def head(server: Server, path: str, *lines: str, method: str = "POST") -> bytes:
    fixed = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    fixed.append(f"X-WebSocket-API-Key: {server.settings['LARAVEL_API_KEY']}")
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


targets = pytest.mark.parametrize("kind", ["polling", "polling, unknown session", "API", "laravel", "page", "nowhere"])


@targets
def test_a_body_of_an_announced_length(server: Server, sender: Sender, kind: str) -> None:
    sender.socket.sendall(head(server, target(server, kind), f"Content-Length: {ANNOUNCED}"))
    # before any of it came
    answer = sender.until(b"PAYLOAD_TOO_LARGE")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer
    sender.flood()
    assert sender.until(b"}") == answer


@targets
@pytest.mark.parametrize("chunks", ["small", "one"])
def test_a_body_in_chunks(server: Server, sender: Sender, kind: str, chunks: str) -> None:
    sender.socket.sendall(head(server, target(server, kind), "Transfer-Encoding: chunked"))
    if chunks == "small":
        sender.flood(b"10000\r\n" + BLOCK + b"\r\n")
    else:
        sender.socket.sendall(b"%x\r\n" % ANNOUNCED)
        sender.flood()
    assert sender.until(b"PAYLOAD_TOO_LARGE").startswith(b"HTTP/1.1 413 ")


def test_tiny_chunks_add_up(server: Server, sender: Sender) -> None:
    sender.socket.sendall(head(server, "/api/broadcast", "Transfer-Encoding: chunked"))
    sender.flood(b"1\r\nx\r\n" * 10_000, 8 * MEBIBYTE)
    assert sender.until(b"PAYLOAD_TOO_LARGE").startswith(b"HTTP/1.1 413 ")


def test_who_asks_first_is_not_told_to_go_on(server: Server, sender: Sender) -> None:
    """``Expect: 100-continue``, as curl and PHP send with long bodies."""
    length = f"Content-Length: {ANNOUNCED}"
    sender.socket.sendall(head(server, "/api/broadcast", length, "Expect: 100-continue"))
    answer = sender.until(b"PAYLOAD_TOO_LARGE")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer
    sender.forget()
    with suppress(AssertionError):
        assert b"100 Continue" not in sender.until(b"HTTP/1.1")


def test_a_get_with_a_body(server: Server, sender: Sender) -> None:
    path = opened(server)
    sender.socket.sendall(head(server, path, f"Content-Length: {ANNOUNCED}", method="GET"))
    sender.flood()
    assert sender.until(b"PAYLOAD_TOO_LARGE").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("lane", ["express", "full"])
def test_behind_a_waiting_poll(server: Server, sender: Sender, lane: str) -> None:
    """What is sent while a GET waits is held back, but not without end: TCP stops the sender, or it is cut off."""
    odd = ("Content-Length: 0",) if lane == "full" else ()
    sender.socket.sendall(head(server, opened(server), *odd, method="GET"))
    time.sleep(0.1)
    sender.socket.settimeout(1)
    sender.socket.sendall(head(server, "/api/broadcast", f"Content-Length: {ANNOUNCED}"))
    assert sender.flood() < SENT


def test_the_session_lives_on(server: Server) -> None:
    """A body that was not taken is no malformed one."""
    path = opened(server)
    assert server.post(path, raw=b"4" * (MAX_BODY + 1), key=False).status_code == 413
    packet = b"40" + json.dumps({"token": server.token(5)}).encode()
    assert server.post(path, raw=packet, key=False).text == "ok"
    assert server.get(path).text.startswith('40{"sid"')


def test_the_limit_to_the_byte(start_server: StartServer) -> None:
    limited = start_server(WS_MAX_HTTP_BUFFER_SIZE="20000")
    assert json.loads(limited.get(POLLING).text[1:])["maxPayload"] == 20_000
    body = json.dumps({"channel": "public.news", "event": "e", "data": {}}).encode()
    assert limited.post("/api/broadcast", raw=body.ljust(20_000)).status_code == 200
    assert limited.post("/api/broadcast", raw=body.ljust(20_001)).status_code == 413
    path = opened(limited)
    assert limited.post(path, raw=b"40" + b'{"token":"x"}'.ljust(19_998), key=False).text == "ok"
    assert limited.post(opened(limited), raw=b"40" + b'{"token":"x"}'.ljust(19_999), key=False).status_code == 413
    ping = b'{"type":"ping","id":1}'
    for pieces in (1, 2, 40):
        for size, expected in ((20_000, '"type":"pong"'), (20_001, "")):
            sender = connected(Sender(limited), limited, "/ws?token={token}")
            sender.socket.sendall(message(ping.ljust(size), pieces))
            if expected:
                sender.until(expected.encode())
            else:
                assert sender.close_frame() == 1009, (pieces, size)
            sender.end()


# -- WebSocket -------------------------------------------------------------------------------------


def connected(sender: Sender, server: Server, path: str) -> Sender:
    lines = [
        f"GET {path.format(token=server.token(5))} HTTP/1.1",
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    sender.socket.sendall("\r\n".join([*lines, "", ""]).encode())
    if path != "/ws":
        sender.until(b"sid" if "socket.io" in path else b'"type":"connected"')
    sender.until(b"\r\n\r\n")
    sender.forget()
    return sender


def frame(first: int, size: int) -> bytes:
    """The header of a frame, masked with nothing."""
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([first]) + length + b"\0\0\0\0"


def message(payload: bytes, pieces: int) -> bytes:
    """A text message in that many frames."""
    cut = -(-len(payload) // pieces)
    parts = [payload[at : at + cut] for at in range(0, len(payload), cut)]
    last = len(parts) - 1
    return b"".join(
        frame((0x01 if at == 0 else 0) | (0x80 if at == last else 0), len(part)) + part for at, part in enumerate(parts)
    )


@websockets
@pytest.mark.parametrize("first", [0x81, 0x82, 0x01], ids=["text", "binary", "first fragment"])
def test_a_frame(server: Server, sender: Sender, path: str, first: int) -> None:
    connected(sender, server, path)
    sender.socket.sendall(frame(first, ANNOUNCED))
    # before any of it came
    assert sender.close_frame() == 1009
    sender.flood()


@websockets
def test_fragments(server: Server, sender: Sender, path: str) -> None:
    """Each is small; together they are not."""
    connected(sender, server, path)
    sender.socket.sendall(frame(0x01, 5) + b"begin")
    sender.flood(frame(0x00, len(BLOCK)) + BLOCK)
    assert sender.close_frame() == 1009


@websockets
def test_a_last_fragment_that_announces_too_much(server: Server, sender: Sender, path: str) -> None:
    connected(sender, server, path)
    sender.socket.sendall(frame(0x01, 900_000) + b" " * 900_000 + frame(0x80, 100_001))
    assert sender.close_frame() == 1009
    sender.flood()


@pytest.mark.parametrize("size", [0, 2], ids=["empty", "2 bytes"])
def test_tiny_fragments(server: Server, sender: Sender, size: int) -> None:
    """It is the message that is kept, not its fragments; and of those there may not be any number."""
    connected(sender, server, WEBSOCKETS["native"])
    sender.socket.sendall(frame(0x01, 1) + b"x" + (frame(0x00, size) + b"xy"[:size]) * 1000)
    sender.socket.sendall(frame(0x80, 1) + b"x")
    sender.until(b'"code":"VALIDATION_ERROR"')
    sender.socket.sendall(frame(0x01, 1) + b"x")
    sender.flood((frame(0x00, size) + b"xy"[:size]) * 10_000, 3 * MEBIBYTE)
    assert sender.close_frame() == 1009


@websockets
def test_a_long_control_frame(server: Server, sender: Sender, path: str) -> None:
    connected(sender, server, path)
    sender.socket.sendall(frame(0x89, ANNOUNCED))
    assert sender.close_frame() == 1002
    sender.flood()


def test_a_websocket_that_wants_to_take_over_a_polling_session(server: Server, sender: Sender) -> None:
    """An upgrade that fails so leaves polling working."""
    path = opened(server)
    connected(sender, server, "/ws")
    sender.end()
    prober = Sender(server)
    lines = head(
        server,
        path.replace("polling", "websocket"),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        method="GET",
    )
    prober.socket.sendall(lines)
    prober.until(b"101 Switching")
    prober.forget()
    prober.socket.sendall(frame(0x81, 6) + b"2probe")
    prober.until(b"3probe")
    prober.forget()
    prober.socket.sendall(frame(0x81, ANNOUNCED))
    assert prober.close_frame() == 1009
    prober.flood()
    prober.end()
    packet = b"40" + json.dumps({"token": server.token(5)}).encode()
    assert server.post(path, raw=packet, key=False).text == "ok"
    text = server.get(path).text
    if text == "6":
        text = server.get(path).text
    assert text.startswith('40{"sid"')


def test_many_at_once(server: Server) -> None:
    """Fifty of them, all at the limit's edge: what a whole crowd has buffered is what the limit allows, no more."""
    senders = [connected(Sender(server), server, WEBSOCKETS["native"]) for _ in range(50)]
    for one in senders:
        one.socket.sendall(frame(0x81, ANNOUNCED) + BLOCK)
    assert [one.close_frame() for one in senders] == [1009] * 50
    for one in senders:
        one.end()
