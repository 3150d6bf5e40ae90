"""The log of running servers, of one process and of a cluster: where it goes, both formats, levels at run time."""

from __future__ import annotations

import json
import re
import resource
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechamap_rt.system.logflood import MOST
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import CLUSTER, StartServer
from tests.server import START_LIMIT, Server

BOTH = pytest.mark.parametrize("settings", [{}, CLUSTER | {"CLUSTER_WORKERS": "2"}], ids=["single", "cluster"])
#: Seconds in which what was logged must have been written.
WAIT = 15.0


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wrong_key(server: Server, request: str = "from-a-test") -> None:
    assert server.get("/api/connections/stats", X_Admin_Key="wrong", X_Request_ID=request).status_code == 401


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "server.log"


@BOTH
def test_json_in_a_file(start_server: StartServer, file: Path, settings: dict[str, str]) -> None:
    server = start_server(LOG_FILE=str(file), LOG_FORMAT="json", LOG_LEVEL="debug", **settings)
    wrong_key(server)
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.ask(type="subscribe", id=1, channel="public.x")
    until(lambda: "Disconnected" in file.read_text(), file.read_text, WAIT)
    server.stop()
    assert stat.S_IMODE(file.stat().st_mode) & 0o137 == 0
    found = records(file)
    for one in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
        assert one["level"] in ("debug", "info", "warn", "error", "critical")
        assert {"logger", "worker", "message"} < one.keys()
    [refused] = [one for one in found if one.get("request") == "from-a-test"]
    assert (refused["level"], refused["logger"]) == ("warn", "mechamap_rt.http.keys")
    came, went = (one for one in found if one.get("user") == 5)
    assert came["connection"] == went["connection"]
    assert came["connection"].startswith(came["worker"])
    workers = {one["worker"] for one in found}
    assert ("master" in workers) == bool(settings)
    assert refused["worker"] != "master"
    # nothing of it is on the terminal but what is said to people there
    assert "Listening on" in server.output()
    assert "Wrong" not in server.output()
    # the last words of twistd are there
    assert found[-1]["message"] == "Server Shut Down."


@BOTH
def test_json_on_standard_output(start_server: StartServer, settings: dict[str, str]) -> None:
    server = start_server(LOG_FORMAT="json", DEMO_ENABLED="false", **settings)
    wrong_key(server)
    until(lambda: "from-a-test" in server.output(), server.output, WAIT)
    server.stop()
    lines = [line for line in server.output().splitlines() if line.startswith("{")]
    assert [one for one in map(json.loads, lines) if one.get("request") == "from-a-test"]
    # an operator reads text all the same
    assert not [line for line in server.output().splitlines() if re.match(r"\d{4}-", line)]


def test_text_says_who_and_mechamapctl_shows_text(start_server: StartServer, file: Path) -> None:
    server = start_server(LOG_FILE=str(file), LOG_FORMAT="json", **CLUSTER)
    wrong_key(server)
    until(lambda: "from-a-test" in file.read_text(), file.read_text, WAIT)
    shown = server.mechamapctl("logs").stdout
    assert re.search(
        r"^\S+ \[mechamap_rt\.http\.keys#warn\] \[worker \d+\] Wrong X-Admin-Key .*from-a-test", shown, re.M
    )


