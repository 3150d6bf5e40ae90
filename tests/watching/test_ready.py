"""``/ready`` says yes only when it is true, and otherwise what is wrong."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
import requests

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import NewMariaDB, StartServer
from tests.e2e.backend import check_error
from tests.redis_server import RedisServer
from tests.server import REQUEST_LIMIT, Server


def ready(server: Server, query: str = "") -> tuple[int, dict[str, Any]]:
    answer = requests.get(f"{server.url}/ready{query}", timeout=REQUEST_LIMIT, headers={"Connection": "close"})
    return answer.status_code, answer.json()


def failed(server: Server) -> list[str]:
    status, body = ready(server)
    assert (status == 200) == body["success"] == (body["failed"] == []) == (body["status"] == "ready")
    return list(body["failed"])


def test_all_is_well(server: Server) -> None:
    status, body = ready(server)
    assert status == 200
    assert body["checks"] == dict.fromkeys(("bus", "database", "reactor", "draining"), "ok")


def test_the_database_is_away(start_server: StartServer, new_mariadb: NewMariaDB) -> None:
    mariadb = new_mariadb()
    server = start_server(**mariadb.settings())
    assert failed(server) == []
    mariadb.stop()
    until(lambda: failed(server) == ["database"], lambda: str(ready(server)))
    # what all places are out of is no reason to send nobody anywhere
    assert ready(server, "?exclude=database")[0] == 200
    assert "database" not in ready(server, "?exclude=database")[1]["checks"]
    assert requests.get(f"{server.url}/live", timeout=REQUEST_LIMIT).status_code == 200
    mariadb.start()
    until(lambda: failed(server) == [], lambda: str(ready(server)))
    server.stop()


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_redis_is_away(start_cluster: StartServer, how: str) -> None:
    redis = RedisServer()
    try:
        server = start_cluster(workers=2, REDIS_HOST="127.0.0.1", REDIS_PORT=str(redis.port))
        until(lambda: failed(server) == [], lambda: str(ready(server)))
        getattr(redis, how)()
        until(lambda: failed(server) == ["bus"], lambda: str(ready(server)))
        assert ready(server, "?exclude=bus")[0] == 200
        if how == "freeze":
            redis.thaw()
        else:
            redis.start()
        until(lambda: failed(server) == [], lambda: str(ready(server)))
        server.stop()
    finally:
        redis.end()


def test_it_is_too_busy(start_server: StartServer) -> None:
    """A process that stood still for over half a second says so, to who asks in the moment after."""
    server = start_server()
    assert failed(server) == []

    def stand_still() -> None:
        os.kill(server.pid, signal.SIGSTOP)
        threading.Event().wait(1.2)
        os.kill(server.pid, signal.SIGCONT)

    found: list[str] = []
    for _ in range(3):
        standing = threading.Thread(target=stand_still)
        standing.start()
        standing.join()
        threading.Event().wait(0.3)
        found += failed(server)
        if found:
            break
        threading.Event().wait(1.0)
    assert found == ["reactor"]
    until(lambda: failed(server) == [], lambda: str(ready(server)))
    server.stop()


def test_it_lets_its_clients_go(start_cluster: StartServer) -> None:
    server = start_cluster(workers=2, CLUSTER_DRAIN_TIME="3000")
    kept = requests.Session()
    # a connection of its own to each worker
    sessions = {}
    for _ in range(20):
        session = requests.Session()
        worker = session.get(f"{server.url}/ready", timeout=REQUEST_LIMIT).json()["worker"]
        sessions.setdefault(worker, session)
        if len(sessions) == 2:
            break
    first = next(row for row in server.workers())
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        draining = threading.Thread(target=lambda: server.control("drain", str(first["worker"])))
        draining.start()
        session = sessions[first["node"]]
        answers = []

        def told() -> bool:
            try:
                answer = session.get(f"{server.url}/ready", timeout=REQUEST_LIMIT)
            except requests.ConnectionError:
                return bool(answers)
            if answer.json()["worker"] == first["node"] and answer.status_code == 503:
                answers.append(answer.json())
            return bool(answers)

        until(told, lambda: "the worker that is drained is ready")
        draining.join()
    assert answers[0]["status"] == "draining"
    assert answers[0]["failed"] == ["draining"]
    kept.close()
    server.stop()


@pytest.mark.parametrize("query", ["?exclude=", "?exclude=nothing", "?exclude=bus,draining"])
def test_what_cannot_be_left_out(server: Server, query: str) -> None:
    answer = requests.get(f"{server.url}/ready{query}", timeout=REQUEST_LIMIT)
    assert [detail["field"] for detail in check_error(answer, 400)["details"]] == ["exclude"]
