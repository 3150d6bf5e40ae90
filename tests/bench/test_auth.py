"""The scenarios about who people are work: each at its small size, with a real MariaDB.

How fast is not checked here, but how many queries are made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechamap_rt.auth import sanctum
from mechamap_rt.bench import site
from mechamap_rt.bench.scenarios import scenario

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("auth-connect", "auth-rush", "auth-identify", "auth-decide")
#: The scenarios that need no server.
INSIDE = ("auth-identify", "auth-decide")
#: The npm peer need not be installed.
SERVERS = ("mechamap", "inside", "pool", "adbapi")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a quick run of each measured, by scenario."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    only = [word for name in SERVERS for word in ("--only", name)]
    command = [sys.executable, "-m", "mechamap_rt.bench", "run", "--quick", *only, "--json", str(path), *NAMES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {each["name"]: each for each in json.loads(path.read_text())["scenarios"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_row_was_measured_and_lost_nothing(reports: dict[str, Any], name: str) -> None:
    report = reports[name]
    rows = [each.label for each in scenario(name).contenders if each.server in SERVERS]
    assert [row["contender"] for row in report["rows"]] == rows
    for row in report["rows"]:
        (run,) = row["runs"]
        assert (row["faults"], run["faults"], run["lost"]) == ([], [], 0)
        assert run["value"] > 0
    assert all(target["value"] is not None for target in report["targets"])


def queries(report: dict[str, Any]) -> dict[str, float]:
    """Queries for each unit, by row."""
    return {row: figures["queries"]["median"] for row, figures in report["figures"].items()}


def test_connecting_asks_once_about_whom_it_does_not_know(reports: dict[str, Any]) -> None:
    asked = queries(reports["auth-connect"])
    # besides, the unread notifications of all who come at the same moment are counted at once
    assert asked["jwt"] == 0
    assert asked["known"] < 1
    assert 1 <= asked["sanctum-singly"] <= 2
    assert asked["known"] < asked["sanctum"] <= 2
    assert asked["known"] < asked["jwt-user"] <= 2


def test_a_rush_is_answered_by_few_queries(reports: dict[str, Any]) -> None:
    report = reports["auth-rush"]
    asked = queries(report)
    assert asked["jwt"] == 0
    assert 0 < asked["sanctum"] <= 2
    assert asked["sanctum"] < asked["sanctum-member"] <= 3
    assert all(figures["late_worst"]["median"] > 0 for figures in report["figures"].values())


@pytest.mark.parametrize("name", INSIDE)
def test_inside_nothing_is_asked_twice_and_nothing_committed(reports: dict[str, Any], name: str) -> None:
    figures = reports[name]["figures"]
    asked = queries(reports[name])
    assert asked["cached"] == 0
    assert asked["singly"] == asked["pool"] == asked["adbapi"] == 1
    assert 0 < asked["at-once"] < 1
    commits = {row: each["commits"]["median"] for row, each in figures.items()}
    assert {row for row, count in commits.items() if count} == {"adbapi", "adbapi-singly"}


@pytest.mark.parametrize("name", INSIDE)
def test_what_has_no_server_is_no_load_of_one(name: str) -> None:
    command = [sys.executable, "-m", "mechamap_rt.bench", "load", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no load of a server" in done.stderr


def test_tokens_are_sanctums() -> None:
    parts = sanctum.parse(site.token(7))
    assert parts is not None
    assert parts.id == 7
    assert site.token(7) != site.token(8)
