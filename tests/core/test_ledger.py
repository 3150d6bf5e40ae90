"""What has been done already, and what of it is forgotten."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.core.ledger import KEPT, UNDER_WAY, Claim, Ledger, State

ONE, OTHER = b"1" * 16, b"2" * 16


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock.seconds, most=3, most_bytes=10_000)

    def test_what_is_done_is_answered_from_memory(self) -> None:
        assert self.ledger.claim("a", "k", ONE) == Claim(State.NEW)
        assert self.ledger.claim("b", "k", ONE) == Claim(State.BUSY)
        self.ledger.settle("k", ONE, b"answer")
        assert self.ledger.claim("b", "k", ONE) == Claim(State.DONE, b"answer")
        assert self.ledger.claim("b", "k", OTHER) == Claim(State.OTHER)
        self.clock.advance(KEPT - 1)
        assert self.ledger.claim("b", "k", ONE).state is State.DONE
        self.clock.advance(1)
        assert self.ledger.claim("b", "k", ONE).state is State.NEW

    def test_what_was_not_done_is_done_by_who_asks_again(self) -> None:
        self.ledger.claim("a", "k", ONE)
        self.ledger.release("k")
        assert self.ledger.claim("b", "k", OTHER).state is State.NEW
        self.ledger.settle("k", OTHER, b"x")
        self.ledger.release("k")
        assert self.ledger.claim("b", "k", OTHER).state is State.DONE

    def test_what_a_dead_process_had_under_way_is_anybodys(self) -> None:
        self.ledger.claim("a", "k", ONE)
        self.ledger.claim("b", "l", ONE)
        self.ledger.forget("a")
        assert self.ledger.claim("b", "k", ONE).state is State.NEW
        assert self.ledger.claim("b", "l", ONE).state is State.BUSY
        self.clock.advance(UNDER_WAY)
        assert self.ledger.claim("c", "l", ONE).state is State.NEW

    def test_it_is_bounded(self) -> None:
        for number in range(10):
            self.ledger.claim("a", f"k{number}", ONE)
        assert len(self.ledger) == 3
        for number in range(7, 10):
            self.ledger.settle(f"k{number}", ONE, b"x" * 4000)
        assert len(self.ledger) == 2
        assert self.ledger.claim("a", "k9", ONE).state is State.DONE
