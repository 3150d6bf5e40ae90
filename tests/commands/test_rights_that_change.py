"""Rights that change while a subscription is on its way: what the client is told last is how it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.errors import Code
from mechamap_rt.storage.site import Forum
from tests.commands.desk import Office
from tests.presence.cluster import Device

A, B = "aaa001", "aaa002"
AN, BINH = 1, 2
TEAM = 3
GROUP = f"group.{TEAM}"


class IdentityTests(SynchronousTestCase):
    """A private forum is for moderators; the row is waited for."""

    def setUp(self) -> None:
        self.office = Office((A,))
        self.asked: list[Deferred[Any]] = []
        self.office.rows.forum = self._forum  # type: ignore[method-assign]
        self.device = self.office.device(A, AN)
        self.become("moderator")

    def _forum(self, forum_id: int) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def become(self, role: str) -> None:
        """As a sweep has it, or another token."""
        self.device.connection.identity = replace(self.device.connection.identity, role=role)

    def arrive(self) -> None:
        self.asked[-1].callback(Forum(private=True))
        self.office.move()

    def test_who_is_no_moderator_any_more_is_refused(self) -> None:
        outcomes = self.office.begin(self.device, "subscribe", {"channel": "forum.2"})
        self.become("member")
        self.arrive()
        self.assertEqual(outcomes, [], "it is asked about again, for what the user is now")
        self.arrive()
        self.assertEqual(outcomes[0].event, "subscription_error")
        self.assertEqual(outcomes[0].payload["error"], "Unauthorized")
        self.assertEqual(self.device.connection.subscriptions, {})

    def test_who_has_become_one_is_let_in(self) -> None:
        self.become("member")
        outcomes = self.office.begin(self.device, "subscribe", {"channel": "forum.2"})
        self.become("moderator")
        self.arrive()
        self.arrive()
        self.assertEqual(outcomes[0].event, "subscribed")
        self.assertEqual(len(self.asked), 2)

    def test_who_changes_all_the_time_is_told_to_come_later(self) -> None:
        outcomes = self.office.begin(self.device, "subscribe", {"channel": "forum.2"})
        for role in ("member", "admin", "member"):
            self.become(role)
            self.arrive()
        self.assertEqual(outcomes[0].fault and outcomes[0].fault.code, Code.SERVER_ERROR)
        self.assertEqual(self.device.connection.subscriptions, {})

    def test_a_review_that_is_overtaken_ends_nothing_that_may_go_on(self) -> None:
        outcomes = self.office.begin(self.device, "subscribe", {"channel": "forum.2"})
        self.arrive()
        self.assertEqual(outcomes[0].event, "subscribed")
        self.become("member")
        subscriptions = self.office.desks[A].subscriptions
        Deferred.fromCoroutine(subscriptions.review(self.device.connection))
        self.become("moderator")
        self.arrive()
        self.arrive()
        self.assertEqual(self.device.inbox.named("unsubscribed"), [])
        self.assertEqual([*self.device.connection.subscriptions], ["forum.2"])


class PresenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.office = Office((A, B))
        self.office.rows.members[TEAM] = [AN, BINH]
        self.an, self.binh = self.office.device(A, AN), self.office.device(B, BINH)
        self.office.ask(self.binh, "join_group", TEAM)

    def end_on_the_way(self, event: str, data: Any) -> tuple[str | None, Any]:
        """The right ends while the other process is asked who is there."""
        outcomes = self.office.begin(self.an, event, data)
        self.assertEqual(outcomes, [])
        self.assertIn(GROUP, self.an.connection.subscriptions)
        self.office.desks[A].subscriptions.end(self.an.connection, GROUP, "Revoked")
        self.office.move()
        (outcome,) = outcomes
        return outcome.event, outcome.payload

    def after(self, device: Device) -> None:
        self.assertEqual(len(device.inbox.named("unsubscribed")), 1)
        self.assertEqual(device.connection.subscriptions, {})
        self.assertIsNone(device.connection.presence)
        self.office.wait(30)
        self.assertEqual(self.binh.inbox.users("member_joined"), self.binh.inbox.users("member_left"))

    def test_a_presence_channel(self) -> None:
        event, payload = self.end_on_the_way("subscribe", {"channel": f"presence-{GROUP}"})
        self.assertEqual((event, payload["error"]), ("subscription_error", "Unauthorized"))
        self.after(self.an)

    def test_a_group(self) -> None:
        event, payload = self.end_on_the_way("join_group", {"group_id": TEAM})
        self.assertEqual((event, payload["code"]), ("error", Code.PERMISSION_DENIED))
        self.after(self.an)
