"""The commands of the old service's performance guide as its operators type them: curl, jq, ab, netstat, ps.

Its host name is ``realtime.example.org`` here, which curl's own settings lead to a server of the test, behind nginx
with TLS. What cannot be told where a name leads (``ab``, ``netstat``) is given the port instead.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.native import NativeClient
from tests.conftest import CLUSTER, required
from tests.nginx import Certificate, Front
from tests.server import Server, inherited

NAME = "realtime.example.org"
WORKERS = 2
#: The commands' own packages.
PACKAGES = {"curl": "curl", "jq": "jq", "ab": "apache2-utils", "netstat": "net-tools", "ps": "procps", "free": "procps"}

Shell = Callable[[str], str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = CLUSTER | {"CLUSTER_WORKERS": str(WORKERS), "TRUST_PROXY": "1", "RATE_LIMIT_MAX_REQUESTS": "300"}
    running = Server.start(tmp_path_factory.mktemp("server"), settings)
    try:
        yield running
        running.stop()
    finally:
        running.end()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Front]:
    certificate = Certificate(tmp_path_factory.mktemp("certificate"), NAME)
    one = Front(tmp_path_factory.mktemp("nginx"), certificate, server)
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def shell(front: Front, tmp_path: Path) -> Shell:
    """Runs one line of shell; what it prints."""
    for command, package in PACKAGES.items():
        required(command, package)
    (tmp_path / ".curlrc").write_text(
        f'connect-to = "{NAME}:443:127.0.0.1:{front.port}"\ncacert = "{front.certificate.path}"\nnoproxy = "*"\n'
    )
    environment = inherited() | {"CURL_HOME": str(tmp_path), "LC_ALL": "C"}

    def run(line: str) -> str:
        command = [required("bash", "bash"), "-c", line]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


# -- "Performance Monitoring" ----------------------------------------------------------------------


def test_application_metrics(shell: Shell) -> None:
    figures = json.loads(shell("curl -s https://realtime.example.org/api/monitoring/metrics | jq '.data.performance'"))
    assert figures["workers"] == WORKERS
    # those that the guide's thresholds are about
    for name in ("averageResponseTime", "cpu", "memory"):
        assert figures[name] >= 0, name


def test_memory_usage(shell: Shell) -> None:
    memory = json.loads(shell("curl -s https://realtime.example.org/api/health | jq '.memory'"))
    assert memory["rss"] > 10_000_000


def test_connection_statistics(shell: Shell, server: Server) -> None:
    command = "curl -s https://realtime.example.org/api/monitoring/connections"
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        answer = json.loads(shell(command))
    assert answer["success"] is True
    assert answer["data"]["total"] == 1


def test_network_connections(shell: Shell, server: Server) -> None:
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        lines = shell(f"netstat -an | grep :{server.port}").splitlines()
    assert any("LISTEN" in line for line in lines)
    assert any("ESTABLISHED" in line for line in lines)


@pytest.mark.parametrize("command", ["free -h", "cat /proc/meminfo", "ps aux --sort=-%mem | head -10"])
def test_system_resources(shell: Shell, command: str) -> None:
    assert re.search("mem", shell(command), re.IGNORECASE)


def test_the_processes_have_names(shell: Shell, server: Server) -> None:
    """As in the guide, so that they are found in ``ps``, ``top`` and ``htop``: a master and its workers."""
    pids = {server.pid, *(each["pid"] for each in server.workers())}
    seen = {int(line.split()[1]): line for line in shell("ps aux").splitlines()[1:] if line.split()[1].isdigit()}
    assert len(pids) == 1 + WORKERS
    assert [pid for pid in pids if "mechamap" not in seen[pid]] == []


# -- "Performance Benchmarking" --------------------------------------------------------------------


@pytest.mark.parametrize("way", ["https", "http"])
def test_ab(shell: Shell, front: Front, server: Server, way: str) -> None:
    """As in the guide over TLS through nginx, and straight at the server."""
    url = front.url if way == "https" else server.url
    report = shell(f"ab -n 1000 -c 50 {url}/api/health")
    assert re.search(r"^Complete requests: +1000$", report, re.MULTILINE)
    assert re.search(r"^Failed requests: +0$", report, re.MULTILINE)
    assert "Non-2xx" not in report


# -- the commands of PM2 ---------------------------------------------------------------------------


def test_scale_reload_logs(server: Server) -> None:
    """``pm2 scale app +1``, ``pm2 reload app``, ``pm2 logs``: what docs/deploying.rst names in their place."""
    server.control("scale", str(WORKERS + 1))
    assert len(server.workers()) == WORKERS + 1
    before = {each["worker"] for each in server.workers()}
    server.control("reload", "--drain", "0")
    assert before.isdisjoint(each["worker"] for each in server.workers() if each["state"] == "ready")
    assert "takes clients" in server.mechamapctl("logs", "-n", "50").stdout
    server.control("scale", str(WORKERS))
