"""Groups over several processes: who takes part, what is said, how many are online, and who is refused."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.commands.groups import MAX_MESSAGE
from mechamap_rt.errors import Code
from mechamap_rt.presence.seats import GRACE
from tests.commands.desk import Office
from tests.presence.cluster import Device

A, B, C = "aaa001", "aaa002", "aaa003"
AN, BINH, CHI, STRANGER = 1, 2, 3, 9
TEAM = 3
CHANNEL = f"group.{TEAM}"
NOW = "2027-01-15T08:00:00.000Z"
EVENTS = ("join_group", "group_message", "get_member_count", "group_typing_start", "group_typing_stop")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.office = Office((A, B, C))
        self.office.rows.members[TEAM] = [AN, BINH, CHI]

    def device(self, process: str, user: int, *, joined: bool = True, invisible: bool = False) -> Device:
        device = self.office.device(process, user, invisible=invisible)
        if joined:
            self.done(device, "join_group", {"group_id": TEAM})
        return device

    def done(self, device: Device, event: str, data: Any = TEAM) -> dict[str, Any]:
        outcome = self.office.ask(device, event, data)
        self.assertIsNone(outcome.fault, outcome.payload)
        return outcome.payload

    def refused(self, device: Device, event: str, data: Any = TEAM) -> tuple[str, str | None]:
        """Code and field of the error."""
        outcome = self.office.ask(device, event, data)
        self.assertEqual(outcome.event, "error")
        acknowledged = outcome.acknowledgement()
        self.assertEqual((acknowledged["status"], acknowledged["code"]), ("error", outcome.payload["code"]))
        return outcome.payload["code"], outcome.payload["details"].get("field")


class JoiningTests(Case):
    def test_the_answer_and_what_others_are_told(self) -> None:
        binh, chi = self.device(B, BINH), self.device(C, CHI)
        for device in (binh, chi):
            device.inbox.events.clear()
        an = self.office.device(A, AN)
        outcome = self.office.ask(an, "join_group", {"group_id": str(TEAM)})
        self.assertEqual(outcome.event, "subscribed")
        members = sorted(outcome.payload.pop("members"), key=lambda member: member["id"])
        self.assertEqual(members[0], {"id": AN, "name": "User 1", "avatar": "/1.png"})
        self.assertEqual([member["id"] for member in members], [AN, BINH, CHI])
        about = {"group_id": TEAM, "channel": CHANNEL, "status": "success", "total": 3, "timestamp": NOW}
        self.assertEqual(outcome.payload, about)
        for device in (binh, chi):
            (joined,) = device.inbox.named("member_joined")
            about = {"group_id": TEAM, "channel": CHANNEL, "user": members[0], "total": 3, "timestamp": NOW}
            self.assertEqual(joined, about)
        self.assertEqual(an.inbox.named("member_joined"), [])

    def test_a_second_device_and_a_second_time_are_no_news(self) -> None:
        binh = self.device(B, BINH)
        devices = [self.device(name, AN) for name in (A, A, C)]
        self.done(devices[0], "join_group")
        self.assertEqual(binh.inbox.users("member_joined"), [AN])
        self.done(devices[0], "leave_group")
        self.office.leave(devices[1])
        self.office.wait(2 * GRACE)
        self.assertEqual(binh.inbox.users("member_left"), [])
        outcome = self.done(devices[2], "leave_group")
        self.assertEqual(outcome, {"group_id": TEAM, "channel": CHANNEL, "timestamp": outcome["timestamp"]})
        (left,) = binh.inbox.named("member_left")
        self.assertEqual((left["group_id"], left["channel"], left["user"]["id"], left["total"]), (TEAM, CHANNEL, AN, 1))

    def test_a_disconnect_is_no_departure_for_a_while(self) -> None:
        binh, an = self.device(B, BINH), self.device(A, AN)
        self.office.leave(an)
        self.office.wait(GRACE - 1)
        an = self.device(C, AN)
        self.office.wait(2 * GRACE)
        self.assertEqual((binh.inbox.users("member_joined"), binh.inbox.users("member_left")), ([AN], []))
        self.office.leave(an)
        self.office.wait(GRACE - 0.2)
        self.assertEqual(binh.inbox.users("member_left"), [])
        self.office.wait(0.4)
        self.assertEqual(binh.inbox.users("member_left"), [AN])

    def test_who_loses_the_right_leaves_at_once(self) -> None:
        binh, an = self.device(B, BINH), self.device(A, AN)
        self.done(an, "group_typing_start")
        self.office.desks[A].subscriptions.end(an.connection, CHANNEL, "Revoked")
        self.office.move()
        self.assertEqual(binh.inbox.users("member_left"), [AN])
        self.assertEqual(len(binh.inbox.named("group_typing_stop")), 1)
        (ended,) = an.inbox.named("unsubscribed")
        self.assertEqual((ended["channel"], ended["reason"]), (CHANNEL, "Revoked"))
        for event in ("group_typing_start", "group_typing_stop"):
            self.assertEqual(self.refused(an, event), (Code.PERMISSION_DENIED, "group_id"))

    def test_somebody_invisible_joins_unseen(self) -> None:
        binh = self.device(B, BINH)
        an = self.device(A, AN, invisible=True)
        self.assertEqual(binh.inbox.named("member_joined"), [])
        self.done(an, "group_message", {"group_id": TEAM, "message": "x"})
        self.assertEqual(len(binh.inbox.named("group_message")), 1)
        self.assertEqual(self.done(binh, "get_member_count")["online"], 1)

    def test_a_group_that_is_subscribed_to_only(self) -> None:
        """It is heard, and typed in; who takes part joins."""
        binh, an = self.device(B, BINH), self.office.device(A, AN)
        self.assertNotIn("members", self.done(an, "subscribe", f"private-{CHANNEL}"))
        self.assertEqual(binh.inbox.named("member_joined"), [])
        self.done(an, "group_typing_start")
        self.assertEqual(len(binh.inbox.named("group_typing_start")), 1)
        # and goes on being subscribed to when the group is left
        self.done(an, "join_group")
        self.done(an, "leave_group")
        self.assertEqual(binh.inbox.users("member_left"), [AN])
        self.done(binh, "group_message", {"group_id": TEAM, "message": "x"})
        self.assertEqual(len(an.inbox.named("group_message")), 1)

    def test_leaving_what_was_not_joined(self) -> None:
        an = self.device(A, AN, joined=False)
        self.assertEqual(self.done(an, "leave_group"), {"group_id": TEAM, "channel": CHANNEL, "timestamp": NOW})


class SayingTests(Case):
    def test_a_message_reaches_the_others_in_order(self) -> None:
        an, second = self.device(A, AN), self.device(B, AN)
        others = [self.device(name, user) for name, user in ((A, BINH), (C, CHI))]
        stamps: list[Any] = [1795429800000, "2026-11-23T10:30:00Z", 0, "x" * 64]
        idents = [
            self.done(an, "group_message", {"group_id": TEAM, "message": f"Chào {number}", "timestamp": stamp})["id"]
            for number, stamp in enumerate(stamps)
        ]
        self.assertEqual(len(set(idents)), 4)
        for device in (second, *others):
            said = device.inbox.named("group_message")
            self.assertEqual([each["timestamp"] for each in said], stamps)
            user = {"id": AN, "name": "User 1", "avatar": "/1.png"}
            about = {"group_id": TEAM, "message": "Chào 0", "user": user, "timestamp": stamps[0]}
            self.assertEqual(said[0], about)
        self.assertEqual(an.inbox.named("group_message"), [])

    def test_the_answer(self) -> None:
        an, binh = self.device(A, AN), self.device(B, BINH)
        outcome = self.office.ask(an, "group_message", {"group_id": TEAM, "message": "x", "timestamp": "y" * 65})
        self.assertIsNone(outcome.event)
        acknowledged = outcome.acknowledgement()
        (told,) = [each for each in binh.inbox.events if each["event"] == "group_message"]
        about = {"status": "success", "group_id": TEAM, "id": told["publication"], "timestamp": NOW}
        self.assertEqual(acknowledged, about)
        self.assertEqual(told["data"]["timestamp"], NOW, "a time that is none is the server's")

    def test_what_is_no_message(self) -> None:
        an, binh = self.device(A, AN), self.device(B, BINH)
        for text in (None, "", 5, ["x"], {"text": "x"}, "x" * (MAX_MESSAGE + 1)):
            data = {"group_id": TEAM, "message": text}
            self.assertEqual(self.refused(an, "group_message", data), (Code.VALIDATION_ERROR, "message"))
        self.assertEqual(self.refused(an, "group_message", TEAM), (Code.VALIDATION_ERROR, "message"))
        self.assertEqual(binh.inbox.named("group_message"), [])
        self.done(an, "group_message", {"group_id": TEAM, "message": "🛠" * MAX_MESSAGE})
        self.assertEqual(len(binh.inbox.named("group_message")[0]["message"]), MAX_MESSAGE)

    def test_a_member_who_has_not_joined(self) -> None:
        an, binh = self.device(A, AN, joined=False), self.device(B, BINH)
        self.done(an, "group_message", {"group_id": TEAM, "message": "x"})
        self.assertEqual(len(binh.inbox.named("group_message")), 1)
        self.done(binh, "group_message", {"group_id": TEAM, "message": "y"})
        self.assertEqual(an.inbox.named("group_message"), [])

    def test_limits(self) -> None:
        self.office = Office((A, B), events=4, channel=2)
        self.office.rows.members[TEAM] = [AN, BINH]
        one, two, binh = self.device(A, AN), self.device(B, AN), self.device(A, BINH)
        data = {"group_id": TEAM, "message": "x"}
        self.done(one, "group_message", data)
        self.done(two, "group_message", data)
        for device, what in ((binh, "events on this channel"), (one, "events"), (two, "events")):
            outcome = self.office.ask(device, "group_message", data)
            self.assertEqual((outcome.event, outcome.payload["error"]), ("error", f"Too many {what}"))
            self.assertEqual(outcome.payload["code"], Code.RATE_LIMITED)
            self.assertGreater(outcome.payload["details"]["retryAfter"], 0)
        self.assertEqual(len(binh.inbox.named("group_message")), 2)


class CountTests(Case):
    def test_members_online_anywhere(self) -> None:
        an = self.device(A, AN)
        self.assertEqual(
            self.done(an, "get_member_count", {"group_id": str(TEAM)}),
            {"group_id": TEAM, "count": 3, "online": 1, "timestamp": NOW},
        )
        # online on another page, on another process, twice; and somebody who is no member
        devices = [self.device(name, BINH, joined=False) for name in (B, C)]
        self.device(B, STRANGER, joined=False)
        outcome = self.office.ask(an, "get_member_count", TEAM)
        self.assertEqual(outcome.event, "member_count_updated")
        self.assertEqual((outcome.payload["count"], outcome.payload["online"]), (3, 2))
        for device in devices:
            self.office.leave(device)
        self.assertEqual(self.done(an, "get_member_count")["online"], 2, "may be back in a moment")
        self.office.wait(GRACE + 0.5)
        self.assertEqual(self.done(an, "get_member_count")["online"], 1)

    def test_many_members(self) -> None:
        self.office.rows.members[TEAM] = list(range(1, 5001))
        for user in range(2, 42):
            self.device(B, user * 100, joined=False)
        counts = self.done(self.device(A, AN), "get_member_count")
        self.assertEqual((counts["count"], counts["online"]), (5000, 41))

    def test_asked_at_the_same_moment(self) -> None:
        self.office.rows.members[4] = [AN]
        an, binh = self.device(A, AN), self.device(A, BINH)
        asked = [
            self.office.begin(device, "get_member_count", group)
            for device, group in ((an, TEAM), (binh, TEAM), (an, 4))
        ]
        self.office.move()
        found = [outcome.payload for (outcome,) in asked]
        self.assertEqual([(each["group_id"], each["count"], each["online"]) for each in found], [
            (TEAM, 3, 2), (TEAM, 3, 2), (4, 1, 1),
        ])  # fmt: skip


class RefusalTests(Case):
    def data(self, event: str, group: Any) -> Any:
        return {"group_id": group, "message": "x"}

    def test_who_is_no_member(self) -> None:
        binh, stranger = self.device(B, BINH), self.office.device(A, STRANGER)
        binh.inbox.events.clear()
        for event in EVENTS:
            for group in (TEAM, 4711):
                refused = self.refused(stranger, event, self.data(event, group))
                self.assertEqual(refused, (Code.PERMISSION_DENIED, "group_id"), event)
        self.assertEqual(binh.inbox.events, [])
        self.assertEqual(stranger.connection.subscriptions, {})

    def test_a_role_is_no_membership(self) -> None:
        boss = self.office.device(A, STRANGER)
        self.done(boss, "authenticate", {"token": f"{STRANGER} super_admin"})
        self.assertEqual(self.refused(boss, "join_group"), (Code.PERMISSION_DENIED, "group_id"))

    def test_what_is_no_group(self) -> None:
        an = self.device(A, AN)
        wrong: list[Any] = [None, "", 0, -3, 3.0, True, "3 ", "03", "+3", "٣", [3], {"id": 3}, 2**63, "9" * 19, "x"]
        for event in (*EVENTS, "leave_group"):
            for group in wrong:
                for data in (group, self.data(event, group)):
                    if isinstance(data, dict) and "group_id" in data and group == TEAM:
                        continue
                    refused = self.refused(an, event, data)
                    self.assertEqual(refused, (Code.VALIDATION_ERROR, "group_id"), f"{event} {data}")
        self.assertEqual(set(an.connection.subscriptions), {CHANNEL})

    def test_a_database_that_is_away(self) -> None:
        an = self.device(A, AN)
        self.office.wait(60)
        self.office.rows.away = True
        for event in ("join_group", "group_message", "get_member_count"):
            outcome = self.office.ask(an, event, self.data(event, TEAM))
            self.assertEqual((outcome.event, outcome.payload["code"]), ("error", Code.SERVER_ERROR))
            self.assertEqual(outcome.payload["details"], {"retryAfter": 2.0})
        self.assertEqual(self.flushLoggedErrors(), [])
        self.done(an, "group_typing_start")
        self.office.rows.away = False
        self.assertEqual(self.done(an, "get_member_count")["count"], 3)
