"""Counts of two processes that cross on their way."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.core import channels
from mechamap_rt.notifications.counts import Counts
from tests.presence.cluster import Cluster

A, B, USER = "aaa001", "aaa002", 5


class Asked:
    """Notifications of whom each count is answered by the test."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[int]] = []

    def unread(self, user_id: int) -> Deferred[int]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, count: int) -> None:
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(count)


class CrossingTests(SynchronousTestCase):
    def test_the_last_count_told_is_true_everywhere(self) -> None:
        cluster = Cluster((A, B))
        asked, counts, devices = {}, {}, {}
        for name, process in cluster.processes.items():
            asked[name] = Asked()
            counts[name] = Counts(cluster.clock, process.node, asked[name], cluster.clock.seconds)  # type: ignore[arg-type]
            counts[name].start()
            devices[name] = cluster.device(name, USER)
            process.node.subscribe(devices[name].connection, channels.parse(f"private-user.{USER}"))
        for name in (A, B):
            telling = counts[name].changed({USER})
            telling.addCallback(lambda found, name=name: counts[name].announce(USER, found[USER]))
        # what A was answered is older than what B has written; both are told before either has arrived
        asked[A].answer(4)
        asked[B].answer(3)
        cluster.wait(1.2)
        for one in asked.values():
            one.answer(3)
        cluster.wait(3)
        told = {
            name: [data["unreadCount"] for data in one.inbox.named("notification.unread_count")]
            for name, one in devices.items()
        }
        self.assertEqual((told[A][-1], told[B][-1]), (3, 3), told)
        self.assertTrue(all(len(each) <= 3 for each in told.values()), told)
        self.assertEqual([each for one in asked.values() for each in one.waiting], [])
