"""What each command of ``mechamapctl`` asks for, and what it prints of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.answers import connection, status, worker
from tests.cli.conftest import Invoke, Listen
from tests.cli.standin import result, saying


@pytest.mark.parametrize(
    ("arguments", "command", "sent"),
    [
        (["status"], "status", {}),
        (["workers"], "workers", {}),
        (["reload"], "reload", {"drain": None}),
        (["reload", "--drain", "20s"], "reload", {"drain": 20.0}),
        (["reload", "--drain", "0"], "reload", {"drain": 0.0}),
        (["scale", "3"], "scale", {"to": "3"}),
        (["scale", "+1"], "scale", {"to": "+1"}),
        (["scale", "-1"], "scale", {"to": "-1"}),
        (["restart", "4"], "restart", {"worker": 4}),
        (["drain", "4"], "drain", {"worker": 4}),
        (["connections"], "connections", {"user": None, "limit": 100}),
        (["connections", "--user", "5", "--limit", "2"], "connections", {"user": 5, "limit": 2}),
        (["disconnect", "5"], "disconnect", {"user": 5}),
        (["channels"], "channels", {"match": None, "limit": 50}),
        (["channels", "--match", "thread", "--limit", "3"], "channels", {"match": "thread", "limit": 3}),
        (["publish", "thread.1", "note"], "publish", {"channel": "thread.1", "event": "note", "data": {}}),
        (["publish", "a", "b", '["ừ", 1.5]'], "publish", {"channel": "a", "event": "b", "data": ["ừ", 1.5]}),
        (["logs"], "logs", {"follow": False, "lines": 50}),
        (["logs", "-f", "-n", "5"], "logs", {"follow": True, "lines": 5}),
        (["log-level"], "log-level", {"level": None, "logger": None}),
        (["log-level", "warn"], "log-level", {"level": "warn", "logger": None}),
        (["log-level", "default", "--logger", "a.b"], "log-level", {"level": "default", "logger": "a.b"}),
    ],
)
def test_requests(invoke: Invoke, listen: Listen, arguments: list[str], command: str, sent: dict[str, object]) -> None:
    server = listen(saying({"progress": {"text": "step", "line": "step"}}, result(any="thing")))
    outcome = invoke("--socket", "s", *arguments, "--json")
    assert outcome.exit_code == 0, outcome.output
    assert server.requests == [{"command": command, "arguments": sent}]
    expected = {"line": "step"} if command == "logs" else {"any": "thing"}
    assert json.loads(outcome.stdout) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["scale"],
        ["scale", "many"],
        ["scale", "--1"],
        ["scale", "+-1"],
        ["scale", "1", "2"],
        ["restart", "0"],
        ["drain", "x"],
        ["disconnect", "-5"],
        ["reload", "--drain", "soon"],
        ["publish", "thread.1"],
        ["log-level", "loud"],
        ["--timeout", "0", "status"],
    ],
)
def test_usage(invoke: Invoke, arguments: list[str]) -> None:
    assert invoke("--socket", "/nowhere", *arguments).exit_code == 2


def test_levels_of_the_log(invoke: Invoke, listen: Listen) -> None:
    listen(saying(result(level="info", loggers={"x.y": "debug"}, workers=3)))
    outcome = invoke("--socket", "s", "log-level", "debug", "--logger", "x.y")
    assert outcome.stdout == "level  info\nx.y    debug\n3 workers told.\n"


def test_data_from_standard_input(invoke: Invoke, listen: Listen) -> None:
    server = listen(saying(result(id="1-1", channel="thread.1", subscribers=1)))
    data = '{"tên": "cơ khí"}\n'
    outcome = invoke("--socket", "s", "publish", "private-thread.1", "note", "-", input=data.encode())
    assert server.requests[0]["arguments"]["data"] == {"tên": "cơ khí"}
    assert outcome.stdout == "Published 1-1 to thread.1: 1 subscriber.\n"


@pytest.mark.parametrize("data", ["", "{", "text", "NaN", "1e999", "[" * 100_000, b"\xff"])
def test_data_that_is_no_json(invoke: Invoke, listen: Listen, data: str | bytes) -> None:
    server = listen(saying(result()))
    outcome = invoke("--socket", "s", "--json", "publish", "thread.1", "note", "-", input=data)
    assert outcome.exit_code == 1
    assert json.loads(outcome.stdout)["error"]["code"] == "BAD_DATA"
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "answer", "text"),
    [
        (["scale", "+1"], {"from": 1, "to": 2}, "From 1 worker to 2."),
        (["scale", "2"], {"from": 2, "to": 2}, "There are 2 workers already."),
        (["restart", "4"], {"old": 4, "new": 7}, "Worker 7 has taken the place of worker 4."),
        (["drain", "4"], {"worker": 4}, "Worker 4 is drained."),
        (["disconnect", "5"], {"user": 5, "disconnected": 2}, "Disconnected user 5: 2 connections."),
        (["disconnect", "5"], {"user": 5, "disconnected": 0}, "User 5 has no connections."),
        (
            ["reload"],
            {"seconds": 3.21, "old": [1, 2], "new": [3, 4]},
            "Reloaded in 3.2 s. Workers before: 1, 2; now: 3, 4.",
        ),
        (["connections"], {"total": 0, "users": 0, "connections": []}, "0 connections of 0 users"),
        (["channels"], {"total": 0, "subscriptions": 0, "channels": []}, "0 channels, 0 subscriptions"),
        (["workers"], {"workers": []}, "There are no workers."),
    ],
)
def test_sentences(invoke: Invoke, listen: Listen, arguments: list[str], answer: dict[str, Any], text: str) -> None:
    listen(saying(result(**answer)))
    outcome = invoke("--socket", "s", *arguments)
    assert (outcome.stdout, outcome.stderr) == (f"{text}\n", "")


def test_progress_is_told_apart_from_the_result(invoke: Invoke, listen: Listen) -> None:
    steps = [{"progress": {"text": f"worker {number} is \x07ready"}} for number in (1, 2)]
    listen(saying(*steps, result(old=1, new=3)))
    outcome = invoke("--socket", "s", "restart", "1")
    assert outcome.stderr == "worker 1 is \\x07ready\nworker 2 is \\x07ready\n"
    assert outcome.stdout == "Worker 3 has taken the place of worker 1.\n"


def test_log_lines(invoke: Invoke, listen: Listen) -> None:
    listen(saying({"progress": {"line": "một\tdòng"}}, {"progress": {"line": "\x1b]0;x\x07"}}, result()))
    assert invoke("--socket", "s", "logs").stdout == "một\tdòng\n\\x1b]0;x\\x07\n"
    outcome = invoke("--socket", "s", "logs", "--json")
    assert [json.loads(line) for line in outcome.stdout.splitlines()] == [
        {"line": "một\tdòng"},
        {"line": "\x1b]0;x\x07"},
    ]


def test_workers_in_columns(invoke: Invoke, listen: Listen) -> None:
    young = worker(12, state="starting", uptime=3, lag=None, cpu=None, rss=None)
    listen(saying(result(workers=[worker(4), young])))
    heading, first, second = invoke("--socket", "s", "workers").stdout.splitlines()
    assert heading.split()[:4] == ["worker", "node", "pid", "state"]
    for text in ("3 h 12 min", "12,345", "98,765,432", "87.4 MB", "12 %", "0.8 ms"):
        assert text in first
    assert second.split()[-3:] == ["-", "-", "-"]
    assert heading.index("connections") + len("connections") == first.index("12,345") + len("12,345")
    assert len(heading) == len(first) == len(second) > 120


def test_the_status(invoke: Invoke, listen: Listen) -> None:
    alert = {"name": "redis", "message": "không kết nối được", "since": 0}
    listen(saying(result(**status(worker(4), worker(5, state="hung"), degraded=True, alerts=[alert], reloads=1))))
    outcome = invoke("--socket", "s", "status")
    lines = outcome.stdout.splitlines()
    assert "mechamap_rt 0.1.0, a cluster, 1 of 2 workers ready" in lines[0]
    for text in (
        "running",
        "3 h 12 min",
        "abc, process 999, 45.0 MB",
        "unix:/run/x",
        "24,690 of 1 user",
        "1 reload, 0",
    ):
        assert any(line.endswith(text) or text in line for line in lines), text
    assert any(line.startswith("degraded") for line in lines)
    assert any("redis: không kết nối được (for " in line for line in lines)
    assert "\x1b" not in outcome.stdout


def test_the_status_of_a_single_process(invoke: Invoke, listen: Listen) -> None:
    listen(saying(result(**status(mode="single"))))
    outcome = invoke("--socket", "s", "status")
    assert "a single process" in outcome.stdout
    assert "since then" not in outcome.stdout


def test_connections_and_channels(invoke: Invoke, listen: Listen) -> None:
    hostile = connection(6, name="\x1b[2J\u202exấu", transport=None)
    listen(saying(result(total=200, users=150, connections=[connection(5), hostile])))
    lines = invoke("--socket", "s", "connections").stdout.splitlines()
    assert "Nguyễn An" in lines[1]
    assert "1 h 1 min" in lines[1]
    assert "\\x1b[2J\\u202exấu" in lines[2]
    assert lines[-1] == "2 shown of 200 connections of 150 users"


def test_channels(invoke: Invoke, listen: Listen) -> None:
    rows = [{"channel": "thread.1", "subscribers": 1200}, {"channel": "forum.22", "subscribers": 1}]
    listen(saying(result(total=2, subscriptions=1201, channels=rows)))
    assert invoke("--socket", "s", "channels").stdout.splitlines() == [
        "channel   subscribers",
        "thread.1        1,200",
        "forum.22            1",
        "2 channels, 1,201 subscriptions",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(invoke: Invoke, shell: str) -> None:
    outcome = invoke("completion", shell)
    assert outcome.exit_code == 0
    assert "_MECHAMAPCTL_COMPLETE" in outcome.stdout
    assert outcome.stdout.splitlines()[-1].startswith("# ")
    made = json.loads(invoke("completion", shell, "--json").stdout)
    assert made["shell"] == shell
    assert outcome.stdout.startswith(made["script"])
