"""When a figure becomes an alert, and when it stops being one: on a clock of the test's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.core.alerting import CLEAR, FEWEST, SUSTAIN, SUSTAIN_CPU, WINDOW, Watch
from mechamap_rt.core.thresholds import THRESHOLDS

VALUES = {name: each.default for name, each in THRESHOLDS.items()}


class Host:
    """The watch, its clock, and what it has told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[tuple[str, str | None]] = []
        self.watch = Watch(self._tell, lambda: self.now)

    def _tell(self, name: str, message: str | None, value: float | None) -> None:
        self.told.append((name, message))

    def run(self, seconds: float, rows: dict[str, dict[str, Any]], values: dict[str, float] = VALUES) -> None:
        for _ in range(int(seconds)):
            self.watch.look(rows, values)
            self.now += 1

    @property
    def raised(self) -> set[str]:
        standing: set[str] = set()
        for name, message in self.told:
            if message is None:
                standing.discard(name)
            else:
                standing.add(name)
        return standing


@pytest.fixture
def host() -> Host:
    return Host()


def test_what_is_over_is_told_once_it_has_held(host: Host) -> None:
    host.run(SUSTAIN, {"a": {"lag": 0.3}})
    assert host.told == []
    host.run(1, {"a": {"lag": 0.3}})
    (name, message), *_ = host.told
    assert name == "reactorLag"
    assert message is not None
    assert message.startswith("300 is over 100 milliseconds")
    assert message.endswith("at a")


def test_the_processor_may_be_busy_for_longer(host: Host) -> None:
    host.run(SUSTAIN_CPU, {"a": {"cpu": 99.0}})
    assert host.told == []
    host.run(1, {"a": {"cpu": 99.0}})
    assert host.raised == {"cpu"}


def test_a_moment_is_nothing(host: Host) -> None:
    for _ in range(10):
        host.run(SUSTAIN - 1, {"a": {"lag": 0.3}})
        host.run(1, {"a": {"lag": 0.0}})
    assert host.told == []


def test_between_well_and_over_it_stays_as_it_was(host: Host) -> None:
    host.run(SUSTAIN + 1, {"a": {"lag": 0.2}})
    assert host.raised == {"reactorLag"}
    host.run(60, {"a": {"lag": 0.095}})
    assert host.raised == {"reactorLag"}
    host.run(CLEAR, {"a": {"lag": 0.09}})
    assert host.raised == {"reactorLag"}
    host.run(1, {"a": {"lag": 0.09}})
    assert host.raised == set()
    host.run(60, {"a": {"lag": 0.095}})
    assert host.raised == set()


def test_several_processes_are_one_alert(host: Host) -> None:
    host.run(SUSTAIN + 1, {"a": {"rss": 2**31}, "b": {"rss": 2**20}, "c": {"rss": 2**32}})
    assert {name for name, _ in host.told} == {"memoryPerWorker"}
    message = host.told[-1][1]
    assert message is not None
    assert message.endswith("at a, c")
    # one of the two is well again: it is still the same alert
    host.run(CLEAR * 2, {"a": {"rss": 2**20}, "b": {"rss": 2**20}, "c": {"rss": 2**32}})
    assert host.raised == {"memoryPerWorker"}
    host.run(CLEAR + 1, {"a": {"rss": 2**20}, "b": {"rss": 2**20}})
    assert host.raised == set()


@pytest.mark.parametrize(
    ("figures", "name"),
    [({"degraded": True}, "bus_degraded"), ({"canary": False}, "canary_lost"), ({"database": "down"}, "database_down")],
)
def test_what_is_a_reason_by_itself(host: Host, figures: dict[str, Any], name: str) -> None:
    host.run(SUSTAIN + 1, {"a": figures, "b": {"canary": True, "database": "up"}})
    assert host.raised == {name}
    host.run(CLEAR + 1, {"a": {"canary": True, "database": "up"}})
    assert host.raised == set()


def requests(count: int, each: float, errors: int = 0) -> dict[str, Any]:
    return {"requests": count, "seconds": count * each, "errors": errors}


def test_rates_are_those_of_the_last_minute(host: Host) -> None:
    host.run(1, {"a": requests(1_000_000, 1.0, 1_000_000)})
    # nobody asks: what was before the start of the watch is nothing
    host.run(SUSTAIN + 1, {"a": requests(1_000_000, 1.0, 1_000_000)})
    assert host.told == []
    slow = {"requests": 1_000_100, "seconds": 1_000_000 + 20.0, "errors": 1_000_000 + 10}
    host.run(SUSTAIN + 1, {"a": slow})
    assert host.raised == {"responseTime", "errorRate"}
    host.run(WINDOW + CLEAR + 2, {"a": slow})
    assert host.raised == set()


def test_few_are_no_rate(host: Host) -> None:
    host.run(1, {"a": requests(0, 0.0)})
    host.run(SUSTAIN * 2, {"a": requests(FEWEST - 1, 5.0, FEWEST - 1)})
    assert host.told == []


def test_counting_anew_is_no_rate(host: Host) -> None:
    host.run(10, {"a": {"delivered": 10_000, "dropped": 5_000}})
    host.run(SUSTAIN * 2, {"a": {"delivered": 0, "dropped": 0}})
    assert host.told == []
    host.run(SUSTAIN + 1, {"a": {"delivered": 100, "dropped": 6}})
    assert host.raised == {"dropRate"}


def test_another_threshold_counts_at_once(host: Host) -> None:
    host.run(60, {"a": {"cpu": 60.0}})
    assert host.told == []
    host.run(SUSTAIN_CPU + 1, {"a": {"cpu": 60.0}}, VALUES | {"cpu": 50})
    assert host.raised == {"cpu"}
    host.run(CLEAR + 1, {"a": {"cpu": 60.0}})
    assert host.raised == set()


@given(st.lists(st.sampled_from([0.0, 0.09, 0.095, 0.11, 0.5]), min_size=1, max_size=200))
def test_raised_and_cleared_take_turns(lags: list[float]) -> None:
    host = Host()
    for lag in lags:
        host.run(1, {"a": {"lag": lag}})
    states = [message is not None for _, message in host.told]
    assert all(after or before for before, after in pairwise(states))
    assert states[:1] in ([], [True])
