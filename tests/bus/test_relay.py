"""The bus of one host: everybody hears everything once, and nobody waits for who is silent."""

from __future__ import annotations

from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mechamap_rt.bus import parcels
from mechamap_rt.bus.relay import FREE_KIND, RelayBus
from mechamap_rt.core import channels
from mechamap_rt.core.publication import DeliveryClass, Publication
from tests.bus.streams import join, pause, reactor
from tests.contracts.bus import BusContract, Recorder, publication


class AloneTests(BusContract, TestCase):
    def make_bus(self) -> Any:
        return RelayBus(reactor)


class AmongOthersTests(BusContract, TestCase):
    """The same promises for a bus that has neighbours, who have no subscribers."""

    def make_bus(self) -> Any:
        buses = {name: RelayBus(reactor) for name in ("own", "two", "three")}
        join(buses)
        for name in ("two", "three"):
            buses[name].start(Recorder(0, b"there"))
            self.addCleanup(buses[name].stop)
        self.addCleanup(pause, 0.05)
        return buses["own"]

    async def _answers(self) -> None:
        bus, _ = await self.start()
        answers = await bus.ask("count", b"\xff")
        assert answers == [b"here count \xff", b"there count \xff", b"there count \xff"]


class NeighbourTests(TestCase):
    def setUp(self) -> None:
        self.buses = {name: RelayBus(reactor) for name in "abc"}
        join(self.buses)
        self.recorders = {}
        for number, (name, bus) in enumerate(self.buses.items(), 1):
            self.recorders[name] = Recorder(number, name.encode())
            bus.start(self.recorders[name])

    async def tearDown(self) -> None:
        for bus in self.buses.values():
            await bus.stop()
        await pause(0.05)

    async def test_everybody_hears_everything_once_and_in_order(self) -> None:
        for number in range(300):
            counted = number % 3 == 0
            count = await self.buses["a"].publish(publication(f"n-{number}"), counted)
            assert count == (6 if counted else 1)
        await self.buses["a"].ask("", b"")
        for recorder in self.recorders.values():
            assert recorder.ids() == [f"n-{number}" for number in range(300)]

    async def test_a_publication_arrives_as_it_was(self) -> None:
        sent = Publication(
            "abc001-1x",
            channels.parse("presence-thread.7"),
            "é",
            b'{"a":"\xc3\xa9"}',
            delivery=DeliveryClass.STATE,
            key="k",
            sender="s",
        )
        came = parcels.unpack(parcels.pack(sent, host=True))
        for name in Publication.__slots__:
            assert getattr(came, name) == getattr(sent, name), name

    async def test_between_hosts_it_is_as_old_as_its_stay_on_this_one(self) -> None:
        sent = Publication("abc001-1x", channels.parse("thread.7"), "e", b"{}")
        sent.born -= 1000
        assert parcels.unpack(parcels.pack(sent, host=True)).born == sent.born
        assert abs(monotonic() - parcels.unpack(parcels.pack(sent)).born) < 1

    def test_strange_bytes_are_no_publication(self) -> None:
        for strange in (b"", b"\xc1", b"\x90", b"\x97\xa0\xa0\xa0\xc4\x00\x05\xa0\xa0", b"x" * 100):
            with self.assertRaises(ValueError):
                parcels.unpack(strange)

    async def test_who_is_gone_is_neither_asked_nor_counted(self) -> None:
        await self.buses["c"].stop()
        await pause(0.05)
        assert await self.buses["a"].publish(publication("n-1")) == 3
        assert await self.buses["a"].ask("q", b"") == [b"a q ", b"b q "]
        assert self.buses["a"].neighbour("c") is None

    async def test_who_is_silent_is_waited_for_once(self) -> None:
        link: Any = self.buses["c"].neighbour("a")
        link.transport.stopReading()
        began = reactor.seconds()
        assert await self.buses["a"].publish(publication("n-0")) == 3
        first = reactor.seconds() - began
        for number in range(1, 20):
            assert await self.buses["a"].publish(publication(f"n-{number}")) == 3
        assert reactor.seconds() - began - first < first
        link.transport.startReading()
        await pause(0.1)
        # it heard everything late, and counts again
        assert self.recorders["c"].ids() == [f"n-{number}" for number in range(20)]
        assert await self.buses["a"].publish(publication("n-20")) == 6

    async def test_others_may_use_the_streams(self) -> None:
        later: Deferred[bytes] = Deferred()
        self.buses["b"].serve(FREE_KIND, lambda body, descriptor: later)
        link: Any = self.buses["a"].neighbour("b")
        waiting = link.ask(FREE_KIND, b"")
        await self.buses["a"].ask("", b"")
        later.callback(b"done")
        assert await waiting == b"done"
