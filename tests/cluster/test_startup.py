"""How a cluster starts and ends: sockets, privileges, processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import CLUSTER, StartServer
from tests.nginx import free_ports
from tests.server import SETTINGS, STOP_LIMIT, Server, inherited, mechamapctl

TWISTD = Path(sys.executable).with_name("twistd")
NOBODY = 65534
#: Makes its first descriptors what systemd passes, then becomes the server.
LAUNCHER = """
import os, socket, sys
bound = []
for place in range(2):
    one = socket.create_server(("127.0.0.1", 0))
    bound.append(one)
path = os.environ.pop("UNIX_PATH")
unix = socket.socket(socket.AF_UNIX)
unix.bind(path)
unix.listen()
bound.append(unix)
for place, one in enumerate(bound):
    os.dup2(os.dup(one.fileno()) if one.fileno() < 64 else one.fileno(), 64 + place)
for place in range(len(bound)):
    os.dup2(64 + place, 3 + place)
    os.set_inheritable(3 + place, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", LISTEN_FDNAMES="web:api:unix")
os.execv(sys.argv[1], sys.argv[1:])
"""


def health_over_unix(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(STOP_LIMIT)
        one.connect(str(path))
        one.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := one.recv(65_536):
            answer += data
    return answer


def processes_of(server: Server) -> list[int]:
    return [server.pid, *(row["pid"] for row in server.workers())]


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def failed_start(folder: Path, **settings: str) -> str:
    """What a server printed that could not start; its status must be 1."""
    done = subprocess.run(
        [TWISTD, "-n", "--pidfile=", "mechamap"],
        cwd=folder,
        env=inherited() | SETTINGS | CLUSTER | {"CONTROL_SOCKET": str(folder / "control.sock")} | settings,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def complaints(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("The server cannot start: ")]


# -- sockets ---------------------------------------------------------------------------------------


def test_an_address_in_use(tmp_path: Path, cluster: Server) -> None:
    output = failed_start(tmp_path, PORT=str(cluster.port))
    assert complaints(output) == [f"The server cannot start: 127.0.0.1:{cluster.port}: already in use"]
    assert [*tmp_path.glob("*.sock")] == []


def test_every_address_in_use_is_named(tmp_path: Path, cluster: Server) -> None:
    listen = f"tcp:127.0.0.1:{cluster.port},unix:{cluster.control_path},tcp:127.0.0.1:0"
    assert len(complaints(failed_start(tmp_path, LISTEN=listen))) == 2
    assert cluster.control("status")["state"] == "running", "the other server's socket is still its own"


def test_several_sockets(start_cluster: StartServer, tmp_path: Path) -> None:
    """Two TCP ports and a unix socket serve the same clients; a dead server's socket is replaced."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    one, other = free_ports()
    server = start_cluster(2, LISTEN=f"tcp:127.0.0.1:{one},tcp:127.0.0.1:{other},unix:{path}")
    listening = server.control("status")["listening"]
    assert len(listening) == 3
    assert listening[2] == f"unix:{path}"
    state = path.stat()
    assert (stat.S_ISSOCK(state.st_mode), stat.S_IMODE(state.st_mode)) == (True, 0o660)
    assert stat.S_IMODE(server.control_path.stat().st_mode) == 0o600
    for url in listening[:2]:
        assert requests.get(f"{url}/api/health", timeout=5).status_code == 200
        with NativeClient.open(url.replace("http", "ws") + "/ws", header=server.token(1)) as client:
            client.greeted()
    assert health_over_unix(path).startswith(b"HTTP/1.1 200 OK")
    server.stop()
    assert not path.exists()
    assert not server.control_path.exists()


def test_sockets_that_systemd_passes(tmp_path: Path) -> None:
    path = tmp_path / "passed.sock"
    launcher = (sys.executable, "-c", LAUNCHER, str(TWISTD))
    server = Server.start(tmp_path, CLUSTER | {"LISTEN": "systemd", "UNIX_PATH": str(path)}, launcher)
    try:
        listening = server.control("status")["listening"]
        assert len(listening) == 3
        for _ in range(6):
            for url in listening[:2]:
                assert requests.get(f"{url}/api/health", timeout=5).status_code == 200
            assert health_over_unix(path).startswith(b"HTTP/1.1 200 OK")
        server.control("reload", "--drain", "0")
        assert requests.get(f"{listening[1]}/api/health", timeout=5).status_code == 200
        server.stop()
        assert path.exists(), "it is systemd's"
    finally:
        server.end()


# -- privileges ------------------------------------------------------------------------------------


@pytest.fixture
def python() -> list[str]:
    """A ``twistd`` that the user nobody can run too: this virtualenv's interpreter may be in root's home."""
    base = Path(os.path.realpath(sys.executable))
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in base.parents):
        return [str(TWISTD)]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(version, path="/usr/bin:/usr/local/bin")
    if found is None:
        pytest.fail(f"no {version} that every user can run; on Debian: apt-get install {version}", pytrace=False)
    code = f"import sys; sys.path[:0] = {[str(Path.cwd()), *(each for each in sys.path if 'site-packages' in each)]!r};"
    return [found, "-c", f"{code} sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"]