@BOTH
def test_the_level_is_changed_while_it_runs(start_server: StartServer, settings: dict[str, str]) -> None:
    server = start_server(LOG_LEVEL="error", **settings)
    wrong_key(server, "too-early")
    assert server.control("log-level") == {"level": "error", "loggers": {}}
    changed = server.control("log-level", "warn")
    assert changed == {"level": "warn", "loggers": {}} | ({"workers": 2} if settings else {})
    wrong_key(server, "in-time")
    until(lambda: "in-time" in server.output(), server.output, WAIT)
    server.control("log-level", "debug", "--logger", "mechamap_rt.transport")
    visit(server, 5)
    until(lambda: "Connected by" in server.output(), server.output, WAIT)
    server.control("log-level", "default")
    wrong_key(server, "too-late")
    server.stop()
    assert "too-early" not in server.output()
    assert "too-late" not in server.output()
    acts = [one for one in records(server.folder / "audit.log") if one["action"] == "server.log_level"]
    assert [(one["target"], one["actor"]["kind"], one["outcome"]) for one in acts] == [
        ({"level": "warn"}, "operator", "ok"),
        ({"level": "debug", "logger": "mechamap_rt.transport"}, "operator", "ok"),
        ({"level": "default"}, "operator", "ok"),
    ]


def visit(server: Server, user: int) -> None:
    with NativeClient.open(server.ws_url, header=server.token(user)) as client:
        client.ask(type="subscribe", id=1, channel="public.x")


def test_workers_that_come_later_have_the_level_too(start_cluster: StartServer) -> None:
    server = start_cluster(1)
    server.control("log-level", "debug", "--logger", "mechamap_rt.transport")
    old = server.workers()[0]["worker"]
    server.control("restart", str(old))
    visit(server, 5)
    until(lambda: "Connected by" in server.output(), server.output, WAIT)
    assert server.control("reload")
    visit(server, 6)
    until(lambda: "user=6" in server.output(), server.output, WAIT)
    assert server.control("log-level") == {"level": "info", "loggers": {"mechamap_rt.transport": "debug"}}
    assert server.refusal("log-level", "info", "--logger", "x" * 500)["code"] == "INVALID"


def test_a_reload_takes_up_where_and_how(tmp_path: Path) -> None:
    one, other = tmp_path / "one.log", tmp_path / "other.log"
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / ".env").write_text(f"LOG_FILE={one}\n")
    server = Server.start(folder, CLUSTER | {"CLUSTER_WORKERS": "1"})
    try:
        assert "takes clients" in one.read_text()
        (folder / ".env").write_text(f"LOG_FILE={other}\nLOG_FORMAT=json\nLOG_LEVEL=debug\n")
        server.control("reload")
        visit(server, 5)
        until(lambda: "Connected by" in other.read_text(), other.read_text, WAIT)
        (folder / ".env").write_text(f"LOG_FILE={tmp_path / 'missing' / 'a.log'}\n")
        assert server.refusal("reload")["code"] == "BAD_SETTINGS"
        server.stop()
    finally:
        server.end()
    assert records(other)[-1]["message"] == "Server Shut Down."
    assert "Server Shut Down." not in one.read_text()


@BOTH
def test_it_is_rotated_and_made_again_when_it_is_removed(
    start_server: StartServer, file: Path, settings: dict[str, str]
) -> None:
    server = start_server(LOG_FILE=str(file), LOG_MAX_SIZE="2k", LOG_MAX_FILES="2", LOG_LEVEL="debug", **settings)
    for user in range(1, 15):
        visit(server, user)
    until(lambda: Path(f"{file}.2").exists(), file.read_text, WAIT)
    assert max(each.stat().st_size for each in file.parent.glob("server.log*")) <= 2048
    file.rename(file.with_name("by-an-operator"))
    visit(server, 99)
    until(lambda: file.exists() and "user=99" in file.read_text(), lambda: str(list(file.parent.iterdir())), WAIT)
    server.stop()
    assert not Path(f"{file}.3").exists()


@BOTH
def test_a_full_disk_stops_nothing(start_server: StartServer, file: Path, settings: dict[str, str]) -> None:
    server = start_server(LOG_FILE=str(file), DEMO_ENABLED="false", **settings)
    until(lambda: "Listening" in file.read_text(), file.read_text, WAIT)
    _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    full = file.stat().st_size
    # a file that may not grow: what write(2) says is EFBIG instead of ENOSPC, and as soon
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (full, most))
    wrong_key(server)
    until(lambda: "cannot be written" in server.output(), server.output, WAIT)
    wrong_key(server, "another")
    assert server.publish("public.x", "e", {}).status_code == 200
    assert file.stat().st_size == full
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))
    until(lambda: "written again" in file.read_text(), file.read_text, WAIT)
    server.stop()
    assert server.output().count("cannot be written") == 1
    assert "from-a-test" in file.read_text()
    assert "another" in file.read_text()


