"""How many clients a server takes, and keeps: opened at a rate, authenticated, then held."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from typing import Any

from mechamap_rt.bench.dialects import Identity
from mechamap_rt.bench.loadtest import advice, refusals
from mechamap_rt.bench.loadtest.accounts import Accounts
from mechamap_rt.bench.loadtest.advice import Attempt
from mechamap_rt.bench.loadtest.clients import Client, PollingClient, ProtocolName, WebSocketClient
from mechamap_rt.bench.loadtest.latencies import Latencies
from mechamap_rt.bench.loadtest.load import Tell, failures, until
from mechamap_rt.bench.loadtest.outcome import CommandName, Measured, share
from mechamap_rt.bench.loadtest.serverside import Meter
from mechamap_rt.bench.loadtest.target import Target

#: Attempts under way at once; what is due beyond waits, and its waiting counts.
MAX_OPENING = 1000
_MINUTE = 60.0
_SLACK = 10.0
_TOLD = 0.1
_AT_ONCE = 100


class Connections:
    """The load.

    :param count: connections to open, one attempt each.
    :param rate: attempts a second.
    :param hold: seconds for which all are kept after the last attempt.
    :param timeout: seconds that one attempt may take.
    """

    command: CommandName = "connections"

    def __init__(
        self,
        accounts: Accounts,
        *,
        count: int,
        rate: float,
        hold: float,
        timeout: float,
        protocol: ProtocolName,
        polling: bool,
    ) -> None:
        self._accounts, self._count, self._rate, self._hold = accounts, count, rate, hold
        self._timeout, self._protocol, self._polling = timeout, protocol, polling
        self.options: dict[str, Any] = {
            "count": count, "rate": rate, "hold": hold, "timeout": timeout, "protocol": protocol,
            "transport": "polling" if polling else "websocket", "users": accounts.users,
        }  # fmt: skip
        self.bound = count / rate + timeout + hold + _SLACK
        self.late = 0.0
        self._latencies = Latencies()
        self._attempts: list[Attempt] = []
        self._recent: dict[int, deque[float]] = {}
        self._clients: dict[Client, None] = {}
        self._opening = 0
        self._opened = self._authenticated = 0
        self._refused: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._ramp_seconds = 0.0

    async def run(self, target: Target, tell: Tell, meter: Meter) -> None:
        tokens = self._accounts.sign(self.bound + _MINUTE)
        began = time.monotonic()
        gate = asyncio.Semaphore(MAX_OPENING)
        try:
            async with asyncio.TaskGroup() as group:
                for number, user in zip(range(self._count), itertools.cycle(range(len(tokens))), strict=False):
                    due = began + number / self._rate
                    await until(due)
                    await gate.acquire()
                    self.late = max(self.late, time.monotonic() - due)
                    task = group.create_task(self._attempt(target, user, tokens[user], due))
                    task.add_done_callback(lambda _: gate.release())
                    tell("connecting", len(self._attempts), self._count)
        finally:
            self._ramp_seconds = time.monotonic() - began
        meter.full()
        await self._keep(tell)

    async def _keep(self, tell: Tell) -> None:
        began = time.monotonic()
        while self._clients and (passed := time.monotonic() - began) < self._hold:
            tell(f"holding {len(self._clients):,}", passed, self._hold)
            await asyncio.sleep(min(_TOLD, self._hold - passed))

    async def _attempt(self, target: Target, user: int, token: str, due: float) -> None:
        who = Identity(token, None)
        client: Client = PollingClient(who) if self._polling else WebSocketClient(self._protocol, who)
        held, recent = len(self._clients) + self._opening, self._count_recent(user)
        self._opening += 1
        due = min(due, time.monotonic())  # timers may be early by a millisecond
        reason = ""
        try:
            await client.connect(target, self._timeout)
        except Exception as fault:
            reason = refusals.of(fault)
            self._refused[reason] += 1
        else:
            self._latencies.add(time.monotonic() - due)
            self._authenticated += 1
            self._clients[client] = None
            client.gone.add_done_callback(lambda gone: self._gone(client, gone))
        finally:
            self._opening -= 1
        self._opened += client.opened
        self._attempts.append(Attempt(reason, held, recent))

    def _count_recent(self, user: int) -> int:
        """Attempts of a user within a minute, this one included."""
        recent = self._recent.setdefault(user, deque())
        now = time.monotonic()
        while recent and recent[0] < now - _MINUTE:
            recent.popleft()
        recent.append(now)
        return len(recent)

    def _gone(self, client: Client, gone: asyncio.Future[str]) -> None:
        if not gone.cancelled():
            self._clients.pop(client, None)
            self._dropped[gone.result()] += 1
            client.cut()

    async def close(self) -> None:
        clients = list(self._clients)
        for first in range(0, len(clients), _AT_ONCE):
            await asyncio.gather(*(client.leave() for client in clients[first : first + _AT_ONCE]))
            await asyncio.sleep(0.01)  # in pieces, so that the server is not stormed

    def measured(self) -> Measured:
        dropped = self._dropped.total()
        seconds = self._ramp_seconds
        return Measured(
            counts={
                "attempts": len(self._attempts),
                "opened": self._opened,
                "authenticated": self._authenticated,
                "kept": self._authenticated - dropped,
                "refused": self._refused.total(),
                "dropped": dropped,
            },
            rates={"authenticated": self._authenticated / seconds if seconds else 0.0},
            latency_of="from when a connection was due until it was authenticated",
            latency_ms=self._latencies.summary(),
            failures=failures(refused=self._refused, dropped=self._dropped),
            advice=_advice(self._attempts, [*self._refused, *self._dropped]),
        )

    def figures(self) -> dict[str, float]:
        latency = self._latencies.summary()
        return {
            "p50": latency.p50,
            "p95": latency.p95,
            "p99": latency.p99,
            "failed": share(self._refused.total(), len(self._attempts)),
            "dropped": share(self._dropped.total(), self._authenticated),
        }


def _advice(attempts: list[Attempt], reasons: list[str]) -> list[str]:
    found = advice.throttling(attempts)
    known = {each.partition(" ")[0] for each in found}
    return found + [each for each in advice.sayings(reasons) if each.partition(" ")[0] not in known]
