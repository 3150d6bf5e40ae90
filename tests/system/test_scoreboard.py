"""Numbers that processes share, and who should let the others go first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.system.scoreboard import FairShare, Scoreboard

SECOND = 10**9


def test_another_process_sees_the_same_numbers() -> None:
    board = Scoreboard.create(4)
    assert not os.get_inheritable(board.fd)
    board.slot(0).connections = 7
    program = (
        "import sys; from mechamap_rt.system.scoreboard import Scoreboard\n"
        "board = Scoreboard.attach(int(sys.argv[1])); slot = board.slot(3)\n"
        "slot.connections = board.slot(0).connections + 2**40; slot.accepting = True; slot.beat = 2**64 - 1\n"
    )
    subprocess.run([sys.executable, "-c", program, str(board.fd)], pass_fds=[board.fd], check=True)
    slot = board.slot(3)
    assert (slot.connections, slot.accepting, slot.beat) == (7 + 2**40, True, 2**64 - 1)
    slot.clear()
    assert (slot.connections, slot.accepting, slot.beat) == (0, False, 0)
    board.close()


def test_there_are_as_many_slots_as_asked_for() -> None:
    board = Scoreboard.create()
    assert board.slots == 64
    board.slot(63).connections = 1
    for number in (-1, 64):
        with pytest.raises(IndexError):
            board.slot(number)
    board.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(board.fd)


class FairShareTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.board = Scoreboard.create(8)
        self.addCleanup(self.board.close)

    def now(self) -> int:
        return int(self.clock.seconds() * SECOND)

    def worker(self, number: int, connections: int, beat: float = 0.0, accepting: bool = True) -> None:
        """Another worker, whose last sign of life was ``beat`` seconds ago."""
        slot = self.board.slot(number)
        slot.connections, slot.accepting, slot.beat = connections, accepting, self.now() - int(beat * SECOND)

    def mine(self, connections: int) -> FairShare:
        share = FairShare(self.clock, self.board, self.board.slot(0), self.now)
        share.start()
        self.addCleanup(share.stop)
        for _ in range(connections):
            share.arrived()
        return share

    def test_alone_one_takes_everything(self) -> None:
        share = self.mine(1000)
        self.assertFalse(share.should_yield())
        self.worker(1, 0, accepting=False)
        self.worker(2, 0, beat=2.0)
        self.assertFalse(share.should_yield())
        self.assertEqual(self.board.average_of_accepting(self.now()), 1000)

    def test_who_has_clearly_more_yields(self) -> None:
        self.worker(1, 100)
        self.assertFalse(self.mine(116).should_yield())  # the average is 108
        share = self.mine(118)
        self.assertTrue(share.should_yield())
        share.departed()
        share.departed()
        self.assertFalse(share.should_yield())
        self.assertEqual(self.board.slot(0).connections, 116)

    def test_of_many_connections_a_part_is_tolerated(self) -> None:
        self.worker(1, 1000)
        self.assertFalse(self.mine(1080).should_yield())
        self.assertTrue(self.mine(1090).should_yield())

    def test_not_when_those_with_fewer_are_too_busy(self) -> None:
        self.worker(1, 0, beat=0.5)
        self.worker(2, 200)
        share = self.mine(200)
        self.assertFalse(share.should_yield())
        self.worker(1, 0)
        self.assertTrue(share.should_yield())

    def test_a_sign_of_life_ten_times_a_second(self) -> None:
        share = self.mine(3)
        slot = self.board.slot(0)
        for _ in range(20):
            self.clock.advance(0.1)
            self.assertEqual(slot.beat, self.now())
        share.leave()
        self.assertFalse(slot.accepting)
        self.clock.advance(0.1)
        self.assertEqual(slot.beat, self.now())
        share.stop()
        share.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connections_of_before_the_start_count(self) -> None:
        share = FairShare(self.clock, self.board, self.board.slot(0), self.now)
        share.arrived()
        self.board.slot(0).clear()
        share.start()
        self.addCleanup(share.stop)
        self.assertEqual(self.board.slot(0).connections, 1)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_somebody_always_accepts(counts: list[int]) -> None:
    board = Scoreboard.create(8)
    shares = []
    for number, count in enumerate(counts):
        share = FairShare(Clock(), board, board.slot(number), lambda: SECOND)
        share._open = count
        share.start()
        shares.append(share)
    assert not all(share.should_yield() for share in shares)
    board.close()
