"""What every bus promises. A test case mixes :class:`BusContract` in and makes its buses."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mechamap_rt.core import channels
from mechamap_rt.core.publication import DeliveryClass, Publication
from mechamap_rt.interfaces import IBus, IReceiver


@implementer(IReceiver)
class Recorder:
    """Remembers what a bus brought; claims ``subscribers`` of every resource.

    :ivar states: what the bus said about its state, in order.
    :ivar gone: processes that it said are gone, and how long they had been silent.
    """

    def __init__(self, subscribers: int = 0, name: bytes = b"here") -> None:
        self.subscribers = subscribers
        self.name = name
        self.got: list[tuple[str, str, str, bytes]] = []
        self.states: list[bool] = []
        self.gone: list[tuple[str, float]] = []

    def on_publication(self, publication: Publication) -> int:
        self.got.append((publication.id, publication.channel.name, publication.event, publication.data))
        return self.subscribers

    def on_question(self, question: str, body: bytes) -> bytes:
        return self.name + b" " + question.encode() + b" " + body

    def on_state(self, degraded: bool) -> None:
        self.states.append(degraded)

    def on_gone(self, process: str, silent: float) -> None:
        self.gone.append((process, silent))

    def ids(self) -> list[str]:
        return [got[0] for got in self.got]


def publication(
    ident: str, name: str = "public.x", data: bytes = b"{}", delivery: DeliveryClass = DeliveryClass.DURABLE
) -> Publication:
    return Publication(ident, channels.parse(name), "event", data, delivery=delivery)


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
        await bus.subscribe("x")
        count = await bus.publish(publication("n-1", "private-x", b'{"a":1}'))
        assert count == 3
        assert recorder.got == [("n-1", "private-x", "event", b'{"a":1}')]

    def test_publications_keep_their_order(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._keeps_order())

    async def _keeps_order(self) -> None:
        bus, recorder = await self.start()
        await bus.subscribe("public.x")
        waiting = [bus.publish(publication(f"n-{number}"), counted=number % 2 == 0) for number in range(100)]
        for one in waiting:
            await one
        assert recorder.ids() == [f"n-{number}" for number in range(100)]

    def test_interest_may_be_said_again_and_given_up_without_having_been(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._repeats_interest())

    async def _repeats_interest(self) -> None:
        bus, recorder = await self.start()
        bus.unsubscribe("public.x")
        for _ in range(3):
            await bus.subscribe("public.x")
        assert await bus.publish(publication("n-1")) == 1
        bus.unsubscribe("public.x")
        await bus.subscribe("public.x")
        assert await bus.publish(publication("n-2")) == 1
        assert recorder.ids() == ["n-1", "n-2"]

    def test_a_question_is_answered_by_this_process_first(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._answers())

    async def _answers(self) -> None:
        bus, _ = await self.start()
        assert await bus.ask("count", b"\xff") == [b"here count \xff"]

    def test_a_started_bus_is_whole(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._is_whole())

    async def _is_whole(self) -> None:
        bus, recorder = await self.start()
        assert not bus.degraded
        assert recorder.states == []

    def test_a_stopped_bus_brings_nothing(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stops())

    async def _stops(self) -> None:
        bus, recorder = await self.start()
        await bus.stop()
        assert await bus.publish(publication("n-1")) == 0
        assert recorder.got == []
