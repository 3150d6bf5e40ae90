"""Against the limits of production: a load says which one it ran into, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.bench import Run, run
from tests.server import Server

#: As they are without a setting.
DEFAULT = dict.fromkeys(
    ("MAX_CONNECTIONS_PER_USER", "MAX_CONNECTIONS_PER_IP", "CONNECTION_ATTEMPTS_PER_MINUTE", "RATE_LIMIT_MAX_REQUESTS")
)


@pytest.fixture
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of each test's own: a minute's attempts are remembered."""
    one = Server.start(tmp_path_factory.mktemp("server"), DEFAULT)
    try:
        yield one
    finally:
        one.end()


def connect(server: Server, folder: Path, *words: str) -> Run:
    done = run(server, "connections", server.url, "--rate", "300", "--hold", "0.2", *words, folder=folder)
    assert done.status == 1, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("protocol", ["socketio", "native"])
def test_connections_of_a_user(limited: Server, tmp_path: Path, protocol: str) -> None:
    done = connect(limited, tmp_path, "--count", "20", "--users", "2", "--protocol", protocol)
    assert (done.counts["kept"], done.reasons) == (10, {"user_limit_reached": 10})
    assert done.advice.startswith("MAX_CONNECTIONS_PER_USER (default 5)")
    assert "--users" in done.advice


@pytest.mark.parametrize("way", [("--protocol", "native"), ("--protocol", "socketio"), ("--transport", "polling")])
def test_connections_of_an_address(limited: Server, tmp_path: Path, way: tuple[str, ...]) -> None:
    done = connect(limited, tmp_path, "--count", "150", *way)
    assert done.counts["kept"] == 100
    assert done.reasons.keys() <= {"connection_throttled", "HTTP 429 at the handshake"}
    assert "MAX_CONNECTIONS_PER_IP (default 100) is reached: refused with 100 connections" in done.advice
    assert "CONNECTION_ATTEMPTS" not in done.advice


def test_attempts_of_a_user(limited: Server, tmp_path: Path) -> None:
    done = connect(limited, tmp_path, "--count", "45", "--users", "1", "--rate", "60")
    assert done.counts["kept"] == 5
    assert done.reasons == {"user_limit_reached": 25, "connection_throttled": 15}
    assert "CONNECTION_ATTEMPTS_PER_MINUTE (default 30) is reached: a user was refused at attempt 31" in done.advice
    assert "MAX_CONNECTIONS_PER_IP" not in done.advice


def test_requests_of_a_key(limited: Server, tmp_path: Path) -> None:
    done = run(limited, "fanout", limited.url, "--subscribers", "2", "--rate", "200", "--seconds", "2", folder=tmp_path)
    assert done.status == 1
    assert done.counts["accepted"] == 300
    assert done.reasons == {"HTTP 429": 100}
    assert done.counts["delivered"] == done.counts["expected"] == 600
    assert done.advice.startswith("RATE_LIMIT_MAX_REQUESTS (default 300 a minute")


def test_requests_of_an_address(limited: Server, tmp_path: Path) -> None:
    done = run(limited, "http", f"{limited.url}/api/status", "-n", "350", "-k", folder=tmp_path)
    assert (done.counts["status 200"], done.counts["status 429"]) == (300, 50)
    assert "RATE_LIMIT_MAX_REQUESTS" in done.advice
    assert "asks to come back in" in done.advice
