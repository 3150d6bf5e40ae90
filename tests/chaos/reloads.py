"""Reloads in a row with clients and publications: what is lost, what is refused, and what grows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import processes
from tests.chaos.bystanders import Bystanders
from tests.chaos.conftest import QUICK
from tests.chaos.processes import Operation, belonging, descriptors, resident, wait_for_workers
from tests.conftest import CLUSTER
from tests.server import Server


@dataclass(frozen=True)
class Row:
    """What is held after one reload."""

    reload: int
    seconds: float
    master_rss: int
    master_fds: int
    processes: int
    worker_fds: tuple[int, ...]
    worker_rss: int

    def __str__(self) -> str:
        fds = "/".join(str(count) for count in self.worker_fds)
        return (
            f"{self.reload:6} {self.seconds:8.2f} {self.master_rss / 2**20:12.1f} {self.master_fds:11} "
            f"{self.processes:10} {fds:>14} {self.worker_rss / 2**20:12.1f}"
        )


HEAD = "reload  seconds  master (MB)  master fds  processes   workers' fds  worker (MB)"


def measure(server: Server, number: int, seconds: float, clients: int) -> Row:
    pids = list(wait_for_workers(server, 3).values())
    # connections are no leak, wherever they are
    held = sum(descriptors(pid) for pid in pids)
    return Row(
        number,
        seconds,
        resident(server.pid),
        descriptors(server.pid),
        len(belonging(server)),
        (*sorted(descriptors(pid) for pid in pids), held - clients),
        max(resident(pid) for pid in pids),
    )


def run(folder: Path, count: int, clients: int, rate: float, say: bool = False, drain: str = "500") -> list[Row]:
    """So many reloads; the table, its first row from before. Asserts that nobody was harmed."""
    server = Server.start(folder, CLUSTER | QUICK | {"CLUSTER_DRAIN_TIME": drain, "MAX_CONNECTIONS_PER_USER": "1"})
    rows: list[Row] = []
    try:
        with Bystanders() as bystanders:
            bystanders.join(server, clients, ("native", "socketio", "polling"))
            publishing = bystanders.publish_steadily(server, rate=rate)
            if say:
                print(HEAD, flush=True)
            for number in range(count + 1):
                seconds = 0.0
                if number:
                    seconds = Operation(server, "reload").result()["seconds"]
                    bystanders.wait_all_live()
                time.sleep(0.3)
                rows.append(measure(server, number, seconds, clients))
                if say:
                    print(rows[-1], flush=True)
            bystanders.stop(publishing)
            publications, failed = len(bystanders.publications), bystanders.failed()
            visits = sum(len(client.visits) for client in bystanders.clients)
            cut = [v for c in bystanders.clients for v in c.visits if v.ended and (v.code != 1012 or v.fault)]
            print(
                f"{publications} publications, {len(failed)} failed, slowest {bystanders.slowest():.2f} s; "
                f"{visits} connections of {clients} clients, {len(cut)} cut; "
                f"{len(bystanders.lost())} lost, {len(bystanders.doubled())} doubled"
            )
            bystanders.settle()
            assert failed == [], failed[:5]
            assert cut == [], [(visit.code, visit.fault, visit.subscribed) for visit in cut[:5]]
        server.stop()
        assert belonging(server) == []
    finally:
        processes.end(server)
    return rows
