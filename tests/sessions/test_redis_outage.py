"""The store of several hosts, with a Redis that goes away and comes back."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from mechamap_rt.core.limits import Quota
from mechamap_rt.errors import Disconnect
from mechamap_rt.sessions import redis_counts
from mechamap_rt.sessions.redis import RedisStore
from mechamap_rt.sessions.redis_lease import PATIENCE
from tests.bus.redis_case import coroutine, pause, until
from tests.contracts.sessions import RATES, settled
from tests.redis_server import RedisServer
from tests.sessions.redis_stores import RedisStoreCase, counted

#: Seconds in which something must be answered that does not wait.
AT_ONCE = 0.2


class RedisOutageTests(RedisStoreCase):
    async def answered_by_the_host(self, store: RedisStore, user: int, within: float) -> None:
        """Limits hold for the host by itself: 2 connections, 2 events."""
        asked = reactor.seconds()
        answers = await gatherResults([store.admit(user) for _ in range(3)])
        assert answers == [None, None, Disconnect.USER_LIMIT]
        waits = await gatherResults([store.take("typing", user) for _ in range(3)])
        assert [wait > 0 for wait in waits] == [False, False, True]
        assert await store.enter(f"::{user}") is None
        assert reactor.seconds() - asked < within

    async def two(self, server: RedisServer, **more: Any) -> list[RedisStore]:
        stores = await self.processes(server, Quota(per_user=2, per_address=1, rates=RATES), 2, **more)
        await self.ready(*stores)
        return stores

    @coroutine
    async def test_a_redis_that_never_was_is_not_waited_for(self) -> None:
        server = self.serve()
        server.kill()
        (store,) = await self.processes(server, Quota(per_user=2, per_address=1, rates=RATES))
        await self.answered_by_the_host(store, 5, AT_ONCE)
        server.start()
        await self.ready(store)
        assert counted(server) == {"user:5": 2, "address:::5": 1}

    @coroutine
    async def test_a_redis_that_dies_and_comes_back_empty(self) -> None:
        server = self.serve()
        one, two = await self.two(server)
        assert [await one.admit(5), await two.admit(5), await two.admit(5)] == [None, None, Disconnect.USER_LIMIT]
        server.freeze()
        hanging = [one.admit(5), one.take("events", 1), one.enter("x"), two.enter("x")]
        server.kill()
        asked = reactor.seconds()
        assert await gatherResults(hanging) == [None, 0.0, None, None]
        assert reactor.seconds() - asked < AT_ONCE
        await self.answered_by_the_host(one, 6, AT_ONCE)
        one.dismiss(6)
        two.dismiss(5)
        server.start()
        await self.ready(one, two)
        assert counted(server) == {"user:5": 2, "user:6": 1, "address:x": 2, "address:::6": 1}
        assert [await two.admit(5), await two.admit(6)] == [Disconnect.USER_LIMIT, None]
        assert await two.admit(6) is Disconnect.USER_LIMIT

    async def frozen(self, seconds: float) -> None:
        server = self.serve()
        self.addCleanup(server.thaw)
        one, two = await self.two(server, life=15.0)
        assert await one.admit(5) is None
        server.freeze()
        asked = reactor.seconds()
        await self.answered_by_the_host(one, 6, PATIENCE + AT_ONCE)
        await self.answered_by_the_host(one, 7, AT_ONCE)
        one.dismiss(5)
        one.dismiss(6)
        await pause(asked + seconds - reactor.seconds())
        server.thaw()
        thawed = reactor.seconds()
        await self.ready(one, two)
        assert reactor.seconds() - thawed < 2.0, "long before the lease is renewed"
        assert counted(server) == {"user:6": 1, "user:7": 2, "address:::6": 1, "address:::7": 1}
        assert [await two.admit(7), await two.admit(6)] == [Disconnect.USER_LIMIT, None]

    @coroutine
    async def test_a_redis_that_hangs_is_waited_for_once(self) -> None:
        await self.frozen(0.8)
        assert [line for line in self.logged if line.startswith("Limits hold")] == [
            "Limits hold for each host by itself, because of Redis: it does not answer",
            "Limits hold over all hosts again",
        ]

    @coroutine
    async def test_a_redis_that_hangs_until_the_connection_is_given_up(self) -> None:
        await self.frozen(2.2)

    @coroutine
    async def test_a_redis_that_forgets_everything_while_it_is_connected(self) -> None:
        server = self.serve()
        one, two = await self.two(server)
        assert [await one.admit(5), await one.admit(5), await two.enter("x")] == [None] * 3
        server.run("FLUSHALL")
        assert await two.admit(5) is None, "in favour of the client"
        await until(lambda: counted(server) == {"user:5": 3, "address:x": 1})
        server.run("SCRIPT", "FLUSH")
        assert await one.take("events", 5) == 0.0
        await until(lambda: one.lease.present and two.lease.present and counted(server)["user:5"] == 3)
        assert await two.admit(5) is Disconnect.USER_LIMIT

    @coroutine
    async def test_a_count_that_redis_threw_out_is_missed(self) -> None:
        self.patch(redis_counts, "ROUND", 0.5)
        server = self.serve()
        one, _ = await self.two(server)
        assert await one.admit(5) is None
        server.run("DEL", "mechamap:user:5")
        await until(lambda: counted(server) == {"user:5": 1})

    @coroutine
    async def test_a_redis_that_refuses(self) -> None:
        server = self.serve()
        (store,) = await self.processes(server, Quota(per_user=2, per_address=1, rates=RATES))
        await self.ready(store)
        server.run("CONFIG", "SET", "maxmemory", "1")
        await self.answered_by_the_host(store, 5, AT_ONCE)
        server.run("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: counted(server) == {"user:5": 2, "address:::5": 1})

    @coroutine
    async def test_coming_back_with_very_much_is_done_in_parts(self) -> None:
        server = self.serve()
        one, two = await self.two(server, life=3.0)
        admitted = [one.admit(user) for user in range(5000)]
        assert set(await gatherResults(admitted)) == {None}
        server.kill()
        await until(lambda: not one.lease.ready())
        server.start()
        await until(lambda: one.lease.ready())
        # meanwhile everything goes on: out before it is stated, and in
        for user in range(4000, 5000):
            one.dismiss(user)
        assert await gatherResults([one.admit(user) for user in range(100)]) == [None] * 100
        assert one._counts.unstated
        await self.ready(one, two)
        await settled(one)
        assert counted(server) == {f"user:{user}": 1 + (user < 100) for user in range(4000)}
        assert await two.admit(50) is Disconnect.USER_LIMIT

    @coroutine
    async def test_a_late_host_s_answer_is_counted_when_redis_is_back(self) -> None:
        """The host's store may itself be waiting for its master."""
        server = self.serve()
        (one,) = await self.processes(server, Quota(per_user=2))
        await self.ready(one)
        late: Deferred[Disconnect | None] = Deferred()
        self.patch(one, "_host", Late(late))
        admitted = one.admit(5)
        server.kill()
        await until(lambda: not one.lease.ready())
        server.start()
        await self.ready(one)
        late.callback(None)
        assert await admitted is None
        await until(lambda: counted(server) == {"user:5": 1})


