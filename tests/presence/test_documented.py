"""What is told of presence is what docs/asyncapi.yaml and docs/protocols.rst say."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.presence import presence, rooms, seats
from tests.docs.asyncapi import SENT, the_one
from tests.presence.cluster import Cluster

ROOM = "presence-public.live"


class CrowdTests(SynchronousTestCase):
    def test_all_that_a_growing_crowd_is_told_is_in_the_document(self) -> None:
        cluster = Cluster(("aaa001", "aaa002"))
        watcher = cluster.device("aaa001", 1)
        watcher.subscribe(ROOM)
        cluster.move()
        devices = [cluster.device("aaa002", user_id) for user_id in range(2, rooms.MAX_TOLD + 3)]
        for device in devices:
            device.subscribe(ROOM)
        cluster.wait(2)
        for device in devices[:5]:
            device.unsubscribe(ROOM)
            device.leave()
        cluster.wait(2 * seats.GRACE)
        told: dict[str, set[str]] = {}
        for message in watcher.inbox.events:
            told.setdefault(the_one(message, SENT), set()).add(message["event"])
        self.assertEqual(
            told,
            {
                "memberNews": {"member_joined", "member_left"},
                "membersChanged": {"members_changed"},
                "presenceNews": {"user_online", "user_offline"},
                "statusNews": {"user.status"},
            },
        )


def test_the_numbers_in_the_documents() -> None:
    docs = Path(__file__).parents[2] / "docs"
    protocols = " ".join((docs / "protocols.rst").read_text("utf-8").split())
    assert f"for {seats.GRACE:g} seconds" in protocols
    assert f"the first {presence.MAX_LISTED:,} members" in protocols
    assert f"more than {rooms.MAX_TOLD:,} members" in protocols
    assert f"1 to {presence.MAX_ASKED:,} ids" in protocols
    assert f"grace of {seats.GRACE:g} s" in " ".join((docs / "operating.rst").read_text("utf-8").split())
