"""Pages of other origins: what long polling tells browsers (CORS), and whom the WebSocket handshakes refuse.

Header by header on plain sockets: no client library puts a header in or hides one.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from email.message import Message
from http.client import HTTPResponse

import pytest

from tests.conftest import StartServer
from tests.server import Server

POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
LISTED = "https://www.example.org"
EVIL = "https://evil.example"
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)
CORS = ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Vary")
FORBIDDEN = {"code": 4, "message": "Forbidden"}


class Answer:
    """One HTTP answer."""

    def __init__(self, connection: socket.socket, method: str = "GET") -> None:
        response = HTTPResponse(connection, method=method)
        response.begin()
        self.status = response.status
        self.headers: Message = response.headers
        self.body = b"" if self.status == 101 else response.read()

    def json(self) -> object:
        return json.loads(self.body)

    @property
    def cors(self) -> tuple[str | None, str | None, str | None]:
        """The allowed origin, whether credentials are, and what caches must tell apart."""
        return tuple(self.headers.get(name) for name in CORS)  # type: ignore[return-value]


def request(
    method: str, path: str, *lines: str, origin: str | None, host: str = "rt.example.org", body: bytes = b""
) -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *lines]
    if origin is not None:
        head.append(f"Origin: {origin}")
    if method == "POST":
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def ask(
    server: Server,
    method: str,
    path: str,
    *lines: str,
    origin: str | None,
    host: str = "rt.example.org",
    body: bytes = b"",
) -> Answer:
    """One request on a connection of its own."""
    return send(server, request(method, path, *lines, origin=origin, host=host, body=body), method)


def send(server: Server, data: bytes, method: str = "GET") -> Answer:
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(data)
        return Answer(connection, method)


def opened(server: Server, origin: str | None = None, host: str = "rt.example.org") -> str:
    """The path of a polling session in which something waits for the next GET."""
    answer = ask(server, "GET", POLLING, origin=origin, host=host)
    assert answer.status == 200, answer.body
    return f"{POLLING}&sid={json.loads(answer.body[1:])['sid']}"


def something_to_say(server: Server, path: str, origin: str | None = None, host: str = "rt.example.org") -> None:
    """Have a packet wait for the session's next GET: the answer to a Socket.IO CONNECT."""
    body = b"40" + json.dumps({"token": server.token(5)}).encode()
    assert ask(server, "POST", path, origin=origin, host=host, body=body).body == b"ok"


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lists origins and allows credentials."""
    settings = {
        "CORS_ORIGIN": f"{LISTED}:443, https://Forum.Example.org:8443, http://[2001:db8::1]:3000, http://plain.example:80",
        "CORS_CREDENTIALS": "true",
    }
    server = Server.start(tmp_path_factory.mktemp("listing"), settings)
    try:
        yield server
        server.stop()
    finally:
        server.end()


# -- whose pages -----------------------------------------------------------------------------------

HOST = "rt.example.org"
#: origin, host, may it, and is it told so by a header (a page of the same host needs none)
CASES: Sequence[tuple[str | None, str, bool, bool]] = [
    (None, HOST, True, False),
    (LISTED, HOST, True, True),
    ("HTTPS://WWW.EXAMPLE.ORG", HOST, True, True),
    ("https://forum.example.org:8443", HOST, True, True),
    ("https://FORUM.example.org:8443", HOST, True, True),
    ("http://[2001:db8::1]:3000", HOST, True, True),
    ("http://[2001:DB8::1]:3000", HOST, True, True),
    ("http://plain.example", HOST, True, True),
    # pages of this host
    ("https://rt.example.org", HOST, True, False),
    ("http://rt.example.org", HOST, True, False),
    ("https://RT.Example.ORG", HOST, True, False),
    ("https://rt.example.org", "RT.EXAMPLE.ORG", True, False),
    ("http://rt.example.org:3000", "rt.example.org:3000", True, False),
    ("http://[::1]:3000", "[::1]:3000", True, False),
    ("http://[::1]", "[::1]", True, False),
    # and others
    (EVIL, HOST, False, False),
    ("null", HOST, False, False),
    ("NULL", HOST, False, False),
    ("https://example.org", HOST, False, False),
    ("http://www.example.org", HOST, False, False),
    ("https://www.example.org:8443", HOST, False, False),
    ("https://forum.example.org", HOST, False, False),
    ("https://a.www.example.org", HOST, False, False),
    ("https://www.example.org.evil.example", HOST, False, False),
    ("https://evilwww.example.org", HOST, False, False),
    ("https://evil.example#https://www.example.org", HOST, False, False),
    ("https://www.example.org@evil.example", HOST, False, False),
    (f"{LISTED} {EVIL}", HOST, False, False),
    (f"{LISTED},{EVIL}", HOST, False, False),
    ("http://[2001:db8::2]:3000", HOST, False, False),
    ("https://[2001:db8::1]:3000", HOST, False, False),
    ("http://[::1]:3000", "[::1]:3001", False, False),
    ("http://rt.example.org:3000", HOST, False, False),
    ("http://rt.example.org", "rt.example.org:3000", False, False),
    ("https://rt.example.org:80", HOST, False, False),
    ("http://rt.example.org:443", HOST, False, False),
    ("https://rt.example.org.", HOST, False, False),
    ("file://", HOST, False, False),
    ("chrome-extension://abcdefghijklmnop", HOST, False, False),
    ("*", HOST, False, False),
    ("https://" + "x" * 300 + ".example", HOST, False, False),
]
origins = pytest.mark.parametrize(
    ("origin", "host", "allowed", "told"), CASES, ids=[f"{case[0]} to {case[1]}"[:60] for case in CASES]
)


@origins
def test_polling(listing: Server, origin: str | None, host: str, allowed: bool, told: bool) -> None:
    """The handshake, a GET through the express lane, one through the full parser, a POST, and an error."""
    opening = ask(listing, "GET", POLLING, origin=origin, host=host)
    path = opened(listing)
    something_to_say(listing, path)
    answers = [
        opening,
        ask(listing, "POST", path, origin=origin, host=host, body=b"3"),
        ask(listing, "GET", path, origin=origin, host=host),
        ask(listing, "GET", f"{POLLING}&sid=unknown", origin=origin, host=host),
    ]
    path = opened(listing)
    something_to_say(listing, path)
    answers.append(ask(listing, "GET", path, "Content-Length: 0", origin=origin, host=host))
    statuses = [answer.status for answer in answers]
    assert statuses == ([200, 200, 200, 400, 200] if allowed else [403] * 5)
    expected: tuple[str | None, ...] = (origin, "true", "Origin") if told else (None, None, origin and "Origin")
    assert [answer.cors for answer in answers] == [expected] * 5
    assert all(answer.headers["Cache-Control"] == "no-store" for answer in answers)
    if not allowed:
        assert all(answer.json() == FORBIDDEN for answer in answers)


@origins
def test_websocket(listing: Server, origin: str | None, host: str, allowed: bool, told: bool) -> None:
    """Cross-site WebSocket hijacking is refused, on fresh connections and on those that a proxy kept."""
    for path in ("/ws", WEBSOCKET):
        handshake = request("GET", path, *UPGRADE, origin=origin, host=host)
        fresh = send(listing, handshake).status
        with socket.create_connection(("127.0.0.1", listing.port), 5) as connection:
            connection.sendall(request("GET", "/health", origin=None))
            assert Answer(connection).status == 200
            connection.sendall(handshake)
            answer = Answer(connection)
        assert fresh == answer.status, path
        if origin == "*":
            # no origin at all, which no browser sends: a malformed header
            assert answer.status in (400, 403)
            continue
        assert answer.status == (101 if allowed else 403), path
        if not allowed and path == WEBSOCKET:
            assert answer.json() == FORBIDDEN
        elif not allowed:
            assert json.loads(answer.body)["error"] == "FORBIDDEN"


def test_an_origin_that_is_none_at_all(listing: Server) -> None:
    """``null`` is nobody's own page, not even of a request that names no host."""
    path = opened(listing)
    for line in ("Origin: null", "Origin: ://", "Origin: http://"):
        for target in (POLLING, path):
            answer = send(listing, f"GET {target} HTTP/1.0\r\n{line}\r\n\r\n".encode())
            assert answer.status == 403, (line, target)


