"""The suite against this server, and against the npm socket.io server: that both pass is what proves the suite.

All cases of one server run together, many at a time, when the first of them is asked for.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest

from tests.conformance.registry import CASES
from tests.conformance.suite import Result, discovered, run
from tests.conformance.target import Target
from tests.conftest import required
from tests.server import JWT_SECRET, START_LIMIT, Server

PEER = Path(__file__).with_name("peer")
NAMESPACES = ("/", "/admin")
MAX_PAYLOAD = 100_000
#: Milliseconds.
PING_INTERVAL, PING_TIMEOUT, CONNECT_TIMEOUT, UPGRADE_TIMEOUT = 300, 250, 500, 400


@contextmanager
def this_server(folder: Path) -> Iterator[Target]:
    server = Server.start(
        folder,
        {
            # without it no count of notifications is told, which the other server does not tell either
            "DEMO_ENABLED": "false",
            "WS_PING_INTERVAL": str(PING_INTERVAL),
            "WS_PING_TIMEOUT": str(PING_TIMEOUT),
            "CONNECTION_TIMEOUT": str(CONNECT_TIMEOUT),
            "WS_UPGRADE_TIMEOUT": str(UPGRADE_TIMEOUT),
            "WS_NAMESPACES": ",".join(NAMESPACES),
            "WS_MAX_HTTP_BUFFER_SIZE": str(MAX_PAYLOAD),
        },
    )
    try:
        yield target(server.url, frozenset("34"))
        server.stop()
    finally:
        server.end()


@contextmanager
def npm_server(folder: Path) -> Iterator[Target]:
    node = required("node", "nodejs")
    if not (PEER / "node_modules").is_dir():
        required("npm", "npm")
        pytest.fail("npm's socket.io is not installed; please run: make test-tools", pytrace=False)
    environment = {
        "PATH": os.environ["PATH"],
        "JWT_SECRET": JWT_SECRET,
        "PING_INTERVAL": str(PING_INTERVAL),
        "PING_TIMEOUT": str(PING_TIMEOUT),
        "CONNECT_TIMEOUT": str(CONNECT_TIMEOUT),
        "UPGRADE_TIMEOUT": str(UPGRADE_TIMEOUT),
        "NAMESPACES": ",".join(NAMESPACES),
        "MAX_PAYLOAD": str(MAX_PAYLOAD),
    }
    log = folder / "peer.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [node, "server.js"],
            cwd=PEER,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
        )
    overdue = threading.Timer(START_LIMIT, process.kill)
    overdue.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        overdue.cancel()
        match = re.match(r"Listening on (\S+)", line)
        assert match, f"the npm server did not start: {line!r}\n{log.read_text()}"
        yield target(match[1], frozenset("4"))
        assert process.poll() is None, f"the npm server ended by itself:\n{log.read_text()}"
    finally:
        overdue.cancel()
        process.kill()
        process.communicate()


def token() -> str:
    """A token that both servers take."""
    now = int(time.time())
    claims = {"userId": 5, "role": "member", "permissions": ["receive_notifications"], "iat": now, "exp": now + 3600}
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


def target(url: str, revisions: frozenset[str]) -> Target:
    return Target(
        url,
        token(),
        namespaces=NAMESPACES,
        connect_timeout=CONNECT_TIMEOUT / 1000,
        upgrade_timeout=UPGRADE_TIMEOUT / 1000,
        revisions=revisions,
    )


SERVERS = {"mechamap_rt": this_server, "npm": npm_server}


@pytest.fixture(scope="module", params=SERVERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What came of every case that was asked for, of one server."""
    parameters = [item.callspec.params for item in request.session.items if _is_case(item, request.path)]
    asked = {chosen["name"] for chosen in parameters if chosen["results"] == request.param}

    async def all_of_them(server: Target) -> dict[str, Result]:
        found = await discovered(server)
        expected = (PING_INTERVAL / 1000, PING_TIMEOUT / 1000, MAX_PAYLOAD)
        assert (found.ping_interval, found.ping_timeout, found.max_payload) == expected
        return await run(found, [name for name in CASES if name in asked])

    with SERVERS[request.param](tmp_path_factory.mktemp("conformance")) as server:
        return asyncio.run(all_of_them(server))


def _is_case(item: pytest.Item, path: Path) -> bool:
    return isinstance(item, pytest.Function) and item.path == path and item.originalname == "test_case"


@pytest.mark.parametrize("name", CASES)
def test_case(results: dict[str, Result], name: str) -> None:
    result = results[name]
    if result.outcome != "passed":
        pytest.fail(f"{result.case.rule}\n{result.outcome}: {result.why}", pytrace=False)


def test_command_line(server: Server) -> None:
    """The suite runs against any URL; its exit status says what came of it."""

    def suite(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tests.conformance", server.url, *options]
        done = subprocess.run(command, cwd=PEER.parents[2], capture_output=True, text=True, timeout=30)
        return done.returncode, done.stdout + done.stderr

    status, told = suite("--token", token(), "-k", "message.answered")
    assert status == 0 and "3 passed, 0 failed, 0 skipped" in told, told
    status, told = suite("--limit", "0.5", "-k", "message.answered[websocket]")
    assert status == 1 and "0 passed, 1 failed, 0 skipped" in told, told
    status, told = suite("--path", "/nowhere/")
    assert status == 2 and "no handshake" in told, told