@BOTH
def test_a_file_that_cannot_be_is_a_fault_among_the_others(tmp_path: Path, settings: dict[str, str]) -> None:
    path = tmp_path / "missing" / "a.log"
    server = Server(tmp_path, settings | {"LOG_FILE": str(path), "WS_PING_TIMEOUT": "soon"})
    try:
        assert server._process.wait(START_LIMIT) == 1
    finally:
        server.end()
    assert "WS_PING_TIMEOUT: " in server.output()
    assert "LOG_FILE: must be the path of a file in a directory that exists" in server.output()


@BOTH
def test_a_file_that_is_lost_between_the_check_and_the_start(tmp_path: Path, settings: dict[str, str]) -> None:
    folder = tmp_path / "work"
    (folder / "here").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(BREAK)
    chosen = {"LOG_FILE": str(folder / "here" / "a.log"), "PYTHONPATH": str(folder)}
    server = Server(folder, settings | chosen)
    try:
        assert server._process.wait(START_LIMIT) == 1
    finally:
        server.end()
    assert (
        f"The server cannot start: LOG_FILE: {folder / 'here' / 'a.log'} cannot be written: No such" in server.output()
    )
    # what it has logged until then is not lost
    assert "starting up" in server.output()


#: Removes the directory when twistd has begun to log.
BREAK = """
import os
from twisted.logger import globalLogPublisher

def lose(event):
    if "starting up" in str(event.get("log_format")):
        os.rmdir(os.path.join(os.getcwd(), "here"))

globalLogPublisher.addObserver(lose)
"""


@BOTH
def test_a_flood_is_summed_up(start_server: StartServer, settings: dict[str, str]) -> None:
    server = start_server(DEMO_ENABLED="false", **settings | {"CLUSTER_WORKERS": "1"})
    server.control("log-level", "info")
    for _ in range(MOST + 5):
        server.control("publish", "public.x", "e")
    until(lambda: "more like this" in server.output(), server.output, WAIT)
    told = [line for line in server.output().splitlines() if "An operator asks" in line]
    # one of them is the summary
    assert len(told) == MOST + 1
    assert re.search(r"… 6 more like this in \d+ s: An operator asks for \{command\} \{told\}", told[-1])


def test_twistds_own_file_is_ours_too(tmp_path: Path) -> None:
    """``twistd --logfile``: rotated, in the format of the settings."""
    twistd = str(Path(sys.executable).with_name("twistd"))
    log = tmp_path / "a.log"
    server = Server.start(tmp_path, {"LOG_FORMAT": "json"}, (twistd, f"--logfile={log}"))
    try:
        server.stop()
    finally:
        server.end()
    assert records(log)[-1]["message"] == "Server Shut Down."


def test_twistds_own_observer_gets_plain_events(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from twisted.logger import textFileLogObserver\n"
        "def make():\n    return textFileLogObserver(open('mine.txt', 'w', buffering=1))\n"
    )
    twistd = str(Path(sys.executable).with_name("twistd"))
    server = Server.start(tmp_path, CLUSTER | {"PYTHONPATH": str(tmp_path)}, (twistd, "--logger=mine.make"))
    try:
        wrong_key(server)
        until(lambda: "from-a-test" in (tmp_path / "mine.txt").read_text(), server.output, WAIT)
        assert "from-a-test" in server.mechamapctl("logs").stdout
        server.stop()
    finally:
        server.end()
    assert "[worker" in (tmp_path / "mine.txt").read_text()
    assert "Wrong" not in server.output()
