"""A reload under load, with everything counted: ``python -m tests.cluster.reload --clients 1000 --rate 200``.

A third of the clients each is native, Socket.IO over WebSocket and Socket.IO over polling. They share some channels,
on which the backend publishes in turn; what each publication's answer counts must be what came.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients.accounts import Account, disordered, doubled, gaps, receivers
from tests.clients.natives import Natives
from tests.clients.publisher import Failures, Prober, Published, Publisher
from tests.clients.swarm import Swarm
from tests.conftest import CLUSTER
from tests.server import Server

#: Seconds before and after the reload.
CALM = 1.0
ARRIVAL_LIMIT = 60.0


@dataclass
class Outcome:
    """What happened.

    :ivar reloaded: the result of the reload.
    :ivar stayed: clients that did not leave at all.
    :ivar back: seconds from the reload's beginning until everybody was subscribed again.
    """

    accounts: list[Account]
    published: list[Published]
    failures: Failures
    probers: list[Prober]
    reloaded: Any
    began: float
    back: float
    complaints: list[str] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """Deliveries of which the publisher was told."""
        return sum(each.total for each in self.published)

    @property
    def delivered(self) -> int:
        return sum(len(account.seen) for account in self.accounts)

    @property
    def lost(self) -> int:
        """Deliveries to a connected client that did not come: of those counted, or out of the middle."""
        came = receivers(self.accounts)
        short = sum(max(each.total - came[each.channel, each.number], 0) for each in self.published)
        return max(short, gaps(self.accounts))

    @property
    def uncounted(self) -> int:
        """Deliveries of which the publisher was not told."""
        came = receivers(self.accounts)
        return sum(max(came[each.channel, each.number] - each.total, 0) for each in self.published)

    @property
    def late(self) -> int:
        """Publications that began after a subscription was answered, before the first that came."""
        found = 0
        for channel in {account.channel for account in self.accounts}:
            of_channel = [each for each in self.published if each.channel == channel]
            for stay in (stay for account in self.accounts if account.channel == channel for stay in account.stays):
                if stay.subscribed is not None and stay.seen:
                    # a millisecond is the resolution of Node's clock
                    since = stay.subscribed + 0.002
                    found += sum(each.began > since and each.number < stay.seen[0] for each in of_channel)
        return found

    @property
    def missed(self) -> int:
        """Publications between a client's leaving and its return."""
        numbers: dict[str, list[Published]] = {}
        for each in self.published:
            numbers.setdefault(each.channel, []).append(each)
        found = 0
        for account in self.accounts:
            since = account.stays[0].subscribed if account.stays else None
            if since is not None:
                seen = set(account.seen)
                found += sum(
                    each.began > since and each.number not in seen for each in numbers.get(account.channel, [])
                )
        return found

    @property
    def refused(self) -> int:
        return self.failures.refused + sum(account.refused for account in self.accounts)

    @property
    def stayed(self) -> int:
        return sum(len(account.stays) == 1 for account in self.accounts)

    def rows(self) -> list[tuple[str, str]]:
        """The outcome in words and numbers."""
        kinds = {kind: sum(account.kind == kind for account in self.accounts) for kind in KINDS}
        fresh, kept = (prober.asked for prober in self.probers)
        return [
            ("clients", ", ".join(f"{count} {kind}" for kind, count in kinds.items())),
            ("publications", f"{len(self.published)}"),
            ("deliveries counted / came", f"{self.counted} / {self.delivered}"),
            ("GET /api/health", f"{fresh} over fresh connections, {kept} over kept ones"),
            ("refused connections", f"{self.refused}"),
            ("failed HTTP requests", f"{len(self.failures.failed)}"),
            ("lost while connected", f"{self.lost}"),
            ("doubled", f"{doubled(self.accounts)}"),
            ("out of order", f"{disordered(self.accounts)}"),
            ("late after subscribing", f"{self.late}"),
            ("came but not counted", f"{self.uncounted}"),
            ("missed while away", f"{self.missed}"),
            ("did not have to leave", f"{self.stayed}"),
            ("left more than once", f"{sum(len(account.stays) > 2 for account in self.accounts)}"),
            ("seconds until all were back", f"{self.back:.1f}"),
            ("seconds of the reload", f"{self.reloaded.get('seconds', 0):.1f}"),
            ("dismissed", f"{self.reloaded.get('dismissed', '')}"),
        ]


