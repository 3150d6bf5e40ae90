"""The timer wheel."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.core.wheel import Wheel


class WheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.struck: list[str] = []

    def test_calls_are_made_once_and_never_early(self) -> None:
        self.wheel.after(1.0, lambda: self.struck.append("a"))
        self.clock.advance(0.99)
        self.assertEqual(self.struck, [])
        self.clock.advance(0.2)
        self.assertEqual(self.struck, ["a"])
        self.clock.advance(10)
        self.assertEqual(self.struck, ["a"])

    def test_a_cancelled_call_is_not_made(self) -> None:
        deadline = self.wheel.after(1.0, lambda: self.struck.append("a"))
        deadline.cancel()
        deadline.cancel()
        self.clock.advance(5)
        self.assertEqual(self.struck, [])

    def test_one_timer_serves_everybody(self) -> None:
        for number in range(1000):
            self.wheel.after(1 + number / 100, lambda: self.struck.append("x"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([0.1] * 200)
        self.assertEqual(len(self.struck), 1000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_call_that_fails_does_not_stop_the_others(self) -> None:
        self.wheel.after(1.0, lambda: 1 / 0)
        self.wheel.after(1.0, lambda: self.struck.append("b"))
        self.clock.advance(2)
        self.assertEqual(self.struck, ["b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_call_may_set_the_next(self) -> None:
        def again() -> None:
            self.struck.append("x")
            self.wheel.after(1.0, again)

        self.wheel.after(1.0, again)
        self.clock.pump([0.1] * 60)
        self.assertEqual(len(self.struck), 5)

    def test_far_deadlines_share_slots(self) -> None:
        for number in range(100):
            self.wheel.after(3600 + number / 100, lambda: None)
        self.assertLessEqual(len(self.wheel._slots), 2)

    def test_a_far_deadline_that_was_cancelled_is_forgotten_soon(self) -> None:
        for number in range(100):
            self.wheel.after(30 * 86400 + number, lambda: None).cancel()
        self.assertLessEqual(len(self.wheel._slots), 2)
        self.clock.advance(Wheel.horizon + 2)
        self.assertEqual(len(self.wheel._slots), 0)

    def test_a_far_deadline_is_kept(self) -> None:
        self.wheel.after(3600, lambda: self.struck.append("x"))
        self.clock.pump([60] * 59)
        self.assertEqual(self.struck, [])
        self.clock.pump([30] * 3)
        self.assertEqual(self.struck, ["x"])

    def test_stop_forgets_everything(self) -> None:
        self.wheel.after(1.0, lambda: self.struck.append("a"))
        self.wheel.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


@given(st.lists(st.floats(0, 200), max_size=30))
def test_every_deadline_is_kept_within_the_resolution(delays: list[float]) -> None:
    clock = Clock()
    wheel = Wheel(clock)
    late: list[float] = []
    for delay in delays:
        wheel.after(delay, lambda delay=delay: late.append(clock.seconds() - delay))  # type: ignore[misc]
    for _ in range(4100):
        clock.advance(0.05)
    assert len(late) == len(delays)
    assert all(-1e-6 <= seconds <= 1.2 for seconds in late)
