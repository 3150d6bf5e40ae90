"""Batches: what is gathered leaves in time, together, in order, and within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.core import batches as module
from mechamap_rt.core import channels
from mechamap_rt.core.batches import MARGIN, MAX_EVENTS, OVERHEAD, PROMISED, Batches
from mechamap_rt.core.publication import DeliveryClass, Priority, Publication
from mechamap_rt.core.wheel import Wheel

STEP = 0.01
MEDIUM, LOW = Priority.MEDIUM, Priority.LOW
STATE, DURABLE = DeliveryClass.STATE, DeliveryClass.DURABLE


def publication(
    ident: str,
    priority: Priority = MEDIUM,
    name: str = "public.x",
    delivery: DeliveryClass = DURABLE,
    key: str | None = None,
    data: bytes = b"{}",
) -> Publication:
    return Publication(ident, channels.parse(name), "e", data, delivery=delivery, key=key, priority=priority)


class BatchesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.left: list[tuple[str, float]] = []
        self.batches = Batches(Wheel(self.clock), self.deliver)

    def deliver(self, one: Publication) -> None:
        self.left.append((one.id, self.clock.seconds()))

    def run_for(self, seconds: float) -> None:
        self.clock.pump([STEP] * round(seconds / STEP))

    def ids(self) -> list[str]:
        return [ident for ident, _ in self.left]

    def test_events_of_a_channel_leave_together_and_in_time(self) -> None:
        for ident in "abc":
            self.batches.add(publication(ident))
            self.run_for(0.5)
        self.assertEqual(self.left, [])
        self.run_for(0.5)
        self.assertEqual(self.ids(), ["a", "b", "c"])
        (moment,) = {moment for _, moment in self.left}
        self.assertTrue(PROMISED[MEDIUM] - MARGIN <= moment < PROMISED[MEDIUM], moment)

    def test_low_may_take_longer(self) -> None:
        self.batches.add(publication("a", LOW))
        self.run_for(9.8)
        self.assertEqual(self.left, [])
        self.run_for(0.19)
        self.assertEqual(self.ids(), ["a"])

    def test_after_a_flush_the_next_is_a_whole_window_away(self) -> None:
        self.batches.add(publication("a"))
        self.run_for(2.1)
        self.batches.add(publication("b"))
        self.run_for(4)
        (_, first), (_, second) = self.left
        self.assertGreaterEqual(second - first, PROMISED[MEDIUM] - MARGIN)
        self.assertLess(second - 2.1, PROMISED[MEDIUM])

    def test_what_stays_empty_is_forgotten(self) -> None:
        self.batches.add(publication("a"))
        self.run_for(2)
        self.assertEqual(len(self.batches), 1)
        self.run_for(2)
        self.assertEqual(len(self.batches), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_windows_of_different_channels_are_their_own(self) -> None:
        for number in range(10):
            self.batches.add(publication(str(number), name=f"thread.{number + 1}"))
            self.run_for(0.15)
        self.run_for(2)
        self.assertEqual(len({moment for _, moment in self.left}), 10)

    def test_only_the_newest_state_of_a_key_leaves(self) -> None:
        self.batches.add(publication("old", delivery=STATE, key="k"))
        self.batches.add(publication("between"))
        self.batches.add(publication("other", delivery=STATE, key="l"))
        self.batches.add(publication("new", delivery=STATE, key="k", data=b"x" * 50))
        self.assertEqual(self.batches.gathered_bytes, 3 * OVERHEAD + 2 + 2 + 50)
        self.run_for(2)
        # in the order in which they were published
        self.assertEqual(self.ids(), ["between", "other", "new"])
        self.assertEqual((self.batches.coalesced, self.batches.gathered, self.batches.gathered_bytes), (1, 0, 0))

    def test_a_newer_state_that_leaves_sooner_withdraws_the_older(self) -> None:
        for ident, priority in (("low", LOW), ("medium", MEDIUM)):
            self.batches.add(publication(ident, priority, delivery=STATE, key="k"))
        self.batches.supersede(publication("high", Priority.HIGH, delivery=STATE, key="unknown"))
        self.assertEqual(self.batches.gathered, 2)
        self.run_for(2)
        self.assertEqual((self.ids(), self.batches.gathered, self.batches.gathered_bytes), (["medium"], 0, 0))
        self.batches.add(publication("low", LOW, delivery=STATE, key="k"))
        self.batches.supersede(publication("high", Priority.HIGH, delivery=STATE, key="k"))
        self.run_for(20)
        self.assertEqual((self.ids(), self.batches.gathered), (["medium"], 0))

    def test_a_newer_state_that_leaves_later_withdraws_nothing(self) -> None:
        self.batches.add(publication("medium", MEDIUM, delivery=STATE, key="k"))
        self.batches.add(publication("low", LOW, delivery=STATE, key="k"))
        self.run_for(11)
        self.assertEqual(self.ids(), ["medium", "low"])

    def test_letting_go_early_lets_the_newest_go_alone(self) -> None:
        for close in (False, True):
            self.batches.add(publication("low", LOW, delivery=STATE, key="k"))
            self.batches.add(publication("medium", MEDIUM, delivery=STATE, key="k"))
            self.batches.add(publication("newest", LOW, delivery=STATE, key="l"))
            self.batches.close() if close else self.batches.flush()
            self.assertEqual(sorted(self.ids()[-2:]), ["medium", "newest"])
            self.assertEqual(self.batches.gathered, 0)

    def test_volatile_events_are_gathered_and_not_coalesced(self) -> None:
        for ident in "ab":
            self.batches.add(publication(ident, delivery=DeliveryClass.VOLATILE, key="k"))
        self.run_for(2)
        self.assertEqual(self.ids(), ["a", "b"])

    def test_a_full_batch_leaves_at_once_and_the_next_a_window_later(self) -> None:
        self.run_for(0.5)
        for number in range(MAX_EVENTS + 1):
            self.batches.add(publication(str(number)))
        self.assertEqual(self.ids(), [str(number) for number in range(MAX_EVENTS)])
        self.assertEqual((self.batches.gathered, self.batches.early), (1, 1))
        self.run_for(2)
        (_, early), (_, last) = self.left[-2:]
        self.assertTrue(PROMISED[MEDIUM] - MARGIN <= last - early < PROMISED[MEDIUM])

    def test_a_window_that_ends_anew_is_in_time(self) -> None:
        """What comes after an early flush waits a whole window from that, which is never more than promised."""
        self.batches.add(publication("opens"))
        self.run_for(1.5)
        for number in range(MAX_EVENTS):
            self.batches.add(publication(str(number)))
        added = self.clock.seconds()
        self.run_for(2)
        self.assertEqual(self.ids()[-1], str(MAX_EVENTS - 1))
        self.assertLess(self.left[-1][1] - added, PROMISED[MEDIUM])

    def test_bytes_of_a_batch_are_bounded(self) -> None:
        small = Batches(Wheel(self.clock), self.deliver, 1000)
        small.add(publication("a", data=b"x" * 500))
        self.assertEqual(self.left, [])
        small.add(publication("b", data=b"x" * 500))
        small.add(publication("c", data=b"x" * 5000))
        self.assertEqual(self.ids(), ["a", "b", "c"])
        self.assertEqual(small.gathered_bytes, 0)

    def test_what_is_gathered_in_all_is_bounded(self) -> None:
        with patch.object(module, "MAX_GATHERED", 5):
            for number in range(1, 10):
                self.batches.add(publication(str(number), name=f"thread.{number}"))
                self.assertLess(self.batches.gathered, 5)
                self.assertLessEqual(len(self.batches), 5)
        self.assertEqual(self.ids(), ["5", "6", "7", "8", "9"])
        self.run_for(2)
        self.assertEqual(self.ids()[5:], ["1", "2", "3", "4"])

    def test_bytes_in_all_are_bounded(self) -> None:
        with patch.object(module, "MAX_GATHERED_BYTES", 1000):
            for number in range(1, 10):
                self.batches.add(publication(str(number), name=f"thread.{number}", data=b"x" * 300))
                self.assertLess(self.batches.gathered_bytes, 1000)
        self.assertEqual(self.ids(), ["3", "4", "5", "6", "7", "8", "9"])

    def test_everything_can_be_let_go_early(self) -> None:
        for ident in "ab":
            self.batches.add(publication(ident))
            self.batches.add(publication(ident.upper(), LOW))
        self.batches.flush()
        self.assertEqual(self.ids(), ["a", "b", "A", "B"])
        self.batches.add(publication("c"))
        self.assertEqual(len(self.left), 4)

    def test_what_is_closed_gathers_nothing_any_more(self) -> None:
        self.batches.add(publication("a"))
        self.batches.close()
        self.batches.add(publication("b"))
        self.assertEqual(self.ids(), ["a", "b"])
        self.run_for(5)
        self.assertEqual((self.ids(), len(self.batches)), (["a", "b"], 0))

    def test_one_events_fault_is_not_anothers(self) -> None:
        def deliver(one: Publication) -> None:
            if one.id == "bad":
                raise ZeroDivisionError
            self.deliver(one)

        batches = Batches(Wheel(self.clock), deliver)
        for ident in ("a", "bad", "b"):
            batches.add(publication(ident))
        self.run_for(2)
        self.assertEqual(self.ids(), ["a", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


@dataclass
class Story:
    """What a random run did. Times are in the clock's seconds.

    :ivar added: each event, and when it came.
    :ivar left: the numbers of the events that left, and when.
    """

    batches: Any = None
    clock: Clock = field(default_factory=Clock)
    added: list[tuple[Publication, float]] = field(default_factory=list)
    left: list[tuple[int, float]] = field(default_factory=list)
    most: int = 0
    most_bytes: int = 0

    def run_for(self, steps: int) -> None:
        for _ in range(steps):
            self.clock.advance(STEP)

    def add(self, priority: Priority, resource: int, key: int | None, size: int) -> None:
        delivery = DURABLE if key is None else STATE
        one = publication(str(len(self.added)), priority, f"thread.{resource}", delivery, str(key), b"x" * size)
        self.added.append((one, self.clock.seconds()))
        self.batches.add(one)
        self.most = max(self.most, self.batches.gathered)
        self.most_bytes = max(self.most_bytes, self.batches.gathered_bytes)


_EVENTS = st.tuples(
    # steps of the clock before it, its priority, resource, key, and size
    st.one_of(st.just(0), st.integers(0, 30), st.integers(0, 400)),
    st.sampled_from([MEDIUM, LOW]),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(1, 2)),
    st.integers(0, 400),
)


def told(events: list[tuple[int, Priority, int, int | None, int]], size: int = module.MAX_BYTES) -> Story:
    """Add the events, and let time pass until the last of them must have left."""
    story = Story()

    def deliver(one: Publication) -> None:
        story.left.append((int(one.id), story.clock.seconds()))

    story.batches = Batches(Wheel(story.clock), deliver, size)
    for steps, *event in events:
        story.run_for(steps)
        story.add(*event)  # type: ignore[arg-type]
    story.run_for(1000)
    return story


def check(story: Story) -> None:
    """Nothing is lost but older states, nothing comes twice or late, and the order is kept."""
    left = dict(story.left)
    assert len(left) == len(story.left), "an event left twice"
    for number, (one, came) in enumerate(story.added):
        if number in left:
            assert left[number] - came < PROMISED[one.priority]
            continue
        assert one.delivery is STATE
        # a newer one of its key has left, and not later than this one was promised
        newer = [
            left[later]
            for later, (other, _) in enumerate(story.added)
            if later > number and other.key == one.key and later in left
        ]
        assert newer
        assert min(newer) - came < PROMISED[LOW] * 2
    for priority in PROMISED:
        for resource in {one.channel.resource for one, _ in story.added}:
            order = [
                number
                for number, _ in story.left
                if (story.added[number][0].priority, story.added[number][0].channel.resource) == (priority, resource)
            ]
            assert order == sorted(order)
    assert (story.batches.gathered, story.batches.gathered_bytes) == (0, 0)


@given(st.lists(_EVENTS, max_size=40))
@settings(max_examples=100, deadline=None)
def test_nothing_is_lost_late_or_out_of_order_and_flushes_are_a_window_apart(events: Any) -> None:
    story = told(events)
    check(story)
    flushes: dict[tuple[str, Priority], list[float]] = {}
    for number, moment in story.left:
        one = story.added[number][0]
        moments = flushes.setdefault((one.channel.resource, one.priority), [])
        if moment not in moments:
            moments.append(moment)
    for (_, priority), moments in flushes.items():
        for earlier, later in pairwise(moments):
            assert later - earlier >= PROMISED[priority] - MARGIN - 1e-6


@given(st.lists(_EVENTS, max_size=60))
@settings(max_examples=60, deadline=None)
def test_bounds_hold_and_cost_nothing_but_time(events: Any) -> None:
    """The same promises when batches and all of them together are small."""
    with (
        patch.object(module, "MAX_EVENTS", 4),
        patch.object(module, "MAX_GATHERED", 8),
        patch.object(module, "MAX_GATHERED_BYTES", 3000),
    ):
        story = told(events, 1200)
    check(story)
    assert story.most < 8
    assert story.most_bytes < 3000


@given(st.lists(_EVENTS, min_size=1, max_size=30))
@example([(0, LOW, 1, None, 0), (900, MEDIUM, 1, 1, 0), (10, LOW, 1, 1, 0)])
@settings(max_examples=150, deadline=None)
def test_newest_values_leave_last(events: Any) -> None:
    """Whatever the priorities: of a key's values, a client ends with the newest that has left at the newest's time."""
    story = told(events)
    last: dict[str, int] = {}
    newest = {one.key: number for number, (one, _) in enumerate(story.added) if one.delivery is STATE}
    for number, _ in story.left:
        one = story.added[number][0]
        if one.delivery is STATE:
            last[one.key] = number
    assert last == newest
