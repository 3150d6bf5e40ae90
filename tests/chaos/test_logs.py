"""A disk without space for logs: the server serves, and logs again when there is space."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import processes
from tests.chaos.bystanders import Bystanders
from tests.chaos.conftest import QUICK
from tests.chaos.processes import belonging, kill, wait_for_workers, workers
from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.redis_server import free_port
from tests.server import Server

TWISTD = str(Path(sys.executable).with_name("twistd"))


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Server]]:
    servers: list[Server] = []
    try:
        yield servers
    finally:
        for server in servers:
            processes.end(server)


def begin(folder: Path, *command: str, **settings: str) -> Server:
    """A cluster that says nothing to us; returns when its port listens."""
    port = free_port()
    server = Server(folder, CLUSTER | QUICK | {"PORT": str(port)} | settings, command)
    server._address = (f"http://127.0.0.1:{port}", port)

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0 and server.control_path.exists()

    until(listening, lambda: f"exit status {server._process.poll()}: {server.output()}", 15)
    return server


def serve_through_a_death(server: Server, bystanders: Bystanders) -> None:
    """Clients, publications, and a worker that dies, which is much to log."""
    wait_for_workers(server, 3)
    bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(server)
    pid = next(iter(workers(server).values()))
    kill(pid)
    wait_for_workers(server, 3, without=pid)
    bystanders.wait_all_live()
    bystanders.stop(publishing)
    bystanders.settle()
    assert len(bystanders.failed()) <= 3


def test_a_full_standard_output_stops_nothing(tmp_path: Path, started: list[Server], bystanders: Bystanders) -> None:
    server = begin(tmp_path, "sh", "-c", 'exec "$0" "$@" > /dev/full 2>&1', TWISTD)
    started.append(server)
    serve_through_a_death(server, bystanders)
    server.stop()
    assert belonging(server) == []


def test_a_full_log_file_stops_nothing_and_is_written_again(
    tmp_path: Path, started: list[Server], bystanders: Bystanders
) -> None:
    log = tmp_path / "twistd.log"
    server = begin(tmp_path, TWISTD, f"--logfile={log}")
    started.append(server)
    wait_for_workers(server, 3)
    # a file that may not grow: what write(2) says is EFBIG instead of ENOSPC, and as soon
    full = log.stat().st_size
    _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (full, most))
    # much to log, and no new worker, which would inherit the limit
    for pid in workers(server).values():
        os.kill(pid, signal.SIGUSR2)
    bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(server)
    time.sleep(0.5)
    bystanders.stop(publishing)
    bystanders.settle()
    assert bystanders.failed() == []
    assert len(workers(server)) == 3
    assert log.stat().st_size == full
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))
    serve_through_a_death(server, bystanders)
    until(lambda: "SIGKILL" in log.read_text()[full - 200 :], lambda: log.read_text()[-2000:])
    server.stop()
