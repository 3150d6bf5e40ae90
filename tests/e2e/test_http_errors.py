"""The HTTP API when a request is wrong: which status, which fields, and never a fault of the server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.native import NativeClient
from tests.e2e.backend import BROADCAST, GETS, OPEN, POSTS, check_error
from tests.server import MAX_BODY, Server


def wrong_fields(response: Any) -> set[str]:
    """The fields that a 400 complains of."""
    details = check_error(response, 400)["details"]
    for detail in details:
        assert set(detail) == {"field", "message"}
        assert detail["message"]
    return {detail["field"] for detail in details}


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/api/laravel-broadcast", {}, {"channels", "event"}),
        (
            "/api/laravel-broadcast",
            {"channels": "public.news", "event": 5, "data": "x"},
            {"channels", "event", "data"},
        ),
        ("/api/laravel-broadcast", {"channels": [], "event": "", "data": {}}, {"channels", "event"}),
        ("/api/laravel-broadcast", {"channels": ["public.news"], "event": "e", "data": [1]}, {"data"}),
        ("/api/broadcast", {}, {"channel", "event"}),
        ("/api/broadcast", {"channel": 5, "event": [], "data": 5}, {"channel", "event", "data"}),
        ("/api/broadcast", {"channel": "a blank", "event": "e"}, {"channel"}),
        ("/api/broadcast", {"channel": "x" * 165, "event": "e"}, {"channel"}),
        ("/api/broadcast", {"to": "nobody", "event": "e"}, {"to"}),
        ("/api/broadcast", {"to": "user", "event": 5}, {"user_id", "event"}),
        ("/api/broadcast", {"to": "user", "user_id": "me", "event": "e"}, {"user_id"}),
        ("/api/broadcast", {"to": "thread", "event": "e", "data": None, "thread_id": -1}, {"thread_id"}),
        ("/api/broadcast/multi", {}, {"broadcasts"}),
        ("/api/broadcast/multi", {"broadcasts": {}}, {"broadcasts"}),
        ("/api/broadcast/user/5", {}, {"event"}),
        ("/api/broadcast/user/5", {"event": 5, "data": "x"}, {"event", "data"}),
        ("/api/notify", {}, {"action"}),
        ("/api/notify", {"action": "explode"}, {"action"}),
        ("/api/notify", {"action": "send_to_user", "data": 5}, {"user_id", "data"}),
        ("/api/notify", {"action": "broadcast_to_channel", "data": {"type": "e"}}, {"channel"}),
        (
            "/api/notify",
            {"action": "broadcast_to_channel", "channel": "public.news", "data": {}},
            {"data.type"},
        ),
    ],
)
def test_every_wrong_field_is_named(server: Server, path: str, body: Any, fields: set[str]) -> None:
    assert wrong_fields(server.post(path, body)) == fields


def test_wrong_fields_inside_lists(server: Server) -> None:
    channels = ["public.news", "a blank", {"label": "x"}, 5]
    fields = wrong_fields(server.post("/api/laravel-broadcast", {"channels": channels, "event": "e", "data": {}}))
    assert len(fields) == 3
    assert all(field.startswith("channels") for field in fields)
    broadcasts = [BROADCAST, {"channel": "public.news"}, {"event": "e"}, "x"]
    fields = wrong_fields(server.post("/api/broadcast/multi", {"broadcasts": broadcasts}))
    assert len(fields) == 3
    assert all(field.startswith("broadcasts") for field in fields)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"event": "\xff"}',
        b"[" * 200_000,
        b'{"a":' * 50_000,
    ],
    ids=[
        "empty",
        "cut short",
        "list",
        "null",
        "text",
        "not UTF-8",
        "not UTF-8 inside",
        "deep list",
        "deep object",
    ],
)
def test_malformed_bodies(server: Server, path: str, raw: bytes) -> None:
    check_error(server.post(path, raw=raw), 400)


def nested(path: str, data: str) -> bytes:
    """A sound body for any of the POSTs, addressed to user 5, with ``data`` as it is."""
    inner = (
        '{"event": "odd", "channel": "private-user.5", "channels": ["private-user.5"], "user_id": 5, '
        f'"action": "send_to_user", "data": {{"odd": {data}}}}}'
    )
    return (f'{{"broadcasts": [{inner}]}}' if path.endswith("multi") else inner).encode()


@pytest.mark.parametrize("path", POSTS)
def test_odd_payloads(server: Server, path: str) -> None:
    """Inside ``data`` too: a clean answer, and whatever was accepted is JSON that a client can read."""
    odd = (
        '"\\ud83d"',
        '"\\ud83d\\ude00"',
        "1e999",
        '"\\u0000"',
        '"\N{LINE SEPARATOR}"',
        "-0.0",
        '{"": {"": []}}',
    )
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        statuses = [server.post(path, raw=nested(path, data)).status_code for data in odd]
        assert set(statuses) <= {200, 400}
        for _ in range(statuses.count(200)):
            assert "odd" in client.next()["data"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "data",
    ["[" * 5000 + "]" * 5000, "01", "NaN", "'x'", '"\x01"', "[1,]", '{"a" 1}', '"\\x"'],
    ids=["deep", "leading zero", "NaN", "quotes", "control character", "comma", "colon", "escape"],
)
def test_payloads_that_are_no_json(server: Server, path: str, data: str) -> None:
    """The payload is spliced into what clients get; nothing that they could not parse may get in."""
    check_error(server.post(path, raw=nested(path, data)), 400)


@pytest.mark.parametrize(
    "path", ["/api/nothing", "/api/broadcast/nothing", "/nothing", "/api/broadcast/user/x/y", "/%ff"]
)
def test_not_found(server: Server, path: str) -> None:
    check_error(server.get(path, key=True), 404)


@pytest.mark.parametrize("ident", ["abc", "0", "-1", "1.5", "9" * 30])
def test_broadcast_to_no_possible_user(server: Server, ident: str) -> None:
    response = server.post(f"/api/broadcast/user/{ident}", POSTS["/api/broadcast/user/5"])
    check_error(response, response.status_code)
    assert response.status_code in (400, 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", POSTS)
def test_post_only(server: Server, path: str, method: str) -> None:
    response = server.request(method, path, key=True)
    check_error(response, 405)
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize("path", [*OPEN, *GETS])
def test_get_only(server: Server, path: str) -> None:
    response = server.post(path, {})
    check_error(response, 405)
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("path", POSTS)
def test_too_large(server: Server, path: str) -> None:
    check_error(server.post(path, {"data": "x" * MAX_BODY}), 413)
    assert server.post(path, POSTS[path]).status_code == 200


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "junk"])
def test_wrong_content_type(server: Server, path: str, kind: str) -> None:
    check_error(server.post(path, POSTS[path], Content_Type=kind), 415)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_content_types(server: Server, kind: str) -> None:
    assert server.post("/api/broadcast", BROADCAST, Content_Type=kind).status_code == 200
