"""A server under attack, seen by those who did not ask for it: bystanders, memory, descriptors, the log."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from mechamap_rt.bench.procfs import memory_of
from tests.abuse.attack import Attack, Target
from tests.chaos.bystanders import Bystanders
from tests.chaos.processes import descriptors, status
from tests.clients.crowd import Member
from tests.clients.waiting import until
from tests.server import Server

#: Clients of the native protocol and of Socket.IO, in turn, and publications a second that they get.
CLIENTS = 6
RATE = 50.0
#: Seconds of a quantile that are no more than the machine's own: attacker, server and clients share two cores.
FLOOR = 0.03
#: Bytes that the log may grow by during one attack.
MAX_LOG = 64 * 1024
SETTLED = 30.0

#: The limits of an operator who has set none; the suite's own are off. Publishing here is faster than one backend may.
LIMITS: dict[str, str | None] = {
    "MAX_CONNECTIONS_PER_USER": None,
    "MAX_CONNECTIONS_PER_IP": None,
    "CLIENT_EVENTS_PER_MINUTE": None,
    "TYPING_EVENTS_PER_MINUTE": None,
    "CHANNEL_PUBLICATIONS_PER_MINUTE": None,
    "GC_INTERVAL": "0",
}
_users = count(50_000)


def quantile(values: Sequence[float], part: float) -> float:
    """The nearest rank of sorted values."""
    return values[max(0, math.ceil(part * len(values)) - 1)] if values else math.inf


@dataclass(frozen=True)
class Result:
    """What an attack came to: seconds of the 99th percentile, and bytes."""

    attack: Attack
    size: int
    before: float
    during: float
    samples: int
    grown: int
    logged: int
    said: str

    def faults(self) -> list[str]:
        found = []
        allowed = max(2 * self.before, FLOOR)
        if self.during > allowed:
            found.append(f"p99 {self.during * 1000:.1f} ms, at most {allowed * 1000:.1f}")
        if self.grown > self.attack.grows << 20:
            found.append(f"{self.grown / 2**20:.1f} MB more, at most {self.attack.grows}")
        if self.logged > MAX_LOG:
            found.append(f"{self.logged} bytes of log")
        return found


class Siege:
    """One server with its bystanders."""

    def __init__(self, server: Server, bystanders: Bystanders) -> None:
        self.server = server
        self.bystanders = bystanders
        bystanders.join(server, CLIENTS)
        bystanders.publish_steadily(server, rate=RATE)
        self._before = 0.0

    def calm(self, seconds: float) -> float:
        """The 99th percentile without an attack."""
        began = time.monotonic()
        time.sleep(seconds)
        self._before = quantile(self._latencies(began), 0.99)
        return self._before

    def _latencies(self, since: float) -> list[float]:
        ended = time.monotonic()
        # what was asked for is either here by now or late, and then it counts as late
        until(lambda: all(one.done for one in self._asked(since, ended)), lambda: "publications are not answered", 20)
        time.sleep(0.1)
        return self.bystanders.latencies(since, ended)

    def _asked(self, since: float, until_: float) -> list[Any]:
        return [one for one in self.bystanders.publications if since <= one.asked < until_]

    def suffer(self, attack: Attack, whole: bool = False) -> Result:
        """Be attacked, and be as before afterwards; what it came to is for :meth:`Result.faults`."""
        server = self.server
        held, logged = descriptors(server.pid), len(server.output())
        disturbed = [len(client.visits) for client in self.bystanders.clients]
        tokens = [server.token(next(_users)) for _ in range(32)]
        target = Target(
            server.port, tokens, server.settings["LARAVEL_API_KEY"], attack.sizes[whole], attack.seconds[whole]
        )
        with peak(server.pid) as grown:
            began = time.monotonic()
            said = attacked(attack, target)
            latencies = self._latencies(began)
        result = Result(
            attack=attack,
            size=target.size,
            before=self._before,
            during=quantile(latencies, 0.99),
            samples=len(latencies),
            grown=grown[0],
            logged=len(server.output()) - logged,
            said=said,
        )
        self._as_before(held)
        assert [len(client.visits) for client in self.bystanders.clients] == disturbed, "bystanders had to come back"
        assert not self.bystanders.failed(), self.bystanders.failed()[:3]
        self.bystanders.settle()
        return result

    def _as_before(self, held: int) -> None:
        server = self.server
        # publications under way, each over a connection of its own, are descriptors as well
        until(
            lambda: descriptors(server.pid) <= held + 4,
            lambda: f"{descriptors(server.pid)} descriptors, {held} before",
            SETTLED,
        )
        until(
            lambda: status(server)["connections"] == CLIENTS,
            lambda: f"connections: {status(server)['connections']}",
            SETTLED,
        )
        assert "Traceback" not in server.output(), server.output()[-4000:]
        client = Member(server.port, server.token(next(_users)))
        client.subscribe("public.after")
        server.publish("public.after", "still", {"n": 1})
        client.wait_for(b'"still"')
        client.socket.close()


def attacked(attack: Attack, target: Target) -> str:
    """Run the attack in a process of its own, which gives way to the server: attackers have other machines."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_attack, args=(attack, target, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(target.seconds + 60):
            raise AssertionError(f"{attack.name} does not end")
        fault, said = ours.recv()
    finally:
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
    assert not fault, said
    return str(said)


def _attack(attack: Attack, target: Target, report: Connection) -> None:
    os.nice(10)
    try:
        report.send((False, attack.run(target)))
    except BaseException as error:
        report.send((True, repr(error)))


@contextmanager
def peak(pid: int) -> Iterator[list[int]]:
    """Bytes of memory of its own that the process has taken more at most, in the list when it is over.

    Pages of files are left out: the server gives its code back after the start, and what runs of it comes back.
    """
    before = memory_of(pid)["anon"]
    grown = [0]
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            grown[0] = max(grown[0], memory_of(pid)["anon"] - before)

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield grown
    finally:
        stop.set()
        watching.join()
        grown[0] = max(grown[0], memory_of(pid)["anon"] - before)