KINDS = ("native", "websocket", "polling")


def run(
    server: Server,
    swarm: Swarm,
    trigger: Callable[[], Any],
    *,
    clients: int,
    rate: float,
    channels: int,
    publishers: int = 1,
    limit: float = ARRIVAL_LIMIT,
) -> Outcome:
    """Fill the server, publish, call ``trigger``, and wait until everybody is back.

    :param trigger: reloads, and returns when that is done.
    """
    names = [f"public.reload-{number}" for number in range(channels)]
    people: dict[str, dict[str, tuple[str, str]]] = {kind: {} for kind in KINDS}
    for number in range(clients):
        # each channel has clients of every kind
        kind, channel = KINDS[number % 3], names[number // 3 % channels]
        people[kind][f"{kind}-{number}"] = (server.token(number + 1), channel)
    failures = Failures()
    key = server.settings["LARAVEL_API_KEY"]
    with ExitStack() as stack:
        natives = stack.enter_context(Natives(server.port, people["native"]))
        for kind in KINDS[1:]:
            swarm.add(server.url, people[kind], mode=kind, keep_alive=True)
        _until(lambda: natives.subscribed() + swarm.subscribed() == clients, limit, "somebody did not come in")
        probing = ExitStack()
        with probing:
            probers = [probing.enter_context(Prober(server.port, kept, failures)) for kept in (False, True)]
            posting = [
                probing.enter_context(
                    Publisher(server.port, key, names[place::publishers], rate / publishers, failures)
                )
                for place in range(publishers)
            ]
            time.sleep(CALM)
            began = time.time()
            reloaded = trigger()
            _until(lambda: natives.subscribed() + swarm.subscribed() == clients, limit, "somebody did not come back")
            time.sleep(CALM)
        published = [each for one in posting for each in one.published]
        expected = sum(each.total for each in published)
        deadline = time.monotonic() + 5
        while natives.received() + swarm.received() < expected and time.monotonic() < deadline:
            time.sleep(0.05)
        accounts = [*natives.accounts(), *swarm.accounts()]
        back = max(account.stays[-1].subscribed or 0.0 for account in accounts) - began
        swarm.clear()
    return Outcome(accounts, published, failures, probers, reloaded, began, back)


def _until(holds: Callable[[], bool], limit: float, complaint: str) -> None:
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.reload", description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200.0, help="publications a second")
    parser.add_argument("--channels", type=int, default=25, help="among which the clients are divided")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--drain", type=int, default=10, help="seconds")
    chosen = parser.parse_args()
    node = shutil.which("node")
    if node is None:
        sys.exit("node is missing; on Debian: apt-get install nodejs")
    settings = CLUSTER | {"CLUSTER_WORKERS": str(chosen.workers)}
    with tempfile.TemporaryDirectory() as folder, Swarm(node) as swarm:
        server = Server.start(Path(folder), settings)
        try:
            outcome = run(
                server,
                swarm,
                lambda: server.control("reload", "--drain", f"{chosen.drain}s", limit=300.0),
                clients=chosen.clients,
                rate=chosen.rate,
                channels=chosen.channels,
                publishers=min(4, chosen.channels),
                limit=120.0,
            )
        finally:
            server.end()
    rows = outcome.rows()
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))
    print("\n".join(outcome.failures.failed + sorted({why for each in outcome.accounts for why in each.why})))


if __name__ == "__main__":
    main()
