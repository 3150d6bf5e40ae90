"""Many questions at once become few queries."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mechamap_rt.core.loader import BATCH, MAX_WAITING, PARALLEL, Loader
from mechamap_rt.errors import Unavailable


class LoaderTests(TestCase):
    def setUp(self) -> None:
        self.asked: list[list[int]] = []
        self.open: list[Deferred[Mapping[int, str]]] = []
        self.loader: Loader[int, str] = Loader(self._fetch)

    async def _fetch(self, keys: list[int]) -> Mapping[int, str]:
        self.asked.append(keys)
        answer: Deferred[Mapping[int, str]] = Deferred()
        self.open.append(answer)
        return await answer

    def _answer(self) -> None:
        """The oldest query is answered: there are even keys only."""
        at = len(self.asked) - len(self.open)
        self.open.pop(0).callback({key: f"v{key}" for key in self.asked[at] if key % 2 == 0})

    def test_the_first_is_asked_at_once_and_those_meanwhile_together(self) -> None:
        loads = [self.loader.load(key) for key in range(1000)]
        assert self.asked == [[0], [1]]
        while self.open:
            assert len(self.open) <= PARALLEL
            self._answer()
        assert [self.successResultOf(load) for load in loads] == [f"v{n}" if n % 2 == 0 else None for n in range(1000)]
        assert len(self.asked) == 2 + -(-998 // BATCH)
        assert sorted(key for keys in self.asked for key in keys) == list(range(1000))

    def test_the_same_key_is_asked_once_and_answers_all(self) -> None:
        first = [self.loader.load(1), self.loader.load(3)]
        loads = [self.loader.load(key) for _ in range(100) for key in (2, 4)]
        while self.open:
            self._answer()
        assert [self.successResultOf(load) for load in loads] == ["v2", "v4"] * 100
        assert [self.successResultOf(load) for load in first] == [None, None]
        # a key whose query runs already is asked again: what was read may be older than the question
        assert self.asked == [[1], [3], [2, 4]]

    def test_a_failure_reaches_all_and_the_next_are_asked(self) -> None:
        loads = [self.loader.load(key) for key in (2, 4, 6, 6, 8)]
        for _ in range(3):
            self.open.pop(0).errback(Unavailable("away"))
        for load in loads:
            self.failureResultOf(load, Unavailable)
        again = self.loader.load(2)
        self._answer()
        assert self.successResultOf(again) == "v2"

    def test_there_is_a_bound_and_keys_that_wait_already_are_within_it(self) -> None:
        loads = [self.loader.load(key) for key in range(MAX_WAITING + PARALLEL)]
        self.failureResultOf(self.loader.load(-1), Unavailable)
        loads.append(self.loader.load(MAX_WAITING))
        while self.open:
            self._answer()
        assert all(load.called for load in loads)
        assert sum(self.successResultOf(load) is not None for load in loads) == (MAX_WAITING + PARALLEL) // 2 + 1

    def test_a_database_that_refuses_at_once_fails_all_that_wait(self) -> None:
        loads = [self.loader.load(key) for key in range(MAX_WAITING)]

        async def refuse(keys: list[int]) -> Mapping[int, str]:
            raise Unavailable("away")

        self.loader._fetch = refuse
        while self.open:
            self.open.pop(0).errback(Unavailable("away"))
        for load in loads:
            self.failureResultOf(load, Unavailable)

    def test_who_asks_again_in_the_answer_is_answered(self) -> None:
        again = self.loader.load(2).addCallback(lambda _: self.loader.load(2))
        for _ in range(2):
            self._answer()
        assert self.successResultOf(again) == "v2"
