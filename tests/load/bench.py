"""``mechamap-bench`` as an operator runs it, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server import Server, inherited

LIMIT = 60.0
COMMAND = (str(Path(sys.executable).with_name("mechamap-bench")),)


@dataclass(frozen=True)
class Run:
    """How one has ended.

    :ivar report: the JSON document; empty when there is none.
    """

    status: int
    stdout: str
    stderr: str
    report: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        found: dict[str, int] = self.report["measured"]["counts"]
        return found

    @property
    def advice(self) -> str:
        return "\n".join(self.report["measured"]["advice"])

    @property
    def reasons(self) -> dict[str, int]:
        return {each["reason"]: each["count"] for each in self.report["measured"]["failures"]}


def environment(server: Server | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The server's secrets, as its own environment has them."""
    known = server.settings if server is not None else {}
    secrets = {name: known[name] for name in ("JWT_SECRET", "LARAVEL_API_KEY") if name in known}
    return inherited() | secrets | dict(more or {})


def run(server: Server | None, *words: str, folder: Path, env: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end."""
    path = folder / "report.json"
    path.unlink(missing_ok=True)
    done = subprocess.run(
        [*COMMAND, *words, "--json", str(path)],
        env=environment(server, env),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    report = json.loads(path.read_text()) if path.exists() else {}
    return Run(done.returncode, done.stdout, done.stderr, report)
