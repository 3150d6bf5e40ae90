"""What a process says about itself."""

from __future__ import annotations

import os

from twisted.internet.task import Clock

from mechamap_rt.system import meter
from mechamap_rt.system.meter import Meter


class Late(Clock):
    """A clock whose calls are late by what :meth:`pass_by` lets go by at once."""

    def pass_by(self, seconds: float) -> None:
        self.rightNow += seconds

    def run(self) -> None:
        self.advance(0)


def test_cpu_is_a_part_of_the_time_since_the_last_sample() -> None:
    now, used = [10.0], [1.0]
    one = Meter(Clock(), lambda: now[0], lambda: used[0])
    assert one.sample()["cpu"] == 0
    now[0], used[0] = 14.0, 2.0
    assert one.sample()["cpu"] == 25
    now[0], used[0] = 15.0, 3.5
    assert one.sample()["cpu"] == 150


def test_the_worst_lag_is_kept_until_it_is_told() -> None:
    reactor = Late()
    one = Meter(reactor, reactor.seconds, lambda: 0.0)
    one.start()
    one.start()
    assert len(reactor.getDelayedCalls()) == 1
    reactor.pass_by(0.5 + 0.2)
    reactor.run()
    reactor.pass_by(0.5 + 0.05)
    reactor.run()
    assert abs(one.sample()["lag"] - 0.2) < 1e-6
    assert one.sample()["lag"] == 0


def test_a_timer_that_is_overdue_counts_before_it_is_called() -> None:
    reactor = Late()
    one = Meter(reactor, reactor.seconds, lambda: 0.0)
    one.start()
    reactor.pass_by(3.5)
    assert one.sample()["lag"] == 3.0
    one.stop()
    one.stop()
    assert reactor.getDelayedCalls() == []
    assert one.sample()["lag"] == 0


def test_memory_and_descriptors_are_this_process() -> None:
    before = meter.descriptors()
    read, write = os.pipe()
    assert meter.descriptors() == before + 2
    os.close(read)
    os.close(write)
    block = bytearray(os.urandom(1)) * (64 * 2**20)
    grown = meter.resident()
    assert grown > 64 * 2**20
    assert grown < 64 * 2**30
    del block
    sample = Meter(Clock()).sample()
    assert sample["descriptors"] == before
    assert sample["rss"] > 2**20
