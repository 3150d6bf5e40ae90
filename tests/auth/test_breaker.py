"""The circuit breaker: by itself, and before a site that really fails."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mechamap_rt.auth import laravel
from mechamap_rt.auth.breaker import PAUSES, THRESHOLD, Breaker, Circuit
from mechamap_rt.auth.laravel import CONCURRENT, LaravelSite
from mechamap_rt.errors import Unavailable
from tests.bus.redis_case import coroutine, until
from tests.server import LARAVEL_API_KEY
from tests.site import Answer, Site, token_of, user_of


class BreakerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.breaker = Breaker(self.clock.seconds)

    def admitted(self) -> int:
        admitted = self.breaker.admit()
        assert admitted is not None
        return admitted

    def fail_often(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed(self.admitted())

    def test_failures_in_a_row_open_it(self) -> None:
        self.fail_often(THRESHOLD - 1)
        self.breaker.succeeded(self.admitted())
        self.fail_often(THRESHOLD - 1)
        self.assertIs(self.breaker.state, Circuit.CLOSED, "they were not in a row")
        self.fail_often(1)
        self.assertIs(self.breaker.state, Circuit.OPEN)
        self.assertIsNone(self.breaker.admit())
        self.assertTrue(self.breaker.refuses)

    def test_one_tries_and_the_pause_doubles_up_to_its_bound(self) -> None:
        self.fail_often(THRESHOLD)
        pause = PAUSES[0]
        for _ in range(6):
            self.clock.advance(pause - 0.01)
            self.assertIsNone(self.breaker.admit(), f"after less than {pause} s")
            self.clock.advance(0.01)
            trial = self.admitted()
            self.assertIs(self.breaker.state, Circuit.TRYING)
            self.assertIsNone(self.breaker.admit(), "one is enough")
            self.breaker.failed(trial)
            pause = min(2 * pause, PAUSES[1])
        self.assertEqual(pause, PAUSES[1])
        self.clock.advance(pause)
        self.breaker.succeeded(self.admitted())
        self.assertIs(self.breaker.state, Circuit.CLOSED)
        self.fail_often(THRESHOLD)
        self.clock.advance(PAUSES[0])
        self.admitted()

    def test_who_was_on_the_way_when_it_opened_says_nothing_of_the_trial(self) -> None:
        early = [self.admitted() for _ in range(CONCURRENT)]
        for one in early[:THRESHOLD]:
            self.breaker.failed(one)
        self.breaker.failed(early[5])
        self.clock.advance(PAUSES[0])
        trial = self.admitted()
        self.breaker.failed(early[6])
        self.breaker.abandoned(early[7])
        self.assertIsNone(self.breaker.admit(), "there is a trial already")
        self.breaker.failed(trial)
        self.clock.advance(2 * PAUSES[0] - 0.01)
        self.assertIsNone(self.breaker.admit(), "the pause doubled once, and not for each that failed")
        self.breaker.succeeded(early[8])
        self.assertIs(self.breaker.state, Circuit.CLOSED, "but a success is one")

    def test_an_abandoned_trial_is_no_trial(self) -> None:
        self.fail_often(THRESHOLD)
        self.clock.advance(PAUSES[0])
        for _ in range(3):
            self.breaker.abandoned(self.admitted())
        self.breaker.succeeded(self.admitted())
        self.breaker.abandoned(self.admitted())
        self.assertIs(self.breaker.state, Circuit.CLOSED)

    @given(st.lists(st.tuples(st.sampled_from(["ask", "yes", "no", "gone", "wait"]), st.integers(0, 30))))
    def test_whatever_happens_somebody_is_let_through_in_the_end(self, steps: list[tuple[str, int]]) -> None:
        clock = Clock()
        breaker = Breaker(clock.seconds)
        running: list[int] = []
        report = {"yes": breaker.succeeded, "no": breaker.failed, "gone": breaker.abandoned}
        for what, number in steps:
            if what == "wait":
                clock.advance(number / 10)
            elif what == "ask":
                refuses = breaker.refuses
                admitted = breaker.admit()
                self.assertEqual(admitted is None, refuses)
                running += [] if admitted is None else [admitted]
            elif running:
                report[what](running.pop(number % len(running)))
        for one in running:
            breaker.failed(one)
        clock.advance(PAUSES[1])
        self.assertIsNotNone(breaker.admit())


class FailingSiteTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.end)
        self.site.users = {token_of(number): user_of(number) for number in range(1, 2000)}
        self.clock = Clock()

    def client(self, timeout: float = 5.0) -> LaravelSite:
        """Pauses are on ``self.clock``, all else takes real time."""
        client = LaravelSite(reactor, self.site.url, LARAVEL_API_KEY, timeout)
        client.breaker = Breaker(self.clock.seconds)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    def ask(self, client: LaravelSite, number: int = 1) -> Deferred[Any]:
        return Deferred.fromCoroutine(client.verify(token_of(number)))

    async def refused(self, client: LaravelSite, number: int = 1) -> None:
        try:
            await client.verify(token_of(number))
        except Unavailable:
            return
        self.fail("the site should not have answered")

    async def break_it(self, client: LaravelSite) -> None:
        self.site.always = Answer(503)
        for _ in range(THRESHOLD):
            await self.refused(client)
        self.site.always = None
        self.assertIs(client.breaker.state, Circuit.OPEN)

    async def works(self, client: LaravelSite) -> None:
        """One, which may be the trial, then as many as ever can run at once, and more after them."""
        self.assertEqual((await self.ask(client, 99))["id"], 99)
        users = await gatherResults([self.ask(client, number) for number in range(1, 3 * CONCURRENT)])
        self.assertEqual([user["id"] for user in users], list(range(1, 3 * CONCURRENT)))

    @coroutine
    async def test_it_opens_fails_fast_tries_one_and_closes(self) -> None:
        client = self.client()
        await self.break_it(client)
        for _ in range(50):
            await self.refused(client)
        self.assertEqual(len(self.site.asked), THRESHOLD, "nobody asks while it is open")
        self.clock.advance(PAUSES[0])
        self.site.script.append(Answer(502))
        await self.refused(client)
        self.clock.advance(PAUSES[0])
        await self.refused(client)
        self.assertEqual(len(self.site.asked), THRESHOLD + 1, "the pause has doubled")
        self.clock.advance(PAUSES[0])
        await self.works(client)
        self.assertIs(client.breaker.state, Circuit.CLOSED)

    @coroutine
    async def test_refusals_and_odd_answers_do_not_open_it(self) -> None:
        client = self.client()
        for status in (401, 403, 404, 419, 422, 429) * 2:
            self.site.script.append(Answer(status, {"message": "no"}))
            await self.ask(client).addErrback(lambda _: None)
        self.assertIs(client.breaker.state, Circuit.CLOSED)

    @coroutine
    async def test_a_channel_over_whose_name_the_site_stumbles_is_nobody_elses_affair(self) -> None:
        client = self.client()
        self.site.always = lambda asked: Answer(500) if asked.path == "/broadcasting/auth" else None
        for _ in range(2 * THRESHOLD):
            await self.assertFailure(Deferred.fromCoroutine(client.authorize(token_of(1), "s", "x.1")), Unavailable)
        await self.works(client)
        self.site.always = Answer(502)
        for _ in range(THRESHOLD):
            await self.assertFailure(Deferred.fromCoroutine(client.authorize(token_of(1), "s", "x.1")), Unavailable)
        self.assertIs(client.breaker.state, Circuit.OPEN, "a site that is away is")

    @coroutine
    async def test_only_one_tries(self) -> None:
        client = self.client()
        await self.break_it(client)
        self.clock.advance(PAUSES[0])
        self.site.script.append(Answer(200, {"user": user_of(1)}, stall=-1))
        trial = self.ask(client)
        await until(lambda: self.site.held == 1, "the trial to be asked")
        for _ in range(30):
            await self.refused(client)
        self.assertEqual(self.site.held, 1)
        self.site.release()
        self.assertEqual((await trial)["id"], 1)
        await self.works(client)

    @coroutine
    async def test_a_cancelled_trial_does_not_wedge_it(self) -> None:
        client = self.client()
        await self.break_it(client)
        self.clock.advance(PAUSES[0])
        self.site.script.extend([Answer(stall=-1), Answer(200, b"half of it", stall=4)])
        for requests in (THRESHOLD + 1, THRESHOLD + 2):
            trial = self.ask(client)
            await until(lambda: self.site.held == 1, "the trial to be asked")
            trial.cancel()
            await self.assertFailure(trial, CancelledError)
            self.site.release()
            await until(lambda: self.site.held == self.site.open == 0, "the connection to be given up")
            self.assertEqual(len(self.site.asked), requests)
        await self.works(client)

    @coroutine
    async def test_a_trial_whose_coroutine_is_closed_does_not_wedge_it(self) -> None:
        client = self.client()
        await self.break_it(client)
        self.clock.advance(PAUSES[0])
        trial = client.verify(token_of(1))
        asked = trial.send(None)
        self.assertIs(client.breaker.state, Circuit.TRYING)
        trial.close()
        await self.works(client)
        await asked

    @coroutine
    async def test_a_trial_that_is_late_is_a_failure_also_in_the_midst_of_its_body(self) -> None:
        client = self.client(timeout=0.6)
        for late in (Answer(stall=-1), Answer(200, b"half of it", stall=4)):
            await self.break_it(client)
            self.clock.advance(PAUSES[1])
            self.site.script.append(late)
            await self.refused(client)
            self.assertIs(client.breaker.state, Circuit.OPEN)
            self.clock.advance(PAUSES[1])
            await self.works(client)

    @coroutine
    async def test_those_who_wait_when_it_opens_are_told_at_once_however_many(self) -> None:
        client = self.client(timeout=20)
        self.site.always = Answer(stall=-1, hang_up=True)
        asked = [self.ask(client, number) for number in range(1, 1900)]
        await until(lambda: self.site.held == CONCURRENT, "as many as may run to be asked")
        self.site.always = Answer(hang_up=True)
        self.site.release()
        for one in asked:
            await self.assertFailure(one, Unavailable)
        self.assertLess(len(self.site.asked), 3 * CONCURRENT)
        self.assertIs(client.breaker.state, Circuit.OPEN)
        self.site.always = None
        self.clock.advance(PAUSES[0])
        await self.works(client)

    @coroutine
    async def test_nobody_queues_behind_a_site_that_does_not_answer(self) -> None:
        client = self.client()
        self.site.always = lambda asked: Answer(503) if len(self.site.asked) > CONCURRENT else Answer(stall=-1)
        held = [self.ask(client, number) for number in range(1, CONCURRENT)]
        await until(lambda: self.site.held == CONCURRENT - 1, "them to be asked")
        self.site.always = Answer(503)
        for _ in range(THRESHOLD):
            await self.refused(client)
        self.clock.advance(PAUSES[0])
        self.site.script.append(Answer(stall=-1))
        held.append(self.ask(client, CONCURRENT))
        await until(lambda: self.site.held == CONCURRENT, "the trial to be asked")
        # all places are taken, and the trial is one of them
        await self.refused(client)
        self.site.always = None
        self.site.release()
        for one in held:
            await one.addErrback(lambda _: None)
        await self.works(client)

    @coroutine
    async def test_the_queue_is_bounded(self) -> None:
        self.patch(laravel, "MAX_WAITING", 7)
        client = self.client()
        self.site.always = lambda asked: Answer(200, {"user": user_of(1)}, stall=-1)
        asked = [self.ask(client, number) for number in range(1, CONCURRENT + 8)]
        await self.refused(client, 100)
        await until(lambda: self.site.held == CONCURRENT, "as many as may run to be asked")
        self.site.always = None
        self.site.release()
        await gatherResults(asked)
        self.assertLessEqual(self.site.most, CONCURRENT)

    @coroutine
    async def test_nobody_waits_longer_for_a_turn_than_for_an_answer(self) -> None:
        client = self.client(timeout=1.5)
        self.site.always = Answer(200, {"user": user_of(1)}, stall=-1)
        first, second, third = (
            [self.ask(client, number) for number in range(start, start + CONCURRENT)] for start in (1, 101, 201)
        )
        await until(lambda: self.site.held == CONCURRENT, "the first to be asked")
        started = reactor.seconds()
        await until(lambda: reactor.seconds() > started + 0.7, "a part of the time to pass")
        self.site.release()
        await gatherResults(first)
        await until(lambda: self.site.held == CONCURRENT, "the second to be asked")
        for one in third:
            await self.assertFailure(one, Unavailable)
        self.assertEqual(self.site.held, CONCURRENT, "the second have not been given up yet")
        self.site.always = None
        self.site.release()
        await gatherResults(second)
        self.assertEqual(len(self.site.asked), 2 * CONCURRENT)
        await self.works(client)

    @coroutine
    async def test_who_is_cancelled_leaves_his_place_to_others(self) -> None:
        client = self.client()
        self.site.always = Answer(200, {"user": user_of(1)}, stall=-1)
        asked = [self.ask(client, number) for number in range(1, 3 * CONCURRENT + 1)]
        running, waiting, patient = (asked[start : start + CONCURRENT] for start in (0, CONCURRENT, 2 * CONCURRENT))
        await until(lambda: self.site.held == CONCURRENT, "the first to be asked")
        for one in waiting:
            one.cancel()
            await self.assertFailure(one, CancelledError)
        self.site.always = None
        for one in running:
            one.cancel()
            await self.assertFailure(one, CancelledError)
        users = await gatherResults(patient)
        self.assertEqual([user["id"] for user in users], list(range(2 * CONCURRENT + 1, 3 * CONCURRENT + 1)))
        self.assertIs(client.breaker.state, Circuit.CLOSED, "nothing was learnt of the site")
        self.assertEqual(client.failures, 0)
        self.site.release()
        await self.works(client)
