"""The real socket.io-client in a real Chromium: from the server's own pages, and from pages of other origins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.clients.node import MODES
from tests.conftest import StartServer
from tests.server import Server

VIETNAMESE = "Ổ bi bị kẹt ở 80 °C – đúng không? 🛠️👩🏽‍🔧𝄞"
LARGE = VIETNAMESE * (100_000 // len(VIETNAMESE.encode()) + 1)
CHANNEL = "private-thread.1"

#: Leaves the socket in ``window.socket``; gives the greeting, or says why not.
CONNECT = """
([url, options]) => new Promise((resolve) => {
  const socket = window.socket = io(url, { ...options, forceNew: true });
  window.seen = [];
  socket.onAny((event, ...args) => window.seen.push([event, ...args]));
  socket.on('connected', (greeting) => resolve({ greeting, id: socket.id }));
  socket.on('connect_error', (error) => resolve({ error: error.message }));
})
"""
ASK = "([event, data]) => window.socket.timeout(8000).emitWithAck(event, data)"
ASK_BYTES = """
() => window.socket.timeout(8000).emitWithAck(
  'ping', { timestamp: 5, blob: new Uint8Array([0, 255, 128]), large: new Uint8Array(100000) })
"""
TRANSPORT = "() => window.socket.io.engine.transport.name"
EVENTS = "(name) => window.seen.filter(([event]) => event === name).map(([, data]) => data)"
SEEN = "([name, count]) => window.seen.filter(([event]) => event === name).length >= count"
LEAVE = """
() => new Promise((resolve) => {
  window.socket.on('disconnect', resolve);
  window.socket.disconnect();
})
"""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.set_default_timeout(10_000)
    yield context
    context.close()


def connect(page: Page, server: Server, token: str, **options: Any) -> dict[str, Any]:
    given = {"auth": {"token": token}, "query": {"token": token}, "reconnection": False}
    answer: dict[str, Any] = page.evaluate(CONNECT, [server.url, given | options])
    return answer


def assert_served(page: Page, server: Server, connected: dict[str, Any], mode: str) -> None:
    """Everything the site does: subscribe, receive, ask, send bytes, be refused a channel, leave."""
    assert "error" not in connected, connected
    assert connected["greeting"]["socketId"] == connected["id"]
    final = "polling" if mode == "polling" else "websocket"
    page.wait_for_function(f"name => ({TRANSPORT})() === name", arg=final)
    assert page.evaluate(ASK, ["subscribe", {"channel": CHANNEL}])["status"] == "success"
    for body in (VIETNAMESE, LARGE):
        server.publish(CHANNEL, "comment.created", {"body": body})
    page.wait_for_function(SEEN, arg=["comment.created", 2])
    assert [data["body"] for data in page.evaluate(EVENTS, "comment.created")] == [VIETNAMESE, LARGE]
    assert page.evaluate(ASK, ["ping", {"timestamp": VIETNAMESE, "padding": LARGE}])["timestamp"] == VIETNAMESE
    answer = page.evaluate(ASK_BYTES)
    assert (answer["status"], answer["timestamp"]) == ("success", 5)
    assert page.evaluate(ASK, ["subscribe", {"channel": "private-user.2"}])["error"] == "Unauthorized"
    assert page.evaluate(TRANSPORT) == final
    assert page.evaluate(LEAVE) == "io client disconnect"


# -- the server's own origin ------------------------------------------------------------------------------


@pytest.fixture
def own_page(context: BrowserContext, server: Server) -> Page:
    """A page of the server's, with the client it hands out."""
    page = context.new_page()
    page.goto(f"{server.url}/console")
    page.add_script_tag(url="/socket.io/socket.io.js")
    return page


@pytest.mark.parametrize("mode", MODES)
def test_own_origin(own_page: Page, server: Server, mode: str) -> None:
    connected = connect(own_page, server, server.token(1), **MODES[mode])
    assert_served(own_page, server, connected, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_token(own_page: Page, server: Server, mode: str) -> None:
    refused = connect(own_page, server, "worthless", **MODES[mode])
    assert refused == {"error": "Authentication failed: Invalid token"}


# -- a page of another origin -----------------------------------------------------------------------------


class Blank(BaseHTTPRequestHandler):
    """An empty page at every path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another origin</title>")

    def log_message(self, *_: object) -> None:
        """Not a word."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The origin of a site that is not the realtime server."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


OpenForeign = Callable[[Server], Page]


@pytest.fixture
def open_foreign(context: BrowserContext, elsewhere: str) -> OpenForeign:
    """A page of another origin, with the client that the realtime server hands out."""

    def opened(server: Server) -> Page:
        page = context.new_page()
        page.goto(elsewhere)
        page.add_script_tag(url=f"{server.url}/socket.io/socket.io.js")
        return page

    return opened


@pytest.mark.parametrize("mode", MODES)
def test_another_origin_that_is_listed(
    start_server: StartServer, open_foreign: OpenForeign, elsewhere: str, mode: str
) -> None:
    """With cookies, and with the token in a header only, for which the browser asks first (preflight)."""
    server = start_server(CORS_ORIGIN=f"https://mechamap.example,{elsewhere}", CORS_CREDENTIALS="true")
    page = open_foreign(server)
    token = server.token(1)
    # a page can give a WebSocket no headers
    header = {"auth": {}, "query": {}, "extraHeaders": {"Authorization": f"Bearer {token}"}}
    options = MODES[mode] | ({} if mode == "websocket" else header)
    connected = connect(page, server, token, **options, withCredentials=True)
    assert_served(page, server, connected, mode)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("polling", "xhr poll error"), ("websocket", "websocket error"), ("default", "xhr poll error")],
)
def test_another_origin_that_is_not_listed(
    start_server: StartServer, open_foreign: OpenForeign, elsewhere: str, mode: str, message: str
) -> None:
    server = start_server(CORS_ORIGIN="https://mechamap.example")
    page = open_foreign(server)
    assert connect(page, server, server.token(1), **MODES[mode]) == {"error": message}
    # and it is the server that refuses, not only the browser that hides the answer
    refused = server.get("/socket.io/?EIO=4&transport=polling", Origin=elsewhere)
    assert (refused.status_code, refused.json()["code"]) == (403, 4)
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_credentials_that_are_not_allowed(start_server: StartServer, open_foreign: OpenForeign, elsewhere: str) -> None:
    """Without CORS_CREDENTIALS a listed page may connect, though not with its cookies."""
    server = start_server(CORS_ORIGIN=elsewhere)
    page = open_foreign(server)
    refused = connect(page, server, server.token(1), **MODES["polling"], withCredentials=True)
    assert refused == {"error": "xhr poll error"}
    connected = connect(page, server, server.token(1), **MODES["polling"])
    assert_served(page, server, connected, "polling")
