"""What became of messages, kept in Redis: after a process has ended, on every host, and within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import StartServer
from tests.e2e.test_trace import publish, trace
from tests.redis_server import RedisServer
from tests.server import Server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    one = RedisServer()
    try:
        yield one
    finally:
        one.end()


def joined(redis: RedisServer, host: str, **more: str) -> dict[str, str]:
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port), "HOST_ID": host} | more


def story(server: Server, ident: str, user: int | None = None) -> dict[str, Any]:
    answer = trace(server, ident, user)
    found: dict[str, Any] = answer.json()
    return found


def keys(redis: RedisServer, pattern: str) -> list[str]:
    found: list[str] = redis.run("KEYS", pattern)
    return [key for key in found if key]


def test_it_outlives_the_processes_that_knew_it(start_cluster: StartServer, redis: RedisServer) -> None:
    server = start_cluster(workers=2, **joined(redis, "aaa"))
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        ident = publish(server, "user.5")
        client.until(lambda message: message.get("event") == "order.paid")
    before = story(server, ident, 5)
    server.control("reload", "--drain", "0s")
    # the old processes are gone, and what they put down is there
    until(lambda: trace(server, ident).status_code == 200, lambda: str(keys(redis, "*trace*")))
    after = story(server, ident, 5)
    assert after["publication"] == before["publication"]
    assert after["workers"] == before["workers"]
    # the connection's own history is gone with its process: that it was among the recipients is known
    assert after["user"]["outcome"] == "written"
    assert after["user"]["connections"] == []
    assert story(server, ident, 6)["user"]["outcome"] == "absent"
    server.stop()


def test_another_host_tells_it(start_cluster: StartServer, redis: RedisServer) -> None:
    one = start_cluster(workers=1, **joined(redis, "aaa"))
    other = start_cluster(workers=1, **joined(redis, "bbb"))
    with NativeClient.open(other.ws_url, header=other.token(5)) as client:
        client.greeted()
        ident = publish(one, "user.5")
        client.until(lambda message: message.get("event") == "order.paid")
        for server in (one, other):
            found = story(server, ident, 5)
            assert found["publication"]["worker"].startswith("aaa")
            assert [worker["worker"][:3] for worker in found["workers"]] == ["bbb"]
            assert found["user"]["connections"][0]["worker"].startswith("bbb")
    one.stop()
    assert story(other, ident, 5)["publication"]["worker"].startswith("aaa")
    other.stop()


def test_redis_has_no_more_than_it_should(start_server: StartServer, redis: RedisServer) -> None:
    server = start_server(**joined(redis, "aaa", TRACE_PUBLICATIONS="2000", TRACE_HOURS="1"))
    idents = []
    for _ in range(6):
        body = {"broadcasts": [{"channel": "public.x", "event": "e", "data": {}}] * 1000}
        answer = server.post("/api/broadcast/multi", body).json()
        idents += [answer["ids"][0], answer["ids"][-1]]
    until(lambda: trace(server, idents[0]).status_code == 404, lambda: str(keys(redis, "*")))
    assert trace(server, idents[-1]).status_code == 200
    chunks = keys(redis, "*trace:*")
    assert 1 <= len(chunks) <= 4
    for key in chunks + keys(redis, "*traced:*"):
        assert 0 < int(redis.run("TTL", key)[0]) <= 3600
    server.stop()


def test_without_redis_it_goes_on(start_server: StartServer, redis: RedisServer) -> None:
    server = start_server(**joined(redis, "aaa"))
    redis.kill()
    ident = publish(server, "public.x")
    assert trace(server, ident).status_code == 200
    redis.start()
    until(lambda: trace(server, publish(server, "public.x")).status_code == 200, lambda: "no trace")
    server.stop()
