"""The bus between hosts, while Redis is not well, and afterwards."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from mechamap_rt.bus import redis as redis_bus
from mechamap_rt.bus.redis import RedisBus
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.redis.errors import RedisAway
from tests.bus.redis_case import RedisCase, coroutine, pause, until
from tests.contracts.bus import Recorder, publication
from tests.redis_server import RedisServer, free_port

#: Short, so that a Redis that hangs is found soon.
QUICK = {"timeout": 0.5}


class Pair:
    """A bus on each of two hosts, both subscribed to ``public.x``."""

    def __init__(self, one: tuple[RedisBus, Recorder], other: tuple[RedisBus, Recorder]) -> None:
        self.one, self.at_one = one
        self.other, self.at_other = other

    @property
    def up(self) -> bool:
        return not self.one.degraded and not self.other.degraded

    @property
    def down(self) -> bool:
        return self.one.degraded and self.other.degraded


class OutageCase(RedisCase):
    async def pair(self, server: RedisServer, **settings: Any) -> Pair:
        pair = Pair(await self.bus(server, "aaa000", **settings), await self.bus(server, "bbb000", **settings))
        await pair.one.subscribe("public.x")
        await pair.other.subscribe("public.x")
        return pair


class OutageTests(OutageCase):
    @coroutine
    async def test_killed_and_started_empty(self) -> None:
        server = self.serve()
        pair = await self.pair(server)
        assert await pair.one.publish(publication("a-0")) == 2
        server.kill()
        await until(lambda: pair.down)
        assert (pair.at_one.states, pair.at_other.states) == ([True], [True])
        for number in range(1, 1001):
            # at once, with the local count
            assert pair.one.publish(publication(f"a-{number}")).result == 1
            pair.other.publish(publication(f"b-{number}"), counted=False)
        assert pair.one.publish(publication("v-1", delivery=DeliveryClass.VOLATILE)).result == 1
        assert pair.one.subscribe("public.y").called
        assert await pair.one.ask("who", b"?") == [b"aaa000 who ?"]
        assert pair.one.buffered >= 1000
        server.start()
        await until(lambda: pair.up)
        pair.one.publish(publication("a-1001"))
        await until(lambda: "a-1001" in pair.at_other.ids() and "b-1000" in pair.at_one.ids())
        assert pair.at_other.ids()[-1001:] == [f"a-{number}" for number in range(1, 1002)]
        assert [got for got in pair.at_one.ids() if got[0] == "b"] == [f"b-{number}" for number in range(1, 1001)]
        assert (pair.at_one.states, pair.at_other.states) == ([True, False], [True, False])
        assert (pair.one.reconnects, pair.one.lost, pair.one.buffered, pair.one.skipped) == (1, 0, 0, 1)
        assert await pair.other.publish(publication("b-y", "public.y")) == 2

    @coroutine
    async def test_frozen_and_thawed(self) -> None:
        server = self.serve()
        pair = await self.pair(server, **QUICK)
        server.freeze()
        self.addCleanup(server.thaw)
        counted = [pair.one.publish(publication(f"a-{number}")) for number in range(10)]
        began = reactor.seconds()
        for one in counted:
            assert await one == 1
        assert reactor.seconds() - began < 1
        subscribed = pair.one.subscribe("public.z")
        await until(lambda: pair.down)
        assert reactor.seconds() - began < 1 + 0.5 + 0.5
        await subscribed
        pair.one.publish(publication("a-10"))
        await pause(1)
        server.thaw()
        await until(lambda: pair.up)
        await until(lambda: "a-10" in pair.at_other.ids())
        assert pair.at_other.ids() == [f"a-{number}" for number in range(11)]

    @coroutine
    async def test_a_short_stall_is_no_outage(self) -> None:
        server = self.serve()
        pair = await self.pair(server)
        server.freeze()
        pair.one.publish(publication("a-1"))
        await pause(1.2)
        server.thaw()
        await until(lambda: pair.at_other.ids() == ["a-1"])
        assert pair.at_one.states == pair.at_other.states == []

    @coroutine
    async def test_traffic_across_an_outage_of_three_hosts_is_neither_lost_nor_doubled(self) -> None:
        """Three hosts publish all the time; what was published once everybody had noticed, or confirmed, arrives."""
        server = self.serve()
        buses = [await self.bus(server, node) for node in ("aaa000", "bbb000", "ccc000")]
        for bus, _ in buses:
            await bus.subscribe("public.x")
        sent = 0

        async def publish(rounds: int) -> None:
            nonlocal sent
            for _ in range(rounds):
                for bus, _ in buses:
                    bus.publish(publication(f"{bus._node[0]}-{sent}"), counted=sent % 3 == 0)
                sent += 1
                await pause(0.001)

        await publish(100)
        server.freeze()  # so that much is under way, unconfirmed
        await publish(20)
        server.kill()
        await publish(100)
        server.start()
        await publish(300)
        await until(lambda: not any(bus.degraded for bus, _ in buses))
        await publish(50)
        await until(lambda: all(len(recorder.got) >= 3 * sent for _, recorder in buses))
        for _, recorder in buses:
            for origin in "abc":
                ids = [got for got in recorder.ids() if got[0] == origin]
                assert ids == [f"{origin}-{number}" for number in range(sent)]
        assert all(bus.lost == 0 for bus, _ in buses)

    @coroutine
    async def test_only_the_subscriber_is_cut(self) -> None:
        server = self.serve()
        pair = await self.pair(server)
        server.run("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: pair.at_one.states == pair.at_other.states == [True, False])
        assert await pair.one.publish(publication("a-1")) == 2

    @coroutine
    async def test_only_the_commands_are_cut(self) -> None:
        server = self.serve()
        pair = await self.pair(server)
        server.run("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: pair.at_one.states == pair.at_other.states == [True, False])
        assert await pair.one.publish(publication("a-1")) == 2

    @coroutine
    async def test_beyond_the_bound_the_oldest_is_lost_and_counted(self) -> None:
        server = self.serve()
        pair = await self.pair(server, buffer_size=65536)
        server.kill()
        await until(lambda: pair.down)
        for number in range(100):
            pair.one.publish(publication(f"a-{number}", data=b"x" * 1000))
        assert pair.one.buffered_bytes <= 65536
        lost, kept = pair.one.lost, pair.one.buffered
        assert (lost > 0, lost + kept) == (True, 100)
        server.start()
        await until(lambda: pair.up)
        await until(lambda: len(pair.at_other.got) == kept)
        assert pair.at_other.ids() == [f"a-{number}" for number in range(lost, 100)]
        assert any(f"{lost} were lost" in line for line in self.logged)

    @coroutine
    async def test_a_host_that_does_not_come_back_is_not_waited_for_long(self) -> None:
        self.patch(redis_bus, "FLUSH_PATIENCE", 0.3)
        server = self.serve()
        pair = await self.pair(server)
        server.kill()
        await until(lambda: pair.down)
        await pair.other.stop()
        pair.one.publish(publication("a-1"))
        server.start()
        await until(lambda: not pair.one.degraded)
        assert pair.one.buffered == 0


class StartTests(OutageCase):
    @coroutine
    async def test_without_redis_the_start_is_degraded_and_in_time(self) -> None:
        port = free_port()
        began = reactor.seconds()
        first = await self.bus(None, "aaa000", host="127.0.0.1", port=port, **QUICK)
        second = await self.bus(None, "bbb000", host="127.0.0.1", port=port, **QUICK)
        assert reactor.seconds() - began < 1.5
        pair = Pair(first, second)
        assert pair.down
        assert pair.at_one.states == [True]
        assert pair.other.subscribe("public.x").called
        assert await pair.one.publish(publication("a-1")) == 1
        for _ in range(2):
            try:
                await pair.one.commands.execute("PING")
            except RedisAway:
                continue
            raise AssertionError("answered without Redis")
        self.serve(port=port)
        await until(lambda: pair.up)
        await until(lambda: pair.at_other.ids() == ["a-1"])
        assert pair.at_one.states == [True, False]

    @coroutine
    async def test_it_stops_while_redis_is_away_or_hangs(self) -> None:
        server = self.serve()
        pair = await self.pair(server, **QUICK)
        server.freeze()
        self.addCleanup(server.thaw)
        pair.one.publish(publication("a-1"))
        began = reactor.seconds()
        await pair.one.stop()
        server.kill()
        await until(lambda: pair.other.degraded)
        await pair.other.stop()
        assert reactor.seconds() - began < 4

    @coroutine
    async def test_a_command_is_given_up_in_time(self) -> None:
        server = self.serve()
        bus, _ = await self.bus(server, timeout=0.3)
        server.freeze()
        self.addCleanup(server.thaw)
        waiting = [Deferred.fromCoroutine(bus.commands.execute("GET", "k")) for _ in range(3)]
        began = reactor.seconds()
        for one in waiting:
            await self.assertFailure(one, RedisAway)
        assert reactor.seconds() - began < 1
