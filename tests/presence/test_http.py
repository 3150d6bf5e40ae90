"""``POST /api/presence/online``: who may ask, for whom, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.presence.pages import Pages, newcomers
from tests.server import ADMIN_KEY, Server

PATH = "/api/presence/online"


def test_the_answer(server: Server, pages: Pages) -> None:
    users = newcomers()
    an, binh = next(users), next(users)
    pages.open(server, an)
    pages.open(server, binh)
    answer = server.post(PATH, {"user_ids": [7, binh, an, binh]})
    assert answer.status_code == 200
    said = answer.json()
    assert said.pop("timestamp").endswith("Z")
    assert said == {"success": True, "online": [binh, an], "count": 2}
    assert server.post(PATH, {"user_ids": [*range(1, 1001)]}).json()["count"] == 0


def test_who_may_ask(server: Server) -> None:
    body = {"user_ids": [1]}
    for status, headers in (
        (401, {}),
        (401, {"X_WebSocket_API_Key": "x"}),
        (401, {"X_Admin_Key": "x"}),
        (403, {"Authorization": f"Bearer {server.token(1)}"}),
    ):
        answer = server.post(PATH, body, key=False, **headers)
        assert (answer.status_code, answer.json()["success"]) == (status, False), headers
    key = server.settings["LARAVEL_API_KEY"]
    for headers in ({"Authorization": f"Bearer {key}"}, {"X_Admin_Key": ADMIN_KEY}):
        assert server.post(PATH, body, key=False, **headers).status_code == 200, headers
    assert server.get(PATH, key=True).status_code == 405


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["user_ids"]),
        ([], ["body"]),
        ("1", ["body"]),
        ({"user_ids": None}, ["user_ids"]),
        ({"user_ids": 1}, ["user_ids"]),
        ({"user_ids": {"0": 1}}, ["user_ids"]),
        ({"user_ids": []}, ["user_ids"]),
        ({"user_ids": [1] * 1001}, ["user_ids"]),
        ({"user_ids": [1, 0, 2, -1]}, ["user_ids[1]", "user_ids[3]"]),
        ({"user_ids": ["1", 1.5, True, None, [1], 2**63]}, [f"user_ids[{at}]" for at in range(6)]),
        ({"user_ids": [2**63 - 1, 2**64]}, ["user_ids[1]"]),
    ],
)
def test_wrong_bodies(server: Server, body: Any, fields: list[str]) -> None:
    answer = server.post(PATH, body)
    assert answer.status_code == 400, answer.text
    said = answer.json()
    assert said["success"] is False
    assert [one["field"] for one in said["details"]] == fields


def test_bytes_that_are_no_json(server: Server) -> None:
    for raw in (b"", b"{", b"\xff", b'{"user_ids": [1'):
        assert server.post(PATH, raw=raw).status_code == 400
