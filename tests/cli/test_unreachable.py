"""What ``mechamapctl`` says when the server cannot be reached, or does not answer as it should."""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from tests.cli.conftest import Invoke, Listen
from tests.cli.standin import error, result, saying


def code(outcome: Result) -> str:
    """The error of a command that was called with ``--json``; nothing else is on standard output."""
    assert outcome.exit_code == 1
    assert outcome.stderr == ""
    found: str = json.loads(outcome.stdout)["error"]["code"]
    return found


def test_no_server(invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("status")
    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    assert str(tmp_path / f"mechamap-{os.getuid()}" / "mechamap-*.sock") in outcome.stderr
    assert "`twistd mechamap`" in outcome.stderr
    assert code(invoke("status", "--json")) == "NO_SERVER"
    assert code(invoke("--json", "--socket", "/nowhere/s", "status")) == "NO_SERVER"
    assert code(invoke("--json", "status", CONTROL_SOCKET="/nowhere/s")) == "NO_SERVER"


def test_sockets_of_other_ports_are_told(invoke: Invoke, listen: Listen, tmp_path: Path) -> None:
    path = tmp_path / f"mechamap-{os.getuid()}" / "mechamap-4000.sock"
    server = listen(saying(result(workers=[])), path)
    outcome = invoke("workers", PORT="5000")
    assert "mechamap-5000.sock" in outcome.stderr
    assert str(path) in outcome.stderr
    assert server.requests == []
    assert invoke("workers").exit_code == 0


def test_stale(invoke: Invoke) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind("left")
    left.close()
    outcome = invoke("--socket", "left", "status")
    assert outcome.exit_code == 1
    assert "Nobody listens on the socket left" in outcome.stderr
    assert code(invoke("--socket", "left", "status", "--json")) == "STALE_SOCKET"


def test_the_only_one_that_is_alive(invoke: Invoke, listen: Listen, tmp_path: Path) -> None:
    directory = tmp_path / f"mechamap-{os.getuid()}"
    alive = listen(saying(result(workers=[])), directory / "mechamap-4001.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(directory / "mechamap-4000.sock"))
    left.close()
    assert invoke("workers").exit_code == 0
    assert [request["command"] for request in alive.requests] == ["workers"]


def test_several(invoke: Invoke, listen: Listen, tmp_path: Path) -> None:
    directory = tmp_path / f"mechamap-{os.getuid()}"
    for port in (4000, 4001):
        listen(saying(result(workers=[])), directory / f"mechamap-{port}.sock")
    outcome = invoke("workers")
    assert outcome.exit_code == 1
    assert "mechamap-4000.sock" in outcome.stderr
    assert "mechamap-4001.sock" in outcome.stderr
    assert "--socket" in outcome.stderr
    assert code(invoke("workers", "--json")) == "SEVERAL_SERVERS"
    assert invoke("workers", PORT="4001").exit_code == 0


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory that everybody may search, in a process that is not root."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, stat.S_IRWXU | stat.S_IXOTH | stat.S_IXGRP)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{name}/s")
        os.chmod(f"{name}/s", 0)
        listener.listen()
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            yield Path(name) / "s"
        finally:
            if root:
                os.seteuid(0)
            listener.close()


def test_permission_denied(invoke: Invoke, unprivileged: Path) -> None:
    outcome = invoke("--socket", str(unprivileged), "--json", "status")
    assert code(outcome) == "PERMISSION_DENIED"
    found = json.loads(outcome.stdout)["error"]
    assert "belongs to user" in found["message"]
    assert "sudo" in found["hint"]


def test_a_path_that_is_too_long(invoke: Invoke) -> None:
    for outcome in (
        invoke("--socket", "x" * 108, "--json", "status"),
        invoke("--json", "status", CONTROL_SOCKET="x" * 108),
    ):
        assert code(outcome) == "BAD_SOCKET_PATH"


def test_settings_that_are_needed_and_those_that_are_not(invoke: Invoke, listen: Listen) -> None:
    listen(saying(result(workers=[])))
    assert code(invoke("status", "--json", PORT="x")) == "BAD_SETTINGS"
    assert invoke("--socket", "s", "workers", PORT="x").exit_code == 0
    assert invoke("workers", NODE_ENV="production", DB_PORT="x", CONTROL_SOCKET="s").exit_code == 0
    assert invoke("workers", MECHAMAPCTL_SOCKET="s", CONTROL_SOCKET="/nowhere").exit_code == 0
    assert invoke("workers", "--socket", "s", MECHAMAPCTL_SOCKET="/nowhere").exit_code == 0
    Path("settings").write_text("CONTROL_SOCKET=s\n")
    assert invoke("workers", "--env-file", "settings").exit_code == 0
    assert invoke("--env-file", "settings", "workers").exit_code == 0


def test_a_server_that_hangs(invoke: Invoke, listen: Listen) -> None:
    listen(lambda connection, request: connection.recv(1) and None)
    began = time.monotonic()
    outcome = invoke("--socket", "s", "--timeout", "0.2", "status")
    assert time.monotonic() - began < 5
    assert outcome.exit_code == 1
    assert "did not answer within 0.2 s" in outcome.stderr
    assert "--timeout" in outcome.stderr
    assert code(invoke("--socket", "s", "reload", "--timeout", "0.2", "--json")) == "NO_ANSWER"


def test_a_server_that_does_not_even_accept(invoke: Invoke) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind("full")
        listener.listen(0)
        waiting.connect("full")
        assert code(invoke("--socket", "full", "--timeout", "0.2", "status", "--json")) == "NO_ANSWER"


@pytest.mark.parametrize("said", [b"", b'{"ok": true, "result": {}}', b'{"progress": {"text": "half"}}\n'])
def test_a_server_that_goes_away(invoke: Invoke, listen: Listen, said: bytes) -> None:
    listen(saying(said))
    outcome = invoke("--socket", "s", "restart", "4")
    assert outcome.exit_code == 1
    assert "closed the connection before it had answered" in outcome.stderr


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe\n",
        b"[]\n",
        b'{"ok": 1}\n',
        b'{"ok": true, "result": []}\n',
        b'{"ok": false}\n',
        b'{"progress": 1}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_garbage(invoke: Invoke, listen: Listen, said: bytes) -> None:
    listen(saying(said))
    outcome = invoke("--socket", "s", "--json", "status")
    assert code(outcome) == "BAD_ANSWER"
    assert len(outcome.stdout) < 1000


@pytest.mark.parametrize(
    "answer", [result(), result(workers=3), result(workers=[{"worker": 1, "state": 2, "rss": "x"}])]
)
def test_an_answer_of_another_shape(invoke: Invoke, listen: Listen, answer: dict[str, object]) -> None:
    listen(saying(answer))
    outcome = invoke("--socket", "s", "workers")
    assert outcome.exit_code == 1
    assert "another shape" in outcome.stderr
    assert invoke("--socket", "s", "workers", "--json").exit_code == 0


def test_a_refusal(invoke: Invoke, listen: Listen) -> None:
    listen(saying(error("UNKNOWN_WORKER", "There is no worker \x1b[31m9", field="worker")))
    outcome = invoke("--socket", "s", "drain", "9")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert "Error: There is no worker \\x1b[31m9\n" in outcome.stderr
    assert "`mechamapctl workers`" in outcome.stderr
    outcome = invoke("--socket", "s", "drain", "9", "--json")
    assert code(outcome) == "UNKNOWN_WORKER"
    assert json.loads(outcome.stdout)["error"]["field"] == "worker"
