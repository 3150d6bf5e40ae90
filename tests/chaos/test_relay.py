"""A worker that stands still under much traffic: the others go on, and keep only so much for it."""

from __future__ import annotations

import time

import pytest

from mechamap_rt.bus.link import MAX_WAITING
from tests.chaos.bystanders import Bystanders
from tests.chaos.conftest import StartCluster
from tests.chaos.processes import resident, status, stopped, workers

SIZE = 10_000


@pytest.mark.parametrize("seconds", [3.0])
def test_a_slow_neighbour_costs_the_others_a_bounded_amount_of_memory(
    start: StartCluster, bystanders: Bystanders, seconds: float
) -> None:
    # what waited for the stopped one comes to its clients all at once: that they are slow is not the question
    server = start(3, OUTBOX_HARD_LIMIT="100000000")
    bystanders.join(server, 9)
    there = workers(server)
    node = next(node for node in there if bystanders.of(node))
    others = [client for client in bystanders.clients if client.node != node]
    before = {name: resident(pid) for name, pid in there.items()}
    publishing = bystanders.publish_steadily(server, rate=500, size=SIZE)
    time.sleep(0.5)
    peak = dict(before)
    with stopped(there[node]):
        late = time.monotonic() + seconds
        while time.monotonic() < late:
            time.sleep(0.1)
            peak = {name: max(peak[name], resident(pid)) for name, pid in there.items()}
    late = time.monotonic() + 1
    while time.monotonic() < late:
        time.sleep(0.1)
        peak = {name: max(peak[name], resident(pid)) for name, pid in there.items()}
    bystanders.stop(publishing)
    grown = {name: (peak[name] - before[name]) / 2**20 for name in there}
    rate = len(bystanders.publications) / (seconds + 1.5)
    print(f"{rate:.0f} publications/s, slowest {bystanders.slowest():.2f} s, grown by MB: {grown}, stopped: {node}")
    # one waits for the stopped one; what was read of it, and joined, is there besides
    assert all(grown[name] * 2**20 < 3 * MAX_WAITING for name in there)
    assert bystanders.failed() == [] or all("Timeout" in one.fault for one in bystanders.failed())
    bystanders.settle(others)
    bystanders.settle()
    assert bystanders.disturbed(bystanders.clients) == []
    assert status(server)["restarts"] == 0
