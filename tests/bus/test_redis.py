"""The bus between hosts, while Redis is well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mechamap_rt.bus import redis_interests
from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.redis import RedisBus
from mechamap_rt.bus.redis_interests import Interests
from mechamap_rt.bus.redis_messages import Hello, decode, encode, head, read_head
from mechamap_rt.bus.redis_outflow import HOLD, Outflow
from mechamap_rt.bus.redis_peers import Peers
from mechamap_rt.redis.protocols import Subscriber
from mechamap_rt.settings.backing import Redis
from tests.bus.redis_case import RedisCase, coroutine, pause, until
from tests.contracts.bus import BusContract, publication
from tests.redis_server import RedisServer

_shared: list[RedisServer] = []


@pytest.fixture(scope="module", autouse=True)
def shared_server() -> Iterator[None]:
    """One Redis for the tests that do not harm it."""
    server = RedisServer()
    _shared.append(server)
    yield
    _shared.remove(server)
    server.end()


class RedisBusContractTests(BusContract, TestCase):
    def make_bus(self) -> RedisBus:
        return RedisBus(reactor, MemoryBus(), Redis(host="127.0.0.1", port=_shared[0].port), "aaa", "aaa000")


class TwoHostsTests(RedisCase):
    def prefixed(self) -> dict[str, Any]:
        return {"prefix": f"{self.id()}:"}

    @coroutine
    async def test_publications_go_both_ways_and_are_counted(self) -> None:
        one, at_one = await self.bus(_shared[0], "aaa000", 2, **self.prefixed())
        other, at_other = await self.bus(_shared[0], "bbb000", 3, **self.prefixed())
        await gatherResults([one.subscribe("public.x"), other.subscribe("public.x")])
        assert await one.publish(publication("a-1", data=b'{"a":"\xc3\xa9"}')) == 5
        assert await other.publish(publication("b-1")) == 5
        assert await one.publish(publication("a-2"), counted=False) == 2
        await until(lambda: len(at_other.got) == 3)
        assert at_one.ids() == ["a-1", "b-1", "a-2"] == at_other.ids()
        assert at_other.got[0] == ("a-1", "public.x", "event", b'{"a":"\xc3\xa9"}')
        assert (one.published, one.received, other.received) == (2, 1, 2)

    @coroutine
    async def test_who_is_not_subscribed_is_not_told(self) -> None:
        one, _ = await self.bus(_shared[0], "aaa000", 2, **self.prefixed())
        other, at_other = await self.bus(_shared[0], "bbb000", 3, **self.prefixed())
        await other.subscribe("public.y")
        assert await one.publish(publication("a-1")) == 2
        assert await one.publish(publication("a-2", "public.y")) == 5
        assert at_other.ids() == ["a-2"]

    @coroutine
    async def test_processes_of_one_host_answer_for_themselves_on_their_own_bus_only(self) -> None:
        one, _ = await self.bus(_shared[0], "aaa000", 2, **self.prefixed())
        _, at_sibling = sibling = await self.bus(_shared[0], "aaa001", 9, **self.prefixed())
        other, _ = await self.bus(_shared[0], "bbb000", 3, **self.prefixed())
        await gatherResults([bus.subscribe("public.x") for bus in (one, sibling[0], other)])
        began = reactor.seconds()
        # MemoryBus stands for the host's bus: the sibling's share would come by that
        assert await one.publish(publication("a-1")) == 5
        answers = await one.ask("who", b"?")
        assert reactor.seconds() - began < 0.2
        assert answers == [b"aaa000 who ?", b"bbb000 who ?"]
        assert at_sibling.got == []
        assert sibling[0].own_dropped > 0

    @coroutine
    async def test_a_cluster_counts_by_those_it_knows(self) -> None:
        nodes = {"cluster_nodes": (("127.0.0.1", _shared[0].port),), **self.prefixed()}
        one, _ = await self.bus(None, "aaa000", 2, **nodes)
        other, at_other = await self.bus(None, "bbb000", 3, **nodes)
        sibling, _ = await self.bus(None, "aaa001", 9, **nodes)
        await gatherResults([bus.subscribe("public.x") for bus in (one, sibling, other)])
        await until(lambda: one.figures()["hosts"] == 1)
        began = reactor.seconds()
        assert await one.publish(publication("a-1")) == 5
        assert await one.ask("who", b"?") == [b"aaa000 who ?", b"bbb000 who ?"]
        await one.publish(publication("a-2"), counted=False)
        await until(lambda: at_other.ids() == ["a-1", "a-2"])
        assert reactor.seconds() - began < 0.2

    @coroutine
    async def test_a_host_that_hangs_delays_a_count_and_an_answer_within_bounds(self) -> None:
        one, _ = await self.bus(_shared[0], "aaa000", 2, **self.prefixed())
        other, _ = await self.bus(_shared[0], "bbb000", 3, **self.prefixed())
        await other.subscribe("public.x")
        for connection in other._link._places.open:
            if isinstance(connection, Subscriber):
                connection.on_message = lambda channel, body: None
        began = reactor.seconds()
        assert await one.publish(publication("a-1")) == 2
        assert 0.2 < reactor.seconds() - began < 0.5
        assert await one.ask("who", b"?") == [b"aaa000 who ?"]
        assert reactor.seconds() - began < 2

    @coroutine
    async def test_who_leaves_is_forgotten_at_once(self) -> None:
        one, _ = await self.bus(_shared[0], "aaa000", **self.prefixed())
        other, _ = await self.bus(_shared[0], "bbb000", **self.prefixed())
        await until(lambda: (one.figures()["hosts"], other.figures()["hosts"]) == (1, 1))
        await other.stop()
        await until(lambda: one.figures()["hosts"] == 0)
        status = one.figures()
        assert status["connected"] and not status["degraded"]
        assert status["endpoint"] == f"127.0.0.1:{_shared[0].port}"

    @coroutine
    async def test_what_is_accepted_goes_out_before_the_stop(self) -> None:
        one, _ = await self.bus(_shared[0], "aaa000", **self.prefixed())
        other, at_other = await self.bus(_shared[0], "bbb000", **self.prefixed())
        await other.subscribe("public.x")
        for number in range(1000):
            one.publish(publication(f"a-{number}", data=b"x" * 5000), counted=False)
        await one.stop()
        await until(lambda: len(at_other.got) == 1000)

    @coroutine
    async def test_bytes_of_strangers_do_no_harm(self) -> None:
        one, at_one = await self.bus(_shared[0], "aaa000", prefix="garbled:")
        other, _ = await self.bus(_shared[0], "bbb000", prefix="garbled:")
        await one.subscribe("public.x")
        garbage = (b"", b"x", b"\x94" * 40, head(b"ccc000", True, 2**63) + b"\xc1", head(b"ccc000", False, 2**62))
        for channel in ("garbled:all", "garbled:ch:public.x", "garbled:node:aaa000"):
            for body in garbage:
                await other.commands.execute("PUBLISH", channel, body)
        assert await other.publish(publication("b-1")) == 2
        assert at_one.ids() == ["b-1"]
        assert one.garbled >= 10
        assert not one.degraded

    @coroutine
    async def test_commands_for_others(self) -> None:
        one, _ = await self.bus(_shared[0], "aaa000", **self.prefixed())
        assert await one.commands.execute("SET", "k", b"\xff") == b"OK"
        assert (
            await gatherResults([Deferred.fromCoroutine(one.commands.execute("GET", "k")) for _ in range(3)])
            == [b"\xff"] * 3
        )
        assert await one.commands.connection.hgetall("none") in ({}, [])


class InterestTests(RedisCase):
    @coroutine
    async def test_the_subscriptions_are_those_wanted(self) -> None:
        """200 resources at random, against a set; what Redis says at the end decides."""
        self.patch(redis_interests, "UNSUBSCRIBE_DELAY", 0.05)
        bus, _ = await self.bus(_shared[0], "aaa000", prefix="model:")
        wanted: set[int] = set()
        waiting: list[Deferred[None]] = []

        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(st.integers(0, 199), st.booleans()), max_size=60))
        def change(changes: list[tuple[int, bool]]) -> None:
            for number, want in changes:
                if want:
                    wanted.add(number)
                    waiting.append(bus.subscribe(f"r.{number}"))
                else:
                    wanted.discard(number)
                    bus.unsubscribe(f"r.{number}")

        for _ in range(3):
            change()
            await gatherResults(waiting)
            waiting.clear()

            def there() -> bool:
                return set(_shared[0].run("PUBSUB", "CHANNELS", "model:ch:*")) == {f"model:ch:r.{n}" for n in wanted}

            await until(there, "what Redis is subscribed to equals the model")

    @coroutine
    async def test_a_subscription_outlives_a_reload(self) -> None:
        self.patch(redis_interests, "UNSUBSCRIBE_DELAY", 0.2)
        bus, _ = await self.bus(_shared[0], "aaa000", prefix="reload:")
        await bus.subscribe("x")
        bus.unsubscribe("x")
        await pause(0.1)
        assert bus.subscribe("x").called
        await pause(0.3)
        assert _shared[0].run("PUBSUB", "CHANNELS", "reload:ch:*") == ["reload:ch:x"]
        bus.unsubscribe("x")
        await until(lambda: _shared[0].run("PUBSUB", "NUMSUB", "reload:ch:x")[1] == "0")

    @coroutine
    async def test_who_is_told_subscribed_misses_nothing(self) -> None:
        one, _ = await self.bus(_shared[0], "aaa000", prefix="nothing:")
        other, at_other = await self.bus(_shared[0], "bbb000", prefix="nothing:")
        for number in range(200):
            await other.subscribe(f"r.{number}")
            one.publish(publication(f"a-{number}", f"r.{number}"), counted=False)
        await until(lambda: len(at_other.got) == 200)


def test_messages_are_read_as_written() -> None:
    message = Hello("aaa000", 5, True)
    assert decode(encode(message)) == message
    assert read_head(head(b"abc123", True, 2**63) + b"x") == (b"abc123", True, 2**63)


def test_repeats_are_known_by_their_sequence() -> None:
    peers = Peers("aaa")
    assert [peers.repeats(b"bbb000", number) for number in (5, 6, 5, 6, 7)] == [False, False, True, True, False]
    peers.hello(Hello("bbb000", 4, True), 0.0)
    assert peers.repeats(b"bbb000", 7)
    # started anew, by a clock that went back
    peers.hello(Hello("bbb000", 2, True), 0.0)
    assert not peers.repeats(b"bbb000", 3)


def test_the_silent_are_forgotten_and_the_cut_off_waited_for() -> None:
    peers = Peers("aaa")
    for node in ("bbb000", "bbb001", "ccc000", "aaa001"):
        peers.hello(Hello(node, 1, False), 0.0)
    assert (len(peers), peers.hosts()) == (3, 2)
    peers.hello(Hello("ccc000", 1, False), 10.0)
    peers.expire(16.0)
    assert (len(peers), peers.hosts()) == (1, 1)
    peers.lost()
    peers.found(100.0)
    peers.expire(101.0)
    assert peers.missing == {"ccc000"}
    peers.hello(Hello("ccc000", 1, True), 101.0)
    assert peers.missing == set()


def test_what_waits_is_bounded_and_the_oldest_goes_first() -> None:
    sent: list[bytes] = []

    class Sink:
        def send_all(self, commands: list[bytes], handler: Any) -> None:
            sent.extend(commands)

    clock = Clock()
    clock.advance(1000)
    outflow = Outflow(clock, 100, lambda serial, number: None)
    for number in range(20):
        outflow.add(b"%010d" % number, 0, False)
    outflow.add(b"volatile", 0, True)
    assert (outflow.waiting, outflow.waiting_bytes, outflow.lost, outflow.skipped) == (10, 100, 10, 1)
    flushed: list[int] = []
    outflow.begin(Sink(), lambda: flushed.append(1))  # type: ignore[arg-type]
    assert sent == [b"%010d" % 10]
    # what follows closely goes together
    clock.advance(HOLD)
    assert sent == [b"%010d" % number for number in range(10, 20)]
    assert flushed == [1]
    # not confirmed: sent again, before what came later; not the volatile one
    outflow.add(b"volatile", 0, True)
    outflow.cut()
    outflow.add(b"later", 0, False)
    sent.clear()
    clock.advance(1)
    outflow.begin(Sink(), lambda: None)  # type: ignore[arg-type]
    clock.advance(HOLD)
    assert sent == [*(b"%010d" % number for number in range(11, 20)), b"later"]


def test_nothing_is_waited_for_without_a_connection() -> None:
    interests = Interests(reactor, b"p:", [], lambda: None)
    assert interests.subscribe("x") is None
    interests.unsubscribe("x")
    assert len(interests) == 0
