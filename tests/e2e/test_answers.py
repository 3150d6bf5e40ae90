"""What every answer of the HTTP API has: a request id, careful headers; the same by either way of reading it."""

from __future__ import annotations

import re

import pytest
import requests

from tests.conftest import StartServer
from tests.e2e.test_port import Raw
from tests.server import REQUEST_LIMIT, Server

CAREFUL = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
#: Makes a request one for the full parser.
ODD = {"TE": "trailers"}


@pytest.mark.parametrize("odd", [{}, ODD], ids=["plain", "full"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/health", 200),
        ("HEAD", "/api/health", 200),
        ("OPTIONS", "/api/broadcast", 204),
        ("GET", "/api/broadcast", 405),
        ("PUT", "/api/broadcast", 405),
        ("DELETE", "/nothing", 404),
        ("POST", "/api/broadcast", 401),
        ("GET", "/metrics", 200),
    ],
)
def test_every_answer(server: Server, odd: dict[str, str], method: str, path: str, status: int) -> None:
    headers = odd | {"X-Request-ID": "nginx-7f3a.1"}
    answer = requests.request(method, server.url + path, headers=headers, timeout=REQUEST_LIMIT)
    assert answer.status_code == status
    assert answer.headers["X-Request-ID"] == "nginx-7f3a.1"
    for name, value in CAREFUL.items():
        assert answer.headers[name] == value
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Date" in answer.headers
    assert "Server" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize("odd", [{}, ODD], ids=["plain", "full"])
@pytest.mark.parametrize("given", [None, "", "x" * 200, "a b", "<script>", "\xe9", "a,b"])
def test_an_id_that_is_none_is_replaced(server: Server, odd: dict[str, str], given: str | None) -> None:
    headers = odd if given is None else odd | {"X-Request-ID": given}
    answers = [requests.get(server.url + "/live", headers=headers, timeout=REQUEST_LIMIT) for _ in range(2)]
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids), ids
    assert ids[0] != ids[1]


def test_what_is_refused_before_it_is_read_has_them_too(server: Server) -> None:
    raw = Raw(server)
    raw.send(b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    got = raw.until(b"}")
    assert got.startswith(b"HTTP/1.1 413")
    for name in (*CAREFUL, "X-Request-ID"):
        assert f"\r\n{name}: ".encode() in got
    raw.socket.close()


def test_pages_are_careful_and_need_nothing_from_elsewhere(server: Server) -> None:
    page = requests.get(server.url + "/console", timeout=REQUEST_LIMIT)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|https?://(?!www\.w3\.org)", page.text)


def test_without_helmet(start_server: StartServer) -> None:
    server = start_server(HELMET_ENABLED="false")
    answer = server.get("/api/health")
    assert not set(CAREFUL) & set(answer.headers)
    assert "X-Request-ID" in answer.headers
    server.stop()


def test_both_ways_of_reading_a_request_answer_alike(server: Server) -> None:
    for method, path in (("GET", "/api/status"), ("GET", "/api/nothing"), ("POST", "/api/broadcast"), ("GET", "/")):
        plain, full = (
            requests.request(
                method,
                server.url + path,
                headers={"X-Request-ID": "one", "X-WebSocket-API-Key": server.settings["LARAVEL_API_KEY"], **odd},
                json={"channel": "public.x"} if method == "POST" else None,
                timeout=REQUEST_LIMIT,
            )
            for odd in ({}, ODD)
        )
        assert plain.status_code == full.status_code
        kinds = [
            {name.lower(): value for name, value in answer.headers.items() if name not in ("Date", "Content-Length")}
            for answer in (plain, full)
        ]
        assert kinds[0] == kinds[1]
        assert set(plain.json()) == set(full.json())


def test_keep_alive_and_pipelining(server: Server) -> None:
    raw = Raw(server)
    get = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(3):
        raw.got = b""
        raw.send(get)
        raw.until(b'"timestamp"')
    raw.got = b""
    raw.send(get * 3)
    while raw.got.count(b"HTTP/1.1 200 OK") < 3:
        raw.got += raw.socket.recv(65536)
    raw.send(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    rest = b""
    while chunk := raw.socket.recv(65536):
        rest += chunk
    assert b"\r\nConnection: close\r\n" in rest
    raw.socket.close()


@pytest.mark.parametrize(("version", "connection", "kept"), [("1.0", "", False), ("1.0", "keep-alive", True)])
def test_http_1_0(server: Server, version: str, connection: str, kept: bool) -> None:
    raw = Raw(server)
    line = f"Connection: {connection}\r\n" if connection else ""
    raw.send(f"GET /live HTTP/{version}\r\n{line}\r\n".encode())
    raw.until(b'"timestamp"')
    raw.socket.settimeout(0.5)
    try:
        ended = raw.socket.recv(65536) == b""
    except TimeoutError:
        ended = False
    assert ended is not kept
    raw.socket.close()
