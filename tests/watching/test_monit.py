"""``mechamapctl monit`` on a terminal, and without one; and what steers workers over HTTP."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import termios
import time
from typing import Any

import pytest
import requests

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import StartServer
from tests.e2e.backend import check_error
from tests.server import REQUEST_LIMIT, Server, inherited, mechamapctl


def on_a_terminal(server: Server, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """The command on a terminal of its own; and our end of it."""
    ours, its = pty.openpty()
    environment = inherited() | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": "110", "LINES": "40"}
    command = mechamapctl(server.control_path, *arguments)
    process = subprocess.Popen(
        command,
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment,
        start_new_session=True,
        # so that Ctrl-C is one
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(its)
    return process, ours


def shown(terminal: int, *words: str, limit: float = 10.0) -> str:
    """What appears, until all the words have."""
    seen, until_ = b"", time.monotonic() + limit
    while time.monotonic() < until_:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
            if all(word in seen.decode(errors="replace") for word in words):
                return seen.decode(errors="replace")
    raise AssertionError(f"{words} do not appear in {seen.decode(errors='replace')[-3000:]}")


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_it_is_drawn_until_somebody_ends_it(start_cluster: StartServer, key: bytes) -> None:
    server = start_cluster(workers=2)
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        process, terminal = on_a_terminal(server, "monit", "--interval", "0.3")
        try:
            shown(terminal, "people", "user.5", "ready", "running")
            client.ask(type="subscribe", id=1, channel="public.news")
            # it is drawn again
            shown(terminal, "public.news")
            os.write(terminal, key)
            assert process.wait(10) in (0, 130)
        finally:
            process.kill()
            process.wait(5)
            os.close(terminal)
    server.stop()


def test_it_goes_on_over_a_reload_of_the_server(start_cluster: StartServer) -> None:
    server = start_cluster(workers=1)
    process, terminal = on_a_terminal(server, "monit", "--interval", "0.3")
    try:
        shown(terminal, "people")
        server.control("reload", "--drain", "0s")
        shown(terminal, "2 " + server.workers()[0]["node"])
        os.write(terminal, b"q")
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(5)
        os.close(terminal)
    server.stop()


def test_without_a_terminal_it_is_drawn_once(server: Server) -> None:
    done = server.mechamapctl("monit", "--interval", "0.3")
    assert done.returncode == 0, done.stderr
    for word in ("people", "connections", "recent errors", "running"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout
    found = json.loads(server.mechamapctl("--json", "monit").stdout)
    assert {"totals", "processes", "latency", "alerts", "top", "errors"} <= found.keys()


def steer(server: Server, name: str, body: Any = None, **headers: str) -> requests.Response:
    headers = {"X-Admin-Key": server.settings["ADMIN_KEY"], "Connection": "close"} | headers
    return requests.post(f"{server.url}/api/cluster/{name}", json=body, headers=headers, timeout=REQUEST_LIMIT)


def test_workers_are_steered_over_http(start_cluster: StartServer) -> None:
    server = start_cluster(workers=2, CLUSTER_DRAIN_TIME="200")
    assert steer(server, "scale", {"workers": 3}).status_code in (200, 202)
    until(lambda: len([row for row in server.workers() if row["state"] == "ready"]) == 3, lambda: str(server.workers()))
    until(lambda: server.control("status")["state"] == "running", lambda: "busy")
    oldest = min(row["worker"] for row in server.workers())
    restarted = steer(server, "restart", {"worker": oldest})
    assert restarted.status_code in (200, 202), restarted.text
    until(lambda: oldest not in {row["worker"] for row in server.workers()}, lambda: str(server.workers()))
    assert steer(server, "reload").status_code in (200, 202)
    until(lambda: server.control("status")["reloads"] == 1, lambda: str(server.control("status")), 20)
    headers = {"X-Admin-Key": server.settings["ADMIN_KEY"], "Connection": "close"}

    def facts() -> dict[str, Any]:
        url = f"{server.url}/api/cluster"
        found: dict[str, Any] = requests.get(url, headers=headers, timeout=REQUEST_LIMIT).json()["cluster"]
        return found

    until(lambda: facts().get("reloads") == 1 and len(facts()["workers"]) == 3, lambda: str(facts()))
    assert facts()["mode"] == "cluster"
    server.stop()


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("scale", {"workers": 0}, "workers"),
        ("scale", {"workers": "3"}, "workers"),
        ("scale", {"workers": 9999}, "workers"),
        ("scale", {}, "workers"),
        ("restart", {"worker": True}, "worker"),
        ("restart", {"worker": 77}, "worker"),
    ],
)
def test_what_cannot_be_done_is_said(start_cluster: StartServer, name: str, body: Any, field: str) -> None:
    server = start_cluster(workers=1)
    error = check_error(steer(server, name, body), 400)
    assert [detail["field"] for detail in error["details"]] == [field]
    server.stop()


def test_a_single_process_has_no_workers(server: Server) -> None:
    error = check_error(steer(server, "reload"), 409)
    assert "CLUSTER_ENABLED" in error["message"]
    assert steer(server, "reload", **{"X-Admin-Key": "wrong"}).status_code == 401
