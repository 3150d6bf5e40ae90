"""``mechamapctl`` against the server itself: every command, for people and as JSON, of a cluster and of one process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any

import pytest

from tests.clients.native import NativeClient
from tests.clients.natives import Natives
from tests.clients.waiting import until
from tests.conftest import StartServer
from tests.server import STOP_LIMIT, Server, mechamapctl

CHANNEL = "public.control"


def told(server: Server, *arguments: str) -> str:
    """What a person is told by a command that does what it should."""
    done = server.mechamapctl(*arguments)
    assert (done.returncode, done.stderr.startswith("Error")) == (0, False), done.stderr
    return done.stdout


def refused(server: Server, *arguments: str) -> str:
    """What a person is told by a command that is refused."""
    done = server.mechamapctl(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def numbers(server: Server, state: str = "ready") -> list[int]:
    return [each["worker"] for each in server.workers() if each["state"] == state]


def wait_for_workers(server: Server, count: int) -> None:
    until(lambda: len(numbers(server)) == len(server.workers()) == count, lambda: f"{server.workers()}", 20)


@pytest.fixture(scope="module")
def single(server: Server) -> Server:
    """The usual server: one process."""
    return server


@pytest.fixture(params=["cluster", "single"])
def either(request: pytest.FixtureRequest) -> Server:
    """A cluster, then one process."""
    found: Server = request.getfixturevalue(request.param)
    return found


# -- looking ---------------------------------------------------------------------------------------


def test_status(either: Server) -> None:
    mode, count = ("cluster", 3) if either.settings.get("CLUSTER_ENABLED") else ("single", 1)
    status = either.control("status")
    assert status["mode"] == mode
    assert status["state"] == "running"
    assert status["pid"] == either.pid
    assert status["listening"] == [either.url]
    assert status["alerts"] == []
    assert len(status["workers"]) == count
    text = told(either, "status")
    assert either.url in text
    assert ("a cluster, 3 of 3 workers ready" if mode == "cluster" else "a single process") in text


def test_workers(cluster: Server) -> None:
    rows = cluster.workers()
    assert [row["worker"] for row in rows] == [1, 2, 3]
    assert {row["state"] for row in rows} == {"ready"}
    assert len({row["pid"] for row in rows} | {cluster.pid}) == 4
    assert len(told(cluster, "workers").splitlines()) == 4


def test_memory(cluster: Server) -> None:
    """Idle, in bytes: a worker has at most 75 MB and the master 60."""
    mega = 2**20
    until(lambda: all(row["rss"] for row in cluster.workers()), lambda: "nobody has said")
    status = cluster.control("status")
    workers = [row["rss"] / mega for row in status["workers"]]
    master = status["memory"]["rss"] / mega
    print(f"master {master:.1f} MB, workers {', '.join(f'{size:.1f}' for size in workers)} MB")
    assert max(workers) <= 75
    assert master <= 60


def test_connections_and_channels(either: Server) -> None:
    people = {f"{user}": (either.token(user), CHANNEL) for user in (1, 1, 2, 3)}
    with Natives(either.port, people) as natives:
        until(lambda: natives.subscribed() == 3, lambda: "all are in")
        found = either.control("connections")
        assert (found["total"], found["users"]) == (3, 3)
        row = found["connections"][0]
        assert (row["protocol"], row["transport"], row["address"]) == ("native", "websocket", "127.0.0.1")
        if either.settings.get("CLUSTER_ENABLED"):
            assert {row["worker"] for row in found["connections"]} <= {1, 2, 3}, "workers by their numbers"
        assert either.control("connections", "--user", "2")["total"] == 1
        assert len(either.control("connections", "--limit", "1")["connections"]) == 1
        assert "3 connections of 3 users" in told(either, "connections")
        found = either.control("channels", "--match", "control")
        assert found == {"total": 1, "subscriptions": 3, "channels": [{"channel": CHANNEL, "subscribers": 3}]}
        assert CHANNEL in told(either, "channels")
        assert "1 shown of 4 channels" in told(either, "channels", "--limit", "1")
    until(lambda: either.control("connections")["total"] == 0, lambda: "they have left")


def test_logs(either: Server) -> None:
    assert "Listening on" in told(either, "logs", "-n", "1000")
    lines = [json.loads(line)["line"] for line in told(either, "--json", "logs", "-n", "3").splitlines()]
    assert len(lines) == 3
    assert told(either, "logs", "-n", "0") == ""


@pytest.mark.parametrize("mode", ["cluster", "single"])
def test_logs_go_on(start_server: StartServer, start_cluster: StartServer, mode: str) -> None:
    """With -f a line is there as soon as it is logged; SIGHUP has both kinds of server say something."""
    server = start_cluster(1, CLUSTER_DRAIN_TIME="0") if mode == "cluster" else start_server()
    command = mechamapctl(server.control_path, "logs", "-f", "-n", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        last = following.stdout.readline()
        server.signal(signal.SIGHUP)
        fresh = following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(STOP_LIMIT) in (130, -signal.SIGINT)
    assert last
    assert fresh
    assert fresh != last
    assert ("reload" if mode == "single" else "new workers") in fresh


# -- changing --------------------------------------------------------------------------------------


def test_publish(either: Server) -> None:
    clients = [NativeClient.open(either.ws_url, header=either.token(user)) for user in (1, 2, 3, 4)]
    try:
        for client in clients:
            client.greeted()
            client.ask(type="subscribe", id=1, channel=CHANNEL)
        done = either.control("publish", CHANNEL, "note", '{"text": "Chào"}')
        assert (done["channel"], done["subscribers"]) == (CHANNEL, 4)
        for client in clients:
            message = client.event("note")
            assert message["publication"] == done["id"]
            assert message["data"]["text"] == "Chào"
        text = told(either, "publish", CHANNEL, "note")
        assert re.fullmatch(rf"Published \S+ to {re.escape(CHANNEL)}: 4 subscribers.\n", text)
        for client in clients:
            assert client.event("note")["publication"] in text
    finally:
        for client in clients:
            client.connection.close()
    assert either.refusal("publish", "no channel", "note")["field"] == "channel"
    assert "Not a channel" in refused(either, "publish", "no channel", "note")
    assert either.refusal("publish", CHANNEL, "")["field"] == "event"


def test_disconnect(either: Server) -> None:
    with NativeClient.open(either.ws_url, header=either.token(8)) as client:
        client.greeted()
        assert told(either, "disconnect", "8") == "Disconnected user 8: 1 connection.\n"
        assert client.closed() == (4004, "disconnected")
    assert told(either, "disconnect", "8") == "User 8 has no connections.\n"
    assert either.control("disconnect", "8") == {"user": 8, "disconnected": 0}


@pytest.mark.parametrize("command", [("reload",), ("workers",), ("scale", "3"), ("restart", "1"), ("drain", "1")])
def test_one_process_says_what_it_cannot_do(single: Server, command: tuple[str, ...]) -> None:
    assert single.refusal(*command)["code"] == "SINGLE_PROCESS"
    assert "CLUSTER_ENABLED=true" in refused(single, *command)


def test_a_worker_that_is_not_there(cluster: Server) -> None:
    for command in ("drain", "restart"):
        assert cluster.refusal(command, "99")["code"] == "UNKNOWN_WORKER"
        text = refused(cluster, command, "99")
        assert sorted(re.findall(r"\d+", text)) == ["1", "2", "3", "99"]
        assert "mechamapctl workers" in text


@pytest.mark.parametrize("to", ["0", "-3", "+1000", "99"])
def test_a_number_of_workers_that_cannot_be(cluster: Server, to: str) -> None:
    assert cluster.refusal("scale", to)["code"] == "INVALID"
    assert numbers(cluster) == [1, 2, 3]


# -- the workers -----------------------------------------------------------------------------------


def test_scale_restart_and_drain(start_cluster: StartServer) -> None:
    """The clients of a worker that goes come back to the others, and keep getting what is published."""
    server = start_cluster(3, CLUSTER_DRAIN_TIME="300")
    people = {f"{user}": (server.token(user), CHANNEL) for user in range(1, 31)}
    with Natives(server.port, people) as natives:

        def all_are_there() -> None:
            until(lambda: natives.subscribed() == len(people), lambda: f"{natives.subscribed()}", 30)
            until(
                lambda: server.publish(CHANNEL, "note", {}).json()["subscriberCount"] == len(people),
                lambda: "somebody is missing",
            )

        all_are_there()
        assert told(server, "scale", "5") == "From 3 workers to 5.\n"
        wait_for_workers(server, 5)
        assert server.control("scale", "+1") == {"from": 5, "to": 6}
        wait_for_workers(server, 6)
        assert server.control("scale", "2") == {"from": 6, "to": 2}
        wait_for_workers(server, 2)
        one, two = numbers(server)
        all_are_there()
        assert server.control("restart", f"{one}") == {"old": one, "new": 7}
        assert told(server, "restart", f"{two}") == f"Worker 8 has taken the place of worker {two}.\n"
        assert numbers(server) == [7, 8]
        all_are_there()
        assert server.control("drain", "7") == {"worker": 7}
        assert numbers(server) == [8]
        all_are_there()
        assert server.refusal("drain", "8")["code"] == "LAST_WORKER"
        assert "the only worker" in refused(server, "drain", "8")
        _nobody_was_lost(server.control("status"))
        text = told(server, "reload", "--drain", "0")
        assert re.fullmatch(r"Reloaded in \d+\.\d s. Workers before: 8; now: 9.\n", text)
        all_are_there()
        assert {stay.how for account in natives.accounts() for stay in account.stays} == {"1012", ""}


def _nobody_was_lost(status: dict[str, Any]) -> None:
    assert (status["restarts"], status["alerts"]) == (0, [])
