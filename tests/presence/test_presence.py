"""Presence over several processes: who is told what, once, and when."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.presence.presence import COMPARE
from mechamap_rt.presence.rooms import MAX_TOLD
from mechamap_rt.presence.seats import GRACE
from tests.presence.cluster import Cluster, Device

ROOM = "presence-thread.7"
EVENTS = ("member_joined", "member_left", "user_online", "user_offline", "user.status")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(("aaa001", "aaa002", "aaa003"))

    def enter(self, device: Device, name: str = ROOM) -> dict[str, Any]:
        entering = device.subscribe(name)
        self.cluster.move()
        return self.successResultOf(entering)

    def present(self, process: str, user_id: int, name: str = ROOM) -> Device:
        device = self.cluster.device(process, user_id)
        self.enter(device, name)
        return device

    def told(self, device: Device) -> list[str]:
        """What a device was told of others, without the data."""
        return [each["event"] for each in device.inbox.events if each["event"] in EVENTS]


class MemberTests(Case):
    def test_the_answer_lists_the_members_of_all_processes(self) -> None:
        self.present("aaa001", 1)
        self.present("aaa002", 2)
        answer = self.enter(self.cluster.device("aaa003", 3))
        self.assertEqual(answer["total"], 3)
        members = sorted(answer["members"], key=lambda member: member["id"])
        self.assertEqual(members[0], {"id": 1, "name": "User 1", "avatar": "/1.png"})
        self.assertEqual([member["id"] for member in members], [1, 2, 3])

    def test_at_most_a_thousand_are_listed_and_all_are_counted(self) -> None:
        for user_id in range(1, 1203):
            self.cluster.device(f"aaa00{user_id % 3 + 1}", user_id).subscribe(ROOM)
        self.cluster.move()
        answer = self.enter(self.cluster.device("aaa001", 5000))
        self.assertEqual((len(answer["members"]), answer["total"]), (1000, 1203))

    def test_in_a_crowd_only_the_number_is_told(self) -> None:
        watcher = self.present("aaa001", 1)
        for user_id in range(2, MAX_TOLD + 11):
            self.cluster.device("aaa002", user_id).subscribe(ROOM)
        self.cluster.wait(1.2)
        self.assertEqual(len(watcher.inbox.named("member_joined")), MAX_TOLD - 1)
        (changed,) = watcher.inbox.named("members_changed")
        self.assertEqual((changed["channel"], changed["total"]), (ROOM, MAX_TOLD + 10))

    def test_who_comes_and_goes_is_told_by_the_name_that_the_watcher_uses(self) -> None:
        watcher = self.present("aaa001", 1)
        guest = self.present("aaa002", 2)
        self.assertEqual(
            watcher.inbox.named("member_joined"),
            [
                {
                    "channel": ROOM,
                    "user": {"id": 2, "name": "User 2", "avatar": "/2.png"},
                    "total": 2,
                    "timestamp": watcher.inbox.named("member_joined")[0]["timestamp"],
                }
            ],
        )
        self.assertEqual(guest.inbox.users("member_joined"), [], "nobody is told of themselves")
        guest.unsubscribe(ROOM)
        self.cluster.move()
        self.assertEqual(watcher.inbox.named("member_left")[0]["total"], 1)

    def test_a_second_device_is_no_second_member(self) -> None:
        watcher = self.present("aaa001", 1)
        one, two, three = (self.present(f"aaa00{number}", 2) for number in (1, 2, 3))
        self.assertEqual(watcher.inbox.users("member_joined"), [2])
        for device in (one, two):
            device.leave()
            self.cluster.wait(2 * GRACE)
        self.assertEqual(watcher.inbox.users("member_left"), [])
        three.unsubscribe(ROOM)
        self.cluster.move()
        self.assertEqual(watcher.inbox.users("member_left"), [2])

    def test_a_group_is_named_by_its_number_too(self) -> None:
        watcher = self.present("aaa001", 1, "group.9")
        self.present("aaa002", 2, "group.9")
        (joined,) = watcher.inbox.named("member_joined")
        self.assertEqual((joined["group_id"], joined["channel"]), (9, "group.9"))

    def test_who_takes_part_by_two_names_leaves_with_the_second(self) -> None:
        watcher, guest = self.present("aaa001", 1, "group.9"), self.present("aaa002", 2, "group.9")
        self.enter(guest, "presence-group.9")
        presence = guest.process.presence
        presence.keep(guest.connection, "group.9", ("presence-group.9",))
        self.cluster.move()
        self.assertEqual(watcher.inbox.users("member_left"), [])
        self.assertEqual((guest.connection.presence or {})["group.9"].name, "presence-group.9")
        presence.keep(guest.connection, "group.9", ("private-group.9",))
        self.cluster.move()
        self.assertEqual(watcher.inbox.users("member_left"), [2])

    def test_who_leaves_while_the_members_are_asked_for_is_told_nothing(self) -> None:
        self.present("aaa001", 1)
        device = self.cluster.device("aaa002", 2)
        entering = device.subscribe(ROOM)
        device.leave()
        self.cluster.move()
        self.assertEqual(self.successResultOf(entering), {})
        self.assertEqual(len(self.cluster.processes["aaa002"].presence.rooms), 0)

    def test_a_room_without_watchers_is_forgotten(self) -> None:
        device = self.present("aaa001", 1)
        presence = self.cluster.processes["aaa001"].presence
        self.assertEqual(presence.figures(), {"channels": 1, "seats": 1, "known": 1, "lingering": 0})
        device.leave()
        self.assertEqual(presence.figures(), {"channels": 0, "seats": 1, "known": 0, "lingering": 1})
        self.cluster.wait(GRACE + 1)
        self.assertEqual(presence.figures(), {"channels": 0, "seats": 0, "known": 0, "lingering": 0})


class OnlineTests(Case):
    def test_coming_is_told_once_over_devices_and_channels(self) -> None:
        watcher = self.present("aaa001", 1)
        self.enter(watcher, "presence-forum.1")
        guest = self.present("aaa002", 2)
        self.enter(guest, "presence-forum.1")
        self.present("aaa003", 2)
        (online,) = watcher.inbox.named("user_online")
        self.assertEqual(
            {**online, "last_seen": ""},
            {
                "user_id": 2,
                "name": "User 2",
                "avatar": "/2.png",
                "last_seen": "",
            },
        )
        self.assertEqual(watcher.inbox.named("user.status"), [{"user_id": 2, "status": "online"}])

    def test_who_comes_later_knows_by_the_list(self) -> None:
        self.present("aaa001", 1)
        late = self.present("aaa002", 2)
        self.assertEqual(self.told(late), [])

    def test_a_page_change_is_no_absence(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        for process in ("aaa003", "aaa001", "aaa002"):
            guest.leave()
            self.cluster.wait(GRACE - 1)
            guest = self.present(process, 2)
        self.cluster.wait(2 * GRACE)
        self.assertEqual(self.told(watcher), ["member_joined", "user_online", "user.status"])

    def test_going_is_told_once_after_the_grace(self) -> None:
        watcher, other = self.present("aaa001", 1), self.present("aaa003", 3)
        devices = [self.present("aaa002", 2), self.present("aaa003", 2)]
        self.enter(devices[0], "presence-forum.1")
        self.enter(watcher, "presence-forum.1")
        for device in devices:
            device.leave()
        self.cluster.wait(GRACE - 0.5)
        self.assertEqual(watcher.inbox.users("user_offline") + other.inbox.users("user_offline"), [])
        self.cluster.wait(1.5)
        self.assertEqual((watcher.inbox.users("user_offline"), other.inbox.users("user_offline")), ([2], [2]))
        self.assertEqual(watcher.inbox.named("user.status")[-1], {"user_id": 2, "status": "offline"})
        self.assertEqual(watcher.inbox.named("user_offline")[0]["last_seen"], "2027-01-15T08:00:00.000Z")

    def test_who_is_elsewhere_on_the_site_has_left_and_is_online(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        guest.unsubscribe(ROOM)
        self.cluster.wait(2 * GRACE)
        self.assertEqual(self.told(watcher)[3:], ["member_left"])
        self.assertEqual(self.cluster.online("aaa003", 2), {2})
        guest.leave()
        self.cluster.wait(GRACE + 6)
        self.assertEqual(self.told(watcher)[4:], ["user_offline", "user.status"])

    def test_who_comes_back_to_the_channel_is_told_to_those_who_do_not_know(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        guest.unsubscribe(ROOM)
        self.cluster.wait(1)
        late = self.present("aaa001", 3)
        self.enter(guest)
        self.assertEqual(watcher.inbox.users("user_online"), [2, 3])
        self.assertEqual(late.inbox.users("user_online"), [2])

    def test_the_bulk_question(self) -> None:
        self.cluster.device("aaa001", 1)
        gone = self.cluster.device("aaa002", 2)
        gone.leave()
        asked = range(1, 2500)
        self.assertEqual(self.cluster.online("aaa003", *asked), {1, 2}, "who has just left may be back in a moment")
        self.cluster.wait(GRACE + 0.5)
        self.assertEqual(self.cluster.online("aaa003", *asked), {1})

    def test_activity_reaches_each_who_shares_a_channel_once(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        for device in (watcher, guest):
            self.enter(device, "presence-forum.1")
        stranger = self.present("aaa003", 3, "presence-forum.2")
        guest.process.presence.tell(guest.connection, "user_activity", {"userId": 2})
        self.cluster.move()
        self.assertEqual(watcher.inbox.named("user_activity"), [{"userId": 2}])
        self.assertEqual(stranger.inbox.named("user_activity") + guest.inbox.named("user_activity"), [])


class InvisibleTests(Case):
    def test_nobody_is_told(self) -> None:
        watcher = self.present("aaa001", 1)
        hidden = self.cluster.device("aaa002", 2, invisible=True)
        answer = self.enter(hidden)
        self.assertEqual([member["id"] for member in answer["members"]], [1])
        hidden.process.presence.tell(hidden.connection, "user_activity", {"userId": 2})
        self.assertEqual(self.cluster.online("aaa001", 1, 2), {1})
        third = self.present("aaa003", 3)
        self.assertEqual(hidden.inbox.users("user_online"), [3], "who hides sees the others")
        hidden.leave()
        third.leave()
        self.cluster.wait(2 * GRACE)
        self.assertEqual([each["data"].get("user_id", 3) for each in watcher.inbox.events], [3] * 6)

    def test_who_hides_goes_and_who_shows_comes(self) -> None:
        watcher = self.present("aaa001", 1)
        guest = self.present("aaa002", 2)
        shown, hidden = guest.connection.identity, self.cluster.device("aaa002", 2, invisible=True).connection.identity
        guest.connection.identity = hidden
        guest.process.presence.review(guest.connection)
        self.cluster.wait(1)
        self.assertEqual(self.told(watcher)[3:], ["member_left", "user_offline", "user.status"])
        guest.connection.identity = shown
        guest.process.presence.review(guest.connection)
        self.cluster.move()
        self.assertEqual(self.told(watcher)[6:], ["member_joined", "user_online", "user.status"])


class DeathTests(Case):
    def test_a_process_that_dies_takes_its_users_with_it(self) -> None:
        watcher = self.present("aaa001", 1)
        for user_id in (2, 3):
            self.present("aaa002", user_id)
        self.present("aaa003", 3)
        self.cluster.kill("aaa002")
        self.assertEqual(self.cluster.online("aaa001", 2, 3), {2, 3}, "they may be on their way to another process")
        self.cluster.wait(GRACE - 1)
        self.assertEqual(watcher.inbox.users("user_offline"), [])
        self.cluster.wait(7)
        self.assertEqual(watcher.inbox.users("member_left"), [2])
        self.assertEqual(watcher.inbox.users("user_offline"), [2])
        self.assertEqual(self.cluster.online("aaa001", 2, 3), {3})

    def test_who_comes_back_in_time_was_never_gone(self) -> None:
        watcher = self.present("aaa001", 1)
        self.present("aaa002", 2)
        self.cluster.kill("aaa002")
        self.cluster.wait(3)
        self.present("aaa003", 2)
        self.cluster.wait(2 * GRACE)
        self.assertEqual(self.told(watcher), ["member_joined", "user_online", "user.status"])

    def test_a_new_process_of_the_same_name_begins_anew(self) -> None:
        watcher = self.present("aaa001", 1)
        self.present("aaa002", 2)
        self.present("aaa002", 3)
        self.cluster.kill("aaa002")
        self.cluster.wait(2)
        self.cluster.start("aaa002")
        self.present("aaa002", 3)
        self.cluster.wait(2 * GRACE)
        self.assertEqual(watcher.inbox.users("user_offline"), [2])
        self.assertEqual(self.enter(self.cluster.device("aaa001", 4))["total"], 3)

    def test_a_process_that_does_not_answer_may_know_better(self) -> None:
        watcher = self.present("aaa001", 1)
        guest = self.present("aaa002", 2)
        self.cluster.device("aaa003", 2)
        self.assertEqual(self.cluster.online("aaa001", 2), {2})
        silent = self.cluster.processes["aaa003"]
        silent.streams["aaa001"].way = Held()
        guest.leave()
        self.cluster.wait(GRACE + 4)
        self.assertEqual(watcher.inbox.users("user_offline"), [])


class Held(list[bytes]):
    """A way on which nothing moves."""

    def __bool__(self) -> bool:
        return False


class MissedTests(Case):
    def lose(self, sender: str, receiver: str) -> None:
        self.cluster.processes[sender].streams[receiver].way.clear()

    def test_what_was_missed_is_asked_for(self) -> None:
        watcher = self.present("aaa001", 1)
        leaver = self.present("aaa002", 3)
        self.cluster.device("aaa002", 2).subscribe(ROOM)
        leaver.unsubscribe(ROOM)
        self.lose("aaa002", "aaa001")
        self.cluster.move()
        self.assertEqual(watcher.inbox.users("member_joined"), [3])
        self.cluster.wait(COMPARE + 2)
        self.assertEqual(watcher.inbox.users("member_joined"), [3, 2])
        self.assertEqual(watcher.inbox.users("member_left"), [3])

    def test_what_comes_late_does_not_count_again(self) -> None:
        watcher, guest = self.present("aaa001", 1), self.present("aaa002", 2)
        rooms = watcher.process.presence.rooms
        rooms.change("thread.7", "aaa002", 1, None, 2, 0.0)
        self.assertEqual(watcher.inbox.users("member_left"), [])
        self.assertEqual(guest.inbox.users("member_left"), [])
