"""The benchmark works: the send loop under the load generator, the JSON, and the judgement of targets.

No figure is checked here: a test machine's speed says nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechamap_rt.bench.dialects import DIALECTS, Identity, Refused
from mechamap_rt.bench.job import MESSAGE_SIZE, BenchError, Result, require_loopback
from mechamap_rt.bench.measuring import percentile
from mechamap_rt.bench.report import scenario_report, sentence, verdict
from mechamap_rt.bench.runner import Row
from mechamap_rt.bench.scenarios import SCENARIOS, scenario
from mechamap_rt.bench.shape import Target

ROOT = Path(__file__).resolve().parents[2]
WHO = Identity(token="t", channel="public.bench")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, bounded in time."""
    return subprocess.run(
        [sys.executable, "-m", "mechamap_rt.bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of a quick fan-out of the send loop."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    done = bench("run", "--quick", "--only", "sendloop", "--json", str(path), "fanout-flat", "fanout-paced")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fanout-flat" in done.stdout
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_document_says_what_was_measured_where(document: dict[str, Any]) -> None:
    assert document["version"] == 1
    assert document["quick"] is True
    assert document["repeat"] == 1
    assert document["machine"]["cpus"] >= 1
    assert [each["name"] for each in document["scenarios"]] == ["fanout-flat", "fanout-paced"]


@pytest.mark.parametrize("index", [0, 1])
def test_every_delivery_arrived_and_was_measured(document: dict[str, Any], index: int) -> None:
    report = document["scenarios"][index]
    (row,) = report["rows"]
    assert (row["contender"], row["dialect"], row["faults"]) == ("sendloop", "bare", [])
    (run,) = row["runs"]
    size = scenario(report["name"]).quick
    assert run["units"] == size.connections * size.operations
    assert run["lost"] == 0
    assert run["message_size"] == MESSAGE_SIZE
    assert run["server_cpu_us"] > 0
    assert run["value"] == pytest.approx(run["server_cpu_us"] / run["units"])
    assert 0 < run["p50_ms"] <= run["p99_ms"]
    assert report["values"]["sendloop"] == {"median": run["value"], "low": run["value"], "high": run["value"]}


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org", "0.0.0.0", "", "::"])
def test_other_machines_are_refused(host: str) -> None:
    with pytest.raises(BenchError, match="not a loopback address"):
        require_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_is_not(host: str) -> None:
    require_loopback(host)


def test_load_refuses_another_machine() -> None:
    done = bench("load", "fanout-flat", "--target", "http://192.0.2.1:3000")
    assert done.returncode == 1
    assert "not a loopback address" in done.stderr


def test_nothing_there_is_said_in_one_line() -> None:
    done = bench("load", "post", "--target", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "could not connect" in done.stderr
    assert "Traceback" not in done.stderr


def result(value: float) -> Result:
    """A result of which only the figure matters."""
    return Result(
        units=1, lost=0, message_size=0, wall_s=1.0, server_cpu_us=value, value=value,
        p50_ms=0.0, p99_ms=0.0, generator_share=0.1,
    )  # fmt: skip


def row(label: str, *values: float | None) -> Row:
    """A row with a run for each figure; ``None`` is one that failed."""
    runs = [None if value is None else result(value) for value in values]
    return Row(contender=label, server="mechamap", dialect="socketio", runs=runs, faults=[])


def test_targets_are_judged_by_the_median_of_paired_ratios() -> None:
    rows = [row("mechamap", 4.0, 6.0, 90.0), row("npm", 10.0, 10.0, 100.0), row("sendloop", 5.0, 5.0, 5.0)]
    report = scenario_report(scenario("fanout-flat"), rows)
    against = {target.against: target for target in report.targets}
    assert report.values["mechamap"].median == 6.0
    assert report.ratios["mechamap"]["npm"].median == pytest.approx(0.6)
    assert against["npm"].met is False
    assert against["sendloop"].value is not None
    assert against["sendloop"].value.low == pytest.approx(0.8)


def test_a_failed_run_is_left_out_of_its_pair() -> None:
    rows = [row("mechamap", None, 4.0), row("npm", 1.0, 10.0)]
    report = scenario_report(scenario("fanout-flat"), rows)
    (verdict, *_) = report.targets
    assert verdict.value is not None
    assert verdict.value.median == pytest.approx(0.4)
    assert verdict.met is True


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    report = scenario_report(scenario("fanout-flat"), [row("mechamap", 1.0)])
    assert [(target.value, target.met) for target in report.targets] == [(None, None), (None, None)]


def test_every_target_is_about_a_row_of_its_scenario() -> None:
    for each in SCENARIOS:
        labels = {contender.label for contender in each.contenders}
        for target in each.targets:
            assert target.subject in labels
            assert target.against is None or target.against in labels


def test_a_speedup_is_of_as_many_cores_as_there_are_workers() -> None:
    rows = {"single": row("single", 1.0, 2.0), "cluster-2": row("cluster-2", 1.25, 2.5)}
    (judged,) = [
        verdict(target, rows, scenario("cluster-fanout"))
        for target in scenario("cluster-fanout").targets
        if target.relation == "speedup"
    ]
    assert judged.value is not None
    assert judged.value.median == pytest.approx(1.6)
    assert judged.met is False
    assert sentence(judged) == "2 × single ÷ cluster-2 ≥ 1.7: 1.60 (1.60–1.60), not reached"


def test_a_difference_is_judged_in_the_unit_of_the_figure() -> None:
    rows = {"single": row("single", 200.0), "redis": row("redis", 340.0)}
    target = Target("redis", "single", 150.0, relation="difference")
    judged = verdict(target, rows, scenario("redis-publish"))
    assert judged.met is True
    assert sentence(judged) == "redis − single ≤ 150 µs CPU/publication: 140 (140–140), met"


def test_percentile() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([4000, 1000, 3000, 2000], 0.5) == 3.0
    assert percentile(list(range(1000, 101000, 1000)), 0.99) == 100.0


def test_socketio_handshake() -> None:
    dialect = DIALECTS["socketio"]
    assert dialect.opening(WHO) is None
    assert dialect.advance(b'0{"sid":"x"}', WHO) == (b'40{"token":"t"}', False)
    assert dialect.advance(b'40{"sid":"x"}', WHO) == (b'42["subscribe",{"channel":"public.bench"}]', False)
    assert dialect.advance(b'42["connected",{}]', WHO) == (None, False)
    assert dialect.advance(b"2", WHO) == (b"3", False)
    assert dialect.advance(b'42["subscribed",{}]', WHO) == (None, True)
    assert dialect.advance(b'40{"sid":"x"}', Identity("t", None)) == (None, True)


def test_native_handshake() -> None:
    dialect = DIALECTS["native"]
    assert dialect.opening(WHO) == b'{"type":"auth","id":1,"token":"t"}'
    subscribe = b'{"type":"subscribe","id":2,"channel":"public.bench"}'
    assert dialect.advance(b'{"type":"connected","id":1}', WHO) == (subscribe, False)
    assert dialect.advance(b'{"type":"reply","id":2,"event":"subscribed"}', WHO) == (None, True)
    assert dialect.advance(b'{"type":"connected","id":1}', Identity("t", None)) == (None, True)


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ("socketio", b'44{"message":"Authentication failed: Invalid token"}'),
        ("socketio", b'42["subscription_error",{"error":"Unauthorized"}]'),
        ("native", b'{"type":"error","code":"AUTH_FAILED"}'),
    ],
)
def test_refusals_are_noticed(dialect: Any, message: bytes) -> None:
    with pytest.raises(Refused):
        DIALECTS[dialect].advance(message, WHO)
