"""The scenario of priorities works, at its small size. No figure of CPU is checked: a test machine's says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechamap_rt.bench.messages import counter_body
from mechamap_rt.bench.scenarios import scenario
from mechamap_rt.core.batches import PROMISED
from mechamap_rt.core.publication import Priority

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    command = [sys.executable, "-m", "mechamap_rt.bench", "run", "--quick", "--json", str(path), "batched"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(path.read_text())["scenarios"]
    return found  # type: ignore[no-any-return]


def test_every_row_was_measured_and_lost_nothing(report: dict[str, Any]) -> None:
    assert [row["contender"] for row in report["rows"]] == ["at-once", "medium", "low"]
    for row in report["rows"]:
        (run,) = row["runs"]
        assert (row["faults"], run["lost"]) == ([], 0)
        assert run["value"] > 0
    assert all(target["value"] is not None for target in report["targets"])


def test_what_is_gathered_comes_seldom_and_in_time(report: dict[str, Any]) -> None:
    figures = {label: {name: each["median"] for name, each in row.items()} for label, row in report["figures"].items()}
    assert figures["at-once"]["received"] == scenario("batched").quick.operations
    for label, priority in (("medium", Priority.MEDIUM), ("low", Priority.LOW)):
        assert 1 <= figures[label]["received"] <= 3
        assert figures[label]["longest"] < PROMISED[priority] + 0.5


def test_the_body_says_its_priority_if_it_has_one() -> None:
    assert json.loads(counter_body(5, "low"))["priority"] == "low"
    assert "priority" not in json.loads(counter_body(5, ""))
