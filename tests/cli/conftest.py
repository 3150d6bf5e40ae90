"""Fixtures for the operator's commands."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mechamap_rt.cli.main import main
from mechamap_rt.settings import control_socket
from tests.cli.standin import Script, StandIn

Invoke = Callable[..., Result]
Listen = Callable[..., StandIn]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a ``.env``, nor the developer's environment, nor a server that is running gets into a test."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - {"PATH", "HOME", "LANG"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(control_socket, "_SYSTEM", tmp_path / "no-system-directory")


@pytest.fixture
def invoke() -> Invoke:
    """``invoke("status", "--json", PORT="4000")``: the command in this process."""

    def run(*arguments: str, input: str | bytes | None = None, **environ: str) -> Result:
        return CliRunner(env=environ).invoke(main, arguments, input=input)

    return run


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Listen]:
    """``listen(script, path=…)``: a stand-in, by default on ``s`` in the current directory."""
    started: list[StandIn] = []

    def start(script: Script, path: Path = tmp_path / "s") -> StandIn:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        started.append(StandIn(path, script))
        return started[-1]

    yield start
    for one in started:
        one.close()
