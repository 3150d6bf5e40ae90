"""Typing as clients ask for it, over several processes: forms, ends and limits. How often is in ``test_typing``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.bus.relay import ANSWER_LIMIT
from mechamap_rt.commands.typing import EXPIRY, INTERVAL, MAX_AT_ONCE
from mechamap_rt.core.publication import DeliveryClass, Publication
from mechamap_rt.errors import Code
from tests.commands.desk import Office
from tests.presence.cluster import Device

AN, BINH = 1, 2
A, B, C = "aaa001", "aaa002", "aaa003"
ROOM = "public.room"
TEAM = 3
START, STOP = "user_typing", "user_stopped_typing"
NAMES = {START: "start", STOP: "stop", "group_typing_start": "start", "group_typing_stop": "stop"}
#: What the wheel may be late.
LATE = 0.2


class Case(SynchronousTestCase):
    """Three processes, a watcher on each."""

    def setUp(self) -> None:
        self.office = Office((A, B, C))
        self.office.rows.members[TEAM] = [AN, BINH]
        self.watchers = [self.device(name, BINH) for name in (A, B, C)]

    def device(self, process: str, user: int = AN, *names: str) -> Device:
        device = self.office.device(process, user)
        for name in names or (ROOM,):
            self.done(device, "subscribe", name)
        return device

    def member(self, process: str, user: int) -> Device:
        device = self.office.device(process, user)
        self.done(device, "join_group", TEAM)
        return device

    def done(self, device: Device, event: str, data: Any = ROOM) -> None:
        outcome = self.office.ask(device, event, data)
        self.assertIsNone(outcome.fault)

    def shown(self, *watchers: Device) -> list[str]:
        """What watchers have been shown since the last look; all of them the same."""
        self.office.move()
        found = []
        for watcher in watchers or self.watchers:
            found.append([NAMES[each["event"]] for each in watcher.inbox.events if each["event"] in NAMES])
            watcher.inbox.events.clear()
        self.assertTrue(all(each == found[0] for each in found), found)
        return found[0]


class FormTests(Case):
    def test_a_channel(self) -> None:
        an = self.device(A)
        for event, told in (("typing_start", START), ("typing_stop", STOP)):
            self.done(an, event, {"channel": f"private-{ROOM}"})
            for watcher in self.watchers:
                (news,) = [each for each in watcher.inbox.events if each["event"] == told]
                self.assertEqual(news["channel"], ROOM)
                about = {"userId": AN, "name": "User 1", "channel": f"private-{ROOM}"}
                self.assertEqual(news["data"], about | {"timestamp": "2027-01-15T08:00:00.000Z"})
        self.assertEqual(an.inbox.events, [])

    def test_a_thread_by_its_number(self) -> None:
        an, binh = self.office.device(A, AN), self.office.device(B, BINH)
        for device in (an, binh):
            device.subscribe("thread.7")
        self.done(an, "typing_start", {"thread_id": "7"})
        self.done(an, "typing_stop", {"thread_id": 7})
        self.assertEqual([data["thread_id"] for data in binh.inbox.named(START, STOP)], [7, 7])
        for data in ({"thread_id": 0}, {"thread_id": "07"}, {"thread_id": 7.0}, {"thread_id": 2**63}):
            outcome = self.office.ask(an, "typing_start", data)
            self.assertEqual(outcome.payload["details"]["field"], "thread_id")

    def test_a_thread_s_channel_without_a_number(self) -> None:
        """Where the site decides who hears what, such a name is possible."""
        an, binh = self.office.device(A, AN), self.office.device(B, BINH)
        for name in ("thread.7.drafts", "thread.x"):
            for device in (an, binh):
                device.subscribe(name)
            self.done(an, "typing_start", name)
        self.assertNotIn("thread_id", binh.inbox.named(START)[0])
        self.office.leave(an)
        self.assertEqual(self.shown(binh), ["start", "start", "stop", "stop"])

    def test_a_group(self) -> None:
        an, binh = self.member(A, AN), self.member(B, BINH)
        self.done(an, "group_typing_start", {"group_id": TEAM})
        self.done(an, "group_typing_stop", str(TEAM))
        for event in ("group_typing_start", "group_typing_stop"):
            (told,) = binh.inbox.named(event)
            self.assertRegex(told.pop("timestamp"), "Z$")
            self.assertEqual(told, {"group_id": TEAM, "user_id": AN, "user_name": "User 1"})
        self.assertEqual(self.shown(binh), ["start", "stop"])

    def test_both_forms_in_one_group_are_taken_back(self) -> None:
        an, binh = self.member(A, AN), self.member(B, BINH)
        self.done(an, "typing_start", f"group.{TEAM}")
        self.done(an, "group_typing_start", TEAM)
        self.office.leave(an)
        self.assertEqual({event: len(binh.inbox.named(event)) for event in NAMES}, dict.fromkeys(NAMES, 1))

    def test_what_is_told_is_volatile(self) -> None:
        classes: list[DeliveryClass] = []
        hub = self.office.processes[B].node.hub

        class Watched(type(hub)):  # type: ignore[misc]
            __slots__ = ()

            def deliver(self, publication: Publication) -> int:
                classes.append(publication.delivery)
                return int(super().deliver(publication))

        hub.__class__ = Watched
        an = self.device(A)
        self.done(an, "typing_start")
        self.done(an, "typing_stop")
        self.assertEqual(classes, [DeliveryClass.VOLATILE] * 2)

    def test_the_user_s_other_devices_are_others(self) -> None:
        one, two = self.device(A), self.device(B)
        self.done(one, "typing_start")
        self.assertEqual((self.shown(one), self.shown(two)), ([], ["start"]))


class EndTests(Case):
    def test_it_expires(self) -> None:
        an = self.device(A)
        self.done(an, "typing_start")
        self.office.wait(EXPIRY - LATE)
        self.assertEqual(self.shown(), ["start"])
        self.office.wait(2 * LATE)
        self.assertEqual(self.shown(), ["stop"])
        self.office.wait(60)
        self.assertEqual(self.shown(), [])

    def test_it_goes_on_as_long_as_it_is_said_again(self) -> None:
        an = self.device(A)
        for _ in range(5):
            self.done(an, "typing_start")
            self.office.wait(EXPIRY - 1)
        self.assertEqual(self.shown(), ["start"] * 5)
        self.office.wait(1 + LATE)
        self.assertEqual(self.shown(), ["stop"])

    def test_every_end_takes_it_back_once(self) -> None:
        ends: dict[str, Callable[[Device], object]] = {
            "disconnect": self.office.leave,
            "unsubscribe": lambda device: self.done(device, "unsubscribe"),
            "by another name": lambda device: self.done(device, "unsubscribe", f"presence-{ROOM}"),
            "revoked": lambda device: self.office.desks[A].subscriptions.end(device.connection, ROOM, "Revoked"),
        }
        for name, end in ends.items():
            an = self.device(A)
            self.done(an, "typing_start")
            end(an)
            self.assertEqual(self.shown(), ["start", "stop"], name)
            self.office.wait(2 * EXPIRY)
            self.assertEqual(self.shown(), [], name)

    def test_leaving_the_group(self) -> None:
        an, binh = self.member(A, AN), self.member(B, BINH)
        self.done(an, "group_typing_start", TEAM)
        self.done(an, "leave_group", TEAM)
        self.assertEqual(self.shown(binh), ["start", "stop"])

    def test_one_name_less_is_no_end(self) -> None:
        an = self.device(A, AN, ROOM, f"private-{ROOM}")
        self.done(an, "typing_start")
        self.done(an, "unsubscribe")
        self.assertEqual(self.shown(), ["start"])
        self.done(an, "unsubscribe", f"private-{ROOM}")
        self.assertEqual(self.shown(), ["stop"])

    def test_a_pending_start_ends_with_its_device(self) -> None:
        for end in (self.office.leave, lambda device: self.done(device, "unsubscribe")):
            an = self.device(A)
            for event in ("typing_start", "typing_stop", "typing_start"):
                self.done(an, event)
            self.assertEqual(self.shown(), ["start", "stop"])
            end(an)
            self.office.wait(2 * INTERVAL)
            self.assertEqual(self.shown(), [])

    def test_who_types_in_too_many_places_stops_in_the_first(self) -> None:
        names = [f"public.{number}" for number in range(MAX_AT_ONCE + 1)]
        binh, an = self.device(B, BINH, *names), self.device(A, AN, *names)
        for name in names:
            self.done(an, "typing_start", name)
        self.assertEqual([data["channel"] for data in binh.inbox.named(STOP)], names[:1])

    def test_a_flicker_ends_in_the_last_state(self) -> None:
        an = self.device(A)
        for _ in range(4):
            self.done(an, "typing_start")
            self.done(an, "typing_stop")
        self.done(an, "typing_start")
        self.office.wait(INTERVAL + LATE)
        self.assertEqual(self.shown(), ["start", "stop", "start"])

    def test_a_device_elsewhere_that_types_on(self) -> None:
        """In every process, the other device's too, the last that is shown is that the user types."""
        for seconds in (0.0, 1.0, 5.0):
            one, two = self.device(A), self.device(B)
            for device in (one, two):
                self.done(device, "typing_start")
            self.office.wait(seconds)
            self.done(one, "typing_stop")
            self.office.wait(INTERVAL + 1)
            self.assertEqual(self.shown()[-1], "start", f"after {seconds} s")
            self.done(two, "typing_stop")
            self.assertEqual(self.shown(), ["stop"])
            for device in (one, two):
                self.office.leave(device)
            self.office.wait(INTERVAL)

    def test_a_device_elsewhere_whose_process_was_too_busy_to_say_so(self) -> None:
        """It hears of the stop late: there, too, the start that it tells again is the last."""
        one, two = self.device(A), self.device(B)
        for device in (one, two):
            self.done(device, "typing_start")
        self.office.wait(INTERVAL + 1)
        self.assertEqual(self.shown(), ["start"])
        stream = self.office.processes[A].streams[B]
        way, stream.way = stream.way, Held()
        self.office.begin(one, "typing_stop", ROOM)
        self.office.wait(ANSWER_LIMIT + LATE)
        held, stream.way = stream.way, way
        way.extend(held.kept)
        self.office.move()
        self.office.wait(LATE)
        self.assertEqual(self.shown(), ["stop", "start"])


