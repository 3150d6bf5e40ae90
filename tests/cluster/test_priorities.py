"""Each worker gathers for its own clients; all of them get the same, and nobody who is let go misses anything."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import pairwise

from mechamap_rt.core.batches import MARGIN, PROMISED
from mechamap_rt.core.publication import Priority
from tests.clients.counter import Counter
from tests.clients.waiting import until, wait_for_subscribers
from tests.clients.watcher import Watcher
from tests.conftest import StartServer
from tests.server import Server

CLIENTS = 30
MEDIUM = PROMISED[Priority.MEDIUM]
READING = 0.5


def test_a_counter_is_gathered_by_every_worker(cluster: Server) -> None:
    channel = "public.counters"
    with ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(cluster, number + 1, channel)) for number in range(CLIENTS)]
        until(
            lambda: sum(each["connections"] > 0 for each in cluster.workers()) > 1,
            lambda: f"they are of several workers: {cluster.workers()}",
        )
        counter = Counter(cluster, channel)
        assert counter.publish() == [CLIENTS, CLIENTS]
        began = counter.run(4.0)
        last = counter.value
        until(
            lambda: all(one.of("likes") and one.of("likes")[-1].data["n"] == last for one in watchers),
            lambda: f"{last}: {[one.came for one in watchers]}",
            MEDIUM + READING,
        )
        for watcher in watchers:
            moments = [one.at for one in watcher.of("likes")]
            assert all(later - earlier > MEDIUM - MARGIN - READING for earlier, later in pairwise(moments))
            assert len(moments) <= (moments[-1] - began) / (MEDIUM - MARGIN) + 1


def test_events_come_in_order_and_in_one_write(cluster: Server) -> None:
    """Over one connection, and so by one worker, to the clients of all."""
    channel = "public.medium"
    with ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(cluster, number + 1, channel)) for number in range(CLIENTS)]
        for number in range(20):
            body = {"channel": channel, "event": "e", "data": {"n": number}, "priority": "medium"}
            assert cluster.post("/api/broadcast", body).json()["subscriberCount"] == CLIENTS
        cluster.publish(channel, "urgent", {})
        until(
            lambda: all(len(one.of("e")) == 20 and one.of("urgent") for one in watchers),
            lambda: f"{[[each.event for each in one.came] for one in watchers]}",
            MEDIUM + READING,
        )
        for watcher in watchers:
            gathered = watcher.of("e")
            assert watcher.of("urgent")[0].read < gathered[0].read
            assert [one.data["n"] for one in gathered] == [*range(20)]
            assert len({one.read for one in gathered}) == 1


def test_who_is_let_go_gets_what_was_gathered(start_cluster: StartServer) -> None:
    server = start_cluster()
    channel = "public.leaving"
    with ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(server, number + 1, channel)) for number in range(CLIENTS)]
        wait_for_subscribers(server, channel, CLIENTS)
        for number in range(10):
            body = {"channel": channel, "event": "e", "data": {"n": number}, "priority": "low"}
            assert server.post("/api/broadcast", body).json()["subscriberCount"] == CLIENTS
        time.sleep(0.2)
        server.control("reload", "--drain", "1s")
        for watcher in watchers:
            watcher.join(5)
            assert watcher.closed == (1012, "service_restart")
            assert [one.data["n"] for one in watcher.of("e")] == [*range(10)]
    server.stop()
