"""The scenarios of presence work, at their small size. No figure of CPU is checked: a test machine's says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechamap_rt.bench.presencescenarios import PRESENCE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    names = [one.name for one in PRESENCE]
    command = [sys.executable, "-m", "mechamap_rt.bench", "run", "--quick", "--json", str(path), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {one["name"]: one for one in json.loads(path.read_text())["scenarios"]}


@pytest.mark.parametrize("scenario", PRESENCE, ids=lambda one: one.name)
def test_every_row_was_measured_and_lost_nothing(reports: dict[str, Any], scenario: Any) -> None:
    report = reports[scenario.name]
    assert [row["contender"] for row in report["rows"]] == [one.label for one in scenario.contenders]
    for row in report["rows"]:
        (run,) = row["runs"]
        assert (row["faults"], run["lost"]) == ([], 0)
        assert run["value"] > 0
        assert {column.figure for column in scenario.columns} <= run["figures"].keys()
    assert all(target["value"] is not None for target in report["targets"])


def test_each_answer_was_timed(reports: dict[str, Any]) -> None:
    for name in ("presence-change", "presence-bulk"):
        for row in reports[name]["rows"]:
            assert 0 < row["runs"][0]["p50_ms"] <= row["runs"][0]["p99_ms"]


def test_every_scenario_is_documented() -> None:
    text = (ROOT / "docs" / "benchmarks.rst").read_text("utf-8")
    assert [one.name for one in PRESENCE if one.name not in text] == []
