"""A worker that keeps dying is started less and less often."""

from __future__ import annotations

from twisted.internet.task import Clock

from mechamap_rt.process.backoff import CrashLoop


def deaths(loop: CrashLoop, clock: Clock, count: int, ran_for: float) -> list[float]:
    delays = []
    for _ in range(count):
        clock.advance(ran_for)
        delays.append(loop.died(ran_for))
        clock.advance(delays[-1])
    return delays


def test_three_deaths_are_forgiven_then_the_delay_doubles() -> None:
    clock = Clock()
    loop = CrashLoop(clock.seconds)
    assert deaths(loop, clock, 3, 0.5) == [0, 0, 0]
    assert not loop.looping
    assert deaths(loop, clock, 8, 0.5) == [1, 2, 4, 8, 16, 30, 30, 30]
    assert loop.looping


def test_a_healthy_worker_ends_it() -> None:
    clock = Clock()
    loop = CrashLoop(clock.seconds)
    deaths(loop, clock, 5, 0)
    loop.alive_for(59.9)
    assert loop.looping
    loop.alive_for(60)
    assert not loop.looping
    assert deaths(loop, clock, 4, 0) == [0, 0, 0, 1]
    assert loop.died(60) == 0
    assert not loop.looping
    assert deaths(loop, clock, 3, 0) == [0, 0, 0]


def test_rare_early_deaths_are_no_loop() -> None:
    clock = Clock()
    loop = CrashLoop(clock.seconds)
    assert deaths(loop, clock, 20, 25) == [0] * 20
    assert deaths(loop, clock, 5, 15) == [0, 1, 2, 4, 8]
