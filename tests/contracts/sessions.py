"""What every session store promises. A test case mixes :class:`SessionContract` in and makes the stores."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from mechamap_rt.core.limits import Quota
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import ISessionStore
from tests.bus.redis_case import coroutine, until

#: Far away from every limit of a test: who takes from it waits until the counters have got what went before.
BARRIER = "barrier"
RATES = {"events": 30, "typing": 2, BARRIER: 1_000_000}


async def settled(*stores: Any) -> None:
    """What these stores have told the others has arrived there."""
    for store in stores:
        assert await store.take(BARRIER, 0) == 0.0


class SessionContract:
    """Mixed into a :class:`twisted.trial.unittest.TestCase`."""

    async def stores(self, number: int, **limits: Any) -> list[Any]:
        """Started stores of that many processes, which count together."""
        quota = Quota(**{"rates": RATES, **limits})
        made = await self.make_stores(quota, number)
        await settled(*made)
        return made

    async def make_stores(self, quota: Quota, number: int) -> list[Any]:
        raise AssertionError("a test case says which stores it is about")

    async def die(self, store: Any) -> None:
        """End the process of a store as ``kill -9`` does."""
        raise AssertionError("a test case says how its processes die")

    @coroutine
    async def test_it_is_a_store(self) -> None:
        verifyObject(ISessionStore, (await self.stores(1))[0])

    @coroutine
    async def test_connections_of_a_user_count_wherever_they_are(self) -> None:
        one, two, three = await self.stores(3, per_user=3)
        assert [await store.admit(5) for store in (one, two, three)] == [None] * 3
        assert [await store.admit(5) for store in (one, two, three)] == [Disconnect.USER_LIMIT] * 3
        assert await one.admit(6) is None

    @coroutine
    async def test_who_leaves_makes_room_everywhere(self) -> None:
        one, two = await self.stores(2, per_user=1)
        for here, there in ((one, two), (two, one)) * 2:
            assert await here.admit(5) is None
            assert await there.admit(5) is Disconnect.USER_LIMIT
            here.dismiss(5)
            await settled(here)

    @coroutine
    async def test_a_refused_connection_leaves_nothing_behind(self) -> None:
        one, two = await self.stores(2, per_user=2)
        assert [await one.admit(5), await one.admit(5)] == [None, None]
        for _ in range(5):
            assert await two.admit(5) is Disconnect.USER_LIMIT
        one.dismiss(5)
        await settled(one)
        assert [await two.admit(5), await two.admit(5)] == [None, Disconnect.USER_LIMIT]

    @coroutine
    async def test_simultaneous_connections_are_admitted_up_to_the_limit(self) -> None:
        stores = await self.stores(3, per_user=5)
        answers = await gatherResults([store.admit(5) for _ in range(10) for store in stores])
        assert Counter(answers) == {None: 5, Disconnect.USER_LIMIT: 25}

    @coroutine
    async def test_transports_over_the_limit_of_an_address_are_counted_too(self) -> None:
        one, two = await self.stores(2, per_address=2)
        assert [await store.enter("a") for store in (one, two, one, two)] == [None] * 2 + [Disconnect.THROTTLED] * 2
        assert await two.enter("b") is None
        for store in (one, two, one):
            store.leave("a")
        await settled(one, two)
        assert await one.enter("a") is None
        assert await two.enter("a") is Disconnect.THROTTLED

    @coroutine
    async def test_the_total_is_over_all_addresses_and_comes_first(self) -> None:
        one, two = await self.stores(2, total=2, per_address=1)
        assert [await one.enter("a"), await two.enter("a")] == [None, Disconnect.THROTTLED]
        assert [await one.enter("a"), await two.enter("::1")] == [Disconnect.GLOBAL_LIMIT] * 2

    @coroutine
    async def test_who_leaves_before_the_answer_is_not_counted(self) -> None:
        one, two = await self.stores(2, total=1, per_address=1)
        entered = [one.enter("a") for _ in range(20)]
        for _ in entered:
            one.leave("a")
        await gatherResults(entered)
        await settled(one)
        assert [await two.enter("a"), await one.enter("a")] == [None, Disconnect.GLOBAL_LIMIT]

    @coroutine
    async def test_attempts_count_wherever_they_are_made(self) -> None:
        one, two = await self.stores(2, attempts=4)
        for store in (one, two, one, two):
            assert await store.admit(5) is None
            store.dismiss(5)
        assert [await one.admit(5), await two.admit(5)] == [Disconnect.THROTTLED] * 2
        assert await one.admit(6) is None

    @coroutine
    async def test_a_rate_is_exact_whoever_takes_at_the_same_time(self) -> None:
        stores = await self.stores(3)
        waits = await gatherResults([store.take("events", 5) for _ in range(20) for store in stores])
        assert sum(wait == 0.0 for wait in waits) == 30
        assert all(0.5 < wait <= 2.0 for wait in waits if wait), "until the next of 30 a minute"

    @coroutine
    async def test_rates_are_of_one_key_and_one_limit(self) -> None:
        (store,) = await self.stores(1)
        assert [await store.take("typing", "x:y ü") > 0 for _ in range(3)] == [False, False, True]
        assert await store.take("typing", "other") == 0.0
        assert await store.take("events", "x:y ü") == 0.0
        assert [await store.take("no such limit", 5) for _ in range(50)] == [0.0] * 50

    @coroutine
    async def test_without_limits_everything_goes(self) -> None:
        (store,) = await self.stores(1)
        for _ in range(50):
            assert (await store.enter("a"), await store.admit(5)) == (None, None)
        for _ in range(60):
            store.leave("a")
            store.dismiss(5)
        assert await store.admit(5) is None

    @coroutine
    async def test_a_dead_process_has_nothing(self) -> None:
        one, two = await self.stores(2, per_user=2, per_address=1, total=2)
        for store in (one, two):
            await store.enter("a")
            await store.admit(5)
        assert await two.admit(5) is Disconnect.USER_LIMIT
        await self.die(one)
        two.leave("a")

        async def healed() -> bool:
            if await two.enter("a") is not None:
                two.leave("a")
                return False
            return await two.admit(5) is None

        await _eventually(healed)
        assert await two.admit(5) is Disconnect.USER_LIMIT

    @coroutine
    async def test_answers_come_in_order(self) -> None:
        # a refusal that a process knows by itself may overtake
        one, _ = await self.stores(2, per_user=100, attempts=100, per_address=100)
        order: list[int] = []
        asks = (lambda: one.take(BARRIER, 5), lambda: one.admit(5), lambda: one.enter("a"))
        for number in range(300):
            asked: Deferred[Any] = asks[number // 100]()
            asked.addCallback(lambda _, number=number: order.append(number))
        await until(lambda: len(order) == 300)
        assert all(order.index(number) < order.index(number + 1) for number in range(299) if number % 100 != 99)


async def _eventually(condition: Any) -> None:
    """Until ``await condition()`` is true."""
    found: list[bool] = []

    async def look() -> None:
        found.append(await condition())

    def seen() -> bool:
        Deferred.fromCoroutine(look())
        return any(found)

    await until(seen)
