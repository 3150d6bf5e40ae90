"""``etc/nginx.conf`` as it ships, in a real nginx with TLS: every transport through it, and whose address is believed.

Only ports, paths and the upstream are replaced. Clients come from several addresses of the loopback network.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.clients.native import LIMIT, NativeClient
from tests.conftest import ConnectNode, StartServer
from tests.nginx import Certificate, Front, asked, eventually
from tests.server import Server

BROADCAST = {"channels": ["public.news"], "event": "news.created", "data": {"id": 1}}
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate, server: Server) -> Iterator[Front]:
    """nginx before a server with the usual settings, which trusts no proxy."""
    one = Front(tmp_path_factory.mktemp("nginx"), certificate, server)
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def behind(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate, start_server: StartServer
) -> Iterator[Callable[..., tuple[Server, Front]]]:
    """``behind(inside=…, NAME="value")``: a server with these settings, and an nginx before it."""
    fronts: list[Front] = []

    def start(inside: str = "127.0.0.0/8", **settings: str) -> tuple[Server, Front]:
        server = start_server(**settings)
        fronts.append(Front(tmp_path_factory.mktemp("nginx"), certificate, server, inside))
        return server, fronts[-1]

    try:
        yield start
    finally:
        for one in fronts:
            one.end()


# -- everything gets through -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transports", "settles"),
    [
        (["polling"], "polling"),
        (["websocket"], "websocket"),
        (["polling", "websocket"], "websocket"),
        (["websocket", "polling"], "websocket"),
    ],
    ids=["polling", "websocket", "default", "site"],
)
def test_socketio(front: Front, server: Server, connect_node: ConnectNode, transports: list[str], settles: str) -> None:
    client = connect_node(front.url, server.token(5), transports=transports, ca=front.certificate.pem).connected()
    assert client.ask("subscribe", {"channel": "public.news"})["status"] == "success"
    eventually(lambda: client.state["transport"] == settles, settles)
    for number in range(5):
        server.publish("public.news", "news", {"number": number, "text": "Chào buổi sáng 🌅" * 1000})
        client.message("news", lambda data, number=number: data["number"] == number)
    assert [message["number"] for message in client.messages("news")] == list(range(5))
    assert not [one for one in client.seen if one["event"] == "disconnect"]


def test_the_native_protocol(front: Front, server: Server) -> None:
    with front.native(server.token(5)) as client:
        client.greeted()
        client.ask(type="subscribe", id=1, channel="public.news")
        server.publish("public.news", "news", {"text": "x" * 300_000})
        assert len(client.event("news")["data"]["text"]) == 300_000


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/api/health", "/status", "/api/status"])
def test_health_is_for_everybody(front: Front, path: str) -> None:
    answer = front.ask("GET", path, source="127.0.0.2")
    assert answer.status == 200
    assert answer.json()["success"] is True
    assert "max-age=" in answer.headers["Strict-Transport-Security"]
    assert "/" not in answer.headers["Server"]


def test_the_client_bundle(front: Front) -> None:
    assert front.ask("GET", "/socket.io/socket.io.min.js").status == 200


def test_plain_http_only_says_where_to_go(front: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", front.plain_port, timeout=LIMIT)
    answer = asked(connection, "POST", "/socket.io/?EIO=4", b"x", {"Host": "evil.example"})
    assert (answer.status, answer.headers["Location"]) == (308, "https://realtime.example.org/socket.io/?EIO=4")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(front: Front, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cadata=front.certificate.pem)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", front.port), LIMIT) as connection,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(connection, server_hostname="localhost"),
    ):
        pass


def test_a_body_over_the_limit(front: Front, server: Server) -> None:
    """A little over: the server itself says so. Far over: nginx does, without asking the server."""
    for size in (1_000_001, 1_048_577, 5_000_000):
        assert front.ask("POST", "/api/broadcast", b"x" * size).status == 413
    sid = json.loads(front.ask("GET", "/socket.io/?EIO=4&transport=polling").body[1:])["sid"]
    assert front.ask("POST", f"/socket.io/?EIO=4&transport=polling&sid={sid}", b"x" * 1_000_001).status == 413


def test_a_page_of_the_same_host_may_connect(
    behind: Callable[..., tuple[Server, Front]],
) -> None:
    """Which is found by comparing ``Origin`` with ``Host``: nginx must pass on both, the port included."""
    _, front = behind(CORS_ORIGIN="https://www.example.org")
    path = "/socket.io/?EIO=4&transport=polling"
    statuses = {
        origin: (
            front.ask("GET", path, Origin=origin).status,
            front.ask("GET", "/ws", Origin=origin, **HANDSHAKE).status,
        )
        for origin in (front.url, "https://www.example.org", "https://127.0.0.1", "https://evil.example")
    }
    assert list(statuses.values()) == [(200, 101), (200, 101), (403, 403), (403, 403)]


def test_a_client_that_drops_its_poll_is_gone(front: Front) -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    sid = json.loads(front.ask("GET", path).body[1:])["sid"]
    with (
        socket.create_connection(("127.0.0.1", front.port), LIMIT) as raw,
        front.certificate.context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(f"GET {path}&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    eventually(lambda: front.ask("POST", f"{path}&sid={sid}", b"3").status == 400, "the end of the session")


def test_a_close_by_the_server_is_no_error_to_nginx(behind: Callable[..., tuple[Server, Front]]) -> None:
    """A restart closes thousands of connections: TCP resets would fill the error log (and may eat what was sent)."""
    _, front = behind()
    with front.native("worthless") as client:
        assert client.closed() == (4001, "authentication_failed")
    eventually(lambda: '"GET /ws ' in front.access_log.read_text(), "the line of the access log")
    assert "[error]" not in front.errors()


def upstream_connections(server: Server) -> set[str]:
    """The local addresses of all TCP connections to the server that stand."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "01" and row[2].endswith(f":{server.port:04X}")}