@pytest.fixture
def root() -> None:
    """Only root can give up privileges. A CI must be it, for there every test counts."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("only root can give up privileges: run the tests as root", pytrace=False)
        pytest.skip("only root can give up privileges")


@pytest.fixture
def private(root: None) -> Iterator[Path]:
    """A folder of nobody's."""
    with tempfile.TemporaryDirectory(prefix="mechamap-") as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


def low_port() -> int:
    for port in range(1023, 600, -1):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port below 1024")


def test_privileges_are_given_up_after_binding(private: Path, python: list[str]) -> None:
    port = low_port()
    settings = CLUSTER | {"PORT": str(port), "CLUSTER_WORKERS": "2", "TMPDIR": str(private)}
    server = Server.start(private, settings, [*python, f"--uid={NOBODY}", f"--gid={NOBODY}"])
    try:
        assert server.port == port
        for pid in processes_of(server):
            for name in ("Uid", "Gid"):
                (line,) = (
                    line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name)
                )
                assert set(line.split()[1:]) == {str(NOBODY)}, f"process {pid} has {line}"
        state = server.control_path.stat()
        assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (NOBODY, 0o600)
        operator = python[0] if python[1:] else mechamapctl(server.control_path)[0]
        if python[1:]:
            code = python[2].partition("sys.argv[0]")[0] + " from mechamap_rt.cli.main import main; main()"
            command = [operator, "-c", code, "--socket", str(server.control_path), "reload", "--drain", "0"]
        else:
            command = mechamapctl(server.control_path, "reload", "--drain", "0")
        done = subprocess.run(
            command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        assert server.get("/api/health").status_code == 200
        server.stop()
        assert not server.control_path.exists()
    finally:
        server.end()


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_behind(start_cluster: StartServer, tmp_path: Path, number: signal.Signals) -> None:
    """Clients, half a request and (at SIGTERM) a client that does not read: gone within 5 s, all of it."""
    path = tmp_path / "web.sock"
    (port, _) = free_ports()
    server = start_cluster(LISTEN=f"tcp:127.0.0.1:{port},unix:{path}")
    pids = processes_of(server)
    clients = [NativeClient.open(server.ws_url, header=server.token(user)) for user in range(1, 10)]
    stalled = NativeClient.open(server.ws_url, header=server.token(20), reads_ahead=1)
    try:
        for client in [*clients, stalled]:
            client.greeted()
        for place in range(40 if number == signal.SIGTERM else 0):
            server.publish("private-user.20", "note", {"n": place, "padding": "x" * 100_000})
        with socket.create_connection(("127.0.0.1", port)) as halfway:
            halfway.sendall(b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            if number == signal.SIGINT:
                server.signal(number)
                until(lambda: not is_there(server.pid), lambda: "it is still there", STOP_LIMIT)
            else:
                assert server.stop() < STOP_LIMIT
        for client in clients:
            assert client.closed() == (1012, "service_restart")
    finally:
        for client in [*clients, stalled]:
            client.connection.close_socket() if client is stalled else client.connection.close()
    assert [pid for pid in pids if is_there(pid)] == []
    assert not path.exists()
    assert not server.control_path.exists()
    again = start_cluster(1, PORT=str(port))
    assert again.port == port
