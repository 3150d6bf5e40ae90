"""Nobody is said to be offline while somebody who may know better could not be heard."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.presence.presence import COMPARE
from mechamap_rt.presence.seats import GRACE
from mechamap_rt.presence.standing import AGAIN, PATIENCE
from tests.presence.cluster import Cluster, Device
from tests.presence.test_presence import Held

ROOM = "presence-thread.7"


class DoubtTests(SynchronousTestCase):
    """User 1 looks on from one process. User 2 was in the channel and is elsewhere on the site, by another process."""

    def setUp(self) -> None:
        self.cluster = Cluster(("aaa001", "aaa002", "aaa003"))
        self.watcher = self.present("aaa001", 1)
        self.guest = self.present("aaa002", 2)
        self.guest.unsubscribe(ROOM)
        self.cluster.wait(4 * PATIENCE)
        self.assertEqual(self.offline(), [])

    def present(self, process: str, user_id: int) -> Device:
        device = self.cluster.device(process, user_id)
        device.subscribe(ROOM)
        self.cluster.move()
        return device

    def offline(self) -> list[int]:
        return self.watcher.inbox.users("user_offline")

    def test_a_process_that_is_slow_for_a_while(self) -> None:
        stream = self.cluster.processes["aaa002"].streams["aaa001"]
        stream.way, way = Held(), stream.way  # type: ignore[assignment]
        self.cluster.wait(PATIENCE - 1)
        held, stream.way = stream.way, way
        stream.way.extend(held)
        self.cluster.wait(2 * PATIENCE)
        self.assertEqual(self.offline(), [])

    def test_a_process_that_is_silent_for_good(self) -> None:
        self.cluster.processes["aaa003"].streams["aaa001"].way = Held()  # type: ignore[assignment]
        self.guest.leave()
        self.cluster.wait(GRACE + PATIENCE - 1)
        self.assertEqual(self.offline(), [])
        self.cluster.wait(2 * AGAIN + 2)
        self.assertEqual(self.offline(), [2])

    def test_a_part_of_the_cluster_that_is_out_of_reach(self) -> None:
        process = self.watcher.process
        process.node.on_state(True)
        stream = self.cluster.processes["aaa002"].streams["aaa001"]
        stream.way, way = Held(), stream.way  # type: ignore[assignment]
        self.cluster.wait(4 * PATIENCE)
        self.assertEqual(self.offline(), [], "however long it takes")
        stream.way = way
        process.node.on_state(False)
        self.cluster.wait(2)
        self.assertEqual(self.offline(), [])
        self.guest.leave()
        self.cluster.wait(GRACE + AGAIN + 2)
        self.assertEqual(self.offline(), [2])

    def test_who_comes_back_after_the_death_of_their_process(self) -> None:
        self.cluster.kill("aaa002")
        self.cluster.wait(GRACE - 2)
        self.cluster.device("aaa003", 2)
        self.cluster.wait(4 * PATIENCE)
        self.assertEqual(self.offline(), [])

    def test_who_does_not_come_back(self) -> None:
        self.cluster.kill("aaa002")
        self.cluster.wait(GRACE + AGAIN + 2)
        self.assertEqual(self.offline(), [2])

    def test_an_answer_that_is_older_than_the_last_visit(self) -> None:
        """Asked while the user was nowhere, read when they have been in the channel again and are elsewhere."""
        self.guest.leave()
        self.cluster.wait(GRACE - 0.5)
        stream = self.cluster.processes["aaa003"].streams["aaa001"]
        way = stream.way
        while not way:
            # the next question, whose answer is on its way
            self.cluster.clock.advance(0.05)
            for process in self.cluster.processes.values():
                for other, one in process.streams.items():
                    while one.way and (process.name, other) != ("aaa003", "aaa001"):
                        one.other.dataReceived(one.way.popleft())
        back = self.present("aaa002", 2)
        back.unsubscribe(ROOM)
        self.cluster.wait(2 * PATIENCE)
        self.assertEqual(self.offline(), [])


class LateAnswerTests(SynchronousTestCase):
    def test_who_dies_after_answering_does_not_haunt_the_channel(self) -> None:
        """The answer waits for that of another process, and is read after the death."""
        cluster = Cluster(("aaa001", "aaa002", "aaa003"))
        cluster.device("aaa002", 2).subscribe(ROOM)
        cluster.move()
        slow = cluster.processes["aaa003"].streams["aaa001"]
        slow.way = Held()  # type: ignore[assignment]
        watcher = cluster.device("aaa001", 1)
        entering = watcher.subscribe(ROOM)
        cluster.move()
        self.assertNoResult(entering)
        cluster.kill("aaa002")
        cluster.wait(2)
        self.successResultOf(entering)
        cluster.wait(GRACE + 2 * COMPARE)
        late = cluster.device("aaa001", 3).subscribe(ROOM)
        cluster.move()
        self.assertEqual([member["id"] for member in self.successResultOf(late)["members"]], [1, 3])

    def test_who_dies_after_answering_is_not_waited_for(self) -> None:
        cluster = Cluster(("aaa001", "aaa002", "aaa003"))
        watcher = cluster.device("aaa001", 1)
        watcher.subscribe(ROOM)
        guest = cluster.device("aaa003", 2)
        guest.subscribe(ROOM)
        cluster.move()
        slow = cluster.processes["aaa003"].streams["aaa001"]
        slow.way, way = Held(), slow.way  # type: ignore[assignment]
        found = Deferred.fromCoroutine(watcher.process.presence.online([5]))
        cluster.move()
        self.assertNoResult(found)
        cluster.kill("aaa002")
        held, slow.way = slow.way, way
        slow.way.extend(held)
        cluster.wait(GRACE + 1)
        self.successResultOf(found)
        guest.leave()
        cluster.wait(GRACE + 2)
        self.assertEqual(watcher.inbox.users("user_offline"), [2])