def test_an_upgrade_from_elsewhere_is_refused_and_polling_goes_on(listing: Server) -> None:
    path = opened(listing, LISTED)
    upgrade = path.replace("polling", "websocket")
    assert ask(listing, "GET", upgrade, *UPGRADE, origin=EVIL).status == 403
    something_to_say(listing, path, LISTED)
    assert ask(listing, "GET", path, origin=LISTED).body.startswith(b'40{"sid"')
    assert ask(listing, "GET", upgrade, *UPGRADE, origin=LISTED).status == 101


def test_production_without_a_list_lets_in_only_its_own_pages(start_server: StartServer) -> None:
    server = start_server(NODE_ENV="production")
    for path, lines, good in ((POLLING, (), 200), (WEBSOCKET, UPGRADE, 101), ("/ws", UPGRADE, 101)):
        statuses = [
            ask(server, "GET", path, *lines, origin=origin).status for origin in (f"https://{HOST}", None, EVIL, "null")
        ]
        assert statuses == [good, good, 403, 403], path


# -- what they are told ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"CORS_ORIGIN": "*"}, ("*", None, None)),
        ({"CORS_ORIGIN": f"{LISTED},*"}, ("*", None, None)),
        ({"CORS_ORIGIN": "*", "CORS_CREDENTIALS": "true"}, (LISTED, "true", "Origin")),
        ({"CORS_ORIGIN": LISTED}, (LISTED, None, "Origin")),
        ({"ALLOWED_ORIGINS": LISTED, "CORS_CREDENTIALS": "true"}, (LISTED, "true", "Origin")),
    ],
    ids=["any", "any besides", "any with credentials", "list", "list with credentials"],
)
def test_the_settings(
    start_server: StartServer, settings: dict[str, str], expected: tuple[str | None, str | None, str | None]
) -> None:
    server = start_server(**settings)
    path = opened(server, LISTED)
    something_to_say(server, path, LISTED)
    assert ask(server, "GET", POLLING, origin=LISTED).cors == expected
    assert ask(server, "GET", path, origin=LISTED).cors == expected
    assert ask(server, "GET", f"{POLLING}&sid=unknown", origin=LISTED).cors == expected
    assert ask(server, "OPTIONS", path, origin=LISTED).cors == expected
    any_origin = "*" in settings.get("CORS_ORIGIN", "")
    for origin in (EVIL, "null"):
        echoed = tuple(origin if part == LISTED else part for part in expected)
        answer = ask(server, "GET", POLLING, origin=origin)
        assert (answer.status, answer.cors) == ((200, echoed) if any_origin else (403, (None, None, "Origin")))
        for target in ("/ws", WEBSOCKET):
            assert ask(server, "GET", target, *UPGRADE, origin=origin).status == (101 if any_origin else 403)


