"""The load generator counts what it has published and nothing else: the servers send nothing unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechamap_rt.bench.job import MESSAGE_SIZE
from mechamap_rt.bench.scenarios import scenario

ROOT = Path(__file__).resolve().parents[2]
FANOUTS = ("fanout-flat", "fanout-paced")
SILENT = ("connect",)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    names = [*FANOUTS, *SILENT]
    command = [sys.executable, "-m", "mechamap_rt.bench", "run", "--quick", "--only", "mechamap"]
    command += ["--json", str(path), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {one["name"]: one for one in json.loads(path.read_text())["scenarios"]}


@pytest.mark.parametrize("name", FANOUTS)
def test_as_many_messages_came_as_were_published(reports: dict[str, Any], name: str) -> None:
    size = scenario(name).quick
    for row in reports[name]["rows"]:
        (run,) = row["runs"]
        assert (row["faults"], run["lost"], run["message_size"]) == ([], 0, MESSAGE_SIZE)
        assert run["units"] == size.connections * size.operations


@pytest.mark.parametrize("name", SILENT)
def test_who_only_connects_gets_nothing_that_counts_as_a_publication(reports: dict[str, Any], name: str) -> None:
    for row in reports[name]["rows"]:
        (run,) = row["runs"]
        assert (row["faults"], run["lost"], run["message_size"]) == ([], 0, 0)
