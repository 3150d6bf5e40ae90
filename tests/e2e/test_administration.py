"""Administration over HTTP: who is connected, out with them; figures, thresholds, alerts."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import ConnectNode, StartServer
from tests.e2e.backend import check_error
from tests.server import REQUEST_LIMIT, Server


def admin(server: Server, method: str, path: str, body: Any = None) -> requests.Response:
    """With the administrators' key, over a connection of its own."""
    headers = {"X-Admin-Key": server.settings["ADMIN_KEY"], "Connection": "close"}
    return requests.request(method, server.url + path, json=body, headers=headers, timeout=REQUEST_LIMIT)


def test_who_is_connected_and_out_with_them(start_cluster: StartServer, connect_node: ConnectNode) -> None:
    server = start_cluster(workers=3)
    node = [connect_node(server.url, server.token(5)) for _ in range(3)]
    for client in node:
        client.connected()
    with NativeClient.open(server.ws_url, header=server.token(5, role="admin")) as native:
        native.greeted()
        with NativeClient.open(server.ws_url, header=server.token(6)) as other:
            other.greeted()
            stats = admin(server, "GET", "/api/connections/stats").json()["stats"]
            assert (stats["totalConnections"], stats["uniqueUsers"], stats["mostOfOneUser"]) == (5, 2, 4)
            assert stats["byProtocol"] == {"socket.io": 3, "native": 2}
            assert stats["byRole"] == {"member": 4, "admin": 1}
            assert sum(stats["byWorker"].values()) == 5
            assert len(stats["byWorker"]) == 3
            found = admin(server, "GET", "/api/connections/user/5").json()
            assert (found["userId"], found["connected"], found["connectionCount"]) == (5, True, 4)
            assert {row["userId"] for row in found["connections"]} == {5}
            assert {row["protocol"] for row in found["connections"]} == {"socket.io", "native"}
            for _ in range(4):
                assert admin(server, "GET", "/api/connections/user/5").json()["connectionCount"] == 4

            answer = admin(server, "POST", "/api/connections/disconnect/5", {"reason": "Giờ bảo trì"})
            assert (answer.status_code, answer.json()["disconnected"]) == (200, 4)
            for client in node:
                assert client.message("force_disconnect")["reason"] == "Giờ bảo trì"
            native.until(lambda message: (message.get("details") or {}).get("reason") == "Giờ bảo trì")
            assert native.closed()[0] == 4004
            until(lambda: not admin(server, "GET", "/api/connections/user/5").json()["connected"], lambda: "gone")
            other.ask(type="ping", id=1)
    assert admin(server, "POST", "/api/connections/disconnect/5").json()["disconnected"] == 0
    server.stop()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/connections/stats"),
        ("GET", "/api/connections/user/5"),
        ("POST", "/api/connections/disconnect/5"),
        ("POST", "/api/monitoring/reset"),
        ("GET", "/api/monitoring/thresholds"),
        ("PUT", "/api/monitoring/thresholds"),
    ],
)
def test_it_is_for_administrators(server: Server, method: str, path: str) -> None:
    def ask(**headers: str) -> requests.Response:
        return requests.request(method, server.url + path, headers=headers, timeout=REQUEST_LIMIT)

    check_error(ask(), 401)
    check_error(ask(Authorization="Bearer nonsense"), 401)
    for token in (server.token(5), server.token(5, role="moderator"), server.settings["LARAVEL_API_KEY"]):
        check_error(ask(Authorization=f"Bearer {token}"), 403)
    assert ask(Authorization=f"Bearer {server.token(5, role='admin')}").status_code in (200, 400)
    # an administrator who also brings the backend's key is one all the same
    key = {"X-WebSocket-API-Key": server.settings["LARAVEL_API_KEY"]}
    assert ask(**key, Authorization=f"Bearer {server.token(5, role='admin')}").status_code in (200, 400)


@pytest.mark.parametrize("body", [{"reason": 5}, {"reason": "x" * 201}, [], "x"])
def test_a_reason_that_is_none(server: Server, body: Any) -> None:
    check_error(admin(server, "POST", "/api/connections/disconnect/5", body), 400)


# monitoring


def data(server: Server, path: str) -> dict[str, Any]:
    answer = requests.get(f"{server.url}/api/monitoring/{path}", headers={"Connection": "close"}, timeout=REQUEST_LIMIT)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def test_the_operators_figures(start_cluster: StartServer) -> None:
    server = start_cluster(workers=2)
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        client.ask(type="subscribe", id=1, channel="public.x")
        for _ in range(5):
            server.publish("public.x", "e", {})
        server.get("/api/nothing")
        metrics = data(server, "metrics")
        performance = metrics["performance"]
        assert performance["workers"] == 2
        assert performance["requests"] >= 6
        assert performance["errors"] == 0
        assert 0 < performance["averageResponseTime"] <= performance["maxResponseTime"] < 5000
        assert performance["memory"] > 20e6
        assert metrics["connections"]["total"] == 1
        assert metrics["events"]["published"] >= 5
        assert metrics["events"]["delivered"] >= 5
        assert len(metrics["workers"]) == 2
        for _ in range(4):
            assert data(server, "connections")["total"] == 1
            assert data(server, "performance")["workers"] == 2
        # a machine that has just started something may be busy
        health = data(server, "health")
        assert (health["workers"], [each for each in health["problems"] if "cpu" not in each]) == (2, [])
        assert data(server, "info")["name"] == "mechamap_rt"
        text = requests.get(server.url + "/metrics", timeout=REQUEST_LIMIT)
        assert text.headers["Content-Type"].startswith("text/plain")
        assert text.text.count("\nmechamap_users{worker=") == 2
        assert text.text.count("\nmechamap_connections{") == 1
        assert 'mechamap_http_requests_total{route="/api/broadcast",status="200"' in text.text
        assert 'route="unknown",status="404"' in text.text
        assert requests.get(server.url + "/api/monitoring/prometheus", timeout=REQUEST_LIMIT).status_code == 200
        assert admin(server, "POST", "/api/monitoring/reset").status_code == 200
        assert data(server, "performance")["requests"] <= 3
    server.stop()


def test_thresholds_hold_in_every_process_and_after_a_reload(start_cluster: StartServer) -> None:
    server = start_cluster(workers=2)
    assert not {"memoryPerWorker", "dropRate"} & {alert["name"] for alert in data(server, "alerts")["alerts"]}
    changed = admin(server, "PUT", "/api/monitoring/thresholds", {"memoryPerWorker": 64 * 2**20 + 1, "cpu": 95})
    assert changed.status_code == 200, changed.text
    assert changed.json()["data"]["thresholds"]["cpu"] == 95
    for _ in range(6):
        assert data(server, "alerts")["thresholds"]["cpu"] == 95
    server.control("reload", "--drain", "0s")
    for _ in range(4):
        assert data(server, "alerts")["thresholds"]["cpu"] == 95
    low = admin(server, "PUT", "/api/monitoring/thresholds", {"memoryPerWorker": 67108864})
    assert low.status_code == 200
    server.stop()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"body"}),
        ([], {"body"}),
        ({"cpu": 101, "nothing": 1, "dropRate": "5"}, {"cpu", "nothing", "dropRate"}),
        ({"cpu": True}, {"cpu"}),
        ({"memoryPerWorker": 5}, {"memoryPerWorker"}),
    ],
)
def test_thresholds_that_are_none(server: Server, body: Any, fields: set[str]) -> None:
    error = check_error(admin(server, "PUT", "/api/monitoring/thresholds", body), 400)
    assert {detail["field"] for detail in error["details"]} == fields
