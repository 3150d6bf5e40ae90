"""The master dies or stands still: its workers serve, or let everybody go; nothing is left behind."""

from __future__ import annotations

import time

from tests.chaos.bystanders import Bystanders
from tests.chaos.conftest import StartCluster
from tests.chaos.processes import (
    Harm,
    Operation,
    belonging,
    kill,
    listens,
    status,
    stopped,
    wait_until_gone,
    workers,
)
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.server import Server


def test_without_a_master_the_workers_let_everybody_go_and_end(start: StartCluster, bystanders: Bystanders) -> None:
    server = start(CLUSTER_DRAIN_TIME="1500")
    bystanders.join(server, 24)
    there = workers(server)
    began = time.monotonic()
    kill(server.pid)
    until(
        lambda: not any(listens(pid) for pid in there.values() if pid in belonging(server)), lambda: "still listening"
    )
    closed = time.monotonic() - began
    # the next server takes the same port and the same control socket, while clients still are at the old one
    again = start(PORT=str(server.port), CONTROL_SOCKET=str(server.control_path))
    up = time.monotonic() - began
    until(
        lambda: {client.node for client in bystanders.clients} <= set(workers(again)),
        lambda: str([client.node for client in bystanders.clients]),
        20,
    )
    bystanders.wait_all_live()
    until(lambda: not set(there.values()) & set(belonging(server)), lambda: str(belonging(server)), 1.5 * 2 + 3)
    ended = time.monotonic() - began
    told = [client.visits[0].code for client in bystanders.clients]
    assert told == [1012] * 24, told
    spread = max(c.visits[0].ended for c in bystanders.clients) - min(c.visits[0].ended for c in bystanders.clients)
    print(f"closed in {closed:.2f} s, another up in {up:.2f} s, ended in {ended:.2f} s, clients over {spread:.2f} s")
    assert closed < 1
    assert spread > 0.5
    until(lambda: status(again)["connections"] == 24, lambda: str(status(again)))
    again.stop()
    assert belonging(again) == []


def test_a_master_killed_while_workers_start_leaves_nobody(start: StartCluster, harm: Harm) -> None:
    server = start(2, PYTHONPATH=str(harm.folder))
    harm.slow_start(1, each=True)
    kill(next(iter(workers(server).values())))
    until(lambda: "starting" in (each["state"] for each in status(server)["workers"]), server.output)
    kill(server.pid)
    took = wait_until_gone(server, 6)
    print(f"gone in {took:.2f} s")


def test_a_master_that_stands_still_holds_up_nobody(start: StartCluster, bystanders: Bystanders) -> None:
    server = start(MAX_CONNECTIONS_PER_USER="2", HEALTH_CHECK_TIMEOUT="1000")
    bystanders.join(server, 15)
    publishing = bystanders.publish_steadily(server)
    before = workers(server)
    with stopped(server.pid):
        began = time.monotonic()
        bystanders.join(server, 3)
        first = time.monotonic() - began
        began = time.monotonic()
        bystanders.join(server, 9)
        later = time.monotonic() - began
        # longer than after what time a worker that is silent counts as one that hangs
        while time.monotonic() - began < 1:
            time.sleep(0.05)
    until(lambda: status(server)["connections"] == 27, lambda: str(status(server)), 5)
    time.sleep(1)
    bystanders.stop(publishing)
    print(f"connected in {first:.2f} s, later in {later:.2f} s; slowest publication {bystanders.slowest():.2f} s")
    assert workers(server) == before, server.output()[-2000:]
    assert status(server)["restarts"] == 0
    assert bystanders.disturbed(bystanders.clients) == []
    assert bystanders.failed() == []
    bystanders.settle()
    assert bystanders.slowest() < 1
    assert first < 2
    assert later < 1


def total(server: Server) -> int:
    """Connections, as the workers know them now."""
    count: int = Operation(server, "connections", limit=0).result()["total"]
    return count


def test_what_was_let_in_while_the_master_stood_still_is_not_taken_off_the_count_of_others(start: StartCluster) -> None:
    server = start(2, MAX_CONNECTIONS_PER_USER="2")
    clients: list[NativeClient] = []

    def open_one() -> str:
        clients.append(NativeClient.open(server.ws_url, query=server.token(7)))
        greeting = clients[-1].next()
        return str(greeting["socketId"])[:6] if greeting["type"] == "connected" else ""

    nodes = [open_one()]
    # one on each worker: both may then let in one more by what they know themselves
    while len(set(nodes)) < 2:
        if len(nodes) == 2:
            clients.pop().connection.close()
            nodes.pop()
            until(lambda: total(server) == 1, lambda: str(total(server)))
        nodes.append(open_one())
    with stopped(server.pid):
        assert open_one(), "the worker's own count lets it in"
    until(lambda: total(server) == 3, lambda: str(total(server)))
    clients.pop().connection.close()
    until(lambda: total(server) == 2, lambda: str(total(server)))
    assert not open_one(), "a third one is let in: the two that are there count for one"
    for client in clients:
        client.connection.close()


def test_a_worker_with_much_to_log_does_not_wait_for_a_master_that_stands_still(
    start: StartCluster, harm: Harm
) -> None:
    """Workers write their log to a pipe that the master reads; a full one must not stop them."""
    server = start(1, PYTHONPATH=str(harm.folder))
    (pid,) = workers(server).values()
    with stopped(server.pid):
        harm.talk(pid)
        until(lambda: not (harm.folder / f"talk-{pid}").exists(), lambda: "not asked")
        time.sleep(0.3)
        assert server.publish("public.chaos", "x", {}).status_code == 200
