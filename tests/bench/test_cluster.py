"""The scenarios of several processes work: each at its small size, with real servers.

No figure is checked here: a test machine's speed says nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechamap_rt.bench.lazy import masked, unframed
from mechamap_rt.bench.scenarios import scenario

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("cluster-fanout", "cluster-post", "redis-publish", "reload", "memory")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a quick run of each measured, by scenario."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    command = [sys.executable, "-m", "mechamap_rt.bench", "run", "--quick", "--json", str(path), *NAMES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {each["name"]: each for each in json.loads(path.read_text())["scenarios"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_row_was_measured_and_lost_nothing(reports: dict[str, Any], name: str) -> None:
    report = reports[name]
    assert [row["contender"] for row in report["rows"]] == [each.label for each in scenario(name).contenders]
    for row in report["rows"]:
        (run,) = row["runs"]
        assert (row["faults"], run["faults"], run["lost"]) == ([], [], 0)
        assert run["value"] > 0
    assert all(target["value"] is not None for target in report["targets"])


@pytest.mark.parametrize("name", ["cluster-fanout", "redis-publish"])
def test_rates_are_reported(reports: dict[str, Any], name: str) -> None:
    assert all(figures["rate"]["median"] > 0 for figures in reports[name]["figures"].values())


def test_a_reload_sends_everybody_away_and_back(reports: dict[str, Any]) -> None:
    (figures,) = reports["reload"]["figures"].values()
    size = scenario("reload").quick
    assert figures["dismissed"]["median"] == size.connections
    assert figures["left"]["median"] >= size.connections
    assert figures["http"]["median"] > 0


def test_memory_is_of_master_and_workers(reports: dict[str, Any]) -> None:
    figures = reports["memory"]["figures"]["cluster-3"]
    for process in ("worker", "master"):
        assert figures[f"{process}_anon"]["median"] < figures[f"{process}_rss"]["median"]
    assert figures["total_pss"]["median"] > figures["worker_pss"]["median"] + figures["master_pss"]["median"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 200, 65535])
def test_frames(size: int) -> None:
    payload = b"x" * size
    frame = masked(payload)
    start = len(frame) - size
    assert frame[start - 4 : start] == bytes(4)
    unmasked = bytes((frame[0], frame[1] & 0x7F)) + frame[2 : start - 4] + payload
    assert unframed(unmasked + b"more") == (payload, b"more")
    assert size < 2 or unframed(unmasked[:-1]) is None
