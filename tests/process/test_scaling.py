"""When a worker more or fewer is wanted."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mechamap_rt.process.scaling import Scaler

LOADS = st.tuples(st.floats(0, 400), st.floats(0, 5))


def scaler(clock: Clock, low: int = 1, high: int = 8, start: int | None = None) -> Scaler:
    return Scaler(low, high, 90, 0.1, clock.seconds, start=start)


def watch(one: Scaler, clock: Clock, seconds: float, cpu: float, lag: float = 0.0) -> int:
    """The same load of every worker, looked at every five seconds."""
    end = clock.seconds() + seconds
    while clock.seconds() < end:
        clock.advance(5)
        one.observe([(cpu, lag)] * one.wanted)
    return one.wanted


def test_more_when_all_are_busy_for_a_while() -> None:
    clock = Clock()
    one = scaler(clock, start=2)
    assert watch(one, clock, 30, 94) == 2
    assert watch(one, clock, 5, 94) == 3
    assert one.reason == "CPU 94 % on average for 30 s (limit 90 %)"
    assert watch(one, clock, 115, 94) == 3
    assert watch(one, clock, 5, 94) == 4


def test_more_when_the_reactors_are_late() -> None:
    clock = Clock()
    one = scaler(clock, start=2)
    assert watch(one, clock, 35, 50, lag=0.15) == 3
    assert one.reason == "reactor lag 150 ms on average for 30 s (limit 100 ms)"


def test_a_break_starts_it_again() -> None:
    clock = Clock()
    one = scaler(clock, start=2)
    watch(one, clock, 25, 99)
    watch(one, clock, 5, 80)
    assert watch(one, clock, 30, 99) == 2
    clock.advance(31)
    assert watch(one, clock, 30, 99) == 2, "nobody looked in between"
    one.observe([])
    assert watch(one, clock, 30, 99) == 2
    assert watch(one, clock, 5, 99) == 3


def test_fewer_when_the_others_could_carry_it_for_long() -> None:
    clock = Clock()
    one = scaler(clock, start=4)
    assert watch(one, clock, 1000, 41) == 4, "54.7 % with three, which is over 60 % of the limit"
    assert watch(one, clock, 300, 30) == 4
    assert watch(one, clock, 5, 30) == 3
    assert one.reason == "CPU 40 % with one worker fewer, for 300 s (limit 90 %)"


def test_it_starts_within_its_bounds() -> None:
    clock = Clock()
    assert scaler(clock, 2, 4, start=9).wanted == 4
    assert scaler(clock, 2, 4, start=1).wanted == 2
    assert scaler(clock, 2, 4).wanted == 2


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 12), st.lists(st.tuples(LOADS, st.integers(1, 200))))
def test_it_stays_in_its_bounds_and_rests_between_changes(
    low: int, more: int, start: int, course: list[tuple[tuple[float, float], int]]
) -> None:
    clock = Clock()
    one = scaler(clock, low, low + more, start)
    changes = []
    for load, looks in course:
        for _ in range(looks):
            clock.advance(5)
            before = one.wanted
            assert low <= one.observe([load] * before) <= low + more
            if one.wanted != before:
                assert abs(one.wanted - before) == 1
                changes.append(clock.seconds())
    assert all(later - earlier >= 120 for earlier, later in pairwise(changes))


@given(st.floats(0, 1000), st.floats(0, 1), st.integers(1, 10))
def test_a_constant_load_settles(cpu: float, lag: float, start: int) -> None:
    """The load is divided among the workers, however many; after it went one way it never goes the other."""
    clock = Clock()
    one = scaler(clock, 1, 10, start)
    seen = [start]
    for _ in range(1200):
        clock.advance(5)
        seen.append(one.observe([(cpu / one.wanted, lag / one.wanted)] * one.wanted))
    steps = {later - earlier for earlier, later in pairwise(seen)} - {0}
    assert steps in (set(), {1}, {-1})
