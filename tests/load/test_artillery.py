"""``artillery run tests/load/websocket-load.yml``, as operators type it, for a few seconds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conftest import required
from tests.load.bench import COMMAND, environment
from tests.server import Server, inherited

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
LIMIT = 120.0
PER_SECOND, SECONDS = 5, 3


def artillery(server: Server, tokens: Path, report: Path) -> dict[str, int]:
    """The counters of a short run."""
    phases = {"config": {"phases": [{"duration": SECONDS, "arrivalRate": PER_SECOND}]}}
    words = ["--target", server.url, "-p", str(tokens), "--overrides", json.dumps(phases), "-o", str(report)]
    done = subprocess.run(
        [required("npx", "npm"), "--prefix", str(FOLDER), "artillery", "run", *words, "tests/load/websocket-load.yml"],
        cwd=ROOT,
        env=inherited() | {"ARTILLERY_DISABLE_TELEMETRY": "true", "npm_config_offline": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    counters: dict[str, int] = json.loads(report.read_text())["aggregate"]["counters"]
    return counters


def test_all_virtual_users_succeed(server: Server, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.csv"
    subprocess.run([*COMMAND, "tokens", str(tokens), "--users", "15"], env=environment(server), check=True)
    counters = artillery(server, tokens, tmp_path / "report.json")
    users = PER_SECOND * SECONDS
    assert counters["vusers.created"] == counters["vusers.completed"] == users
    assert counters["vusers.failed"] == 0
    assert counters["socketio.emit"] == 3 * users
    assert not [name for name in counters if name.startswith("errors")]


def test_who_is_refused_has_failed(server: Server, tmp_path: Path) -> None:
    """So that the other test can fail: the same with tokens that are not this server's."""
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("7|nobody\n")
    counters = artillery(server, tokens, tmp_path / "report.json")
    assert counters["vusers.failed"] == PER_SECOND * SECONDS
    assert counters["errors.Error: Authentication failed: Invalid token"] == PER_SECOND * SECONDS
