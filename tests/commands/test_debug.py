"""Debug mode: who is shown figures, when, and until when."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.commands.debug import INTERVAL, MAX_SHOWN
from mechamap_rt.core.frame import Frame
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.errors import Code
from tests.commands.desk import Office
from tests.presence.cluster import Device, Inbox

A, B = "aaa001", "aaa002"
FIGURES = ("connection_stats", "memory_usage", "event_metrics")
#: What the wheel may be late.
LATE = 0.2


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.office = Office((A, B))

    def device(self, user: int = 1, role: str = "admin", process: str = A) -> Device:
        device = self.office.device(process, user)
        self.become(device, role)
        return device

    def become(self, device: Device, role: str) -> None:
        token = {"token": f"{device.connection.identity.user_id} {role}"}
        self.assertIsNone(self.office.ask(device, "authenticate", token).fault)

    def turn(self, device: Device, enabled: Any) -> dict[str, Any]:
        outcome = self.office.ask(device, "debug_mode", enabled)
        self.assertIsNone(outcome.fault)
        self.assertEqual(outcome.event, "debug_mode")
        return outcome.payload

    def sets(self, device: Device) -> int:
        """How many sets of figures have come since the last look."""
        self.office.move()
        names = [each["event"] for each in device.inbox.events]
        device.inbox.events.clear()
        self.assertEqual(names, list(FIGURES) * (len(names) // 3))
        return len(names) // 3


class TimeTests(Case):
    def test_at_once_and_every_five_seconds(self) -> None:
        admin = self.device()
        self.assertEqual(
            self.turn(admin, {"enabled": True}), {"enabled": True, "timestamp": "2027-01-15T08:00:00.000Z"}
        )
        self.assertEqual(self.sets(admin), 0, "the answer comes first")
        self.office.wait(LATE)
        self.assertEqual(self.sets(admin), 1)
        self.office.wait(INTERVAL - 2 * LATE)
        self.assertEqual(self.sets(admin), 0)
        self.office.wait(2 * LATE)
        self.assertEqual(self.sets(admin), 1)
        # each set may be late by what the wheel may be
        self.office.wait(10 * (INTERVAL + LATE / 2))
        self.assertEqual(self.sets(admin), 10)

    def test_to_each_who_asked_and_nobody_else(self) -> None:
        first, second, other = self.device(), self.device(2), self.device(3)
        same = self.device()
        self.turn(first, True)
        self.office.wait(2.5)
        self.assertEqual(self.sets(first), 1)
        self.turn(second, {"enabled": True})
        self.office.wait(LATE)
        self.assertEqual((self.sets(first), self.sets(second)), (0, 1), "at once, whoever is shown them already")
        self.office.wait(INTERVAL)
        self.assertEqual((self.sets(first), self.sets(second)), (1, 1))
        self.assertEqual((other.inbox.events, same.inbox.events), ([], []))

    def test_twice_is_once(self) -> None:
        admin = self.device()
        for _ in range(5):
            self.turn(admin, True)
        self.office.wait(2 * INTERVAL + LATE)
        self.assertEqual(self.sets(admin), 3)

    def test_it_is_ended_and_begun_again(self) -> None:
        admin = self.device()
        self.turn(admin, True)
        self.office.wait(LATE)
        self.assertFalse(self.turn(admin, {"enabled": False})["enabled"])
        self.assertEqual(self.sets(admin), 1)
        self.office.wait(3 * INTERVAL)
        self.assertEqual(self.sets(admin), 0)
        self.turn(admin, False)
        self.turn(admin, True)
        self.office.wait(INTERVAL + LATE)
        self.assertEqual(self.sets(admin), 2)
        self.turn(admin, True)
        self.turn(admin, False)
        self.office.wait(LATE)
        self.assertEqual(self.sets(admin), 0)

    def test_nothing_goes_on_when_nobody_is_shown_anything(self) -> None:
        admin = self.device()
        self.turn(admin, True)
        self.office.wait(LATE)
        self.turn(admin, False)
        census = self.office.processes[B].node._answers["figures"]
        asked: list[Any] = []

        def answer(question: Any) -> Any:
            asked.append(question)
            return census(question)

        self.office.processes[B].node.answer("figures", answer)
        self.office.wait(10 * INTERVAL)
        self.assertEqual(asked, [])


class EndTests(Case):
    def test_with_the_connection(self) -> None:
        admin = self.device()
        self.turn(admin, True)
        self.office.wait(LATE)
        self.sets(admin)
        self.office.leave(admin)
        self.office.wait(3 * INTERVAL)
        self.assertEqual(self.sets(admin), 0)

    def test_with_the_role(self) -> None:
        admin = self.device()
        self.turn(admin, True)
        self.office.wait(LATE)
        self.assertEqual(self.sets(admin), 1)
        self.become(admin, "moderator")
        self.office.wait(3 * INTERVAL)
        self.assertEqual(self.sets(admin), 0)
        self.become(admin, "admin")
        self.office.wait(3 * INTERVAL)
        self.assertEqual(self.sets(admin), 0, "who was none must ask again")


class RefusalTests(Case):
    def test_for_admins_only(self) -> None:
        for role in ("guest", "member", "brand", "moderator", "unheard-of"):
            device = self.device(role=role)
            for enabled in (True, False):
                outcome = self.office.ask(device, "debug_mode", {"enabled": enabled})
                self.assertEqual((outcome.event, outcome.payload["code"]), ("error", Code.PERMISSION_DENIED))
                self.assertEqual(outcome.acknowledgement()["status"], "error")
            self.office.wait(INTERVAL)
            self.assertEqual(device.inbox.events, [])
        for role in ("admin", "content_admin", "system_admin", "super_admin"):
            self.turn(self.device(role=role), True)

    def test_what_is_neither_true_nor_false(self) -> None:
        admin = self.device()
        wrong: list[Any] = [None, 1, 0, "true", [], {}, {"enabled": None}, {"enabled": 1}, {"enabled": "false"}]
        for data in wrong:
            outcome = self.office.ask(admin, "debug_mode", data)
            self.assertEqual(outcome.payload["code"], Code.VALIDATION_ERROR)
            self.assertEqual(outcome.payload["details"], {"field": "enabled"})

    def test_at_most_so_many(self) -> None:
        admins = [self.device(user) for user in range(1, MAX_SHOWN + 1)]
        for admin in admins:
            self.turn(admin, True)
        late = self.device(99)
        outcome = self.office.ask(late, "debug_mode", True)
        self.assertEqual((outcome.event, outcome.payload["code"]), ("error", Code.RATE_LIMITED))
        self.assertGreater(outcome.payload["details"]["retryAfter"], 0)
        self.turn(admins[0], True)
        self.office.leave(admins[1])
        self.turn(late, True)
        self.office.wait(LATE)
        self.assertEqual((self.sets(late), self.sets(admins[0])), (1, 1))


class FigureTests(Case):
    def figures(self, device: Device) -> dict[str, dict[str, Any]]:
        device.inbox.events.clear()
        self.office.wait(INTERVAL + LATE)
        return {each["event"]: each["data"] for each in device.inbox.events}

    def test_what_is_shown(self) -> None:
        admin = self.device()
        members = [self.device(user, "member", process) for user, process in ((2, A), (2, B), (3, B))]
        for device in members:
            self.office.ask(device, "subscribe", "public.x")
        self.office.ask(members[1], "no_such_event")
        self.office.ask(members[1], "typing_start", "public.x")
        self.turn(admin, True)
        figures = self.figures(admin)
        for event in FIGURES:
            self.assertEqual(figures[event].pop("worker"), A)
            self.assertRegex(figures[event].pop("timestamp"), r"^2027-01-15T08:00:0\d.\d{3}Z$")
        self.assertEqual(
            figures["connection_stats"],
            {"connections": 2, "users": 2, "subscriptions": 1, "cluster": {"connections": 4, "users": 3}},
        )
        self.assertEqual(set(figures["memory_usage"]), {"rss", "descriptors"})
        self.assertTrue(all(each > 0 for each in figures["memory_usage"].values()))
        metrics = figures["event_metrics"]
        self.assertEqual(metrics.pop("received"), {"authenticate": 2, "subscribe": 1, "debug_mode": 1})
        self.assertEqual(metrics, {"published": 0, "delivered": 1, "dropped": 0, "coalesced": 0, "bytesSent": 0})

    def test_they_are_dropped_for_who_cannot_keep_up(self) -> None:
        admin = self.device()
        classes: list[DeliveryClass] = []

        class Looking(Inbox):
            def push(self, frame: Frame) -> None:
                classes.append(frame.delivery)

        admin.connection.outbox = Looking()  # type: ignore[assignment]
        self.turn(admin, True)
        self.office.wait(LATE)
        self.assertEqual(classes, [DeliveryClass.VOLATILE] * 3)

    def test_a_process_that_does_not_answer(self) -> None:
        """What is known of the others is shown, a second later."""
        admin = self.device()
        self.office.processes[A].streams[B].write = lambda data: None  # type: ignore[method-assign]
        self.turn(admin, True)
        self.office.wait(1.5)
        self.assertEqual(self.sets(admin), 1)