@pytest.mark.parametrize("path", [POLLING, f"{POLLING}&sid=unknown", "/socket.io/", "/socket.io"])
def test_a_preflight(listing: Server, path: str) -> None:
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type,x-custom")
    answer = ask(listing, "OPTIONS", path, *asked, origin=LISTED)
    assert (answer.status, answer.body, answer.cors) == (204, b"", (LISTED, "true", "Origin"))
    assert {"GET", "POST"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type,x-custom"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    for origin in (EVIL, "null"):
        refused = ask(listing, "OPTIONS", path, *asked, origin=origin)
        assert refused.cors == (None, None, "Origin")
        assert not [name for name in refused.headers if name.lower().startswith("access-control-")]
    plain = ask(listing, "OPTIONS", path, origin=None)
    assert (plain.status, plain.cors) == (204, (None, None, None))


def test_a_preflight_cannot_put_headers_into_its_answer(listing: Server) -> None:
    line = "Access-Control-Request-Headers: x\rX-Injected: 1\x0b\nX-Other: 2"
    answer = ask(listing, "OPTIONS", POLLING, line, origin=LISTED)
    assert "X-Injected" not in answer.headers
    assert "X-Other" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "lines", "status"),
    [
        ("GET", "/socket.io/?EIO=4&transport=carrier-pigeon", (), 400),
        ("GET", "/socket.io/?EIO=9&transport=polling", (), 400),
        ("GET", f"{POLLING}&j=0", (), 400),
        ("POST", POLLING, (), 400),
        ("PUT", POLLING, (), 400),
        ("POST", f"{POLLING}&sid=unknown", (), 400),
    ],
)
def test_errors_carry_the_headers(listing: Server, method: str, path: str, lines: tuple[str, ...], status: int) -> None:
    """Without them a page cannot read what was wrong."""
    answer = ask(listing, method, path, *lines, origin=LISTED)
    assert (answer.status, answer.cors) == (status, (LISTED, "true", "Origin"))


