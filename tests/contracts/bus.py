"""What every bus promises. A test case mixes :class:`BusContract` in and makes its buses."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mechamap_rt.core import channels
from mechamap_rt.core.publication import Publication
from mechamap_rt.interfaces import IBus, IReceiver


@implementer(IReceiver)
class Recorder:
    """Remembers what a bus brought; claims ``subscribers`` of every resource."""

    def __init__(self, subscribers: int = 0) -> None:
        self.subscribers = subscribers
        self.got: list[tuple[str, str, str, bytes]] = []

    def on_publication(self, publication: Publication) -> int:
        self.got.append((publication.id, publication.channel.name, publication.event, publication.data))
        return self.subscribers

    def subscriber_count(self, resource: str) -> int:
        return self.subscribers


def publication(ident: str, name: str = "public.x", data: bytes = b"{}") -> Publication:
    return Publication(ident, channels.parse(name), "event", data)


class BusContract:
    """Mixed into a :class:`twisted.trial.unittest.TestCase`."""

    def make_bus(self) -> Any:
        raise AssertionError("a test case says which bus it is about")

    async def start(self, subscribers: int = 1) -> tuple[Any, Recorder]:
        bus = self.make_bus()
        recorder = Recorder(subscribers)
        await bus.start(recorder)
        self.addCleanup(bus.stop)  # type: ignore[attr-defined]
        return bus, recorder

    def test_it_is_a_bus(self) -> None:
        verifyObject(IBus, self.make_bus())

    def test_a_process_hears_its_own_publication_once(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._hears_itself())

    async def _hears_itself(self) -> None:
        bus, recorder = await self.start(subscribers=3)
        bus.subscribe("x")
        count = await bus.publish(publication("n-1", "private-x", b'{"a":1}'))
        assert count == 3
        assert recorder.got == [("n-1", "private-x", "event", b'{"a":1}')]

    def test_publications_keep_their_order(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._keeps_order())

    async def _keeps_order(self) -> None:
        bus, recorder = await self.start()
        bus.subscribe("public.x")
        for number in range(100):
            await bus.publish(publication(f"n-{number}"))
        assert [got[0] for got in recorder.got] == [f"n-{number}" for number in range(100)]

    def test_subscribers_are_counted(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._counts())

    async def _counts(self) -> None:
        bus, _ = await self.start(subscribers=7)
        bus.subscribe("public.x")
        assert await bus.count("public.x") == 7

    def test_a_stopped_bus_brings_nothing(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stops())

    async def _stops(self) -> None:
        bus, recorder = await self.start()
        await bus.stop()
        assert await bus.publish(publication("n-1")) == 0
        assert recorder.got == []
