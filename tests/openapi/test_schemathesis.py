"""schemathesis makes up requests from the description, right ones and wrong ones, and finds nothing."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import StartServer
from tests.openapi.runs import SETTINGS, Run, callers

EXAMPLES = 3
SEED = 1
SECONDS = 240.0


def test_nothing_is_found(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(**SETTINGS)
    runs = {}
    try:
        for who, secrets in callers(server).items():
            folder = tmp_path / who
            folder.mkdir()
            runs[who] = Run(server, secrets, folder, EXAMPLES, SEED, SECONDS)
        results = {who: run.result() for who, run in runs.items()}
    finally:
        for run in runs.values():
            run.end()
    found = [f"=== {who}\n{printed}" for who, (status, printed) in results.items() if status]
    assert not found, "\n".join(found)
    assert "A request failed unexpectedly" not in server.output()
