"""What waits to be written: paced, batched, bounded, and kept while the database is away."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.core.writing import GAP, RETRY, STOP_LIMIT, Pace, WriteBehind
from mechamap_rt.errors import RowRefused, Unavailable


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)
        self.turns: list[tuple[str, float]] = []

    def ask(self, name: str) -> None:
        self.pace.turn().addCallback(lambda _: self.turns.append((name, self.clock.seconds())))

    def test_turns_are_given_in_order_and_never_too_close(self) -> None:
        for name in "abc":
            self.ask(name)
        assert self.turns == [("a", 0.0)]
        # a reactor that is late does not make the next ones come early
        self.clock.advance(GAP * 1.5)
        self.clock.advance(GAP * 0.5)
        assert [name for name, _ in self.turns] == ["a", "b"]
        self.clock.advance(GAP * 0.5)
        assert self.turns[-1] == ("c", GAP * 2.5)
        self.clock.advance(10)
        self.ask("d")
        assert self.turns[-1] == ("d", self.clock.seconds())

    def test_at_the_end_nobody_waits(self) -> None:
        for name in "abc":
            self.ask(name)
        self.pace.hurry()
        self.ask("d")
        assert [name for name, _ in self.turns] == ["a", "b", "c", "d"]
        assert self.clock.getDelayedCalls() == []


class WriteBehindTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[dict[str, Any]] = []
        self.away = False
        self.taken: set[str] = set()
        self.slow: list[Deferred[None]] | None = None

    async def write(self, batch: dict[str, Any]) -> None:
        if self.slow is not None:
            waiting: Deferred[None] = Deferred()
            self.slow.append(waiting)
            await waiting
        if self.away:
            raise Unavailable("away")
        if "poison" in batch:
            raise ValueError("a fault of ours")
        if not self.taken.isdisjoint(batch):
            raise RowRefused("a trigger (1644)")
        self.written.append(batch)

    def behind(self, **more: Any) -> WriteBehind[str, int]:
        behind = WriteBehind(self.clock, self.write, "things", **more)
        behind.start()
        return behind

    def test_the_first_is_written_at_once_and_what_comes_meanwhile_together(self) -> None:
        self.slow = []
        behind = self.behind(merge=max)
        for key, value in (("a", 1), ("b", 1), ("c", 3), ("c", 2), ("a", 2)):
            behind.note(key, value)
        assert len(self.slow) == 1
        self.slow.pop().callback(None)
        self.slow.pop().callback(None)
        assert self.written == [{"a": 1}, {"b": 1, "c": 3, "a": 2}]
        assert (behind.written, len(behind)) == (4, 0)

    def test_an_interval_gathers(self) -> None:
        behind = self.behind(interval=10.0)
        for key in "aba":
            behind.note(key, 1)
        self.clock.advance(9.9)
        assert self.written == []
        self.clock.advance(0.1)
        assert self.written == [{"a": 1, "b": 1}]
        self.clock.advance(60)
        assert self.clock.getDelayedCalls() == [], "nothing to do, nothing is done"

    def test_an_outage_of_a_minute(self) -> None:
        self.away = True
        behind = self.behind(merge=max, batch=2)
        behind.note("a", 1)
        assert behind.away
        for number, key in enumerate("bcdab"):
            behind.note(key, number)
            self.clock.pump([RETRY / 2] * 24)
        assert self.clock.seconds() >= 60 * 0.5
        self.clock.pump([RETRY] * 80)
        assert (self.written, len(behind)) == ([], 4)
        self.away = False
        self.clock.advance(RETRY)
        assert self.written == [{"a": 3, "b": 4}, {"c": 1, "d": 2}], "in order, each once, the newest"
        assert not behind.away
        assert behind.forgotten == 0

    def test_the_oldest_are_forgotten(self) -> None:
        self.away = True
        behind = self.behind(most=10, batch=3)
        for number in range(25):
            behind.note(f"k{number}", number)
        assert (len(behind), behind.forgotten) == (10, 15)
        self.clock.advance(RETRY)
        assert (len(behind), behind.forgotten) == (10, 15)
        self.away = False
        self.clock.advance(RETRY)
        assert [key for batch in self.written for key in batch] == [f"k{number}" for number in range(15, 25)]

    def test_a_fault_of_ours_holds_up_nobody(self) -> None:
        behind = self.behind()
        behind.note("poison", 1)
        behind.note("a", 1)
        assert len(self.flushLoggedErrors(ValueError)) == 1
        assert self.written == [{"a": 1}]
        assert behind.forgotten == 1

    def test_what_the_database_refuses_holds_up_nothing_else(self) -> None:
        behind = self.behind(interval=1.0)
        names = [f"k{number}" for number in range(100)]
        for number, name in enumerate(names):
            behind.note(name, number)
        self.taken = {"k17", "k99"}
        self.clock.advance(1)
        got = {key: value for batch in self.written for key, value in batch.items()}
        assert got == {name: number for number, name in enumerate(names) if name not in self.taken}
        assert (behind.written, behind.forgotten, len(behind), behind.away) == (98, 2, 0, False)
        assert len(self.written) < 20

    def test_a_database_that_goes_while_a_batch_is_halved(self) -> None:
        behind = self.behind(interval=1.0)
        self.slow = []
        for number in range(8):
            behind.note(f"k{number}", number)
        self.taken = {"k0"}
        self.clock.advance(1)
        self.slow.pop().callback(None)  # the whole: refused
        self.away = True
        self.slow.pop().callback(None)  # the first half: away
        assert (len(behind), behind.away) == (8, True)
        self.away, self.slow = False, None
        self.clock.advance(1)
        assert sorted(key for batch in self.written for key in batch) == [f"k{number}" for number in range(1, 8)]
        assert (behind.forgotten, len(behind)) == (1, 0)

    def test_what_is_left_is_written_at_the_end(self) -> None:
        behind = self.behind(interval=10.0, batch=2)
        for key in "abc":
            behind.note(key, 1)
        self.successResultOf(Deferred.fromCoroutine(behind.stop()))
        assert self.written == [{"a": 1, "b": 1}, {"c": 1}]
        assert self.clock.getDelayedCalls() == []

    def test_the_end_waits_for_no_database_that_is_away(self) -> None:
        self.away = True
        behind = self.behind()
        behind.note("a", 1)
        self.successResultOf(Deferred.fromCoroutine(behind.stop()))
        assert len(behind) == 1
        assert self.clock.getDelayedCalls() == []

    def test_the_end_waits_a_moment_for_one_that_does_not_answer(self) -> None:
        self.slow = []
        behind = self.behind()
        behind.note("a", 1)
        behind.note("b", 1)
        stopping = Deferred.fromCoroutine(behind.stop())
        self.assertNoResult(stopping)
        self.clock.advance(STOP_LIMIT)
        self.successResultOf(stopping)
        self.away = True
        self.slow.pop().callback(None)
        self.clock.advance(60)
        assert self.written == []

    def test_a_writer_that_answers_at_once_is_not_called_without_end(self) -> None:
        behind = self.behind()
        succeed(None).addCallback(lambda _: behind.note("a", 1))
        behind.note("a", 2)
        assert self.written == [{"a": 1}, {"a": 2}]
