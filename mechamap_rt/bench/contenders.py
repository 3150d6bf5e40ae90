"""The servers that are measured, and their processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mechamap_rt.bench.job import BenchError
from mechamap_rt.bench.procfs import process_tree

ServerName = Literal["mechamap", "npm", "sendloop"]

HOST = "127.0.0.1"
JWT_SECRET = "benchmark-secret-of-at-least-32-bytes"
API_KEY = "benchmark-api-key-of-at-least-32-bytes"
REPOSITORY = Path(__file__).resolve().parents[2]
SERVER_CPU, GENERATOR_CPU = 0, 1

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0
_NO_LIMITS = dict.fromkeys(
    (
        "MAX_CONNECTIONS",
        "MAX_CONNECTIONS_PER_USER",
        "MAX_CONNECTIONS_PER_IP",
        "CONNECTION_ATTEMPTS_PER_MINUTE",
        "CLIENT_EVENTS_PER_MINUTE",
        "CHANNEL_PUBLICATIONS_PER_MINUTE",
        "RATE_LIMIT_MAX_REQUESTS",
    ),
    "0",
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    :ivar pid: its (master) process.
    """

    name: ServerName
    pid: int
    port: int


def command(name: ServerName) -> list[str]:
    """The command that starts a server.

    :raises BenchError: if something it needs is not installed; the text says what to do.
    """
    if name == "sendloop":
        script = REPOSITORY / "bench" / "sendloop.py"
        if not script.exists():
            raise BenchError(f"{script} does not exist: benchmarks run from a checkout of the repository")
        return [sys.executable, str(script)]
    if name == "npm":
        peer, node = REPOSITORY / "bench" / "peer", shutil.which("node")
        if node is None or not (peer / "node_modules" / "socket.io").is_dir():
            raise BenchError("the npm peer needs Node.js and `npm ci --prefix bench/peer`")
        return [node, str(peer / "server.js")]
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise BenchError(f"{twistd} does not exist: install mechamap-rt into this virtualenv")
    return [str(twistd), "-n", "--pidfile=", "mechamap"]


def environment(port: int, home: str) -> dict[str, str]:
    """The whole environment of a server: secrets made for the benchmark, no limits, nothing inherited."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": home,
        "PYTHONPATH": str(REPOSITORY),
        "PORT": str(port),
        "HOST": HOST,
        "JWT_SECRET": JWT_SECRET,
        "LARAVEL_API_KEY": API_KEY,
        "ADMIN_KEY": "benchmark-admin-key-of-at-least-32-bytes",
        "NODE_ENV": "development",
        **_NO_LIMITS,
    }


def free_port() -> int:
    """A port of the loopback address that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Processes started inside run on this core, if there are two to choose from."""
    allowed = os.sched_getaffinity(0)
    if not {SERVER_CPU, GENERATOR_CPU} <= allowed:
        yield
        return
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def running(name: ServerName) -> Iterator[Server]:
    """A server, started, ready, and ended at the end.

    :raises BenchError: if it does not become ready.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mechamap-bench-") as home:
        log = Path(home) / "log"
        with log.open("wb") as output, pinned(SERVER_CPU):
            process = subprocess.Popen(
                command(name),
                cwd=home,
                env=environment(port, home),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _await_health(process, port, log)
            yield Server(name, process.pid, port)
        finally:
            _end(process)


def _await_health(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=2)
        try:
            connection.request("GET", "/api/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    status = process.poll()
    what = "was not ready in time" if status is None else f"ended with {status} before it was ready"
    raise BenchError(f"the server {what}; its last words: {log.read_text(errors='replace').strip()[-500:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, and end it and what it started if it does not."""
    family = process_tree(process.pid) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        for pid in family[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.kill()
        process.wait(_STOP_TIMEOUT)
