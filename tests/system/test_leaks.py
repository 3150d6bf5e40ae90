"""The search for secrets in the servers' logs finds them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import leaks
from tests.clients.native import NativeClient
from tests.conftest import CLUSTER, StartServer
from tests.mariadb import PASSWORD
from tests.server import ADMIN_KEY, JWT_SECRET, LARAVEL_API_KEY, SETTINGS

TOKEN = "17|" + "Zq0" * 16


@pytest.mark.parametrize("settings", [{}, CLUSTER | {"CLUSTER_WORKERS": "1"}], ids=["single", "cluster"])
@pytest.mark.parametrize("to_file", [False, True], ids=["stdout", "file"])
def test_a_planted_leak_fails(
    start_server: StartServer, tmp_path: Path, settings: dict[str, str], to_file: bool
) -> None:
    """The log says what an operator has asked for."""
    if to_file:
        settings = settings | {"LOG_FILE": str(tmp_path / "a.log"), "LOG_MAX_SIZE": "1k"}
    server = start_server(**settings)
    server.control("publish", "public.x", ADMIN_KEY)
    server.stop()
    assert (ADMIN_KEY in server.output()) != to_file
    with pytest.raises(AssertionError, match="ADMIN_KEY is in") as found:
        leaks.verify()
    assert ("a.log" if to_file else "server.log") in str(found.value)
    assert "audit.log" in str(found.value)
    leaks.verify()


def test_a_leak_is_found_however_it_is_written() -> None:
    given = SETTINGS | {"DB_PASSWORD": PASSWORD, "ADMIN_KEY_PREVIOUS": "the-first-of-them,the-second-of-them"}
    for secret in (
        JWT_SECRET,
        LARAVEL_API_KEY,
        PASSWORD,
        json.dumps(PASSWORD),
        repr(PASSWORD),
        quote(PASSWORD),
        "the-second-of-them",
        TOKEN,
        "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOjF9.c2ln",
    ):
        assert leaks.search(given, f"a line\nanother with {secret} in it\n"), secret
    assert not leaks.search(given, "a line\n  API key    " + LARAVEL_API_KEY + "\n")
    assert leaks.search(given, f"2026-01-01 API key {LARAVEL_API_KEY}\n")
    leaks.remember("5|handed-out-by-a-test")
    assert leaks.search({}, "it was handed-out-by-a-test")


@pytest.mark.parametrize("settings", [{}, CLUSTER | {"CLUSTER_WORKERS": "1"}], ids=["single", "cluster"])
def test_tokens_in_addresses_and_headers_are_not_logged(start_server: StartServer, settings: dict[str, str]) -> None:
    server = start_server(LOG_LEVEL="debug", **settings)
    good = server.token(5)
    for token in (good, TOKEN, "made-up-by-a-stranger"):
        leaks.remember(token)
        for path in ("/ws", "/socket.io/", "/api/health", "/nothing", "/api/broadcast"):
            server.get(f"{path}?token={token}&EIO=4&transport=polling", Authorization=f"Bearer {token}")
            server.post(f"{path}?token={token}", {"token": token}, key=False, X_Admin_Key=token)
    with NativeClient.open(server.ws_url, query=good) as client:
        client.ask(type="subscribe", id=1, channel="public.x")
    server.stop()
    assert "Connected by" in server.output()
    leaks.verify()
