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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mechamap_rt.bench import site
from mechamap_rt.bench.job import BenchError, ServerName, Site
from mechamap_rt.bench.procfs import process_tree
from mechamap_rt.cli.client import ask
from mechamap_rt.cli.failure import Failure

#: Those that are no process of their own: the one that measures runs them.
INSIDE: Final[tuple[ServerName, ...]] = ("inside", "pool", "adbapi")

HOST = "127.0.0.1"
JWT_SECRET = "benchmark-secret-of-at-least-32-bytes"
API_KEY = "benchmark-api-key-of-at-least-32-bytes"
REPOSITORY = Path(__file__).resolve().parents[2]
SERVER_CPU, GENERATOR_CPU = 0, 1
#: To the database, of a process that asks one.
CONNECTIONS: Final = 5

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
    ),
    "0",
)
#: HTTP requests are counted, as always, and none is too many.
_COUNTED = {"RATE_LIMIT_MAX_REQUESTS": str(10**9)}


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How many processes a server is, and where they run.

    :ivar workers: under a master; 0 for a single process without one.
    :ivar hosts: 2 are joined by a Redis, which is started with them.
    :ivar free: servers and load generator share all cores; otherwise each side has one of its own.
    :ivar connections: to the MariaDB that a single process asks, on the load generator's core; 0 for none.
    :ivar heartbeat: seconds between two heartbeats of a connection; 0 for the usual.
    :ivar unwatched: nothing is measured of it, and nothing remembered of its publications.
    """

    workers: int = 0
    hosts: int = 1
    free: bool = False
    connections: int = 0
    heartbeat: float = 0.0
    unwatched: bool = False


ALONE = Arrangement()


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    :ivar pid: its (master) process.
    :ivar others: further processes that belong to it.
    :ivar subscriber_port: where its subscribers connect.
    :ivar control: the operator's socket.
    :ivar site: the database that it asks.
    """

    name: ServerName
    pid: int
    port: int
    others: tuple[int, ...]
    subscriber_port: int
    control: str
    site: Site | None = None


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
        # then there are no notifications without a database of the site, and nothing comes unasked
        "DEMO_ENABLED": "false",
        "CONTROL_SOCKET": control_socket(home),
        **_NO_LIMITS,
        **_COUNTED,
    }


def control_socket(home: str) -> str:
    """The operator's socket of a server in that directory."""
    return f"{home}/control.sock"


def free_port() -> int:
    """A port of the loopback address that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Processes started inside run on this core, if there are two to choose from; on any for ``None``."""
    allowed = os.sched_getaffinity(0)
    if cpu is None or not {SERVER_CPU, GENERATOR_CPU} <= allowed:
        yield
        return
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def running(name: ServerName, arrangement: Arrangement = ALONE, database: Site | None = None) -> Iterator[Server]:
    """A server, started, ready, and ended at the end.

    :param database: for an arrangement that asks one.

    :raises BenchError: if it does not become ready.
    """
    cpu = None if arrangement.free else SERVER_CPU
    with contextlib.ExitStack() as stack:
        asked = database if arrangement.connections else None
        if name in INSIDE:
            yield Server(name, 0, 0, (), 0, "", asked)
            return
        if arrangement.hosts == 1:
            settings = {"CLUSTER_ENABLED": "true", "CLUSTER_WORKERS": str(arrangement.workers)}
            if not arrangement.workers:
                settings = site.settings(asked, arrangement.connections) if asked else {}
            if arrangement.heartbeat:
                settings["WS_PING_INTERVAL"] = f"{arrangement.heartbeat * 1000:.0f}"
            if arrangement.unwatched:
                settings["METRICS_ENABLED"] = "false"
            pid, port, home = stack.enter_context(_host(name, cpu, settings))
            _await_workers(home, arrangement.workers)
            yield Server(name, pid, port, (), port, control_socket(home), asked)
            return
        redis, redis_port = stack.enter_context(_redis(cpu))
        joined = {"REDIS_HOST": HOST, "REDIS_PORT": str(redis_port)}
        other, other_port, _ = stack.enter_context(_host(name, cpu, {**joined, "HOST_ID": "bbb"}))
        pid, port, home = stack.enter_context(_host(name, cpu, {**joined, "HOST_ID": "aaa"}))
        yield Server(name, pid, port, (other, redis), other_port, control_socket(home))


@contextlib.contextmanager
def _host(name: ServerName, cpu: int | None, settings: dict[str, str]) -> Iterator[tuple[int, int, str]]:
    """The server's process, port and directory on one host."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mechamap-bench-") as home:
        environ = environment(port, home) | settings
        with _process(command(name), home, environ, cpu) as process:
            _await(process, Path(home) / "log", lambda: _healthy(port))
            yield process.pid, port, home


@contextlib.contextmanager
def _redis(cpu: int | None) -> Iterator[tuple[int, int]]:
    """The process and port of a Redis that keeps nothing on disk."""
    program, port = shutil.which("redis-server"), free_port()
    if program is None:
        raise BenchError("redis-server is missing; on Debian: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="mechamap-bench-") as home:
        options = {"bind": HOST, "port": str(port), "dir": home, "save": "", "appendonly": "no", "daemonize": "no"}
        arguments = [word for option, value in options.items() for word in (f"--{option}", value)]
        with _process([program, *arguments], home, {"PATH": os.defpath}, cpu) as process:
            _await(process, Path(home) / "log", lambda: _connects(port))
            yield process.pid, port


@contextlib.contextmanager
def mariadb() -> Iterator[Site]:
    """A MariaDB with the site's tables, empty, and an account for the server; on the load generator's core.

    :raises BenchError: if it does not become ready.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mechamap-bench-") as home:
        words = site.install(home, port)
        with _process(words, home, {"PATH": os.defpath}, GENERATOR_CPU) as process:
            found = Site(process.pid, port, site.socket_of(home))
            _await(process, Path(home) / "log", lambda: site.answers(found))
            site.create(found)
            yield found


@contextlib.contextmanager
def _process(
    words: list[str], home: str, environ: dict[str, str], cpu: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, with its words in the file ``log``; ended at the end."""
    with (Path(home) / "log").open("wb") as output, pinned(cpu):
        process = subprocess.Popen(
            words, cwd=home, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        _end(process)


def _await(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return
        time.sleep(0.05)
    status = process.poll()
    what = "was not ready in time" if status is None else f"ended with {status} before it was ready"
    raise BenchError(f"the server {what}; its last words: {log.read_text(errors='replace').strip()[-500:]}")


def _connects(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 2).close()
    except OSError:
        return False
    return True


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _await_workers(home: str, workers: int) -> None:
    """Wait until so many workers take clients.

    :raises BenchError: if they do not in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT
    while workers:
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(control_socket(home))
            try:
                listed = ask(control, "workers", {}, _STOP_TIMEOUT, lambda progress: None)["workers"]
            except Failure as failure:
                listed, fault = [], failure.message
            else:
                fault = f"{listed}"
        if sum(worker["state"] == "ready" for worker in listed) == workers:
            return
        if time.monotonic() > deadline:
            raise BenchError(f"{workers} workers were not ready in time: {fault}")
        time.sleep(0.05)


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
