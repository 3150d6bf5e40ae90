"""The WebSocket of the operators' page: who may listen, and that strangers cannot take the places."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mechamap_rt.http.live import MAX_STRANGERS_OF_ONE, MAX_WATCHERS, PATIENCE
from tests.clients.native import NativeClient
from tests.conftest import StartServer
from tests.server import ADMIN_KEY, REQUEST_LIMIT, Server


def opened(server: Server, **more: Any) -> ClientConnection:
    return connect(server.ws_url.replace("/ws", "/dashboard/live"), proxy=None, **more)


def told(page: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(page.recv(5))
    return message


def refusal(page: ClientConnection) -> str:
    message = told(page)
    assert message["type"] == "refused"
    with pytest.raises(ConnectionClosed):
        page.recv(5)
    assert page.close_code == 4001
    return str(message["message"])


def test_who_has_a_key_is_told_every_second(server: Server) -> None:
    with opened(server) as page:
        page.send(json.dumps({"key": ADMIN_KEY}))
        assert told(page) == {"type": "welcome", "as": "admin_key", "user": None}
        first, second = told(page), told(page)
        assert (first["type"], second["type"]) == ("figures", "figures")
        assert 0.5 < second["at"] - first["at"] < 3
        assert {"totals", "kinds", "latency", "bounds", "processes", "host", "alerts", "history"} <= first.keys()
        # a second message is nothing
        page.send("nonsense")
        assert told(page)["type"] == "figures"


def test_an_administrators_token_opens_it(server: Server) -> None:
    with opened(server) as page:
        page.send(json.dumps({"token": server.token(9, role="admin")}))
        assert told(page) == {"type": "welcome", "as": "jwt", "user": 9}


@pytest.mark.parametrize(
    "message",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"key": 5}',
        '{"key": "wrong"}',
        '{"key": "h\\u00e9"}',
        '{"token": "wrong"}',
        '{"token": ""}',
        '{"key": ""}',
        '{"key": "a\\r\\nX-Admin-Key: b"}',
    ],
)
def test_who_has_none_is_told_nothing(server: Server, message: str) -> None:
    with opened(server) as page:
        page.send(message)
        refusal(page)


def test_who_may_not(server: Server) -> None:
    for said in ({"token": server.token(5)}, {"token": server.token(5, role="moderator")}):
        with opened(server) as page:
            page.send(json.dumps(said))
            assert refusal(page) == "The key or token does not allow this"
    with opened(server) as page:
        page.send(json.dumps({"key": server.settings["LARAVEL_API_KEY"]}))
        refusal(page)


def test_pages_from_elsewhere_may_not(start_server: StartServer) -> None:
    server = start_server(CORS_ORIGIN="https://www.example.org")
    with pytest.raises(InvalidStatus) as found:
        opened(server, origin="http://elsewhere.example")
    assert found.value.response.status_code == 403
    server.stop()


def test_who_says_nothing_does_not_stay(server: Server) -> None:
    began = time.monotonic()
    with opened(server) as page:
        assert json.loads(page.recv(PATIENCE + 5))["type"] == "refused"
    assert time.monotonic() - began < PATIENCE + 2


def test_strangers_take_nobodys_place(start_server: StartServer) -> None:
    server = start_server(TRUST_PROXY="1")
    with ExitStack() as stack:
        for _ in range(MAX_STRANGERS_OF_ONE):
            stack.enter_context(opened(server, additional_headers={"X-Forwarded-For": "203.0.113.7"}))
        with pytest.raises(InvalidStatus) as found:
            opened(server, additional_headers={"X-Forwarded-For": "203.0.113.7"})
        assert found.value.response.status_code == 429
        # others come in, as many as there is room for, and one more is told so
        for number in range(MAX_WATCHERS):
            page = stack.enter_context(opened(server, additional_headers={"X-Forwarded-For": f"198.51.100.{number}"}))
            page.send(json.dumps({"key": ADMIN_KEY}))
            assert told(page)["type"] == "welcome"
        last = stack.enter_context(opened(server, additional_headers={"X-Forwarded-For": "198.51.100.99"}))
        last.send(json.dumps({"key": ADMIN_KEY}))
        assert told(last)["type"] == "welcome"
        message = told(last)
        assert (message["type"], message["message"]) == ("refused", "Too many pages of operators are open")
    # those who have left make room
    with opened(server, additional_headers={"X-Forwarded-For": "203.0.113.7"}) as page:
        page.send(json.dumps({"key": ADMIN_KEY}))
        assert told(page)["type"] == "welcome"
    server.stop()


def test_it_is_no_connection_of_the_site(server: Server) -> None:
    with opened(server) as page:
        page.send(json.dumps({"key": ADMIN_KEY}))
        told(page)
        with NativeClient.open(server.ws_url, header=server.token(5)) as client:
            client.greeted()
            while (figures := told(page))["totals"]["connections"] != 1:
                assert figures["totals"]["connections"] == 0
        headers = {"X-Admin-Key": ADMIN_KEY}
        stats = requests.get(f"{server.url}/api/connections/stats", headers=headers, timeout=REQUEST_LIMIT).json()
        assert stats["stats"]["totalConnections"] <= 1
