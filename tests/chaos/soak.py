"""A worker dies, hangs or is replaced every few seconds, for as long as one likes; nobody else may notice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.chaos import processes
from tests.chaos.bystanders import Bystanders
from tests.chaos.conftest import QUICK
from tests.chaos.processes import Operation, belonging, descriptors, kill, resident, wait_for_workers, workers
from tests.conftest import CLUSTER
from tests.server import Server


def run(folder: Path, seconds: float, clients: int = 60) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}\n{'second':>6} {'what':8} {'master (MB)':>11} {'fds':>4} {'processes':>9} {'failed':>6}")
    server = Server.start(folder, CLUSTER | QUICK | {"MAX_CONNECTIONS_PER_USER": "1", "HEALTH_CHECK_TIMEOUT": "1500"})
    began = time.monotonic()
    deaths = 0
    try:
        with Bystanders() as bystanders:
            bystanders.join(server, clients)
            publishing = bystanders.publish_steadily(server)
            while time.monotonic() - began < seconds:
                time.sleep(1)
                what = chance.choice(("kill", "stop", "restart", "reload"))
                number, pid = chance.choice([(each["worker"], each["pid"]) for each in _ready(server)])
                if what == "kill":
                    kill(pid)
                    deaths += 1
                elif what == "stop":
                    os.kill(pid, signal.SIGSTOP)
                    deaths += 1
                else:
                    Operation(server, what, **({"worker": number} if what == "restart" else {})).result()
                wait_for_workers(server, 3, limit=60, without=pid)
                bystanders.wait_all_live(20)
                print(
                    f"{time.monotonic() - began:6.0f} {what:8} {resident(server.pid) / 2**20:11.1f} "
                    f"{descriptors(server.pid):4} {len(belonging(server)):9} {len(bystanders.failed()):6}",
                    flush=True,
                )
            bystanders.stop(publishing)
            calm = [client for client in bystanders.clients if all(v.code in (None, 1012) for v in client.visits)]
            print(
                f"{len(bystanders.publications)} publications, {len(bystanders.failed())} failed at {deaths} deaths; "
                f"slowest {bystanders.slowest():.2f} s; {len(bystanders.lost(calm))} lost, "
                f"{len(bystanders.doubled())} doubled; workers {workers(server)}"
            )
        server.stop()
        assert belonging(server) == []
    finally:
        processes.end(server)


def _ready(server: Server) -> list[dict[str, int]]:
    return [each for each in processes.status(server)["workers"] if each["state"] == "ready"]
