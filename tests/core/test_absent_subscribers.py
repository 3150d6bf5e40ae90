"""What is gathered for a channel whose last subscriber has gone, and whose next one comes before it leaves."""

from __future__ import annotations

import re

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.batches import Batches
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.publication import Priority
from mechamap_rt.core.wheel import Wheel
from tests.fakes import Wire, make_connection

THREAD = channels.parse("thread.7")


class AbsentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.node = Node(MemoryBus(), "aaa001")
        self.node.start()
        self.node.batches = Batches(Wheel(self.clock), self.node.hub.deliver)
        self.turn = Turn(self.clock)

    def come(self, ident: str) -> Wire:
        connection, wire, _ = make_connection(self.clock, ident, turn=self.turn)
        self.node.join(connection)
        self.node.subscribe(connection, THREAD)
        return wire

    def publish(self, views: int, priority: Priority = Priority.LOW) -> None:
        self.node.publish(THREAD, "thread.stats.updated", b'{"views":%d}' % views, priority=priority)

    def got(self, wire: Wire) -> list[bytes]:
        self.clock.pump([0.1] * 120)
        return re.findall(rb'"views":(\d+)', wire.sent)

    def test_a_page_that_is_reloaded_gets_the_newest_value(self) -> None:
        self.come("c1")
        self.publish(1)
        for connection in self.node.connections():
            self.node.leave(connection)
        self.publish(2)
        self.assertEqual(self.got(self.come("c2")), [b"2"])

    def test_what_has_been_told_at_once_is_not_followed_by_an_older_value(self) -> None:
        self.come("c1")
        self.publish(1)
        for connection in self.node.connections():
            self.node.leave(connection)
        self.publish(2, Priority.HIGH)
        self.assertEqual(self.got(self.come("c2")), [])
