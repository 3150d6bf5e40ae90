"""The audit log of a real server, one process and a cluster: who has administered it, by whatever way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.waiting import until
from tests.conftest import CLUSTER, StartServer
from tests.server import ADMIN_KEY, LARAVEL_API_KEY, START_LIMIT, Server

WAIT = 10


def acts(server: Server) -> list[dict[str, Any]]:
    path = server.folder / "audit.log"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def noted(server: Server, count: int) -> list[dict[str, Any]]:
    """The acts, as soon as there are so many."""
    until(lambda: len(acts(server)) >= count, lambda: f"{acts(server)}", WAIT)
    return acts(server)


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


@pytest.fixture(params=["single", "cluster"])
def fresh(request: pytest.FixtureRequest, start_server: StartServer, start_cluster: StartServer) -> Server:
    """A server of its own, so that the first line is this test's."""
    return start_cluster(2) if request.param == "cluster" else start_server()


BY_API_KEY = {"kind": "api_key", "id": fingerprint(LARAVEL_API_KEY)}
BY_ADMIN_KEY = {"kind": "admin_key", "id": fingerprint(ADMIN_KEY)}
DISCONNECT = "/api/connections/disconnect/5"


def test_acts_over_http(fresh: Server) -> None:
    token = fresh.token(7, role="admin")
    member = fresh.token(8, permissions=("receive_notifications", "broadcast"))
    backend = {"X-WebSocket-API-Key": LARAVEL_API_KEY}
    admin, stranger = {"X-Admin-Key": ADMIN_KEY}, {"X-Admin-Key": "wrong"}
    expected: list[tuple[Any, ...]] = []

    def does(status: int, path: str, body: Any, headers: dict[str, str], *act: Any) -> None:
        answer = requests.post(fresh.url + path, json=body, headers=headers, timeout=WAIT)
        assert answer.status_code == status, answer.text
        if act:
            expected.append((*act, answer.headers["X-Request-ID"]))

    for target in ({"user_id": 5}, {"token_id": 9}):
        does(200, "/api/auth/revoke", target, backend, BY_API_KEY, "rights.revoke", target, "ok", None)
    does(400, "/api/auth/revoke", {}, backend, BY_API_KEY, "rights.revoke", {}, "refused", "VALIDATION_ERROR")
    channel = {"channel": "conversation.9", "user_id": 5}
    does(200, "/api/channels/revoke", channel, backend, BY_API_KEY, "subscriptions.revoke", channel, "ok", None)
    action, said = "connections.disconnect", "rude\nwords"
    does(
        200, DISCONNECT, {"reason": said}, admin, BY_ADMIN_KEY, action, {"user_id": 5, "reason": said}, "ok", None
    )  # fmt: skip
    bearer = {"Authorization": f"Bearer {token}"}
    by_user = {"kind": "jwt", "id": 7}
    does(200, DISCONNECT, {}, bearer, by_user, action, {"user_id": 5, "reason": ""}, "ok", None)
    # who has a key that does not allow it
    does(403, DISCONNECT, {}, backend, BY_API_KEY, action, {}, "refused", "FORBIDDEN")
    bearer, by_user = {"Authorization": f"Bearer {member}"}, {"kind": "jwt", "id": 8}
    does(403, DISCONNECT, {}, bearer, by_user, action, {}, "refused", "FORBIDDEN")
    # strangers cannot fill the file
    does(401, DISCONNECT, {}, stranger)
    does(401, DISCONNECT, {}, {})
    does(200, "/api/monitoring/reset", {}, admin, BY_ADMIN_KEY, "monitoring.reset", {}, "ok", None)
    found = noted(fresh, len(expected))
    fields = ("actor", "action", "target", "outcome", "code", "request")
    assert sorted((tuple(each[name] for name in fields) for each in found), key=str) == sorted(expected, key=str)
    assert {each["address"] for each in found} == {"127.0.0.1"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"]) for each in found)
    assert {each["worker"] for each in found} <= {each["node"] for each in fresh.control("status")["workers"]}
    path = fresh.folder / "audit.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.read_text()
    for secret in (LARAVEL_API_KEY, ADMIN_KEY, fresh.settings["JWT_SECRET"], token, member, "wrong"):
        assert secret not in written


def test_acts_of_operators(fresh: Server) -> None:
    cluster = fresh.settings.get("CLUSTER_ENABLED") == "true"
    fresh.control("disconnect", "5")
    fresh.control("publish", "public.audit", "note", '{"text": "between you and me"}')
    fresh.mechamapctl("drain", "99")
    fresh.control("status")
    expected: list[tuple[Any, ...]] = [
        ("connections.disconnect", {"user": 5}, "ok", None),
        ("channels.publish", {"channel": "public.audit", "event": "note"}, "ok", None),
        ("workers.drain", {"worker": 99}, "refused", "UNKNOWN_WORKER" if cluster else "SINGLE_PROCESS"),
    ]
    if cluster:
        fresh.control("reload", "--drain", "0s", limit=60)
        fresh.control("scale", "3", limit=60)
        expected += [("server.reload", {"drain": 0.0}, "ok", None), ("workers.scale", {"to": "3"}, "ok", None)]
    found = noted(fresh, len(expected))
    assert [tuple(each[name] for name in ("action", "target", "outcome", "code")) for each in found] == expected
    for each in found:
        assert each["actor"].pop("pid") > 1
        assert each["actor"] == {"kind": "operator", "id": None, "uid": os.getuid()}
        assert (each["address"], each["request"]) == (None, None)
        assert (each["worker"] == "master") is cluster
    assert "between you" not in (fresh.folder / "audit.log").read_text()
    fresh.signal(signal.SIGHUP)
    last = noted(fresh, len(found) + 1)[-1]
    outcome = ("ok", None) if cluster else ("refused", "SINGLE_PROCESS")
    assert (last["actor"], last["action"]) == ({"kind": "signal", "id": "SIGHUP"}, "server.reload")
    assert (last["outcome"], last["code"]) == outcome


def test_what_was_noted_just_before_the_end_is_there(fresh: Server) -> None:
    for number in range(1, 51):
        assert fresh.post("/api/auth/revoke", {"user_id": number}).status_code == 200
    fresh.stop()
    assert {each["target"]["user_id"] for each in acts(fresh)} == set(range(1, 51))


def test_workers_rotate_one_file(start_cluster: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "acts"
    settings = {"AUDIT_LOG_FILE": str(path), "AUDIT_LOG_MAX_SIZE": "4k", "AUDIT_LOG_MAX_FILES": "0"}
    server = start_cluster(3, **settings)
    count = 200
    for number in range(1, count + 1):
        assert server.post("/api/auth/revoke", {"user_id": number}, Connection="close").status_code == 200

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for each in tmp_path.glob("acts*") for line in each.read_bytes().splitlines()]

    until(lambda: len(lines()) == count, lambda: f"{len(lines())} of {count}", WAIT)
    assert {each["target"]["user_id"] for each in lines()} == set(range(1, count + 1))
    assert len({each["worker"] for each in lines()}) > 1
    assert len(list(tmp_path.glob("acts*"))) > 5


def test_a_reload_takes_another_file_up(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    settings = tmp_path / ".env"
    settings.write_text(f"AUDIT_LOG_FILE={old}\n")
    server = Server.start(tmp_path, CLUSTER | {"CLUSTER_WORKERS": "1"})
    try:
        assert server.post("/api/auth/revoke", {"user_id": 5}).status_code == 200
        settings.write_text(f"AUDIT_LOG_FILE={new}\n")
        server.control("reload", "--drain", "0s", limit=60)
        assert server.post("/api/auth/revoke", {"user_id": 6}).status_code == 200
        server.control("disconnect", "6")
        server.stop()
    finally:
        server.end()
    actions = [[json.loads(line)["action"] for line in path.read_bytes().splitlines()] for path in (old, new)]
    assert actions == [["rights.revoke"], ["server.reload", "rights.revoke", "connections.disconnect"]]


PRODUCTION: dict[str, str | None] = {
    "NODE_ENV": "production",
    "CORS_ORIGIN": "https://www.example.org",
    **{name: secrets.token_urlsafe(32) for name in ("JWT_SECRET", "LARAVEL_API_KEY", "ADMIN_KEY")},
}


@pytest.mark.parametrize("cluster", ["true", "false"])
def test_production_does_not_start_without_it(tmp_path: Path, cluster: str) -> None:
    path = tmp_path / "missing" / "audit.log"
    server = Server(tmp_path, PRODUCTION | {"AUDIT_LOG_FILE": str(path), "CLUSTER_ENABLED": cluster})
    try:
        assert server._process.wait(START_LIMIT) == 1
    finally:
        server.end()
    assert (
        f"The server cannot start: AUDIT_LOG_FILE: {path} cannot be written: No such file or directory"
        in server.output()
    )


def test_development_starts_and_says_so(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "audit.log"
    server = start_server(AUDIT_LOG_FILE=str(path))
    assert f"The audit log {path} cannot be written: No such file or directory" in server.output()
    assert server.post("/api/auth/revoke", {"user_id": 5}).status_code == 200
    path.parent.mkdir()
    until(path.exists, lambda: server.output(), WAIT)
    assert json.loads(path.read_bytes())["action"] == "rights.revoke"


def test_systemd_says_where_logs_are(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "work").mkdir()
    server = Server.start(
        tmp_path / "work", {"LOGS_DIRECTORY": str(logs), "CLUSTER_ENABLED": "true", "CLUSTER_WORKERS": "1"}
    )
    try:
        assert server.post("/api/auth/revoke", {"user_id": 5}).status_code == 200
        server.stop()
    finally:
        server.end()
    assert json.loads((logs / "audit.log").read_bytes())["worker"] != "master"
    assert not (tmp_path / "work" / "audit.log").exists()


def test_off(start_server: StartServer) -> None:
    server = start_server(AUDIT_LOG_FILE="off")
    assert server.post("/api/auth/revoke", {"user_id": 5}).status_code == 200
    server.stop()
    assert not list(server.folder.glob("*audit*"))
