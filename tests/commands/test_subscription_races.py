"""A subscription that is ended while the other processes are asked who is there; an answer that cannot be given."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.commands.outcome import Outcome
from mechamap_rt.errors import Code
from tests.commands.desk import Office

A, B = "aaa001", "aaa002"


class RaceTests(SynchronousTestCase):
    def test_who_is_told_that_it_is_over_is_not_told_that_it_has_begun(self) -> None:
        office = Office((A, B))
        office.rows.members[3] = [1]
        device = office.device(A, 1)
        outcomes = office.begin(device, "join_group", 3)
        self.assertEqual(outcomes, [], "the other process is being asked")
        office.desks[A].subscriptions.end(device.connection, "group.3", "Revoked")
        office.move()
        self.assertEqual(len(device.inbox.named("unsubscribed")), 1)
        (outcome,) = outcomes
        self.assertEqual(outcome.event, "error")
        self.assertEqual(outcome.payload["code"], Code.PERMISSION_DENIED)

    def test_an_answer_that_cannot_be_given_holds_back_nothing(self) -> None:
        office = Office((A, B))
        office.rows.members[3] = [1]
        device = office.device(A, 1)
        given: list[Outcome] = []

        def respond(outcome: Outcome) -> None:
            if outcome.fault is None:
                raise TypeError("str is not valid UTF-8: surrogates not allowed")
            given.append(outcome)

        office.desks[A].dispatcher.submit(device.connection, "join_group", 3, respond)
        later = office.begin(device, "ping", {"timestamp": 1})
        office.move()
        self.assertEqual([outcome.payload["code"] for outcome in given], [Code.SERVER_ERROR])
        self.assertEqual([outcome.event for outcome in later], ["pong"])
        self.flushLoggedErrors(TypeError)
