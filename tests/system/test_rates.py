"""The table of what the processes of a host have counted."""

from __future__ import annotations

import multiprocessing
import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.system.rates import KEYS, REGIONS, Count, RateTable


class RateTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        first = RateTable.create()
        self.tables = [RateTable(os.dup(first.fd), region, self.clock.seconds) for region in (0, 1, 2)]
        first.close()
        for table in self.tables:
            self.addCleanup(table.close)

    def test_processes_count_together(self) -> None:
        one, two, three = self.tables
        assert [table.take("a", 60).number for table in (one, two, three, one)] == [1, 2, 3, 4]
        assert two.count("a") == Count(4, 60.0)
        assert two.count("b") == Count(0, 0.0)
        assert two.take("b", 60).number == 1

    def test_a_window_begins_with_the_first_and_ends_for_all(self) -> None:
        one, two, _ = self.tables
        one.take("a", 10)
        self.clock.advance(6)
        assert two.take("a", 10) == Count(2, 4.0)
        self.clock.advance(4)
        assert one.count("a") == Count(0, 0.0)
        assert two.take("a", 10) == Count(1, 10.0)

    def test_what_is_given_back_is_not_counted(self) -> None:
        one, two, _ = self.tables
        one.take("a", 10)
        one.take("a", 10)
        assert one.take("a", 10, -1).number == 1
        assert two.count("a").number == 1
        one.take("b", 10, -1)
        assert one.count("b").number == 0

    def test_who_takes_a_region_over_goes_on_with_it(self) -> None:
        self.tables[1].take("a", 10)
        again = RateTable(os.dup(self.tables[1].fd), 1, self.clock.seconds)
        self.addCleanup(again.close)
        assert again.take("a", 10).number == 2

    def test_more_keys_than_there_are_places(self) -> None:
        """Some are forgotten, and none is counted for another."""
        table = self.tables[0]
        for number in range(KEYS * 2):
            assert table.take(f"k{number}", 10).number == 1
        kept = sum(table.count(f"k{number}").number for number in range(KEYS * 2))
        assert KEYS / 2 < kept <= KEYS

    def test_a_region_that_is_not_there(self) -> None:
        self.assertRaises(IndexError, RateTable, os.dup(self.tables[0].fd), REGIONS)

    def test_real_processes(self) -> None:
        context = multiprocessing.get_context("fork")
        table = RateTable.create()
        self.addCleanup(table.close)
        children = [context.Process(target=_count, args=(table.fd, region)) for region in range(1, 5)]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
        assert table.count("together").number == 4 * 5000


def _count(fd: int, region: int) -> None:
    table = RateTable(os.dup(fd), region)
    for _ in range(5000):
        table.take("together", 600)
