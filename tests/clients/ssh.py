"""OpenSSH's own client, at the manhole of a server."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.clients.waiting import until
from tests.server import Server, inherited

LIMIT = 20.0
#: Nothing of whoever runs the tests: no configuration, no agent, no question.
ALONE = ("-F", "none", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes")


def make_key(folder: Path, kind: str = "ed25519", name: str = "id") -> Path:
    """A new private key, the public half beside it (``.pub``)."""
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "somebody", "-f", str(path)]
    subprocess.run(command, check=True, timeout=LIMIT, capture_output=True)
    return path


def public(key: Path) -> str:
    """The line of authorized_keys."""
    return key.with_name(f"{key.name}.pub").read_text()


def fingerprint(key: Path) -> str:
    done = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(key)], check=True, capture_output=True, text=True, timeout=LIMIT
    )
    return done.stdout.split()[1]


def authorize(path: Path, *keys: Path) -> Path:
    """Write a file of authorized keys."""
    path.write_text("".join(public(key) for key in keys))
    path.chmod(0o600)
    return path


def way(server: Server, key: Path, to: str = "", *options: str) -> list[str]:
    """The ssh command that ``mechamapctl manhole`` gives.

    :param to: a worker's number, ``master``, or nothing.
    """
    ssh, *rest = server.control("manhole", *([to] if to else []), "-i", str(key))["command"]
    return [ssh, *ALONE, *options, *rest]


def run(command: Sequence[str], typed: str = "", limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
    """Run ssh with this standard input, which then ends."""
    return subprocess.run(
        command, input=typed, env=inherited(), capture_output=True, text=True, timeout=limit, check=False
    )


def told(server: Server, key: Path, to: str, typed: str) -> str:
    """What the shell answers, without a terminal; nothing in it may fail."""
    done = run(way(server, key, to, "-T"), typed)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


class Sitting:
    """A session that stays: ``ssh -tt``, typed into as by a person."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=inherited()
        )
        self.pid = self._process.pid
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def begin(cls, server: Server, key: Path, to: str = "") -> Self:
        """A session with its prompt there."""
        sitting = cls(way(server, key, to, "-tt"))
        try:
            sitting.until(">>> ")
        except BaseException:
            sitting.end()
            raise
        return sitting

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read1(65536):
            self._shown += data

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace")

    def until(self, text: str) -> None:
        """Wait until this is shown."""
        until(lambda: text in self.shown, lambda: f"no {text!r} in {self.shown!r}", LIMIT)

    def type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def ended(self) -> int:
        """Wait for the end; the status."""
        code = self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        return code

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT)

    def end(self) -> None:
        if self._process.poll() is None:
            self.kill()
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._reader.join(LIMIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.end()
