"""What connections know of others, and for how long a process keeps it."""

from __future__ import annotations

from unittest.mock import patch

from mechamap_rt.presence import rooms
from mechamap_rt.presence.seats import GRACE
from tests.presence.test_presence import ROOM, Case


class KnowledgeTests(Case):
    def test_who_asks_for_the_list_again_still_hears_of_who_goes_offline(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        guest.unsubscribe(ROOM)
        self.cluster.wait(1)
        self.enter(watcher)
        guest.leave()
        self.cluster.wait(GRACE + 6)
        self.assertEqual(watcher.inbox.users("user_offline"), [2])

    def test_who_asks_for_the_list_again_is_not_told_again_who_is_online(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        guest.unsubscribe(ROOM)
        self.cluster.wait(1)
        self.enter(watcher)
        self.enter(guest)
        self.assertEqual(watcher.inbox.users("user_online"), [2])

    def test_a_crowd_is_not_told_who_goes_offline(self) -> None:
        with patch.object(rooms, "MAX_TOLD", 5):
            crowd = [self.present("aaa001", user) for user in range(1, 11)]
            guest, friend = self.present("aaa002", 50), self.present("aaa001", 60, "presence-thread.8")
            self.enter(guest, "presence-thread.8")
            guest.leave()
            self.cluster.wait(GRACE + 6)
        self.assertEqual([device.inbox.users("user_offline") for device in crowd], [[]] * 10)
        self.assertEqual(friend.inbox.users("user_offline"), [50])

    def test_nobody_is_kept_of_whom_nobody_knows(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        guest.unsubscribe(ROOM)
        self.cluster.wait(1)
        watcher.leave()
        self.cluster.wait(GRACE + 12)
        self.assertEqual(len(self.cluster.processes["aaa001"].presence.standing), 0)

    def test_activity_in_many_channels_is_not_their_square(self) -> None:
        guest, watcher = self.cluster.device("aaa001", 1), self.cluster.device("aaa002", 2)
        for number in range(200):
            name = f"presence-public.{number:0140d}"
            self.enter(guest, name)
            self.enter(watcher, name)
        guest.process.presence.tell(guest.connection, "user_activity", {"userId": 1})
        size = sum(len(body) for body in guest.process.streams["aaa002"].way)
        self.cluster.move()
        self.assertLess(size, 200 * 1000)
        self.assertEqual(watcher.inbox.named("user_activity"), [{"userId": 1}])
