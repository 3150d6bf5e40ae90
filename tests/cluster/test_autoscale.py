"""Automatic scaling: one worker more under a load that lasts, one fewer when it is over."""

from __future__ import annotations

import http.client
import threading
import time

from tests.conftest import StartServer
from tests.server import Server


def wait_for_workers(server: Server, number: int, limit: float) -> None:
    deadline = time.monotonic() + limit
    while [worker["state"] for worker in server.workers()] != ["ready"] * number:
        assert time.monotonic() < deadline, f"not {number} workers in {limit:g} s: {server.workers()}"
        time.sleep(0.2)


def keep_busy(server: Server, until: threading.Event) -> None:
    while not until.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(100):
            connection.request("GET", "/api/health")
            connection.getresponse().read()
        connection.close()


def test_workers_follow_the_load(start_server: StartServer) -> None:
    server = start_server(
        CLUSTER_ENABLED="true",
        CLUSTER_WORKERS="1",
        CLUSTER_WORKERS_MAX="2",
        CLUSTER_SCALE_CPU="10",
        CLUSTER_SCALE_SUSTAIN="1500",
        CLUSTER_SCALE_COOLDOWN="1000",
        CLUSTER_DRAIN_TIME="500",
    )
    calm = threading.Event()
    load = threading.Thread(target=keep_busy, args=(server, calm))
    load.start()
    try:
        wait_for_workers(server, 2, 30)
        assert "From 1 workers to 2: CPU" in server.output()
    finally:
        calm.set()
        load.join()
    wait_for_workers(server, 1, 40)
    assert "From 2 workers to 1: CPU" in server.output()
