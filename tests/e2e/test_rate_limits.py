"""The limit on HTTP requests, and that wrong keys are not looked at for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import StartServer
from tests.e2e.backend import check_error
from tests.e2e.test_port import Raw
from tests.server import Server

EVENT = {"channel": "public.x", "event": "e"}
EXEMPT = ("/health", "/api/health", "/live", "/ready", "/metrics", "/api/monitoring/metrics")


def remaining(answer: requests.Response) -> int:
    return int(answer.headers["X-RateLimit-Remaining"])


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server.start(tmp_path_factory.mktemp("server"), {"RATE_LIMIT_MAX_REQUESTS": "1"})
    yield server
    server.stop()


def test_requests_are_limited_and_told_so(start_server: StartServer) -> None:
    server = start_server(RATE_LIMIT_MAX_REQUESTS="5", RATE_LIMIT_WINDOW_MS="2000")
    began = time.time()
    answers = [server.get("/api/status") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [remaining(answer) for answer in answers] == [4, 3, 2, 1, 0]
    for answer in answers:
        assert answer.headers["X-RateLimit-Limit"] == "5"
        assert answer.headers["RateLimit-Policy"] == "5;w=2"
        assert began < int(answer.headers["X-RateLimit-Reset"]) <= began + 5
        assert 0 < int(answer.headers["RateLimit-Reset"]) <= 2
    refused = server.get("/api/status")
    assert check_error(refused, 429)["error"] == "RATE_LIMITED"
    assert 1 <= int(refused.headers["Retry-After"]) <= 2
    assert remaining(refused) == 0
    time.sleep(2.1)
    assert server.get("/api/status").status_code == 200
    server.stop()


def test_a_key_has_an_account_of_its_own(start_server: StartServer) -> None:
    server = start_server(RATE_LIMIT_MAX_REQUESTS="3", AUTH_FAILURES_PER_MINUTE="0")
    for _ in range(3):
        assert server.post("/api/broadcast", EVENT, key=False).status_code == 401
    assert server.post("/api/broadcast", EVENT, key=False).status_code == 429
    # a wrong key is no account: the address is over its limit
    assert server.post("/api/broadcast", EVENT, key=False, X_WebSocket_API_Key="wrong").status_code == 429
    assert [server.post("/api/broadcast", EVENT).status_code for _ in range(4)] == [200, 200, 200, 429]
    # the same key by another header
    bearer = f"Bearer {server.settings['LARAVEL_API_KEY']}"
    assert server.post("/api/broadcast", EVENT, key=False, Authorization=bearer).status_code == 429
    assert server.get("/api/connections/stats", X_Admin_Key=server.settings["ADMIN_KEY"]).status_code == 200
    server.stop()


@pytest.mark.parametrize("path", EXEMPT)
def test_health_and_metrics_are_exempt(limited: Server, path: str) -> None:
    for _ in range(4):
        answer = limited.get(path)
        assert answer.status_code == 200
        assert "X-RateLimit-Limit" not in answer.headers


def test_only_failures_count_when_successes_are_skipped(start_server: StartServer) -> None:
    server = start_server(RATE_LIMIT_MAX_REQUESTS="2", RATE_LIMIT_SKIP_SUCCESSFUL_REQUESTS="true")
    for _ in range(10):
        answer = server.get("/api/status")
        assert (answer.status_code, remaining(answer)) == (200, 2)
    for _ in range(2):
        assert server.get("/api/nothing").status_code == 404
    assert server.get("/api/nothing").status_code == 429
    # who has failed too often is refused whatever it is that is asked for
    assert server.get("/api/status").status_code == 429
    server.stop()


def test_a_dry_run_refuses_nothing_and_counts(start_server: StartServer) -> None:
    server = start_server(RATE_LIMIT_MAX_REQUESTS="2", RATE_LIMIT_DRY_RUN="true")
    answers = [server.get("/api/status") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [remaining(answer) for answer in answers] == [1, 0, 0, 0, 0, 0]
    assert server.get("/api/monitoring/metrics").json()["data"]["performance"]["rateLimited"] == 4
    server.stop()


def test_workers_count_together(start_cluster: StartServer) -> None:
    server = start_cluster(workers=3, RATE_LIMIT_MAX_REQUESTS="40", RATE_LIMIT_WINDOW_MS="60000")
    asked = [requests.get(server.url + "/api/status", timeout=10) for _ in range(60)]
    assert [answer.status_code for answer in asked].count(200) == 40
    assert [remaining(answer) for answer in asked[:40]] == list(range(39, -1, -1))
    # a reload makes nobody's account new
    server.control("reload", "--drain", "0s")
    assert requests.get(server.url + "/api/status", timeout=10).status_code == 429
    server.stop()


def test_wrong_keys_are_not_looked_at_for_ever(start_server: StartServer) -> None:
    server = start_server(AUTH_FAILURES_PER_MINUTE="3", TRUST_PROXY="true")
    secret = "guess-me-if-you-can"

    def guess(address: str, key: str) -> requests.Response:
        return server.post("/api/broadcast", EVENT, key=False, X_WebSocket_API_Key=key, X_Forwarded_For=address)

    right = server.settings["LARAVEL_API_KEY"]
    assert guess("198.51.100.9", right).status_code == 200
    assert [guess("203.0.113.5", secret).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    # not even the right one, from there
    refused = guess("203.0.113.5", right)
    assert check_error(refused, 429)["error"] == "RATE_LIMITED"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert server.post("/api/broadcast", EVENT, key=False, X_Forwarded_For="203.0.113.5").status_code == 401
    # others are not concerned; nor is an address that had the right key, which a stranger may share
    assert guess("203.0.113.6", right).status_code == 200
    for _ in range(6):
        assert guess("198.51.100.9", secret).status_code in (401, 429)
    assert guess("198.51.100.9", right).status_code == 200
    # tokens are keys too
    for status in (401, 401, 401, 429):
        answer = server.post("/api/test-auth", key=False, Authorization="Bearer 7|x", X_Forwarded_For="203.0.113.7")
        assert answer.status_code == status
    output = server.output()
    assert "Wrong X-WebSocket-API-Key from 203.0.113.5" in output
    assert secret not in output
    assert right not in output.replace(f"API key    {right}", "")
    server.stop()


def test_workers_count_wrong_keys_together(start_cluster: StartServer) -> None:
    server = start_cluster(workers=3, AUTH_FAILURES_PER_MINUTE="10")
    statuses = [
        requests.post(
            server.url + "/api/broadcast", json=EVENT, headers={"X-Admin-Key": "wrong"}, timeout=10
        ).status_code
        for _ in range(20)
    ]
    assert statuses == [401] * 10 + [429] * 10
    server.stop()


@pytest.mark.parametrize("name", ["X-WebSocket-API-Key", "X-Admin-Key", "Authorization"])
def test_several_values_of_one_key_are_none(server: Server, name: str) -> None:
    raw = Raw(server)
    raw.send(
        f"POST /api/broadcast HTTP/1.1\r\nHost: x\r\n{name}: a\r\n{name}: b\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )
    got = raw.until(b"}]}")
    assert got.startswith(b"HTTP/1.1 400"), got
    assert name.encode() in got
    raw.socket.close()
