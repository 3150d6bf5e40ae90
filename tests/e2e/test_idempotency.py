"""What is posted twice under one ``Idempotency-Key`` is published once: in one process, in a cluster, on two hosts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.chaos import processes
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import CLUSTER, StartServer
from tests.e2e.backend import POSTS, check_error
from tests.redis_server import RedisServer
from tests.server import REQUEST_LIMIT, Server

CHANNEL = "public.once"
EVENT = {"channel": CHANNEL, "event": "e", "data": {"n": 1}}


def subscribed(server: Server, user: int = 5) -> NativeClient:
    client = NativeClient.open(server.ws_url, header=server.token(user)).__enter__()
    client.greeted()
    client.ask(type="subscribe", id=1, channel=CHANNEL)
    return client


def post(server: Server, key: str, body: object = EVENT, path: str = "/api/broadcast") -> requests.Response:
    """Over a connection of its own, so that any worker may answer."""
    headers = {"X-WebSocket-API-Key": server.settings["LARAVEL_API_KEY"], "Idempotency-Key": key}
    return requests.post(server.url + path, json=body, headers=headers, timeout=REQUEST_LIMIT)


def heard(server: Server, client: NativeClient) -> int:
    """How often the client got the event, up to now."""
    server.publish(CHANNEL, "last", {})
    return sum(1 for _ in iter(lambda: client.next().get("event"), "last"))


def is_replay(answer: requests.Response) -> bool:
    return answer.headers.get("Idempotent-Replayed") == "true"


@pytest.mark.parametrize("path", POSTS)
def test_every_publication_can_be_repeated(server: Server, path: str) -> None:
    first = post(server, f"k {path}".replace(" ", "-"), POSTS[path], path)
    again = post(server, f"k {path}".replace(" ", "-"), POSTS[path], path)
    assert (first.status_code, again.status_code) == (200, 200)
    assert (is_replay(first), is_replay(again)) == (False, True)
    assert first.content == again.content


def test_once_is_once(server: Server) -> None:
    client = subscribed(server)
    answers = [post(server, "once") for _ in range(5)]
    assert [is_replay(answer) for answer in answers] == [False, True, True, True, True]
    assert heard(server, client) == 1
    # without a key, or with another one, it is another publication
    assert not is_replay(post(server, "twice"))
    server.publish(CHANNEL, "e", {})
    assert heard(server, client) == 2
    client.__exit__(None, None, None)


def test_a_key_belongs_to_one_request(server: Server) -> None:
    assert post(server, "mine").status_code == 200
    other = post(server, "mine", EVENT | {"data": {"n": 2}})
    error = check_error(other, 422)
    assert error["error"] == "IDEMPOTENCY_KEY_REUSED"
    assert error["details"][0]["field"] == "Idempotency-Key"
    # another endpoint, and another caller, have keys of their own
    assert post(server, "mine", POSTS["/api/notify"], "/api/notify").status_code == 200
    admin = {"X-Admin-Key": server.settings["ADMIN_KEY"], "Idempotency-Key": "mine"}
    answer = requests.post(server.url + "/api/broadcast", json=EVENT, headers=admin, timeout=REQUEST_LIMIT)
    assert not is_replay(answer)


def test_who_may_not_publish_is_answered_nothing(server: Server) -> None:
    assert post(server, "secret").status_code == 200
    for headers in ({}, {"X-WebSocket-API-Key": "wrong"}):
        sent = headers | {"Idempotency-Key": "secret"}
        answer = requests.post(server.url + "/api/broadcast", json=EVENT, headers=sent, timeout=REQUEST_LIMIT)
        check_error(answer, 401)


def test_a_request_that_failed_may_be_mended(server: Server) -> None:
    assert post(server, "mended", {"channel": CHANNEL}).status_code == 400
    answer = post(server, "mended")
    assert (answer.status_code, is_replay(answer)) == (200, False)


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a\tb"])
def test_no_key_at_all(server: Server, key: str) -> None:
    assert check_error(post(server, key), 400)["details"][0]["field"] == "Idempotency-Key"


def test_on_any_worker(start_cluster: StartServer) -> None:
    server = start_cluster(workers=3)
    client = subscribed(server)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(server, "storm"), range(48)))
    assert {answer.status_code for answer in answers} == {200}
    assert [is_replay(answer) for answer in answers].count(False) == 1
    assert heard(server, client) == 1
    # new workers know it too
    server.control("reload", "--drain", "0s")
    assert is_replay(post(server, "storm"))
    client.__exit__(None, None, None)
    server.stop()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    one = RedisServer()
    try:
        yield one
    finally:
        one.end()


def test_on_any_host(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    joined = CLUSTER | {"CLUSTER_WORKERS": "2", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port)}
    started = []
    try:
        one = Server.start(tmp_path_factory.mktemp("aaa"), joined | {"HOST_ID": "aaa"})
        started.append(one)
        other = Server.start(tmp_path_factory.mktemp("bbb"), joined | {"HOST_ID": "bbb"})
        started.append(other)
        client = subscribed(one)
        until(
            lambda: other.publish(CHANNEL, "ready", {}).json()["subscriberCount"] == 1, lambda: "the hosts are joined"
        )
        heard(one, client)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: post(started[n % 2], "storm"), range(32)))
        assert {answer.status_code for answer in answers} == {200}
        assert [is_replay(answer) for answer in answers].count(False) == 1
        assert heard(one, client) == 1
        # without Redis each host goes by what it knows, and nothing waits for ever
        redis.end()
        assert is_replay(post(one, "storm"))
        assert post(one, "alone").status_code == 200
        assert is_replay(post(one, "alone"))
        client.__exit__(None, None, None)
    finally:
        for server in started:
            processes.end(server)
