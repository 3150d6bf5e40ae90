"""Secrets are replaced in a running cluster: for a while both count, and at the end only the new ones."""

from __future__ import annotations

import secrets
from pathlib import Path

import jwt
import requests

from tests.clients.native import NativeClient
from tests.conftest import StartServer
from tests.server import Server

NAMES = ("JWT_SECRET", "LARAVEL_API_KEY", "ADMIN_KEY")


class Files:
    """The secrets of a server, each in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / name.lower()

    def settings(self) -> dict[str, str | None]:
        """The settings of the server; no secret is in its environment."""
        files = {f"{name}_FILE": str(self.path(name)) for name in (*NAMES, *(f"{name}_PREVIOUS" for name in NAMES))}
        return dict.fromkeys(NAMES) | files

    def write(self, current: dict[str, str], previous: dict[str, str]) -> None:
        for name in NAMES:
            self.path(name).write_text(current[name] + "\n")
            self.path(f"{name}_PREVIOUS").write_text(previous[name] + "\n")


def fresh() -> dict[str, str]:
    return {name: secrets.token_urlsafe(32) for name in NAMES}


def accepted(server: Server, held: dict[str, str]) -> list[int]:
    """What the server answers to who has these secrets: the backend's key twice, the administrators', a JWT."""
    token = jwt.encode({"userId": 5, "role": "admin", "exp": 2**31}, held["JWT_SECRET"], algorithm="HS256")
    body = {"channel": "public.rotation", "event": "note", "data": {}}
    found: list[requests.Response] = [
        server.post("/api/broadcast", body, key=False, **headers)
        for headers in (
            {"X_WebSocket_API_Key": held["LARAVEL_API_KEY"]},
            {"Authorization": f"Bearer {held['LARAVEL_API_KEY']}"},
            {"X_Admin_Key": held["ADMIN_KEY"]},
            {"Authorization": f"Bearer {token}"},
        )
    ]
    return [response.status_code for response in found]


def test_secrets_are_replaced_without_a_moment_in_which_one_does_not_count(
    start_cluster: StartServer, tmp_path: Path
) -> None:
    files, old, new, older = Files(tmp_path), fresh(), fresh(), fresh()
    files.write(old, older)
    server = start_cluster(2, **files.settings(), AUTH_FAILURES_PER_MINUTE="0", DEMO_ENABLED="false")
    assert [accepted(server, held) for held in (old, older, new)] == [[200] * 4, [200] * 4, [401] * 4]

    # the new one is added: both count
    files.write(new, {name: f"{old[name]}, {older[name]}" for name in NAMES})
    server.control("reload", "--drain", "0s", limit=60)
    assert [accepted(server, held) for held in (old, older, new)] == [[200] * 4] * 3
    assert _connects(server, old["JWT_SECRET"]) == "connected"

    # everybody has it: the old ones are dropped
    files.write(new, dict.fromkeys(NAMES, ""))
    server.control("reload", "--drain", "0s", limit=60)
    assert [accepted(server, held) for held in (old, older, new)] == [[401] * 4, [401] * 4, [200] * 4]
    assert _connects(server, new["JWT_SECRET"]) == "connected"
    assert _connects(server, old["JWT_SECRET"]) == "error"
    output = server.output()
    assert not any(secret in output for held in (old, older, new) for secret in held.values())


def _connects(server: Server, secret: str) -> str:
    """The type of the first message to who brings a token that is signed with this secret."""
    claims = {"userId": 1, "permissions": ["receive_notifications"], "exp": 2**31}
    with NativeClient.open(server.ws_url, header=jwt.encode(claims, secret, algorithm="HS256")) as client:
        return str(client.next()["type"])
