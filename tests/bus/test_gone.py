"""What a bus says about processes that are gone: each once, soon, and none that is there."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mechamap_rt.bus import redis as redis_bus
from mechamap_rt.bus import redis_peers
from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.bus.redis import RedisBus
from mechamap_rt.bus.redis_messages import Hello
from mechamap_rt.bus.redis_peers import FORGET_AFTER, HELLO_INTERVAL, Peers
from mechamap_rt.bus.relay import RelayBus
from mechamap_rt.settings.backing import Redis
from tests.bus.redis_case import RedisCase, coroutine, pause, until
from tests.bus.streams import connect, join
from tests.bus.streams import reactor as streams
from tests.contracts.bus import Recorder
from tests.redis_server import RedisServer


class NeighbourTests(TestCase):
    def setUp(self) -> None:
        self.buses = {name: RelayBus(streams) for name in "abc"}
        join(self.buses)
        self.recorders = {name: Recorder() for name in self.buses}
        for name, bus in self.buses.items():
            bus.start(self.recorders[name])

    async def tearDown(self) -> None:
        for bus in self.buses.values():
            await bus.stop()
        await pause(0.05)

    @coroutine
    async def test_the_end_of_a_neighbour_s_stream_is_its_end(self) -> None:
        await self.buses["c"].stop()
        await until(lambda: self.recorders["a"].gone and self.recorders["b"].gone)
        assert self.recorders["a"].gone == self.recorders["b"].gone == [("c", 0.0)]
        assert self.recorders["c"].gone == [], "who stops himself has lost nobody"

    @coroutine
    async def test_a_stream_that_a_newer_one_has_replaced_ends_unnoticed(self) -> None:
        first: Any = self.buses["a"].neighbour("b")
        again = RelayBus(streams)
        again.start(Recorder())
        connect(self.buses["a"].meet("b"), again.meet("a"))
        first.transport.loseConnection()
        await until(lambda: self.recorders["b"].gone)
        assert self.recorders["a"].gone == []
        await again.stop()
        await until(lambda: self.recorders["a"].gone == [("b", 0.0)])

    @coroutine
    async def test_the_node_passes_it_on(self) -> None:
        alone = RelayBus(streams)
        connect(alone.meet("a"), self.buses["a"].meet("d"))
        node = Node(alone, "d")
        gone: list[tuple[str, float]] = []
        node.gone = lambda process, silent: gone.append((process, silent))
        await node.start()
        await self.buses["a"].stop()
        await until(lambda: gone == [("a", 0.0)])
        await node.stop()


class HostsCase(RedisCase):
    """Hosts behind one Redis, where a second is long."""

    patience = 0.6

    def setUp(self) -> None:
        super().setUp()
        self.patch(redis_bus, "HELLO_INTERVAL", 0.1)
        self.patch(redis_peers, "HELLO_INTERVAL", 0.1)
        self.patch(redis_peers, "FORGET_AFTER", self.patience)

    async def hosts(self, server: RedisServer, *nodes: str) -> list[tuple[RedisBus, Recorder]]:
        """A bus of each of these processes, which know the other hosts."""
        made = [await self.bus(server, node) for node in nodes]
        hosts = len({node[:3] for node in nodes}) - 1
        await until(lambda: all(bus.figures()["hosts"] == hosts for bus, _ in made))
        return made


class HostsTests(HostsCase):
    @coroutine
    async def test_who_stops_says_so(self) -> None:
        server = self.serve()
        (_, at_one), (other, _), (third, at_third) = await self.hosts(server, "aaa000", "bbb000", "ccc000")
        await other.stop()
        await until(lambda: at_one.gone and at_third.gone)
        assert at_one.gone == at_third.gone == [("bbb000", 0.0)]
        # and is not silent besides
        await pause(1.0)
        assert at_one.gone == [("bbb000", 0.0)]
        await third.stop()
        await until(lambda: [node for node, _ in at_one.gone] == ["bbb000", "ccc000"])

    @coroutine
    async def test_who_is_silent_is_gone_and_told_how_long(self) -> None:
        server = self.serve()
        (_, at_one), (other, _), _ = await self.hosts(server, "aaa000", "bbb000", "ccc000")
        await self.silence(other)
        await until(lambda: at_one.gone)
        ((node, silent),) = at_one.gone
        assert node == "bbb000"
        assert 0.6 < silent < 1.5

    async def silence(self, bus: RedisBus) -> None:
        """As if it were killed: no goodbye, no hello."""
        send, bus._send_control = bus._send_control, lambda channel, message: None  # type: ignore[method-assign]
        self.addCleanup(setattr, bus, "_send_control", send)

    @coroutine
    async def test_a_new_process_of_the_same_name_is_another(self) -> None:
        server = self.serve()
        (_, at_one), (other, _) = await self.hosts(server, "aaa000", "bbb000")
        await self.silence(other)
        await other.stop()
        again, _ = await self.bus(server, "bbb000")
        await until(lambda: at_one.gone)
        await pause(1.0)
        assert at_one.gone == [("bbb000", 0.0)], "the first one is gone, the second is there"
        await again.stop()
        await until(lambda: len(at_one.gone) == 2)

    @coroutine
    async def test_processes_of_the_own_host_are_not_its_business(self) -> None:
        server = self.serve()
        (_, at_one), (sibling, _), (_, at_other) = await self.hosts(server, "aaa000", "aaa001", "bbb000")
        await sibling.stop()
        await until(lambda: at_other.gone == [("aaa001", 0.0)])
        await pause(1.0)
        assert at_one.gone == []

    @coroutine
    async def test_what_the_host_s_own_bus_says_is_passed_on(self) -> None:
        server = self.serve()
        local, neighbour = RelayBus(streams), RelayBus(streams)
        connect(local.meet("aaa001"), neighbour.meet("aaa000"))
        await neighbour.start(Recorder())
        bus = RedisBus(reactor, local, Redis(host="127.0.0.1", port=server.port), "aaa", "aaa000")
        recorder = Recorder()
        await bus.start(recorder)
        await neighbour.stop()
        await until(lambda: recorder.gone == [("aaa001", 0.0)])
        await bus.stop()
        await pause(0.05)


class OutageTests(HostsCase):
    # longer than an outage takes to be found, and than the way back to Redis
    patience = 2.0

    @coroutine
    async def test_an_outage_longer_than_patience_with_the_silent_loses_nobody(self) -> None:
        server = self.serve()
        pair = await self.hosts(server, "aaa000", "bbb000")
        server.kill()
        await until(lambda: all(bus.degraded for bus, _ in pair))
        await pause(2.5)
        server.start()
        await until(lambda: not any(bus.degraded for bus, _ in pair))
        await pause(2.5)
        assert [recorder.gone for _, recorder in pair] == [[], []]
        assert [bus.figures()["hosts"] for bus, _ in pair] == [1, 1]

    @coroutine
    async def test_a_redis_that_hangs_loses_nobody(self) -> None:
        server = self.serve()
        pair = [await self.bus(server, node, timeout=0.3) for node in ("aaa000", "bbb000")]
        await until(lambda: all(bus.figures()["hosts"] == 1 for bus, _ in pair))
        server.freeze()
        self.addCleanup(server.thaw)
        await until(lambda: all(bus.degraded for bus, _ in pair))
        await pause(2.5)
        server.thaw()
        await until(lambda: not any(bus.degraded for bus, _ in pair))
        await pause(2.5)
        assert [recorder.gone for _, recorder in pair] == [[], []]

    @coroutine
    async def test_who_went_during_the_outage_is_found_missing_after_it(self) -> None:
        self.patch(redis_bus, "FLUSH_PATIENCE", 0.3)
        server = self.serve()
        (one, at_one), (other, _) = await self.hosts(server, "aaa000", "bbb000")
        server.kill()
        await until(lambda: one.degraded and other.degraded)
        await other.stop()
        await pause(2.5)
        assert at_one.gone == [], "nothing is known of it yet"
        server.start()
        await until(lambda: at_one.gone)
        ((node, silent),) = at_one.gone
        assert node == "bbb000"
        assert 2.0 < silent < 3.0


def known(*nodes: str) -> Peers:
    """Processes that said hello at 0 s."""
    peers = Peers("aaa")
    for node in nodes:
        assert peers.hello(Hello(node, 1, True), 0.0) is False
    return peers


def test_the_silent_are_told_once_with_the_time_since_their_last_hello() -> None:
    peers = known("bbb000", "ccc000", "aaa001")
    peers.hello(Hello("ccc000", 1, False), HELLO_INTERVAL)
    assert peers.expire(FORGET_AFTER) == []
    assert peers.expire(FORGET_AFTER + 1) == [("bbb000", FORGET_AFTER + 1)]
    assert peers.expire(FORGET_AFTER + 2) == []
    assert peers.expire(FORGET_AFTER + HELLO_INTERVAL + 1) == [("ccc000", FORGET_AFTER + 1)]


def test_a_goodbye_counts_of_those_who_are_known() -> None:
    peers = known("bbb000", "aaa001")
    assert peers.bye("bbb000")
    assert not peers.bye("bbb000")
    assert not peers.bye("aaa001"), "of the own host"
    assert not peers.bye("ccc000")
    assert peers.expire(10 * FORGET_AFTER) == []


def test_another_start_under_the_same_name_is_another_process() -> None:
    peers = known("bbb000")
    assert not peers.hello(Hello("bbb000", 1, False), 1.0)
    assert peers.hello(Hello("bbb000", 2, True), 2.0)
    assert not peers.hello(Hello("bbb000", 2, True), 3.0), "it has come back to Redis"
    assert peers.hello(Hello("bbb000", 1, True), 4.0), "by a clock that was set back"
    assert peers.bye("bbb000")
    assert not peers.hello(Hello("bbb000", 3, True), 5.0), "the last one has said goodbye"


def test_an_outage_is_no_silence() -> None:
    peers = known("bbb000")
    peers.lost()
    peers.found(100.0)
    assert peers.expire(100.0 + FORGET_AFTER) == []
    assert peers.expire(100.0 + FORGET_AFTER + 1) == [("bbb000", FORGET_AFTER + 1)]


def test_a_bus_of_one_process_has_nobody_to_lose() -> None:
    recorder = Recorder()
    bus = MemoryBus()
    bus.start(recorder)
    bus.stop()
    assert recorder.gone == []