class Late:
    """A host's store whose answer is to come."""

    def __init__(self, answer: Deferred[Disconnect | None]) -> None:
        self._answer = answer

    def admit(self, user_id: int) -> Deferred[Disconnect | None]:
        return self._answer


class Churn:
    """One process's connections, made and ended at random."""

    def __init__(self, store: RedisStore, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.has: list[tuple[str, Any]] = []
        self.asking = 0

    def step(self) -> None:
        if self.has and self.chance.random() < 0.45:
            kind, what = self.has.pop(self.chance.randrange(len(self.has)))
            (self.store.dismiss if kind == "user" else self.store.leave)(what)
        elif self.chance.random() < 0.5:
            address = f"10.0.0.{self.chance.randrange(20)}"
            self.has.append(("address", address))
            self._count(self.store.enter(address), None)
        else:
            user = self.chance.randrange(20)
            self._count(self.store.admit(user), user)

    def _count(self, asked: Deferred[Disconnect | None], user: int | None) -> None:
        self.asking += 1
        asked.addCallback(self._answered, user)

    def _answered(self, reason: Disconnect | None, user: int | None) -> None:
        self.asking -= 1
        if user is not None and reason is None:
            self.has.append(("user", user))

    def counts(self) -> Counter[str]:
        counts = Counter(f"{kind}:{what}" for kind, what in self.has)
        transports = sum(kind == "address" for kind, _ in self.has)
        return counts + Counter({"transports": transports})


class ChurnTests(RedisStoreCase):
    """After whatever happened Redis has, to the last connection, what the processes have."""

    async def churn(self, seed: int) -> None:
        chance = random.Random(seed)
        server = self.serve()
        self.addCleanup(server.thaw)
        quota = Quota(total=10**6, per_address=30, per_user=8, rates=RATES)
        stores = await self.processes(server, quota, 3, patience=0.15)
        churns = [Churn(store, chance) for store in stores]
        troubles = [server.freeze, server.thaw, lambda: server.run("SCRIPT", "FLUSH"), server.kill, server.start]
        for trouble in (*troubles, lambda: server.run("FLUSHALL"), lambda: None):
            for _ in range(40):
                for churn in churns:
                    for _ in range(chance.randrange(10)):
                        churn.step()
                await pause(chance.choice((0, 0, 0.01)))
            if trouble == server.thaw:
                await pause(chance.choice((0, 0.3)))
            trouble()
        await until(lambda: not any(churn.asking for churn in churns), "everything is answered")
        expected = sum((churn.counts() for churn in churns), Counter())
        await until(lambda: counted(server) == expected, f"what Redis has, seed {seed}, {expected}")
        hosts = sum(
            (Counter({f"user:{user}": store._host.tally.connections(user) for user in range(20)}) for store in stores),
            Counter(),
        )
        uncounted = sum(
            (Counter({f"user:{user}": number for user, number in store._uncounted.items()}) for store in stores),
            Counter(),
        )
        assert hosts + uncounted == Counter({key: n for key, n in expected.items() if key.startswith("user:")})

    @coroutine
    async def test_churn_through_every_trouble(self) -> None:
        await self.churn(1)

    @coroutine
    async def test_churn_through_every_trouble_again(self) -> None:
        await self.churn(2)
