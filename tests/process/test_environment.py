"""What a worker inherits."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from mechamap_rt.process.environment import environ_for_workers
from mechamap_rt.settings import load


def test_a_worker_reads_what_the_master_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    for name, text in {
        "JWT_SECRET_FILE": str(secret),
        "ALLOWED_ORIGINS": "https://www.example.org",
        "MAX_CONNECTIONS_PER_USER": "7",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "1",
        "NODE_OPTIONS": "--inspect",
        "SOMETHING_ELSE": "kept",
    }.items():
        monkeypatch.setenv(name, text)
    env_file = tmp_path / "env"
    env_file.write_text("PORT=4000\nMAX_CONNECTIONS_PER_USER=9\n")
    settings = load(dict(os.environ), env_file).settings
    environ = environ_for_workers(settings)
    assert environ["SOMETHING_ELSE"] == "kept"
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "NODE_OPTIONS", "JWT_SECRET_FILE", "ALLOWED_ORIGINS"} & set(environ)
    theirs = load(environ, None).settings
    # what meant something to Node.js only stays behind
    assert theirs == dataclasses.replace(settings, node=theirs.node)


def test_secrets_that_were_made_up_are_the_workers_too() -> None:
    settings = load({}, None).settings
    assert "JWT_SECRET" in settings.generated
    assert load(environ_for_workers(settings), None).settings.jwt.secret == settings.jwt.secret


def test_secrets_that_were_made_up_outlive_a_reload_unless_there_is_one() -> None:
    made_up = {"JWT_SECRET": "m" * 40}
    assert load({}, None, made_up).settings.jwt.secret == "m" * 40
    assert load({"JWT_SECRET": "o" * 40}, None, made_up).settings.jwt.secret == "o" * 40
