"""Runs of schemathesis: requests made up from the description, and every answer held against it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.server import ADMIN_KEY, LARAVEL_API_KEY, Server, inherited

ROOT: Final = Path(__file__).parents[2]
#: Wrong keys are sent by the hundred: their number must not be limited.
SETTINGS: Final = {"AUTH_FAILURES_PER_MINUTE": "0"}


def callers(server: Server) -> dict[str, Mapping[str, str]]:
    """Who calls, and with what in which security scheme."""
    return {
        "nobody": {},
        "backend": {"backendKey": f'api_key = "{LARAVEL_API_KEY}"'},
        "administrator": {"adminKey": f'api_key = "{ADMIN_KEY}"'},
        "moderator": {"bearer": f'bearer = "{server.token(3, role="moderator")}"'},
    }


class Run:
    """One run, for one caller, in a process of its own.

    :param folder: an empty directory.
    :param examples: made up for each endpoint, after those that cover every bound.
    :param seconds: that it may take.
    """

    def __init__(
        self, server: Server, secrets: Mapping[str, str], folder: Path, examples: int, seed: int, seconds: float
    ) -> None:
        self._seconds = seconds
        config = folder / "schemathesis.toml"
        lines = ['hooks = "tests.openapi.hooks"', "[cache]", f'directory = "{folder / "cache"}"']
        lines += [f"[auth.openapi.{scheme}]\n{secret}" for scheme, secret in secrets.items()]
        config.write_text("\n".join(lines) + "\n")
        command = [str(Path(sys.executable).with_name("schemathesis")), f"--config-file={config}", "run"]
        command += [f"{server.url}/api/openapi.json", "--checks=all", "--continue-on-failure", "--warnings=off"]
        command += [f"--seed={seed}", f"--max-examples={examples}", "--suppress-health-check=too_slow"]
        command += ["--generation-database=none"]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=inherited() | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "160"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def result(self) -> tuple[int, str]:
        """Wait for it: the exit status, 0 when nothing was found, and what it printed."""
        try:
            printed, _ = self._process.communicate(timeout=self._seconds)
        finally:
            self.end()
        return self._process.returncode, printed

    def end(self) -> None:
        """Make sure that it is gone; safe at any time."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
