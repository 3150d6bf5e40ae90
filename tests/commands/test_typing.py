"""Typing over several processes: what others are told of a user with several devices, and when."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.commands import typing as module
from mechamap_rt.commands.typing import CHANNEL, EXPIRY, GROUP, INTERVAL, LOST, MAX_AT_ONCE, Form, Typing
from mechamap_rt.core import channels
from tests.presence.cluster import Cluster, Device

THREAD = "thread.7"
TEAM = "group.3"
#: What the wheel may be late.
LATE = 0.2


class Case(SynchronousTestCase):
    """Three processes; a watcher on each, a user with a device on each."""

    def setUp(self) -> None:
        self.cluster = Cluster(("aaa001", "aaa002", "aaa003"))
        self.typing = {
            name: Typing(process.node, process.wheel, self.cluster.clock.seconds)
            for name, process in self.cluster.processes.items()
        }
        self.mine = [self.device(name, 5) for name in self.typing]
        self.watchers = [self.device(name, 9) for name in self.typing]

    def device(self, process: str, user_id: int) -> Device:
        device = self.cluster.device(process, user_id)
        for name in (THREAD, TEAM):
            device.process.node.subscribe(device.connection, channels.parse(name))
        return device

    def start(self, device: Device, name: str = THREAD, form: Form = CHANNEL) -> None:
        self.typing[device.process.name].start(device.connection, channels.parse(name), form)
        self.cluster.move()

    def stop(self, device: Device, resource: str = THREAD) -> None:
        self.typing[device.process.name].stop(device.connection, resource)
        self.cluster.move()

    def told(self) -> list[str]:
        """What the watchers have been told since the last time; all of them the same."""
        self.cluster.move()
        heard = []
        for watcher in self.watchers:
            heard.append([each["event"] for each in watcher.inbox.events])
            watcher.inbox.events.clear()
        self.assertTrue(all(each == heard[0] for each in heard), heard)
        return heard[0]


class IntervalTests(Case):
    def test_starts_of_all_devices_are_told_once_in_two_seconds(self) -> None:
        for device in self.mine * 3:
            self.start(device)
        self.assertEqual(self.told(), ["user_typing"])
        self.cluster.wait(INTERVAL - LATE)
        self.start(self.mine[1])
        self.assertEqual(self.told(), [])
        self.cluster.wait(2 * LATE)
        self.start(self.mine[2])
        self.assertEqual(self.told(), ["user_typing"])

    def test_a_repetition_prolongs_and_is_not_told_later(self) -> None:
        self.start(self.mine[0])
        self.cluster.wait(1.0)
        self.start(self.mine[0])
        self.cluster.wait(EXPIRY - LATE)
        self.assertEqual(self.told(), ["user_typing"])
        self.cluster.wait(2 * LATE)
        self.assertEqual(self.told(), ["user_stopped_typing"])

    def test_the_end_names_the_channel_as_the_start_did(self) -> None:
        one, other, _ = self.mine
        self.start(one, "presence-" + THREAD)
        self.start(other, "private-" + THREAD)
        self.stop(one)
        self.stop(other)
        self.cluster.move()
        told = [each["data"]["channel"] for each in self.watchers[0].inbox.events if "typing" in each["event"]]
        self.assertEqual(told, ["presence-" + THREAD] * 2)

    def test_a_start_after_a_stop_is_told_when_it_may_be(self) -> None:
        self.start(self.mine[0])
        self.stop(self.mine[0])
        self.assertEqual(self.told(), ["user_typing", "user_stopped_typing"])
        self.start(self.mine[1])
        self.assertEqual(self.told(), [])
        self.cluster.wait(INTERVAL - LATE)
        self.assertEqual(self.told(), [])
        self.cluster.wait(2 * LATE)
        self.assertEqual(self.told(), ["user_typing"])
        self.cluster.wait(EXPIRY)
        self.assertEqual(self.told(), ["user_stopped_typing"])

    def test_who_has_stopped_again_by_then_is_not_told_of(self) -> None:
        self.start(self.mine[0])
        self.stop(self.mine[0])
        self.start(self.mine[0])
        self.stop(self.mine[0])
        self.cluster.wait(60)
        self.assertEqual(self.told(), ["user_typing", "user_stopped_typing"])

    def test_what_waits_in_several_processes_is_told_once(self) -> None:
        self.start(self.mine[0])
        self.stop(self.mine[0])
        self.told()
        for device in self.mine:
            self.start(device)
        self.cluster.wait(INTERVAL + LATE)
        # all three are due in the same moment; the streams are as fast as that at best
        told = self.told()
        self.assertIn(len(told), (1, 2, 3))
        self.assertEqual(set(told), {"user_typing"})

    def test_channels_forms_and_users_are_apart(self) -> None:
        other = self.device("aaa001", 6)
        self.start(self.mine[0])
        self.start(self.mine[0], TEAM)
        self.start(other)
        self.start(self.mine[1], TEAM, GROUP)
        self.assertEqual(self.told(), ["user_typing", "user_typing", "user_typing", "group_typing_start"])

    def test_a_repetition_is_no_news(self) -> None:
        typing, connection = self.typing["aaa001"], self.mine[0].connection
        self.assertTrue(typing.is_news(connection, THREAD))
        self.start(self.mine[1])
        self.assertFalse(typing.is_news(connection, THREAD))
        self.assertTrue(typing.is_news(connection, THREAD, GROUP))
        self.stop(self.mine[1])
        self.assertTrue(typing.is_news(connection, THREAD), "it will be told")
        self.start(self.mine[0])
        self.assertFalse(typing.is_news(connection, THREAD), "it is about to be")
        self.cluster.wait(INTERVAL + LATE)
        self.start(self.mine[0])
        self.cluster.wait(INTERVAL + LATE)
        self.assertTrue(typing.is_news(connection, THREAD))


class StopTests(Case):
    def test_a_stop_is_not_told_while_another_device_types(self) -> None:
        for device in self.mine:
            self.start(device)
        self.assertEqual(self.told(), ["user_typing"])
        self.stop(self.mine[0])
        self.stop(self.mine[2])
        self.assertEqual(self.told(), [])
        self.stop(self.mine[1])
        self.assertEqual(self.told(), ["user_stopped_typing"])

    def test_the_second_device_of_a_process(self) -> None:
        second = self.device("aaa001", 5)
        self.start(self.mine[0])
        self.start(second)
        self.stop(self.mine[0])
        self.assertEqual(self.told(), ["user_typing"])
        self.stop(second)
        self.assertEqual(self.told(), ["user_stopped_typing"])

    def test_all_stop_in_the_same_moment(self) -> None:
        """Nobody stays typing; that it is told twice does no harm."""
        for device in self.mine:
            self.start(device)
        self.told()
        for device in self.mine:
            self.typing[device.process.name].stop(device.connection, THREAD)
        self.assertEqual(set(self.told()), {"user_stopped_typing"})

    def test_begun_again_while_the_others_are_asked(self) -> None:
        self.start(self.mine[0])
        self.told()
        self.typing["aaa001"].stop(self.mine[0].connection, THREAD)
        self.typing["aaa001"].start(self.mine[0].connection, channels.parse(THREAD))
        self.assertEqual(self.told(), [])
        self.stop(self.mine[0])
        self.assertEqual(self.told(), ["user_stopped_typing"])

    def test_another_device_begins_while_it_is_asked_about(self) -> None:
        """It answers that it does not type, and begins: others are shown the truth in the end."""
        self.start(self.mine[0])
        self.told()
        self.typing["aaa001"].stop(self.mine[0].connection, THREAD)
        for name in ("aaa002", "aaa003"):
            self.carry("aaa001", name)
        self.start(self.mine[1])
        self.cluster.wait(INTERVAL + LATE)
        self.assertEqual(self.told(), ["user_stopped_typing", "user_typing"])

    def test_another_device_is_told_of_while_the_last_process_is_asked(self) -> None:
        self.start(self.mine[0])
        self.cluster.wait(INTERVAL + LATE)
        self.told()
        self.typing["aaa001"].stop(self.mine[0].connection, THREAD)
        for name in ("aaa002", "aaa003"):
            self.carry("aaa001", name)
        self.typing["aaa002"].start(self.mine[1].connection, channels.parse(THREAD))
        self.carry("aaa002", "aaa001")
        self.cluster.wait(INTERVAL + LATE)
        self.assertEqual(self.told(), ["user_typing"])

    def carry(self, one: str, other: str) -> None:
        """What one process has written to another arrives."""
        stream = self.cluster.processes[one].streams[other]
        while stream.way:
            stream.other.dataReceived(stream.way.popleft())

    def test_what_a_dead_process_had_is_not_waited_for(self) -> None:
        self.start(self.mine[0])
        self.start(self.mine[1])
        self.watchers.pop(1)
        self.cluster.kill("aaa002")
        self.stop(self.mine[0])
        self.assertEqual(self.told(), ["user_typing", "user_stopped_typing"])

    def test_a_process_dies_with_its_typist(self) -> None:
        """Nobody is left to take it back: each of the others does so for its own clients, once."""
        self.start(self.mine[1])
        self.start(self.mine[1], TEAM, GROUP)
        self.watchers.pop(1)
        self.cluster.kill("aaa002")
        self.assertEqual(self.told(), ["user_typing", "group_typing_start"])
        self.cluster.wait(EXPIRY + INTERVAL)
        self.assertEqual(self.told(), [])
        self.cluster.wait(LOST - EXPIRY - INTERVAL + LATE)
        first, second = (each["data"] for each in self.watchers[0].inbox.events)
        self.assertEqual((first["userId"], first["channel"], first["thread_id"]), (5, THREAD, 7))
        self.assertEqual((second["group_id"], second["user_id"]), (3, 5))
        self.assertEqual(self.told(), ["user_stopped_typing", "group_typing_stop"])
        self.cluster.wait(60)
        self.assertEqual(self.told(), [])

    def test_what_was_taken_back_is_not_again(self) -> None:
        self.start(self.mine[0])
        self.cluster.wait(60)
        self.assertEqual(self.told(), ["user_typing", "user_stopped_typing"])
        self.assertEqual([len(typing._shown) for typing in self.typing.values()], [0, 0, 0])

    def test_it_expires_on_every_device_by_itself(self) -> None:
        self.start(self.mine[0])
        self.cluster.wait(5)
        self.start(self.mine[1])
        self.told()
        self.cluster.wait(5 + LATE)
        self.assertEqual(self.told(), [], "the second types on")
        self.cluster.wait(5)
        self.assertEqual(self.told(), ["user_stopped_typing"])

    def test_leaving_stops(self) -> None:
        self.start(self.mine[0])
        self.start(self.mine[0], TEAM, GROUP)
        self.told()
        self.typing["aaa001"].leave_all(self.mine[0].connection)
        self.mine[0].leave()
        self.assertEqual(self.told(), ["user_stopped_typing", "group_typing_stop"])

    def test_leaving_with_everybody_is_silent(self) -> None:
        self.start(self.mine[0])
        self.told()
        self.typing["aaa001"].leave_all(self.mine[0].connection, silently=True)
        self.assertEqual(self.told(), [])

    def test_a_change_of_the_form_takes_back_the_first(self) -> None:
        self.start(self.mine[0], TEAM)
        self.start(self.mine[0], TEAM, GROUP)
        self.assertEqual(sorted(self.told()), ["group_typing_start", "user_stopped_typing", "user_typing"])
        self.stop(self.mine[0], TEAM)
        self.assertEqual(self.told(), ["group_typing_stop"])


class PayloadTests(Case):
    def payload(self) -> Any:
        return self.watchers[1].inbox.events[-1]["data"]

    def test_in_a_thread(self) -> None:
        self.start(self.mine[0], f"presence-{THREAD}")
        about = {"userId": 5, "name": "User 5", "channel": f"presence-{THREAD}", "thread_id": 7}
        self.assertEqual(self.payload(), about | {"timestamp": self.payload()["timestamp"]})

    def test_in_a_group(self) -> None:
        for event in ("group_typing_start", "group_typing_stop"):
            if event == "group_typing_start":
                self.start(self.mine[0], TEAM, GROUP)
            else:
                self.stop(self.mine[0], TEAM)
            about = {"group_id": 3, "user_id": 5, "user_name": "User 5"}
            self.assertEqual(self.payload(), about | {"timestamp": self.payload()["timestamp"]})
            self.assertEqual(self.watchers[1].inbox.events[-1]["event"], event)


class BoundTests(Case):
    def test_what_is_remembered_is_forgotten(self) -> None:
        for number in range(1, 200):
            for device in (self.mine[0], self.watchers[1]):
                device.process.node.subscribe(device.connection, channels.parse(f"thread.{number}"))
            self.start(self.mine[0], f"thread.{number}")
            self.stop(self.mine[0], f"thread.{number}")
            self.cluster.wait(0.1)
        for name, most in (("aaa001", 23), ("aaa002", 23), ("aaa003", 1)):
            # the third has none of these channels, but for thread.7
            self.assertLessEqual(len(self.typing[name]._shown), most)
        self.cluster.wait(INTERVAL + LATE)
        self.assertEqual([len(typing._shown) for typing in self.typing.values()], [0, 0, 0])

    def test_there_are_never_more_than_so_many(self) -> None:
        self.patch(module, "MAX_SHOWN", 10)
        users = [self.device("aaa001", user_id) for user_id in range(100, 130)]
        for user in users:
            self.start(user)
        self.assertEqual([len(typing._shown) for typing in self.typing.values()], [10, 10, 10])
        for user in users:
            self.stop(user)
        told = self.told()
        self.assertEqual((told.count("user_typing"), told.count("user_stopped_typing")), (30, 30))

    def test_channels_of_one_connection(self) -> None:
        for number in range(1, MAX_AT_ONCE + 3):
            self.start(self.mine[0], f"thread.{number}")
        self.assertEqual(len(self.mine[0].connection.typing or {}), MAX_AT_ONCE)

    def test_an_event_of_the_backend_with_the_same_name(self) -> None:
        for key in (None, "five", "x y", "٥", "5"):
            self.mine[0].process.node.publish(channels.parse(THREAD), "user_typing", b"{}", key=key)
        self.cluster.move()
        self.assertEqual(len(self.typing["aaa002"]._shown), 0)
        self.assertEqual(self.flushLoggedErrors(), [])
