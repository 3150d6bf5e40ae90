"""What systemd does with a unit, as far as a server notices: its command line, its socket for notices, its signals."""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.server import START_LIMIT, STOP_LIMIT, inherited

ETC: Final = Path(__file__).parents[2] / "etc"


def directives(unit: str) -> dict[str, list[str]]:
    """The values of a unit file's directives, in the order in which they stand there."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


class Manager:
    """Runs the command of a unit.

    :param command: ``ExecStart=``, with paths of this machine.
    """

    def __init__(self, folder: Path, command: str, environment: Mapping[str, str]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self.log = folder / "output"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                shlex.split(command),
                cwd="/",
                env=inherited() | {"NOTIFY_SOCKET": str(folder / "notify")} | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def told(self, notice: str) -> float:
        """Wait until the server says so; the seconds it took."""
        began = time.monotonic()
        deadline = began + START_LIMIT
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            with contextlib.suppress(TimeoutError):
                if notice in self._socket.recv(65536).decode().splitlines():
                    return time.monotonic() - began
        raise AssertionError(f"no {notice} within {START_LIMIT:g} s:\n{self.log.read_text()}")

    def execute(self, command: str) -> None:
        """``ExecReload=``."""
        subprocess.run(shlex.split(command.replace("$MAINPID", str(self._process.pid))), check=True, timeout=STOP_LIMIT)

    def stop(self) -> int:
        """As ``systemctl stop``; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_LIMIT)

    def end(self) -> None:
        """Make sure that the process is gone; safe at any time."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._socket.close()