def test_handshakes_over_kept_connections(
    behind: Callable[..., tuple[Server, Front]],
) -> None:
    """nginx sends them on the very connections on which ordinary requests and polls went before."""
    server, front = behind()
    polling = f"/socket.io/?EIO=4&transport=polling&token={server.token(5)}"
    websocket = f"/socket.io/?EIO=4&transport=websocket&token={server.token(5)}"
    reused = 0
    for number in range(60):
        if number % 3 == 0:
            assert front.ask("GET", "/health").status == 200
        else:
            sid = json.loads(front.ask("GET", polling).body[1:])["sid"]
            assert front.ask("POST", f"{polling}&sid={sid}", b"40").body == b"ok"
            assert front.ask("GET", f"{polling}&sid={sid}").body.startswith(b'40{"sid"')
            assert front.ask("POST", f"{polling}&sid={sid}", b"1").body == b"ok"
        kept = upstream_connections(server)
        assert len(kept) == 1
        path, first = (
            (websocket, b'0{"sid"') if number % 2 else (f"/ws?token={server.token(5)}", b'{"type":"connected"')
        )
        with (
            socket.create_connection(("127.0.0.1", front.port), LIMIT) as raw,
            front.certificate.context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {HANDSHAKE[name]}" for name in HANDSHAKE)]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            got = b""
            while first not in got:
                data = connection.recv(65536)
                assert data, (number, got)
                got += data
            assert got.startswith(b"HTTP/1.1 101")
            reused += upstream_connections(server) == kept
    assert reused == 60


def test_no_token_gets_into_the_access_log(front: Front, server: Server) -> None:
    token = server.token(77)
    assert front.ask("GET", f"/socket.io/?EIO=4&transport=polling&token={token}", source="127.0.0.7").status == 200
    eventually(lambda: "127.0.0.7" in front.access_log.read_text(), "the line of the access log")
    assert token not in front.access_log.read_text()


# -- what is not public ----------------------------------------------------------------------------


def test_the_backends_endpoints_are_closed_to_the_outside(behind: Callable[..., tuple[Server, Front]]) -> None:
    server, front = behind("127.0.0.1", TRUST_PROXY="1")
    key = {"X_WebSocket_API_Key": server.settings["LARAVEL_API_KEY"]}
    spoofed = {"X_Forwarded_For": "127.0.0.1", "X_Real_IP": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
    for path in ("/api/laravel-broadcast", "/api//laravel-broadcast", "/api/%6caravel-broadcast", "/x/../api/notify"):
        assert front.ask("POST", path, BROADCAST, source="127.0.0.2", **key, **spoofed).status == 403, path
    inner = ("/api/monitoring/metrics", "/metrics", "/dashboard", "/dashboard/", "/dashboard/live")
    for path in ("/api/channels/stats", "/api/connections/stats", *inner):
        assert front.ask("GET", path, source="127.0.0.2", **key, **spoofed).status == 403, path
    for path in ("/", "/console", "/console/", "/console/main.js", "/nowhere"):
        assert front.ask("GET", path).status == 404, path
    # this host itself gets through, to the server's own rules
    assert front.ask("POST", "/api/laravel-broadcast", BROADCAST).status == 200
    assert front.ask("GET", "/api/channels/stats", **key).status == 200
    assert front.ask("GET", "/api/channels/stats").status == 401
    assert front.ask("GET", "/api/monitoring/metrics").status == 200
    assert "text/html" not in front.ask("GET", "/dashboard/nowhere").headers["Content-Type"], "nginx itself answers"


# -- whose address is it ---------------------------------------------------------------------------


SPOOFED = ("127.0.0.3", "127.0.0.1, 127.0.0.3", "203.0.113.9", "nonsense", "")


def test_a_trusted_proxy_tells_addresses_apart(behind: Callable[..., tuple[Server, Front]]) -> None:
    """And what a client says of its address itself neither helps nor harms anybody."""
    server, front = behind(TRUST_PROXY="1", MAX_CONNECTIONS_PER_IP="1")
    with front.native(server.token(1), "127.0.0.2") as first, front.native(server.token(2), "127.0.0.3") as second:
        first.greeted()
        second.greeted()
        for claimed in SPOOFED:
            with front.native(server.token(3), "127.0.0.2", X_Forwarded_For=claimed, X_Real_IP="127.0.0.9") as third:
                assert third.next()["code"] == "RATE_LIMITED", claimed
                assert third.closed()[0] == 4100
        # pretending to be 127.0.0.5 does not use up what is his
        with front.native(server.token(3), "127.0.0.4", X_Forwarded_For="127.0.0.5") as liar:
            liar.greeted()
            with front.native(server.token(4), "127.0.0.5") as honest:
                honest.greeted()


def test_polling_is_told_apart_too(behind: Callable[..., tuple[Server, Front]]) -> None:
    server, front = behind(TRUST_PROXY="1", MAX_CONNECTIONS_PER_IP="1")
    assert polled(front, server, "127.0.0.2") == b"40"
    assert polled(front, server, "127.0.0.3") == b"40"
    assert polled(front, server, "127.0.0.2", X_Forwarded_For="127.0.0.4") == b"42"
    assert polled(front, server, "127.0.0.4") == b"40"


def polled(front: Front, server: Server, source: str, **headers: str) -> bytes:
    """Connect by polling; the type of the Socket.IO packet that answers (the limit is told by an event)."""
    path = f"/socket.io/?EIO=4&transport=polling&token={server.token(int(source[-1]))}"
    sid = json.loads(front.ask("GET", path, source=source, **headers).body[1:])["sid"]
    answer = front.ask("POST", f"{path}&sid={sid}", b"40", source=source, **headers)
    assert (answer.status, answer.body) == (200, b"ok")
    packets = front.ask("GET", f"{path}&sid={sid}", source=source, **headers).body.split(b"\x1e")
    return b"42" if any(b"connection_rejected" in packet for packet in packets) else packets[0][:2]


def test_without_a_trusted_proxy_all_its_clients_are_one_address(behind: Callable[..., tuple[Server, Front]]) -> None:
    server, front = behind(MAX_CONNECTIONS_PER_IP="1")
    with front.native(server.token(1), "127.0.0.2") as first:
        first.greeted()
        for claimed in SPOOFED:
            with front.native(server.token(2), "127.0.0.3", X_Forwarded_For=claimed) as second:
                assert second.next()["code"] == "RATE_LIMITED", claimed


def test_without_a_trusted_proxy_a_direct_client_cannot_choose_its_address(start_server: StartServer) -> None:
    server = start_server(MAX_CONNECTIONS_PER_IP="1")

    def direct(claimed: str) -> NativeClient:
        headers = {"X-Forwarded-For": claimed, "Authorization": f"Bearer {server.token(2)}"}
        opening = connect(server.ws_url, additional_headers=headers, proxy=None, close_timeout=1, ping_interval=None)
        return NativeClient(opening.__enter__())

    with direct("203.0.113.1") as first:
        first.greeted()
        for claimed in SPOOFED:
            with direct(claimed) as second:
                assert second.next()["code"] == "RATE_LIMITED", claimed


def test_keyless_broadcasts_through_a_trusted_proxy(behind: Callable[..., tuple[Server, Front]]) -> None:
    """By the client's address, not by the proxy's (which is loopback), and not by what the client claims."""
    _, front = behind(TRUST_PROXY="1", LARAVEL_BROADCAST_ALLOW_FROM="127.0.0.1")
    assert front.ask("POST", "/api/laravel-broadcast", BROADCAST).status == 200
    assert front.ask("POST", "/api/laravel-broadcast", BROADCAST, X_Forwarded_For="203.0.113.9").status == 200
    assert front.ask("POST", "/api/laravel-broadcast", BROADCAST, source="127.0.0.2").status == 401
    for claimed in ("127.0.0.1", "127.0.0.1, 127.0.0.1", "::1", "localhost", ""):
        answer = front.ask(
            "POST", "/api/laravel-broadcast", BROADCAST, source="127.0.0.2", X_Forwarded_For=claimed, X_Real_IP=claimed
        )
        assert answer.status == 401, claimed


def test_keyless_broadcasts_through_a_proxy_that_nobody_declared(
    front: Front, server: Server, start_server: StartServer
) -> None:
    """Its address is loopback, but it names the client's in a header: no privilege for anybody behind it."""
    for source in ("127.0.0.1", "127.0.0.2"):
        for headers in ({}, {"X_Forwarded_For": "127.0.0.1"}):
            assert front.ask("POST", "/api/laravel-broadcast", BROADCAST, source=source, **headers).status == 401
    assert server.post("/api/laravel-broadcast", BROADCAST, key=False).status_code == 200
    assert server.post("/api/laravel-broadcast", BROADCAST, key=False, X_Forwarded_For="127.0.0.1").status_code == 401
