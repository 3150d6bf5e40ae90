"""What a hostile or unlucky peer once got away with, kept from coming back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.clients.crowd import Member
from tests.clients.waiting import until
from tests.conftest import ConnectNode, StartServer
from tests.e2e.test_port import Raw, handshake
from tests.server import SETTINGS, Server

MEBIBYTE = 1024 * 1024


def resident(server: Server) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


def flood(connection: socket.socket, data: bytes, total: int) -> int:
    """Send ``data`` again and again, until ``total`` bytes are out or the server has had enough."""
    sent = 0
    connection.settimeout(3)
    with suppress(OSError):
        while sent < total:
            connection.sendall(data)
            sent += len(data)
    return sent


def test_a_control_frame_that_never_ends_takes_no_memory(server: Server) -> None:
    raw = Raw(server)
    raw.send(handshake("/ws"))
    raw.until(b"101 Switching")
    before = resident(server)
    raw.send(b"\x89\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0")
    flood(raw.socket, b"x" * MEBIBYTE, 300 * MEBIBYTE)
    assert resident(server) - before < 10 * MEBIBYTE
    raw.socket.close()


def test_fragments_without_a_byte_take_no_memory(server: Server) -> None:
    raw = Raw(server)
    raw.send(handshake(f"/ws?token={server.token(5)}"))
    raw.until(b'"type":"connected"')
    before = resident(server)
    raw.send(b"\x01\x80\0\0\0\0")
    flood(raw.socket, b"\x00\x80\0\0\0\0" * 10_000, 6 * MEBIBYTE)
    assert resident(server) - before < 6 * MEBIBYTE
    raw.socket.close()


@pytest.mark.parametrize("name", ["connect", "connect_error", "disconnect", "disconnecting", "newListener"])
def test_reserved_event_names_are_not_published(server: Server, name: str) -> None:
    for path, body in (
        ("/api/broadcast", {"channel": "public.x", "event": name, "data": {}}),
        ("/api/laravel-broadcast", {"channels": ["public.x"], "event": name}),
        ("/api/broadcast/user/5", {"event": name}),
        ("/api/notify", {"action": "broadcast_to_channel", "channel": "public.x", "data": {"type": name}}),
    ):
        answer = server.post(path, body)
        assert answer.status_code == 400
        assert answer.json()["details"][0]["field"] in ("event", "data.type")


@pytest.mark.parametrize(
    "body",
    [
        b'{"channel":"public.x","event":1e999}',
        b'{"channel":"public.x","event":' + b"9" * 5000 + b"}",
        b'{"channel":' + b"[" * 200 + b"]" * 200 + b',"event":"e"}',
        b'{"action":' + b"[" * 150 + b"]" * 150 + b"}",
        b'{"channel":"public.x","event":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        '{"channel":"public.x"}'.encode("utf-16"),
    ],
)
def test_odd_json_is_the_callers_fault(server: Server, body: bytes) -> None:
    for path in ("/api/broadcast", "/api/notify", "/api/laravel-broadcast"):
        answer = server.post(path, raw=body)
        assert answer.status_code == 400
        assert answer.json()["details"]


HEADERS_OF_PROXIES = [
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"Via": "1.1 proxy"},
    {"CF-Connecting-IP": "127.0.0.1"},
    {"Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", HEADERS_OF_PROXIES, ids=lambda headers: next(iter(headers)))
def test_an_address_behind_something_grants_nothing(server: Server, headers: dict[str, str]) -> None:
    body = {"channels": ["public.x"], "event": "e"}
    assert server.post("/api/laravel-broadcast", body, key=False).status_code == 200
    assert server.post("/api/laravel-broadcast", body, key=False, **headers).status_code == 401


@pytest.mark.parametrize("trust", ["true", "loopback"])
def test_a_trusted_proxy_grants_only_what_it_names(start_server: StartServer, trust: str) -> None:
    server = start_server(TRUST_PROXY=trust, LARAVEL_BROADCAST_ALLOW_FROM="198.51.100.7,127.0.0.0/8")
    body = {"channels": ["public.x"], "event": "e"}
    for value, status in (
        ("198.51.100.7", 200),
        ("9.9.9.9", 401),
        ("9.9.9.9:1234", 401),
        ("unknown", 401),
        ("198.51.100.7, 9.9.9.9", 401),
    ):
        answer = server.post("/api/laravel-broadcast", body, key=False, **{"X-Forwarded-For": value})
        assert answer.status_code == status, value
    assert server.post("/api/laravel-broadcast", body, key=False, **{"X-Real-IP": "1.2.3.4"}).status_code == 401
    server.stop()


def test_a_header_cannot_be_smuggled_into_another(start_server: StartServer) -> None:
    server = start_server(TRUST_PROXY="true", MAX_CONNECTIONS_PER_IP="1")
    admitted = []
    for number in range(3):
        raw = Raw(server)
        forged = f"User-Agent: a\x85X-Forwarded-For: 6.6.6.{number}"
        request = handshake(
            f"/ws?token={server.token(5)}", "X-Forwarded-For: 9.9.9.9", forged.encode().decode("latin-1")
        )
        raw.send(request.decode().encode("latin-1"))
        admitted.append(raw)
    got = [raw.until(b'"timestamp"') for raw in admitted]
    assert [b'"type":"connected"' in answer for answer in got] == [True, False, False]
    for raw in admitted:
        raw.socket.close()
    server.stop()


def test_a_start_that_fails_says_so_to_the_supervisor(server: Server, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], **SETTINGS, "PORT": str(server.port)}
    twistd = str(Path(sys.executable).with_name("twistd"))
    done = subprocess.run(
        [twistd, "-n", "--pidfile=", "mechamap"], cwd=tmp_path, env=environment, capture_output=True, timeout=20
    )
    assert done.returncode == 1
    assert b"The server cannot start: 127.0.0.1:%d: already in use" % server.port in done.stdout
    assert b"Traceback" not in done.stdout + done.stderr


def test_a_client_that_floods_is_made_to_wait_and_nobody_else(start_server: StartServer) -> None:
    server = start_server(CLIENT_EVENTS_PER_MINUTE="100")
    calm = Member(server.port, server.token(1))
    calm.subscribe("public.calm")
    flooder = Raw(server)
    flooder.send(handshake(f"/ws?token={server.token(2)}"))
    flooder.until(b'"type":"connected"')
    ping = json.dumps({"type": "ping"}).encode()
    frames = (b"\x81" + bytes([0x80 | len(ping)]) + b"\0\0\0\0" + ping) * 2000
    flooder.socket.setblocking(False)
    waits, sent = [], 0
    for number in range(60):
        with suppress(BlockingIOError):
            for _ in range(20):
                sent += flooder.socket.send(frames)
        begun = time.monotonic()
        server.publish("public.calm", "still", {"n": f"n{number}."})
        calm.wait_for(f"n{number}.".encode())
        waits.append(time.monotonic() - begun)
        with suppress(BlockingIOError):
            flooder.socket.recv(1 << 20)
    assert sorted(waits)[len(waits) // 2] < 0.1, waits
    flooder.socket.close()
    server.stop()


def test_what_follows_a_handshake_in_the_same_segment_is_not_lost(server: Server) -> None:
    raw = Raw(server)
    raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    raw.until(b'"timestamp":"')
    auth = json.dumps({"type": "auth", "token": server.token(5)}).encode()
    raw.send(handshake("/ws") + b"\x81\xfe" + len(auth).to_bytes(2, "big") + b"\0\0\0\0" + auth)
    raw.until(b'"type":"connected"')
    raw.socket.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
    ],
)
def test_requests_that_make_no_sense_get_an_answer(server: Server, request_: bytes) -> None:
    raw = Raw(server)
    raw.send(request_)
    assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 400")
    raw.socket.close()
    assert "Traceback" not in server.output()


def test_an_admins_token_needs_no_permission_to_publish(server: Server) -> None:
    body = {"channel": "public.x", "event": "e"}
    for role, permissions, status in (
        ("admin", [], 200),
        ("member", ["broadcast"], 200),
        ("member", ["receive_notifications"], 403),
        ("member", [], 403),
    ):
        token = server.token(5, role=role, permissions=permissions)
        answer = server.post("/api/broadcast", body, key=False, Authorization=f"Bearer {token}")
        assert answer.status_code == status, (role, permissions)


def test_who_breaks_the_protocol_is_no_subscriber_any_more(server: Server) -> None:
    raw = Raw(server)
    raw.send(handshake(f"/ws?token={server.token(77)}"))
    raw.until(b'"type":"connected"')
    assert server.publish("private-user.77", "e", {}).json()["subscriberCount"] == 1
    raw.send(b"\x83\x80\0\0\0\0")
    raw.until(b"\x03\xea")
    assert server.publish("private-user.77", "e", {}).json()["subscriberCount"] == 0
    raw.socket.close()


def test_while_it_stops_the_server_takes_nothing(start_server: StartServer) -> None:
    """A client that does not go keeps the stop waiting; meanwhile publications are refused, not lost."""
    server = start_server()
    stays = Raw(server)
    stays.send(handshake(f"/ws?token={server.token(5)}"))
    stays.until(b'"type":"connected"')
    kept = Raw(server)
    kept.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    kept.until(b'"timestamp":"')
    kept.got = b""
    os.kill(server.pid, signal.SIGTERM)
    stays.until(b"\x03\xf4service_restart")
    kept.send(
        b"POST /api/laravel-broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 37\r\n\r\n"
        b'{"channels":["public.x"],"event":"e"}'
    )
    assert b"HTTP/1.1 503" in kept.until(b"UNAVAILABLE")
    for raw in (stays, kept):
        raw.socket.close()


def test_a_rejected_client_sees_why(start_server: StartServer, connect_node: ConnectNode) -> None:
    """And a re-used session id lets nobody past the limits."""
    server = start_server(MAX_CONNECTIONS_PER_IP="2")
    first = Raw(server)
    first.send(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n")
    sid = json.loads(first.until(b"}").partition(b"\r\n\r\n0")[2])["sid"]
    path = f"/socket.io/?EIO=4&transport=websocket&sid={sid}"
    probes = [Raw(server) for _ in range(20)]
    for probe in probes:
        probe.send(handshake(path))
    answers = [probe.until(b"\r\n\r\n")[:12] for probe in probes]
    assert answers.count(b"HTTP/1.1 101") == 1
    for raw in (first, *probes):
        raw.socket.close()
    server.stop()


@pytest.mark.parametrize(("trust", "address"), [("true", "203.0.113.9"), ("false", "127.0.0.1")])
def test_the_log_names_the_address_that_is_believed(start_server: StartServer, trust: str, address: str) -> None:
    server = start_server(TRUST_PROXY=trust, MAX_CONNECTIONS_PER_USER="1")
    peers = [Raw(server) for _ in range(2)]
    for raw in peers:
        raw.send(handshake(f"/ws?token={server.token(5)}", "X-Forwarded-For: 203.0.113.9"))
        raw.until(b'"timestamp"')
    line = f"Rejected user 5 from {address}: user_limit_reached"
    until(lambda: line in server.output(), server.output)
    for raw in peers:
        raw.socket.close()
    server.stop()


def test_the_console_gives_nothing_to_a_page_of_another_name(server: Server) -> None:
    for host, status in (("127.0.0.1:80", 200), ("localhost", 200), ("[::1]:3000", 200), ("evil.example", 403)):
        assert server.get("/console/config.json", Host=host).status_code == status, host