class Held(deque[bytes]):
    """What does not arrive as long as it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    def append(self, data: bytes) -> None:
        self.kept.append(data)


class LimitTests(Case):
    def setUp(self) -> None:
        self.office = Office((A, B), typing=4, events=2, channel=2)

    def refused(self, device: Device, event: str, data: Any = ROOM) -> tuple[str, float]:
        outcome = self.office.ask(device, event, data)
        self.assertEqual((outcome.event, outcome.payload["code"]), ("error", Code.RATE_LIMITED))
        self.assertEqual(outcome.acknowledgement()["code"], Code.RATE_LIMITED)
        return outcome.payload["error"], outcome.payload["details"]["retryAfter"]

    def test_typing_and_other_events_are_counted_apart_and_for_all_devices(self) -> None:
        one, two = self.device(A), self.device(B)
        for device in (one, two):
            self.assertEqual(self.refused(device, "ping"), ("Too many events", 30.0))
        for device in (one, two):
            self.done(device, "typing_start")
            self.done(device, "typing_stop")
        for event in ("typing_start", "typing_stop", "group_typing_start", "group_typing_stop"):
            self.assertEqual(self.refused(one, event), ("Too many events", 15.0))
        self.office.wait(30.1)
        self.done(two, "typing_start")

    def test_a_channel_s_publications(self) -> None:
        devices = [self.device(A, user) for user in range(1, 5)]
        for device in devices[:2]:
            self.done(device, "typing_start")
            # a repetition and a stop are nothing new for the channel
            self.done(device, "typing_start")
            self.done(device, "typing_stop")
        for device in devices[2:]:
            what, wait = self.refused(device, "typing_start")
            self.assertEqual((what, wait), ("Too many events on this channel", 30.0))
            self.done(device, "typing_stop")