def test_a_second_poll_is_refused_with_the_headers(listing: Server) -> None:
    path = opened(listing, LISTED)
    waiting = socket.create_connection(("127.0.0.1", listing.port), 5)
    with waiting:
        waiting.sendall(request("GET", path, origin=LISTED))
        second = ask(listing, "GET", path, origin=LISTED)
        first = Answer(waiting)
    assert (second.status, second.cors) == (400, (LISTED, "true", "Origin"))
    assert first.cors == (LISTED, "true", "Origin")


def test_a_malformed_post_is_refused_with_the_headers(listing: Server) -> None:
    answer = ask(listing, "POST", opened(listing, LISTED), origin=LISTED, body=b"nonsense")
    assert (answer.status, answer.cors) == (400, (LISTED, "true", "Origin"))


def test_a_body_too_large_is_refused_with_the_headers(listing: Server) -> None:
    path = opened(listing, LISTED)
    declared = send(
        listing, request("POST", path, origin=LISTED).replace(b"Content-Length: 0", b"Content-Length: 2000000")
    )
    assert (declared.status, declared.cors) == (413, (LISTED, "true", "Origin"))
    head = request("POST", path, origin=LISTED).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunked = send(listing, head + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 16)
    assert (chunked.status, chunked.cors) == (413, (LISTED, "true", "Origin"))


def test_a_full_server_says_so_with_the_headers(start_server: StartServer) -> None:
    server = start_server(MAX_CONNECTIONS_PER_IP="1", CORS_ORIGIN=LISTED)
    answers = [ask(server, "GET", POLLING, origin=LISTED) for _ in range(20)]
    assert answers[-1].status == 429
    assert answers[-1].headers["Retry-After"]
    assert {answer.cors for answer in answers} == {(LISTED, None, "Origin")}


# -- both parsers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [None, LISTED, f"https://{HOST}"])
@pytest.mark.parametrize("large", [False, True])
def test_the_express_lane_answers_as_the_full_parser_does(listing: Server, origin: str | None, large: bool) -> None:
    """``Date`` apart. A body's length, odd headers and pipelining are what sends a GET to the full parser."""
    encoding = "Accept-Encoding: gzip, deflate"
    answers = []
    for odd in ((), ("Content-Length: 0",), ("Expect: something",), ("Upgrade: other",), None):
        path = opened(listing)
        something_to_say(listing, path)
        assert ask(listing, "GET", path, origin=None).status == 200
        text = "x" * (5000 if large else 5)
        listing.publish("private-user.5", "news", {"text": text})
        if odd is not None:
            answers.append(ask(listing, "GET", path, encoding, *odd, origin=origin))
            continue
        with socket.create_connection(("127.0.0.1", listing.port), 5) as connection:
            first = request("GET", "/nowhere", origin=None)
            connection.sendall(first + request("GET", path, encoding, origin=origin))
            # byte by byte: a buffered reader would swallow the beginning of the second
            got = b""
            while b"No such path" not in got or not got.endswith(b"}"):
                got += connection.recv(1)
            answers.append(Answer(connection))
    kinds = [
        sorted((name.lower(), value) for name, value in answer.headers.items() if name.lower() not in ("date", "vary"))
        for answer in answers
    ]
    varies = [sorted(", ".join(answer.headers.get_all("Vary", [])).split(", ")) for answer in answers]
    assert [answer.status for answer in answers] == [200] * 5
    for kind, vary in zip(kinds, varies, strict=True):
        # the lengths of compressed bodies differ by what is in them
        without = [[pair for pair in one if pair[0] != "content-length"] for one in (kind, kinds[0])]
        assert without[0] == without[1]
        assert vary == varies[0]
    assert dict(kinds[0]).get("content-encoding") == ("gzip" if large else None)


def test_the_express_lane_refuses_what_the_full_parser_refuses(listing: Server) -> None:
    """A session's id alone does not make a request right. The first value of a parameter counts."""
    for odd in ("&j=0", "&transport=websocket", "&EIO=9", "&sid=unknown"):
        path = opened(listing)
        something_to_say(listing, path)
        full = ask(listing, "GET", path + odd, "Content-Length: 0", origin=LISTED)
        if full.status == 200:
            # what waited is taken
            path = opened(listing)
            something_to_say(listing, path)
        express = ask(listing, "GET", path + odd, origin=LISTED)
        assert (express.status, express.body[:7]) == (full.status, full.body[:7]), odd
