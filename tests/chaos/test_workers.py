"""Workers that die, hang, grow, or never come up; the clients of the others do not notice."""

from __future__ import annotations

import os
import re
import signal
import time

from tests.chaos.bystanders import Bystanders
from tests.chaos.conftest import StartCluster
from tests.chaos.processes import Harm, kill, status, stopped, wait_for_workers, workers
from tests.clients.waiting import until


def test_a_killed_worker_is_replaced_and_nobody_else_notices(start: StartCluster, bystanders: Bystanders) -> None:
    server = start(MAX_CONNECTIONS_PER_USER="1")
    bystanders.join(server, 24)
    publishing = bystanders.publish_steadily(server)
    node, pid = next((node, pid) for node, pid in workers(server).items() if bystanders.of(node))
    victims = bystanders.of(node)
    others = [client for client in bystanders.clients if client not in victims]
    assert victims and others
    began = time.monotonic()
    kill(pid)
    wait_for_workers(server, 3, limit=5, without=pid)
    replaced = time.monotonic() - began
    # each may have one connection only: those that come back are let in because the dead one's are forgotten
    bystanders.wait_all_live()
    assert all(len(client.visits) <= 4 for client in victims)
    bystanders.stop(publishing)
    bystanders.settle()
    assert bystanders.disturbed(others) == []
    assert status(server)["restarts"] == 1
    assert "SIGKILL" in server.output()
    print(f"replaced in {replaced:.2f} s, {len(bystanders.failed())} of {len(bystanders.publications)} requests failed")
    assert len(bystanders.failed()) <= 3
    assert replaced < 5


def test_a_stopped_worker_is_killed_and_replaced_and_nobody_waits_for_it(
    start: StartCluster, bystanders: Bystanders
) -> None:
    server = start(HEALTH_CHECK_TIMEOUT="2000")
    bystanders.join(server, 24)
    node, pid = next((node, pid) for node, pid in workers(server).items() if bystanders.of(node))
    victims = bystanders.of(node)
    others = [client for client in bystanders.clients if client not in victims]
    publishing = bystanders.publish_steadily(server)
    with stopped(pid):
        began = time.monotonic()
        wait_for_workers(server, 3, limit=10, without=pid)
        replaced = time.monotonic() - began
    bystanders.wait_all_live()
    bystanders.stop(publishing)
    # what was accepted by the worker before it was stopped is in its hands
    slow = [one for one in bystanders.publications if one.took > 1 and one.status == 200]
    print(f"replaced in {replaced:.2f} s, {len(bystanders.failed())} failed, slowest {bystanders.slowest():.2f} s")
    assert slow == []
    assert len(bystanders.failed()) <= 3
    bystanders.settle(others)
    assert bystanders.disturbed(others) == []
    assert bystanders.doubled() == []
    assert "hangs" in server.output()
    assert status(server)["restarts"] == 1
    assert replaced < 2 + 1 + 0.5 + 3


def test_a_worker_that_loops_says_where_before_it_is_killed(start: StartCluster, harm: Harm) -> None:
    server = start(2, HEALTH_CHECK_TIMEOUT="1000", PYTHONPATH=str(harm.folder))
    pid = next(iter(workers(server).values()))
    harm.hang(pid)
    wait_for_workers(server, 2, limit=10, without=pid)
    dump = [line for line in server.output().splitlines() if "[worker " in line]
    assert any("Current thread" in line for line in dump)
    assert any("File " in line and "chaos_hangs_here" in line for line in dump)
    assert any(re.search(r"\bThread 0x", line) for line in dump), "all threads"


def test_the_dump_can_be_asked_for_and_harms_nobody(start: StartCluster) -> None:
    server = start(2)
    pid = next(iter(workers(server).values()))
    os.kill(pid, signal.SIGUSR2)
    until(lambda: "Current thread" in server.output() and "File " in server.output(), server.output)
    assert pid in workers(server).values()


def test_workers_that_die_at_every_start_are_started_ever_less_often(
    start: StartCluster, bystanders: Bystanders, harm: Harm
) -> None:
    server = start(3, PYTHONPATH=str(harm.folder))
    bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(server)
    node, pid = next(iter(workers(server).items()))
    others = [client for client in bystanders.clients if client.node != node]
    harm.let_starts_fail()
    kill(pid)
    until(lambda: "started in 2 s" in server.output(), server.output, 12)
    said = re.findall(r"another is started in ([\d.]+) s", server.output())
    assert said[-2:] == ["1", "2"]
    assert said.count("0") >= 1
    told = server.control("status")
    assert [alert["name"] for alert in told["alerts"]] == ["crash_loop"]
    refused = server.refusal("reload")
    assert refused["code"] == "FAILED"
    assert len(workers(server)) == 2
    harm.let_starts_work()
    wait_for_workers(server, 3, limit=8)
    bystanders.wait_all_live()
    bystanders.stop(publishing)
    bystanders.settle()
    assert bystanders.disturbed(others) == []
    assert len(bystanders.failed()) <= 3


def test_a_worker_over_its_memory_is_replaced_and_its_clients_are_told(
    start: StartCluster, bystanders: Bystanders, harm: Harm
) -> None:
    server = start(3, MEMORY_LIMIT="128", PYTHONPATH=str(harm.folder))
    bystanders.join(server, 24)
    publishing = bystanders.publish_steadily(server)
    node, pid = next((node, pid) for node, pid in workers(server).items() if bystanders.of(node))
    victims = bystanders.of(node)
    harm.grow(pid, 80)
    wait_for_workers(server, 3, limit=15, without=pid)
    bystanders.wait_all_live()
    assert all(client.visits[0].code == 1012 for client in victims)
    assert "over MEMORY_LIMIT" in server.output()
    assert status(server)["restarts"] == 0
    assert bystanders.failed() == []
    # and far too much
    node, pid = next((node, pid) for node, pid in workers(server).items() if bystanders.of(node))
    harm.grow(pid, 200)
    wait_for_workers(server, 3, limit=15, without=pid)
    bystanders.wait_all_live()
    assert "far more memory" in server.output()
    assert status(server)["restarts"] == 1
    bystanders.stop(publishing)
    bystanders.settle()
    assert len(bystanders.failed()) <= 3
