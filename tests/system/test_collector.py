"""Full collections come when nobody waits."""

from __future__ import annotations

import gc

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.system.collector import Collector


class Cycle:
    alive = 0

    def __init__(self) -> None:
        self.me = self
        Cycle.alive += 1

    def __del__(self) -> None:
        Cycle.alive -= 1


class CollectorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = gc.get_threshold()
        self.clock = Clock()
        Cycle.alive = 0

    def tame(self, interval: float) -> Collector:
        one = Collector(self.clock, interval)
        one.start()
        self.addCleanup(one.stop)
        return one

    def go(self, seconds: float, late: float = 0.0, steps: float = 1.0) -> None:
        """Let time go by; each call comes ``late``."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            calls = self.clock.getDelayedCalls()
            due = min((call.getTime() for call in calls), default=end)
            self.clock.rightNow = min(max(due + late, self.clock.rightNow), end)
            self.clock.advance(0)

    def test_at_the_start_everything_is_collected_and_frozen(self) -> None:
        Cycle()
        gc.disable()
        self.addCleanup(gc.enable)
        one = self.tame(600)
        self.assertEqual(Cycle.alive, 0)
        self.assertEqual(one.collections, 1)
        self.assertGreater(gc.get_freeze_count(), 1000)
        self.assertEqual(gc.get_threshold()[:2], self.before[:2])
        self.assertGreater(gc.get_threshold()[2], 10**9)

    def test_it_is_left_as_it_was(self) -> None:
        one = self.tame(600)
        one.stop()
        one.stop()
        self.assertEqual(gc.get_threshold(), self.before)
        self.assertEqual(gc.get_freeze_count(), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNotIn(one._observe, gc.callbacks)

    def test_it_collects_at_an_idle_moment_even_what_was_frozen(self) -> None:
        cycle = Cycle()
        one = self.tame(600)
        del cycle
        gc.collect()
        self.assertEqual(Cycle.alive, 1)  # it is frozen: nobody looks at it
        told = one.collections
        self.go(599)
        self.assertEqual(one.collections, told)
        self.go(2)
        self.assertEqual(one.collections, told + 1)
        self.assertEqual(Cycle.alive, 0)
        self.assertGreater(gc.get_freeze_count(), 1000)
        self.go(600)
        self.assertEqual(one.collections, told + 2)
        self.assertGreater(one.last_pause, 0)
        self.assertGreaterEqual(one.worst_pause, one.last_pause)

    def test_a_busy_reactor_is_spared_but_not_for_ever(self) -> None:
        one = self.tame(600)
        self.go(700, late=0.1)
        self.assertEqual(one.collections, 1)
        self.go(0.06)
        self.go(1.2)
        self.assertEqual(one.collections, 2)
        self.go(1195, late=0.1)
        self.assertEqual(one.collections, 2)
        self.go(10, late=0.1)
        self.assertEqual(one.collections, 3)

    def test_with_no_interval_it_only_measures(self) -> None:
        one = self.tame(0)
        self.assertEqual(gc.get_threshold(), self.before)
        self.assertEqual(gc.get_freeze_count(), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        gc.collect()
        self.assertEqual(one.collections, 1)
        self.assertGreater(one.last_pause, 0)
