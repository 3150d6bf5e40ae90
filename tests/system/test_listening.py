"""Sockets are bound once, with every fault named, and shared without being spoiled."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mechamap_rt.settings import Settings, load
from mechamap_rt.system.listening import Bound, ListenError, bind


def settings(**environ: str) -> Settings:
    return load(environ, None).settings


def listen(text: str, environ: dict[str, str] | None = None) -> list[Bound]:
    return bind(settings(LISTEN=text), {} if environ is None else environ)


def faults(text: str, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ListenError) as caught:
        listen(text, environ)
    return caught.value.faults


def close(bound: list[Bound]) -> None:
    for one in bound:
        one.unlink()
        one.socket.close()


def test_host_and_port_are_where_it_listens_by_default() -> None:
    bound = bind(settings(PORT="0"), {})
    [one] = bound
    port = one.socket.getsockname()[1]
    assert one.url == f"http://127.0.0.1:{port}"
    assert one.family == socket.AF_INET
    assert not one.socket.getblocking()
    assert not one.socket.get_inheritable()
    assert one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert faults(f"tcp:127.0.0.1:{port}") == (f"127.0.0.1:{port}: already in use",)
    socket.create_connection(("127.0.0.1", port)).close()
    close(bound)


def test_the_scheme_is_that_of_the_port() -> None:
    plain = settings(LISTEN="tcp:localhost:0")
    bound = bind(replace(plain, tls=replace(plain.tls, enabled=True)), {})
    assert bound[0].url.startswith("https://127.0.0.1:")
    close(bound)


def test_ipv6_and_both() -> None:
    bound = listen("tcp:[::1]:0,tcp:[::]:0")
    assert bound[0].url.startswith("http://[::1]:")
    assert bound[1].url.startswith("http://[::]:")
    socket.create_connection(("127.0.0.1", bound[1].socket.getsockname()[1])).close()
    close(bound)


def test_every_fault_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = other.getsockname()[1]
        listeners = f"unix:{path},tcp:127.0.0.1:{used},tcp:nowhere.invalid:80,tcp:192.0.2.1:80,unix:/nonexistent/x"
        assert faults(listeners) == (
            f"127.0.0.1:{used}: already in use",
            "nowhere.invalid:80: there is no host of this name",
            "192.0.2.1:80: not an address of this host",
            "unix:/nonexistent/x: the directory does not exist",
        )
    assert not path.exists()


def test_low_ports_need_a_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert faults("tcp:127.0.0.1:80,tcp:127.0.0.1:8080") == (
        "127.0.0.1:80: permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        "127.0.0.1:8080: permission denied",
    )


# unix


@pytest.mark.parametrize(("mode", "umask"), [(0o660, 0o022), (0o600, 0), (0o666, 0o077), (0o620, 0o777)])
def test_the_file_has_the_mode_that_was_asked_for(tmp_path: Path, mode: int, umask: int) -> None:
    path = tmp_path / "x"
    before = os.umask(umask)
    try:
        bound = listen(f"unix:{path}:{mode:o}")
    finally:
        assert os.umask(before) == umask
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert bound[0].url == f"unix:{path}"
    close(bound)
    assert not path.exists()


def test_it_is_never_more_open_than_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    seen = []
    monkeypatch.setattr(os, "chmod", lambda path, mode: seen.append(stat.S_IMODE(os.stat(path).st_mode)))
    before = os.umask(0)
    try:
        close(listen(f"unix:{path}:600"))
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_a_left_over_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
        old.listen()
        assert faults(f"unix:{path}") == (f"unix:{path}: already in use",)
    bound = listen(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(bound)


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_text("precious")
    link.symlink_to(path)
    assert faults(f"unix:{path},unix:{link}") == (
        f"unix:{path}: exists and is not a socket",
        f"unix:{link}: exists and is not a socket",
    )
    assert path.read_text() == "precious"


def test_only_its_own_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    [one] = listen(f"unix:{path}")
    path.rename(tmp_path / "kept")  # so that the inode is not used again
    path.write_text("another's")
    one.unlink()
    assert path.read_text() == "another's"
    path.unlink()
    one.unlink()
    one.socket.close()


# systemd

CHILD = """
import os, sys
from mechamap_rt.system.listening import ListenError, bind
from mechamap_rt.settings import load
environ = dict(os.environ, LISTEN_PID=sys.argv[2] if len(sys.argv) > 2 else str(os.getpid()))
try:
    bound = bind(load({"LISTEN": sys.argv[1]}, None).settings, environ)
except ListenError as error:
    print(*error.faults, sep="\\n")
else:
    for one in bound:
        print(one.url, one.made, one.socket.getblocking(), one.socket.get_inheritable())
print([name for name in environ if name.startswith("LISTEN")])
"""


def passed(text: str, sockets: list[socket.socket], names: str, pid: str = "") -> list[str]:
    """What a process prints to which ``sockets`` are passed, as systemd passes them."""
    shell = "import os, sys\nfor place, fd in enumerate(map(int, sys.argv[1].split(','))): os.dup2(fd, 100 + place)\n"
    shell += "for place in range(len(sys.argv[1].split(','))): os.dup2(100 + place, 3 + place)\n"
    shell += "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[2:]])"
    descriptors = ",".join(str(one.fileno()) for one in sockets)
    environ = {**os.environ, "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
    arguments = [sys.executable, "-c", shell, descriptors, CHILD, text, *filter(None, [pid])]
    done = subprocess.run(
        arguments, env=environ, pass_fds=[one.fileno() for one in sockets], check=True, capture_output=True, text=True
    )
    *lines, left = done.stdout.splitlines()
    assert left == "[]"
    return lines


def test_sockets_of_systemd(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
        socket.socket(socket.AF_UNIX) as third,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fourth,
    ):
        third.bind(path)
        third.listen()
        streams = [first, second, third]
        urls = [f"http://127.0.0.1:{one.getsockname()[1]} None False False" for one in streams[:2]]
        urls.append(f"unix:{path} None False False")
        assert passed("systemd", streams, "web:admin:web") == urls
        assert passed("systemd:web", streams, "web:admin:web") == [urls[0], urls[2]]
        assert passed("systemd:1,systemd:web", streams, "web:admin:web") == [urls[1], urls[0], urls[2]]
        assert passed("systemd:1", streams, "") == [urls[1]]
        assert passed("systemd:3,systemd:api", streams, "web") == [
            "systemd:3: systemd has passed 3 (web, unknown, unknown), not this one",
            "systemd:api: systemd has passed 3 (web, unknown, unknown), not this one",
        ]
        assert passed("systemd", [fourth], "web") == ["systemd: descriptor 3 is not a listening stream socket"]
        assert passed("systemd", streams, "web", pid="1") == [
            "systemd: the sockets of LISTEN_FDS are meant for another process (LISTEN_PID)"
        ]


@pytest.mark.parametrize("count", ["", "no", "-1", "0"])
def test_without_systemd(count: str) -> None:
    environ = {"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a"}
    [fault] = faults("systemd", environ)
    assert fault.startswith("systemd: systemd has passed no sockets")
    assert environ == {}
