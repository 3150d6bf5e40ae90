"""Several keys or tokens in one request: none is looked at, so that one request cannot ask the database hundreds of
times."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.auth.people import person
from tests.conftest import StartServer
from tests.mariadb import MariaDB
from tests.server import ADMIN_KEY, LARAVEL_API_KEY, Server


def post(server: Server, path: str, headers: list[tuple[str, str]]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest("POST", path)
        for name, value in [*headers, ("Content-Type", "application/json"), ("Content-Length", "2")]:
            connection.putheader(name, value)
        connection.endheaders(b"{}")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/api/broadcast", "/api/laravel-broadcast", "/api/auth/revoke", "/api/test-auth"])
def test_one_of_each_kind(start_server: StartServer, mariadb: MariaDB, path: str) -> None:
    server = start_server(**mariadb.settings())
    good = f"Bearer {mariadb.token(person(mariadb))}"
    many = [("Authorization", f"Bearer {number}|{'a' * 40}") for number in range(1, 200)]
    before = mariadb.count("Com_select")
    for name, headers in (
        ("Authorization", many),
        ("Authorization", [("Authorization", good), ("authorization", good)]),
        ("X-WebSocket-API-Key", [("X-WebSocket-API-Key", LARAVEL_API_KEY), ("X-Websocket-Api-Key", "x")]),
        ("X-Admin-Key", [("X-Admin-Key", ADMIN_KEY)] * 2),
    ):
        status, body = post(server, path, headers)
        assert (status, body["error"]) == (400, "VALIDATION_ERROR"), body
        assert name in json.dumps(body["details"])
    # each of the two pools, of this server and of those of other tests, may have been probed meanwhile
    assert mariadb.count("Com_select") - before <= 8
    # one of each together is nothing strange
    status, _ = post(server, "/api/test-auth", [("Authorization", good), ("X-WebSocket-API-Key", LARAVEL_API_KEY)])
    assert status == 200
