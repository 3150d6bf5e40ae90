"""``mechamapctl`` as a process: on a terminal, in a pipe, interrupted; and that it starts quickly."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.answers import connection, status, worker
from tests.cli.conftest import Listen
from tests.cli.standin import result, saying
from tests.clients.waiting import LIMIT, until

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "mechamap_rt.cli.main"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "TERM": "xterm-256color", **more}


def on_a_terminal(columns: int, *arguments: str, **environ: str) -> str:
    """What the command prints on a terminal of that width; escape sequences as they are."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(**environ),
    )
    os.close(slave)
    printed = b""
    try:
        while select.select([master], [], [], LIMIT)[0]:
            # EIO is how Linux says that nobody has the terminal open any more.
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            printed += chunk
        assert process.wait(LIMIT) == 0, printed.decode()
    finally:
        os.close(master)
        process.kill()
        process.wait()
    return printed.decode()


def test_a_wide_terminal(listen: Listen) -> None:
    listen(saying(result(**status(worker(4), worker(5, state="hung")))))
    printed = on_a_terminal(200, "--socket", "s", "status")
    assert "\x1b[1;31mhung" in printed
    assert "\x1b[32mready" in printed
    for text in ("subscriptions", "98,765,432", "http://127.0.0.1:3000"):
        assert text in printed
    assert "no room" not in printed


def test_no_colours_when_they_are_not_wanted(listen: Listen) -> None:
    listen(saying(result(workers=[worker(4)])))
    assert "\x1b[32m" not in on_a_terminal(200, "--socket", "s", "workers", NO_COLOR="1")


@pytest.mark.parametrize("columns", [80, 90, 100])
def test_a_narrow_terminal_has_fewer_columns_and_whole_numbers(listen: Listen, columns: int) -> None:
    listen(saying(result(workers=[worker(4), worker(123)])))
    printed = on_a_terminal(columns, "--socket", "s", "workers")
    printed = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert all(len(line) <= columns for line in printed.splitlines() if not line.startswith("no room"))
    assert "no room for: " in printed
    assert "…" not in printed
    for text in ("3 h 12 min", "12,345", "87.4 MB", "0.8 ms", "ready"):
        assert printed.count(text) == 2


def test_names_of_strangers_on_a_terminal(listen: Listen) -> None:
    listen(saying(result(total=1, users=1, connections=[connection(5, name="[red]\x1b[2Jx", address="[::1]")])))
    printed = on_a_terminal(200, "--socket", "s", "connections")
    assert "[red]\\x1b[2Jx" in printed
    assert "[::1]" in printed
    assert "\x1b[2J" not in printed


def test_a_stream_without_the_letters(listen: Listen) -> None:
    listen(saying(result(total=1, users=1, connections=[connection(5)])))
    environ = environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    done = subprocess.run(
        [*COMMAND, "--socket", "s", "connections"], env=environ, capture_output=True, timeout=LIMIT, check=True
    )
    assert b"Nguy\\u1ec5n An" in done.stdout


def hold(connection: socket.socket, request: dict[str, Any]) -> None:
    """One line of a log, and then nothing until the client leaves."""
    connection.sendall(json.dumps({"progress": {"line": "first"}}).encode() + b"\n")
    connection.recv(1)


def test_an_interrupt_ends_a_log_silently(listen: Listen) -> None:
    listen(hold)
    process = subprocess.Popen(
        [*COMMAND, "--socket", "s", "logs", "-f"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_log_goes_on_longer_than_the_time_limit_of_quick_commands(listen: Listen) -> None:
    gate = threading.Event()

    def slow(connection: socket.socket, request: dict[str, Any]) -> None:
        gate.wait(LIMIT)
        hold(connection, request)

    server = listen(slow)
    program = "from mechamap_rt.cli import control, main; control.QUICK = 0.1; main.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--socket", "s", "logs", "-f"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: bool(server.requests), lambda: "a request")
        time.sleep(0.3)
        gate.set()
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("arguments", [["logs"], ["workers"], ["workers", "--json"], ["check-config"]])
def test_a_pipe_that_is_closed(listen: Listen, arguments: list[str]) -> None:
    lines = [{"progress": {"line": "x" * 100}}] * (2000 if arguments == ["logs"] else 0)
    listen(saying(*lines, result(workers=[worker(number) for number in range(1, 500)])))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, "--socket", "s", *arguments],
            env=environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_the_client_starts_without_the_server(listen: Listen) -> None:
    listen(saying(result(**status(worker(4)))))
    program = (
        "import sys; from mechamap_rt.cli.main import main\n"
        "main(['status'], standalone_mode=False)\n"
        "sys.exit(str(sys.modules.keys() & {'twisted', 'rich', 'jwt', 'zope.interface'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(CONTROL_SOCKET="s"),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stderr == "set()\n"
    assert "abc004" in done.stdout


def test_a_shell_completes(listen: Listen) -> None:
    environ = environment(_MECHAMAPCTL_COMPLETE="bash_complete", COMP_WORDS="mechamapctl re", COMP_CWORD="1")
    program = "from mechamap_rt.cli.main import main; main(prog_name='mechamapctl')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.stdout.split() == ["plain,reload", "plain,restart"]
