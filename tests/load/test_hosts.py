"""A load goes to this machine and nowhere else, unless the operator says whose the other one is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.load.bench import Run, run

COMMANDS = ("connections", "fanout", "http")
ENV = {"JWT_SECRET": "j" * 40, "LARAVEL_API_KEY": "k" * 40}


class Listener:
    """Counts who connects, on all of this machine's addresses.

    :param answer: what each is sent before the end; nothing while it is empty.
    """

    def __init__(self, answer: bytes = b"") -> None:
        self._socket = socket.create_server(("0.0.0.0", 0))
        self.port = int(self._socket.getsockname()[1])
        self.answer = answer
        self.accepted = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            with closing(client):
                client.settimeout(5)
                try:
                    # the prober only looks whether somebody is there
                    if client.recv(65536) and self.answer:
                        client.sendall(self.answer)
                except OSError:
                    pass

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@contextmanager
def listening(answer: bytes = b"") -> Iterator[Listener]:
    one = Listener(answer)
    try:
        yield one
    finally:
        one.end()


def short(command: str, url: str, folder: Path, *words: str) -> Run:
    few = {"connections": ("--count", "2", "--hold", "0"), "fanout": ("--subscribers", "2"), "http": ("-n", "2")}
    return run(None, command, url, *few[command], "--timeout", "2", *words, folder=folder, env=ENV)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("host", ["0.0.0.0", "0", "[::]", "192.0.2.1"])
def test_another_host_is_refused_without_a_connection(command: str, host: str, tmp_path: Path) -> None:
    """``0`` is a name as far as the URL goes: only the system's resolver makes an address of it."""
    with listening() as listener:
        done = short(command, f"http://{host}:{listener.port}", tmp_path)
        assert (done.status, done.report) == (2, {})
        assert "is not a loopback address" in done.stderr
        assert "--i-own-this-host" in done.stderr
        assert listener.accepted == 0


def test_the_operator_may_say_that_it_is_theirs(tmp_path: Path) -> None:
    with listening(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n") as listener:
        done = short("http", f"http://0.0.0.0:{listener.port}", tmp_path, "--i-own-this-host")
        assert done.status == 0, done.stderr
        assert done.counts["status 204"] == 2
        assert listener.accepted == 3


@pytest.mark.parametrize("words", [("http",), ("fanout",), ("connections",), ("connections", "--transport", "polling")])
def test_a_redirect_is_not_followed(words: tuple[str, ...], tmp_path: Path) -> None:
    with listening() as elsewhere:
        head = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\nConnection: close\r\n"
        with listening(f"{head}Content-Length: 0\r\n\r\n".encode()) as listener:
            done = short(words[0], f"http://127.0.0.1:{listener.port}", tmp_path, *words[1:])
            assert done.status == 1, done.stderr
            assert listener.accepted == 3
        (reason,) = done.reasons
        assert reason.startswith("HTTP 302 (a redirect, not followed)")
        assert elsewhere.accepted == 0


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2p1 something\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
@pytest.mark.parametrize("words", [("http",), ("fanout",), ("connections",), ("connections", "--transport", "polling")])
def test_what_is_no_such_server_fails_in_words(words: tuple[str, ...], answer: bytes, tmp_path: Path) -> None:
    with listening(answer) as listener:
        done = short(words[0], f"http://127.0.0.1:{listener.port}", tmp_path, *words[1:])
    assert done.status == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert sum(done.reasons.values()) == 2
    assert done.report["measured"]["latency_ms"]["count"] == 0
