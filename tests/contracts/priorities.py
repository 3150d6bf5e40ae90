"""What every bus promises of priorities: each process gathers for itself, and all deliver alike.

A test case mixes :class:`PriorityContract` in and makes its buses. They are real, the time of the
batches is the test's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.batches import Batches
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.publication import DeliveryClass, Priority
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.wire.native import EventEncoder
from tests.fakes import Wire, make_connection

CHANNEL = channels.parse("public.x")
LIMIT = 8.0
_NATIVE = EventEncoder()


class Process:
    """A node with two subscribers of :data:`CHANNEL`, ``NAME-0`` and ``NAME-1``."""

    def __init__(self, name: str, bus: Any, clock: Clock) -> None:
        self.node = Node(bus, name)
        self.batches = self.node.batches = Batches(Wheel(clock), self.node.hub.deliver)
        self.wires: list[Wire] = []
        turn = Turn(clock)
        self.connections = []
        for number in range(2):
            connection, wire, _ = make_connection(clock, f"{name}-{number}", turn=turn, encoder=_NATIVE)
            self.node.join(connection)
            self.connections.append(connection)
            self.wires.append(wire)

    async def start(self) -> None:
        await self.node.start()
        for connection in self.connections:
            await self.node.subscribe(connection, CHANNEL)

    def seen(self) -> list[list[int]]:
        """What each subscriber has got: the numbers in the data, in order."""
        return [[message["data"]["n"] for message in messages(wire.sent)] for wire in self.wires]


def messages(sent: bytes) -> list[Any]:
    """The messages of unmasked frames shorter than 126 bytes."""
    found, at = [], 0
    while at < len(sent):
        size = sent[at + 1]
        assert size < 126
        found.append(json.loads(sent[at + 2 : at + 2 + size]))
        at += 2 + size
    return found


class PriorityContract:
    """Mixed into a :class:`twisted.trial.unittest.TestCase`."""

    def make_buses(self) -> dict[str, Any]:
        raise AssertionError("a test case says which buses it is about")

    async def processes(self) -> list[Process]:
        self.clock = Clock()
        found = [Process(name, bus, self.clock) for name, bus in self.make_buses().items()]
        for one in found:
            await one.start()
            self.addCleanup(one.node.stop)  # type: ignore[attr-defined]
        return found

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()``; a publication may be on its way after it was counted."""
        deadline = reactor.seconds() + LIMIT  # type: ignore[attr-defined]
        self.clock.advance(0)
        while not condition():
            assert reactor.seconds() < deadline  # type: ignore[attr-defined]
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
            self.clock.advance(0)

    async def come(self, processes: list[Process], number: int) -> None:
        """Wait until every process has gathered so many."""
        await self.wait(lambda: all(one.batches.gathered == number for one in processes))

    def publish(self, one: Process, number: int, **options: Any) -> Deferred[int]:
        return one.node.publish(CHANNEL, "e", b'{"n":%d}' % number, **options)[1]

    def test_what_is_gathered_leaves_everywhere_in_one_write_and_in_order(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._gathers())

    async def _gathers(self) -> None:
        processes = await self.processes()
        everybody = 2 * len(processes)
        for number in range(5):
            assert await self.publish(processes[0], number, priority=Priority.MEDIUM) == everybody
        assert await self.publish(processes[0], 5, priority=Priority.MEDIUM, sender=f"{processes[0].node.name}-0") == (
            everybody - 1
        )
        await self.come(processes, 6)
        assert await self.publish(processes[0], 99) == everybody
        await self.wait(lambda: [one.seen() for one in processes] == [[[99], [99]]] * len(processes))
        self.clock.pump([0.05] * 41)
        assert all(wire.calls == 2 for one in processes for wire in one.wires)
        whole = [99, 0, 1, 2, 3, 4, 5]
        assert processes[0].seen() == [whole[:-1], whole], "not to the sender"
        assert [one.seen() for one in processes[1:]] == [[whole, whole]] * (len(processes) - 1)

    def test_of_a_state_only_the_newest_leaves(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._coalesces())

    async def _coalesces(self) -> None:
        processes = await self.processes()
        for number in range(50):
            await self.publish(processes[0], number, priority=Priority.LOW, key="likes")
        await self.publish(processes[0], 100, priority=Priority.LOW, key="likes", delivery=DeliveryClass.DURABLE)
        await self.come(processes, 2)
        self.clock.pump([0.05] * 201)
        assert [one.seen() for one in processes] == [[[49, 100]] * 2] * len(processes)

    def test_a_later_value_that_leaves_at_once_is_the_last(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._supersedes())

    async def _supersedes(self) -> None:
        processes = await self.processes()
        await self.publish(processes[0], 1, priority=Priority.LOW, key="likes")
        await self.come(processes, 1)
        await self.publish(processes[0], 2, key="likes")
        await self.come(processes, 0)
        self.clock.pump([0.05] * 201)
        assert [one.seen() for one in processes] == [[[2]] * 2] * len(processes)

    def test_subscribers_are_those_who_are_there_when_it_leaves(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._leaves())

    async def _leaves(self) -> None:
        processes = await self.processes()
        await self.publish(processes[0], 1, priority=Priority.MEDIUM)
        await self.come(processes, 1)
        last = processes[-1]
        last.node.leave(last.connections[0])
        self.clock.pump([0.05] * 41)
        assert last.seen() == [[], [1]]

    def test_a_node_that_stops_lets_go_what_it_has_gathered(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stops())

    async def _stops(self) -> None:
        processes = await self.processes()
        for number in range(3):
            await self.publish(processes[0], number, priority=Priority.LOW)
        await self.come(processes, 3)
        for one in processes:
            await one.node.stop()
        self.clock.advance(0)
        assert [one.seen() for one in processes] == [[[0, 1, 2]] * 2] * len(processes)

    def test_what_nobody_here_is_subscribed_to_is_not_gathered(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._ignores())

    async def _ignores(self) -> None:
        processes = await self.processes()
        _, count = processes[0].node.publish(channels.parse("public.y"), "e", b"{}", priority=Priority.LOW)
        assert await count == 0
        assert [len(one.batches) for one in processes] == [0] * len(processes)
