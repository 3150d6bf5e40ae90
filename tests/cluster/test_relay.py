"""What is published on any worker reaches the clients of all of them, once and in order; and they share the clients."""

from __future__ import annotations

import resource

from tests.clients.accounts import doubled, gaps
from tests.clients.crowd import Member
from tests.clients.natives import Natives
from tests.clients.publisher import post
from tests.clients.swarm import Swarm
from tests.clients.waiting import until
from tests.conftest import StartServer
from tests.server import Server

CHANNEL = "public.relay"
CLIENTS = 300
PUBLICATIONS = 200
ARRIVAL = 30.0


def test_everybody_gets_everything_once_and_in_order(cluster: Server, swarm: Swarm) -> None:
    third = CLIENTS // 3
    people = {number: (cluster.token(number), CHANNEL) for number in range(1, CLIENTS + 1)}
    groups = [
        {f"{kind}-{number}": people[number] for number in range(1 + place * third, 1 + (place + 1) * third)}
        for place, kind in enumerate(("native", "websocket", "polling"))
    ]
    with Natives(cluster.port, groups[0]) as natives:
        swarm.add(cluster.url, groups[1], mode="websocket")
        swarm.add(cluster.url, groups[2], mode="polling")
        until(lambda: natives.subscribed() + swarm.subscribed() == CLIENTS, lambda: "all are in", ARRIVAL)
        before = {each["worker"]: each["published"] for each in cluster.workers()}
        published = [
            post(cluster.port, cluster.settings["LARAVEL_API_KEY"], CHANNEL, number) for number in range(PUBLICATIONS)
        ]
        assert {each.total for each in published} == {CLIENTS}, "every answer counts everybody"
        expected = CLIENTS * PUBLICATIONS
        until(
            lambda: natives.received() + swarm.received() >= expected,
            lambda: f"{natives.received() + swarm.received()} of {expected}",
            ARRIVAL,
        )
        accounts = [*natives.accounts(), *swarm.accounts()]
        wrong = [each for each in accounts if each.seen != [*range(PUBLICATIONS)]]
        assert not wrong, f"{doubled(wrong)} doubled, {gaps(wrong)} missing: {wrong[0]}"
        until(lambda: _published(cluster, before) == PUBLICATIONS, lambda: f"{cluster.workers()}")
        shares = [each["published"] - before[each["worker"]] for each in cluster.workers()]
        assert min(shares) > 0, f"every worker took some of them: {shares}"
        swarm.clear()


def _published(server: Server, before: dict[int, int]) -> int:
    count: int = sum(each["published"] - before[each["worker"]] for each in server.workers())
    return count


def test_workers_share_the_clients(start_cluster: StartServer) -> None:
    """Each has its share, within a quarter."""
    count, workers = 2000, 4
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), most))
    server = start_cluster(workers)
    token = server.token(1)
    members = [Member(server.port, token) for _ in range(count)]
    try:
        until(
            lambda: sum(each["connections"] for each in server.workers()) == count,
            lambda: f"{server.workers()}",
        )
        shares = [each["connections"] for each in server.workers()]
        assert len(shares) == workers
        fair = count / workers
        assert all(abs(share - fair) <= 0.25 * fair for share in shares), shares
    finally:
        for member in members:
            member.socket.close()
