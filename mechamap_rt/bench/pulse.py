"""How late a server answers while something else happens to it.

``python -m mechamap_rt.bench.pulse HOST PORT PATH`` asks for PATH every 10 ms over one kept connection, until its
standard input ends, and prints how many microseconds after its time each question was answered. What was due while
an answer was missing counts from when it was due: who is away for 100 ms has been late for ten questions, not for one.
A process of its own, before all others in the queue for its core where that is allowed, so that it is not itself late.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import socket
import subprocess
import sys
import time
from typing import Final

import orjson

from mechamap_rt.bench.job import BenchError, Job

INTERVAL: Final = 0.01
_LIMIT = 30.0
_PRIORITY = 1
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)")


class Pulse:
    """Somebody who asks all the time, beside a load."""

    def __init__(self, job: Job) -> None:
        # the npm server has no /live
        path = "/live" if job.server == "mechamap" else "/api/health"
        self._words = [sys.executable, "-m", "mechamap_rt.bench.pulse", job.host, str(job.port), path]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Begin; returns when it has been answered for the first time.

        :raises BenchError: if it is not.
        """
        self._process = process = await asyncio.create_subprocess_exec(
            *self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        if await process.stdout.readline() != b"ready\n":
            raise BenchError("nobody answers")

    async def stop(self) -> list[int]:
        """End.

        :returns: in microseconds how late each question was answered.
        :raises BenchError: if one was not.
        """
        assert self._process is not None
        answer, _ = await self._process.communicate(b"")
        if self._process.returncode:
            raise BenchError("the server stopped answering")
        found: list[int] = orjson.loads(answer)
        return found


def _ask(connection: socket.socket, request: bytes) -> None:
    """One question, and its whole answer.

    :raises OSError: if there is none.
    """
    connection.sendall(request)
    answer = b""
    while True:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("closed")
        answer += chunk
        end = answer.find(b"\r\n\r\n")
        length = _LENGTH.search(answer, 0, end + 2) if end >= 0 else None
        if length is not None and len(answer) >= end + 4 + int(length[1]):
            return


def main(host: str, port: str, path: str) -> int:
    """Ask until told to stop."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    late: list[int] = []
    with socket.create_connection((host, int(port)), _LIMIT) as connection:
        _ask(connection, request)
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        print("ready", flush=True)
        due = time.monotonic()
        while not select.select([0], [], [], max(0.0, due - time.monotonic()))[0]:
            _ask(connection, request)
            now = time.monotonic()
            while due <= now:
                late.append(int((now - due) * 1e6))
                due += INTERVAL
    print(orjson.dumps(late).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
