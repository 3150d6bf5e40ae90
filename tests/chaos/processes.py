"""The processes of a server: who they are, what they hold, and how to do them harm."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.waiting import until
from tests.server import Server

_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Read by every Python of a server that has its folder in PYTHONPATH: it does to a worker what a file asks for.
#: ``die`` ends workers at their start, ``slow`` (seconds) holds back one start and ``slower`` each, ``grow-PID``
#: (megabytes) makes one larger, ``hang-PID`` has its reactor loop, ``talk-PID`` has it log 200 kB.
_SITECUSTOMIZE = """
import os, signal, threading, time
here = os.path.dirname(__file__)
if "MECHAMAP_WORKER" in os.environ:
    if os.path.exists(os.path.join(here, "die")):
        os.kill(os.getpid(), signal.SIGKILL)
    def hold_back(name):
        with open(name) as file:
            time.sleep(float(file.read()))
    mine = os.path.join(here, "slow-%d" % os.getpid())
    try:
        os.rename(os.path.join(here, "slow"), mine)
        hold_back(mine)
    except OSError:
        if os.path.exists(os.path.join(here, "slower")):
            hold_back(os.path.join(here, "slower"))
    kept = []
    def chaos_hangs_here():
        while True:
            time.sleep(0.01)
    def watch():
        grow, hang, talk = (os.path.join(here, "%s-%d" % (what, os.getpid())) for what in ("grow", "hang", "talk"))
        while True:
            time.sleep(0.1)
            if os.path.exists(grow):
                with open(grow) as file:
                    text = file.read()
                if text:
                    os.unlink(grow)
                    kept.append(bytearray(b"x" * (int(text) << 20)))
            if os.path.exists(talk):
                os.unlink(talk)
                from twisted.internet import reactor
                from twisted.logger import Logger
                for _ in range(200):
                    reactor.callFromThread(Logger("chaos").info, "x" * 1000)
            if os.path.exists(hang):
                from twisted.internet import reactor
                reactor.callFromThread(chaos_hangs_here)
                return
    threading.Thread(target=watch, daemon=True).start()
"""


class Harm:
    """What is asked of workers through files.

    :ivar folder: for ``PYTHONPATH``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)

    def let_starts_fail(self) -> None:
        (self.folder / "die").touch()

    def let_starts_work(self) -> None:
        (self.folder / "die").unlink(missing_ok=True)

    def slow_start(self, seconds: float, *, each: bool = False) -> None:
        """Hold back the next worker that starts, or each."""
        (self.folder / ("slower" if each else "slow")).write_text(str(seconds))

    def held_back(self) -> int:
        """The process whose start :meth:`slow_start` holds back; 0 as long as there is none."""
        return next((int(path.name.removeprefix("slow-")) for path in self.folder.glob("slow-*")), 0)

    def grow(self, pid: int, megabytes: int) -> None:
        (self.folder / f"grow-{pid}").write_text(str(megabytes))

    def talk(self, pid: int) -> None:
        (self.folder / f"talk-{pid}").touch()

    def hang(self, pid: int) -> None:
        (self.folder / f"hang-{pid}").touch()


def status(server: Server) -> dict[str, Any]:
    """As ``mechamapctl --json status``, without a process for it."""
    return Operation(server, "status").result()


class Operation:
    """One command to the server that one need not wait for."""

    def __init__(self, server: Server, command: str, **arguments: Any) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(server.control_path))
        self._lines = self._socket.makefile("rb")
        self._socket.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")

    def progress(self, text: str) -> None:
        """Wait until it says something with ``text``."""
        for line in self._lines:
            said = json.loads(line)
            assert "progress" in said, f"{said} before {text!r}"
            if text in str(said["progress"]):
                return
        raise AssertionError(f"the connection ended before {text!r}")

    def answer(self) -> dict[str, Any]:
        """The last word: ``ok`` and ``result``, or ``error``; empty when the server has closed before."""
        with self._socket, self._lines:
            last: dict[str, Any] = {}
            with contextlib.suppress(ConnectionError):
                for line in self._lines:
                    last = json.loads(line)
            return {} if "progress" in last else last

    def result(self) -> dict[str, Any]:
        """What came of it."""
        said = self.answer()
        assert said.get("ok"), said
        result: dict[str, Any] = said["result"]
        return result


def workers(server: Server) -> dict[str, int]:
    """Names and process ids of the workers that take clients."""
    return {each["node"]: each["pid"] for each in status(server)["workers"] if each["state"] == "ready"}


def wait_for_workers(server: Server, count: int, limit: float = 15.0, without: int = 0) -> dict[str, int]:
    """Wait until so many take clients, and that one is not among them."""

    def there() -> bool:
        found = workers(server)
        return len(found) == count and without not in found.values() and len(status(server)["workers"]) == count

    until(there, lambda: f"{count} workers: {status(server)['workers']}\n{server.output()[-3000:]}", limit)
    return workers(server)


def belonging(server: Server) -> list[int]:
    """Every process of the server, whoever its parent is."""
    mark = b"CONTROL_SOCKET=" + os.fsencode(server.control_path)
    return [pid for pid in _pids() if mark in _read(pid, "environ").split(b"\0") and _read(pid, "cmdline")]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def wait_until_gone(server: Server, limit: float = 5.0) -> float:
    """Wait until no process is left; the seconds it took."""
    began = time.monotonic()
    until(lambda: not belonging(server), lambda: f"left: {belonging(server)}\n{server.output()[-4000:]}", limit)
    return time.monotonic() - began


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(_read(pid, "statm").split()[1]) * _PAGE


def listens(pid: int) -> bool:
    """Is there a listening TCP socket among its descriptors?"""
    inodes = {line.split()[9] for line in _read(pid, "net/tcp").splitlines()[1:] if line.split()[3] == b"0A"}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if target.startswith("socket:[") and target[8:-1].encode() in inodes:
                return True
    return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that is there, and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def end(server: Server) -> None:
    """Make sure that nothing is left, whatever was done to it."""
    for pid in belonging(server):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    server.end()
    for pid in belonging(server):
        with contextlib.suppress(ProcessLookupError):
            kill(pid)
