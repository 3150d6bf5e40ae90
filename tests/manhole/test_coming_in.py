"""Who gets in by the manhole, and who does not: a real server, and OpenSSH's client."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.clients import ssh
from tests.clients.ssh import Sitting, run, told, way
from tests.clients.waiting import until
from tests.conftest import StartServer
from tests.manhole.conftest import WithManhole
from tests.server import START_LIMIT, Server


def acts(server: Server, action: str = "manhole") -> list[dict[str, Any]]:
    lines = (server.folder / "audit.log").read_bytes().splitlines()
    return [act for act in map(json.loads, lines) if act["action"].startswith(action)]


def noted(server: Server, count: int) -> list[dict[str, Any]]:
    path = server.folder / "audit.log"
    until(lambda: path.exists() and len(acts(server)) >= count, lambda: f"{count} acts in {path.read_text()}")
    return acts(server)


# -- who --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_is_let_in(either: Server, keys: Path, kind: str) -> None:
    assert told(either, keys / kind, "1", "1 + 1\n") == "2\n"


def test_any_other_key_is_not(either: Server, keys: Path) -> None:
    done = run(way(either, keys / "stranger"), "1 + 1\n")
    assert (done.returncode, done.stdout) == (255, "")
    assert "Permission denied (publickey)" in done.stderr


def test_passwords_are_not(either: Server, keys: Path) -> None:
    """``ssh`` names the ways that the server offers."""
    asked = ("-o", "PreferredAuthentications=password,keyboard-interactive,none")
    done = run(way(either, keys / "ed25519", "", *asked), "1 + 1\n")
    assert (done.returncode, done.stdout) == (255, "")
    assert "Permission denied (publickey)." in done.stderr


def test_ssh_rsa_is_not(either: Server, keys: Path) -> None:
    """Signatures with SHA-1, of a key that is let in."""
    old = ("-o", "PubkeyAcceptedAlgorithms=ssh-rsa")
    done = run(way(either, keys / "rsa", "", *old), "1 + 1\n")
    assert (done.returncode, done.stdout) == (255, "")


@pytest.mark.parametrize(
    "old",
    [
        "Ciphers=aes256-cbc,3des-cbc",
        "MACs=hmac-sha1,hmac-md5",
        "KexAlgorithms=diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1",
    ],
)
def test_old_algorithms_are_not_spoken(single: Server, key: Path, old: str) -> None:
    done = run(way(single, key, "", "-o", old), "1 + 1\n")
    assert (done.returncode, done.stdout) == (255, "")
    assert "no matching" in done.stderr


def test_nothing_but_a_terminal_is_to_be_had(either: Server, key: Path) -> None:
    done = run(way(either, key, "", "-W", f"127.0.0.1:{either.port}"), "GET / HTTP/1.0\r\n\r\n")
    assert done.returncode == 255
    assert "administratively prohibited" in done.stderr
    done = run([*way(either, key, "", "-s"), "sftp"])
    assert done.returncode == 255
    assert "subsystem request failed" in done.stderr
    assert "Traceback" not in either.output()


def test_keys_are_those_of_the_moment(start_with_manhole: WithManhole, keys: Path, key: Path, tmp_path: Path) -> None:
    path = ssh.authorize(tmp_path / "authorized_keys", key)
    server = start_with_manhole(1, MANHOLE_AUTHORIZED_KEYS=str(path))
    assert run(way(server, keys / "stranger"), "1\n").returncode == 255
    ssh.authorize(path, key, keys / "stranger")
    assert told(server, keys / "stranger", "", "1\n") == "1\n"
    path.chmod(0o662)
    assert run(way(server, key), "1\n").returncode == 255
    said = "MANHOLE_AUTHORIZED_KEYS: must not be writable"
    until(lambda: said in server.output(), server.output)
    path.chmod(0o600)
    assert told(server, key, "", "1\n") == "1\n"
    path.unlink()
    assert run(way(server, key), "1\n").returncode == 255


def test_what_is_no_ssh_leaves_no_traceback(either: Server) -> None:
    port = either.control("manhole")["port"]
    for sent in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n" + bytes(64),
        b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14" + bytes(40),
    ):
        # the server may be gone before all is said
        with socket.create_connection(("127.0.0.1", port), 10) as connection, contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert "Traceback" not in either.output()


# -- where it is ------------------------------------------------------------------------------------


def test_it_is_on_loopback_only(cluster: Server) -> None:
    port = cluster.control("manhole")["port"]
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    # the address in hexadecimal, as the host's memory has it, and state 0A: listening
    found = re.findall(rf" ([0-9A-F]+):{port:04X} [0-9A-F:]+ 0A ", table)
    assert found == ["0100007F"]


def test_it_is_off(start_server: StartServer, keys: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server(
        MANHOLE_PORT=str(port),
        MANHOLE_AUTHORIZED_KEYS=str(keys / "authorized_keys"),
        MANHOLE_HOST_KEY=str(keys / "never"),
    )
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert server.refusal("manhole")["code"] == "NO_MANHOLE"
    assert not (keys / "never").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_of_it_is_imported_before_it_is_needed(
    start_server: StartServer, start_with_manhole: WithManhole, key: Path, workers: int
) -> None:
    """Every import of every process is in the log (``python -X importtime``)."""
    shown = {"PYTHONPROFILEIMPORTTIME": "1"}
    many = {"CLUSTER_ENABLED": "true", "CLUSTER_WORKERS": "1"} if workers else {}
    without = start_server(**shown, **many)
    assert without.get("/api/health").status_code == 200
    assert "mechamap_rt.transport.port" in without.output()
    assert "twisted.conch" not in without.output()
    server = start_with_manhole(workers, **shown)
    inside = re.compile(
        r"^.*\[worker 1\].*twisted\.conch.*$" if workers else r"^.*twisted\.conch\.manhole$", re.MULTILINE
    )
    assert inside.findall(server.output()) == []
    assert told(server, key, "1", "1\n") == "1\n"
    until(lambda: bool(inside.findall(server.output())), server.output)
    # SSH itself is the master's
    assert ("conch.ssh" in "".join(inside.findall(server.output()))) is False


# -- its own key ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_the_host_key_is_made_once(start_with_manhole: WithManhole, key: Path, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "host_key"
    found = []
    for _ in range(2):
        server = start_with_manhole(workers, MANHOLE_HOST_KEY=str(path))
        assert told(server, key, "1", "2\n") == "2\n"
        found.append((server.control("manhole")["host_key"], path.read_bytes()))
        server.stop()
    assert found[0] == found[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert ssh.fingerprint(path)


def test_the_host_key_is_in_the_state_directory(start_with_manhole: WithManhole, tmp_path: Path) -> None:
    server = start_with_manhole(0, MANHOLE_HOST_KEY=None, STATE_DIRECTORY=f"{tmp_path}:/elsewhere")
    assert server.control("manhole")["host_key"].startswith("ssh-ed25519 ")
    assert [each.name for each in tmp_path.iterdir()] == ["manhole_host_key"]


def test_or_beside_the_control_socket(start_with_manhole: WithManhole, tmp_path: Path) -> None:
    start_with_manhole(0, MANHOLE_HOST_KEY=None, RUNTIME_DIRECTORY=str(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["manhole_host_key"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_host_key_that_others_may_read(start_with_manhole: WithManhole, tmp_path: Path, workers: int) -> None:
    """Where it was set it is a fault of the settings; where it was found the server serves clients without it."""
    path = ssh.make_key(tmp_path, "ed25519", "manhole_host_key")
    path.chmod(0o640)
    server = start_with_manhole(workers, MANHOLE_HOST_KEY=None, STATE_DIRECTORY=str(tmp_path))
    assert server.get("/api/health").status_code == 200
    assert "The manhole is not open: the host key" in server.output()
    refusal = server.refusal("manhole")
    assert refusal["code"] == "NO_MANHOLE"
    assert "has mode 0640" in refusal["message"]


def test_a_port_that_is_taken(start_with_manhole: WithManhole, cluster: Server) -> None:
    server = start_with_manhole(0, MANHOLE_PORT=str(cluster.control("manhole")["port"]))
    assert server.get("/api/health").status_code == 200
    assert server.refusal("manhole")["code"] == "NO_MANHOLE"
    assert "The manhole is not open" in server.output()


def test_faults_are_named_at_the_start(tmp_path: Path, keys: Path) -> None:
    """With all others, and the port is not listened on."""
    (tmp_path / "host_key").write_text("none")
    (tmp_path / "host_key").chmod(0o604)
    faulty = {
        "MANHOLE_ENABLED": "true",
        "MANHOLE_AUTHORIZED_KEYS": str(tmp_path / "missing"),
        "MANHOLE_HOST_KEY": str(tmp_path / "host_key"),
        "WS_PING_TIMEOUT": "soon",
    }
    server = Server(tmp_path, faulty)
    try:
        assert server._process.wait(START_LIMIT) == 1
    finally:
        server.end()
    output = server.output()
    assert "MANHOLE_AUTHORIZED_KEYS: must be the path of a file that exists" in output
    assert "MANHOLE_HOST_KEY: must be open to its owner only (mode 0600), and has mode 0604" in output
    assert "WS_PING_TIMEOUT" in output


# -- what is written down ---------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_audit_log_has_who_came_and_who_did_not(
    start_with_manhole: WithManhole, keys: Path, key: Path, workers: int
) -> None:
    server = start_with_manhole(workers)
    node = server.control("status")["workers"][0]["node"]
    told(server, key, "1", "1\n")
    noted(server, 2)
    run(way(server, keys / "stranger", "1"), "1\n")
    noted(server, 3)
    command = way(server, key, "1")
    run([*command[:-1], "w99@127.0.0.1"], "1\n")
    found = noted(server, 4)
    by = {"kind": "ssh_key", "id": ssh.fingerprint(key)}
    where = {"user": "w1", "worker": 1, **({"node": node} if workers else {})}
    seconds = found[1]["target"].pop("seconds")
    assert 0 <= seconds < 10
    rows = [(act["actor"], act["action"], act["target"], act["outcome"], act["code"]) for act in found]
    stranger = {"kind": "ssh_key", "id": ssh.fingerprint(keys / "stranger")}
    assert rows == [
        (by, "manhole.login", where, "ok", None),
        (by, "manhole.logout", where, "ok", None),
        (stranger, "manhole.login", {"user": "w1", "tries": 1}, "refused", "UNAUTHORIZED"),
        (by, "manhole.login", {"user": "w99"}, "refused", "UNKNOWN_WORKER"),
    ]
    assert {act["address"] for act in found} == {"127.0.0.1"}
    assert {act["worker"] for act in found} == {"master" if workers else node}


def test_five_are_too_many(start_with_manhole: WithManhole, key: Path) -> None:
    server = start_with_manhole(2)
    sittings = [Sitting.begin(server, key, str(1 + number % 2)) for number in range(4)]
    try:
        done = run(way(server, key, "1"), "1\n")
        assert (done.returncode, done.stdout) == (1, "")
        assert "There are 4 sessions already." in done.stderr
        # who dies, dies without a farewell
        sittings.pop().kill()
        until(lambda: acts(server)[-1]["action"] == "manhole.logout", lambda: f"{acts(server)[-1]}")
        assert told(server, key, "1", "1\n") == "1\n"
    finally:
        for sitting in sittings:
            sitting.end()
    assert [act["code"] for act in acts(server) if act["outcome"] == "refused"] == ["TOO_MANY"]
