"""The store of several hosts, with a real Redis that stays."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import gatherResults

from mechamap_rt.core.limits import Quota
from mechamap_rt.errors import Disconnect
from mechamap_rt.sessions import redis_counts
from mechamap_rt.sessions.redis import RedisStore
from tests.bus.redis_case import coroutine, pause, until
from tests.contracts.sessions import RATES, SessionContract, settled
from tests.redis_server import RedisServer
from tests.sessions.redis_stores import LIFE, RedisStoreCase, counted


class RedisStoreTests(SessionContract, RedisStoreCase):
    server: RedisServer

    def setUp(self) -> None:
        super().setUp()
        self.server = self.serve()

    async def make_stores(self, quota: Quota, number: int) -> list[Any]:
        stores = await self.processes(self.server, quota, number)
        await self.ready(*stores)
        return stores

    async def die(self, store: RedisStore) -> None:
        await self.links[store].stop()

    @coroutine
    async def test_the_first_answers_count_too(self) -> None:
        """Nobody is let in by mistake before the first look at a new connection."""
        stores = await self.processes(self.server, Quota(per_user=1), 2)
        await until(lambda: all(link.commands is not None for link in self.links.values()))
        answers = await gatherResults([store.admit(5) for store in stores])
        assert Counter(answers) == {None: 1, Disconnect.USER_LIMIT: 1}

    @coroutine
    async def test_a_dead_process_is_healed_within_its_lease_and_not_before(self) -> None:
        one, two = await self.processes(self.server, Quota(per_user=1), 2, life=1.2)
        await self.ready(one, two)
        assert await one.admit(5) is None
        await self.die(one)
        await pause(0.5)
        assert await two.admit(5) is Disconnect.USER_LIMIT
        await pause(0.9)
        assert await two.admit(5) is None
        assert self.server.run("HLEN", "mechamap:user:5") == ["1"], "the dead one's field is removed"

    @coroutine
    async def test_a_living_process_keeps_what_it_has(self) -> None:
        one, two = await self.stores(2, per_user=1)
        assert await one.admit(5) is None
        await pause(3 * LIFE)
        assert await two.admit(5) is Disconnect.USER_LIMIT

    @coroutine
    async def test_a_process_that_stops_has_nothing_at_once(self) -> None:
        one, two = await self.processes(self.server, Quota(per_user=1), 2, life=10.0)
        await self.ready(one, two)
        assert await one.admit(5) is None
        one.stop()
        await self.links[one].stop()
        assert await two.admit(5) is None
        assert await one.admit(6) is None, "it still answers, for itself"

    @coroutine
    async def test_everything_begins_with_the_prefix_and_ends(self) -> None:
        quota = Quota(total=9, per_address=9, per_user=1, attempts=9, rates=RATES)
        (one,) = await self.processes(self.server, quota, prefix="x:")
        (other,) = await self.processes(self.server, quota, prefix="y:")
        await self.ready(one, other)
        for store in (one, other):
            await store.enter("::1")
            assert await store.admit(5) is None
            assert await store.take("events", 5) == 0.0
        for prefix, store in (("x:", one), ("y:", other)):
            names = ["address:::1", "bucket:attempts:5", "bucket:events:5", "transports", "user:5"]
            names.append(f"lease:{store.lease.owner.decode()}")
            assert sorted(self.server.run("KEYS", f"{prefix}*")) == sorted(prefix + name for name in names)
        for key in self.server.run("KEYS", "*"):
            assert 0 < int(self.server.run("PTTL", key)[0]) <= 3_600_000, key
        one.leave("::1")
        one.dismiss(5)
        await settled(one)
        assert counted(self.server, "x:") == {}
        assert counted(self.server, "y:") == {"transports": 1, "address:::1": 1, "user:5": 1}

    @coroutine
    async def test_limits_of_0_are_not_asked_about(self) -> None:
        (one,) = await self.processes(self.server, Quota())
        await self.ready(one)
        before = self.server.run("INFO", "commandstats")
        await one.enter("a")
        await one.admit(5)
        await one.take("events", 5)
        one.leave("a")
        one.dismiss(5)
        await pause(0.05)
        assert not any("evalsha" in line for line in [*before, *self.server.run("INFO", "commandstats")])

    @coroutine
    async def test_counts_are_renewed_before_they_end(self) -> None:
        self.patch(redis_counts, "EXPIRY", 1.5)
        self.patch(redis_counts, "ROUND", 0.5)
        (one,) = await self.stores(1, per_user=2)
        for user in range(2000):
            one.admit(user)
        await settled(one)
        await pause(2.5)
        assert len(counted(self.server)) == 2000
        assert one.lease._epoch == 0, "and it was never away"

    @coroutine
    async def test_tokens_come_back(self) -> None:
        one, two = await self.stores(2, rates={**RATES, "fast": 120})
        waits = await gatherResults([store.take("fast", 5) for _ in range(80) for store in (one, two)])
        assert sum(wait == 0.0 for wait in waits) == 120
        await pause(max(waits) + 0.05)
        assert [await one.take("fast", 5), await two.take("fast", 5) > 0] == [0.0, True]

    @coroutine
    async def test_a_bucket_that_redis_clock_left_in_the_future_is_empty_and_not_more(self) -> None:
        (one,) = await self.stores(1)
        self.server.run("SET", "mechamap:bucket:events:5", str(10**16))
        assert 0 < await one.take("events", 5) <= 2.0
