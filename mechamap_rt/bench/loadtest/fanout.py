"""From the publication over HTTP to the sockets of all subscribers: how long it takes, and what is lost on the way."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections import Counter
from typing import Any

import orjson

from mechamap_rt.bench.dialects import Identity
from mechamap_rt.bench.job import BenchError
from mechamap_rt.bench.loadtest import advice, refusals
from mechamap_rt.bench.loadtest.accounts import Accounts
from mechamap_rt.bench.loadtest.clients import ProtocolName, WebSocketClient
from mechamap_rt.bench.loadtest.deliveries import Ledger, Shelf
from mechamap_rt.bench.loadtest.exchange import Exchange
from mechamap_rt.bench.loadtest.load import Tell, failures, until
from mechamap_rt.bench.loadtest.outcome import CommandName, Measured, share
from mechamap_rt.bench.loadtest.serverside import Meter
from mechamap_rt.bench.loadtest.target import Target

#: Publications under way at once; what is due beyond waits, and its waiting counts.
MAX_PUBLISHING = 64
#: Bits that say who has got what: 256 MB.
MAX_DELIVERIES = 2**31
_CONNECTING = 50
_SLACK = 10.0
_LINGER = 5.0


class Fanout:
    """The load.

    :param rate: publications a second, for ``seconds``.
    :param key: the backend's.
    :param size: bytes of padding in each publication.
    :param timeout: seconds that a connection or a request may take.
    :raises BenchError: it would be too large.
    """

    command: CommandName = "fanout"

    def __init__(
        self,
        accounts: Accounts,
        *,
        subscribers: int,
        channel: str,
        rate: float,
        seconds: float,
        key: str,
        size: int,
        timeout: float,
        protocol: ProtocolName,
    ) -> None:
        count = max(1, round(rate * seconds))
        if count * subscribers > MAX_DELIVERIES:
            raise BenchError(
                f"{count:,} publications to {subscribers:,} subscribers are more than can be kept track of"
            )
        self._accounts, self._subscribers, self._channel = accounts, subscribers, channel
        self._rate, self._key, self._timeout, self._protocol = rate, key, timeout, protocol
        self.options: dict[str, Any] = {
            "subscribers": subscribers, "channel": channel, "rate": rate, "seconds": seconds, "size": size,
            "timeout": timeout, "protocol": protocol, "users": accounts.users,
        }  # fmt: skip
        self.bound = subscribers / _CONNECTING * timeout + seconds + timeout + _LINGER + _SLACK
        self.late = 0.0
        self._ledger = Ledger(channel, count, size)
        self._shelves: dict[WebSocketClient, Shelf] = {}
        self._idle: list[Exchange] = []
        self._published = self._reached = 0
        self._seconds = 0.0
        self._refused: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    async def run(self, target: Target, tell: Tell, meter: Meter) -> None:
        await self._subscribe(target, tell)
        if not self._shelves:
            return
        meter.full(anew=True)
        gc.freeze()  # thousands of clients that stay need not be looked at in each collection
        began = time.monotonic()
        try:
            await self._publish(target, tell, began)
        finally:
            self._seconds = time.monotonic() - began
        await self._linger(tell)

    async def _subscribe(self, target: Target, tell: Tell) -> None:
        tokens = self._accounts.sign(self.bound + 60)
        waiting = zip(range(self._subscribers), itertools.cycle(tokens), strict=False)

        async def connecting() -> None:
            for number, token in waiting:
                await self._join(target, token)
                tell("subscribing", number + 1, self._subscribers)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_CONNECTING, self._subscribers)):
                group.create_task(connecting())

    async def _join(self, target: Target, token: str) -> None:
        shelf = Shelf(self._ledger)
        client = WebSocketClient(self._protocol, Identity(token, self._channel), shelf.heard)
        try:
            await client.connect(target, self._timeout)
        except Exception as fault:
            self._refused[refusals.of(fault)] += 1
            return
        self._shelves[client] = shelf
        client.gone.add_done_callback(self._gone)

    def _gone(self, gone: asyncio.Future[str]) -> None:
        if not gone.cancelled():
            self._dropped[gone.result()] += 1

    async def _publish(self, target: Target, tell: Tell, began: float) -> None:
        """Publish at the rate, whether or not earlier publications have been answered."""
        gate = asyncio.Semaphore(MAX_PUBLISHING)
        async with asyncio.TaskGroup() as group:
            for number in range(self._ledger.size):
                due = began + number / self._rate
                self.late = max(self.late, await until(due))
                await gate.acquire()
                task = group.create_task(self._post(target, number, due))
                task.add_done_callback(lambda _: gate.release())
                tell("publishing", number + 1, self._ledger.size)

    async def _post(self, target: Target, number: int, due: float) -> None:
        self._published += 1
        accepted = False
        try:
            exchange = self._idle.pop() if self._idle else await Exchange.open(target, self._timeout)
            body = self._ledger.body(number, due)
            answer = await exchange.ask(self._head(target, len(body)) + body, self._timeout)
            accepted = answer.status == 200
            if not accepted:
                self._failed[refusals.status(answer.status)] += 1
            elif not self._reached:
                self._reached = _reached(answer.body)
            if not exchange.ended:
                self._idle.append(exchange)
        except (BenchError, OSError) as fault:
            self._failed[refusals.of(fault)] += 1
        finally:
            self._ledger.answered(number, accepted)

    def _head(self, target: Target, size: int) -> bytes:
        return (
            f"POST {target.prefix}/api/broadcast HTTP/1.1\r\nHost: {target.authority}\r\n"
            f"Content-Type: application/json\r\nX-WebSocket-API-Key: {self._key}\r\nContent-Length: {size}\r\n\r\n"
        ).encode()

    async def _linger(self, tell: Tell) -> None:
        """Wait for what is still under way, until nothing has come for some seconds."""
        seen, last = -1, time.monotonic()
        while (delivered := self._delivered()) < self._expected() and time.monotonic() - last < _LINGER:
            if delivered != seen:
                seen, last = delivered, time.monotonic()
            tell("waiting for deliveries", delivered, self._expected())
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)  # what comes twice comes after the first

    def _delivered(self) -> int:
        return sum(shelf.total for shelf in self._shelves.values())

    def _expected(self) -> int:
        return len(self._ledger.accepted) * len(self._shelves)

    def _lost(self) -> int:
        return sum(shelf.missing() for shelf in self._shelves.values())

    async def close(self) -> None:
        for exchange in self._idle:
            exchange.close()
        for number, client in enumerate(self._shelves, 1):
            client.cut()
            if number % 100 == 0:
                await asyncio.sleep(0.01)
        gc.unfreeze()

    def measured(self) -> Measured:
        expected, lost = self._expected(), self._lost()
        others = max(0, self._reached - len(self._shelves))
        notes = [f"{others:,} others are subscribed to {self._channel} and got all of it"] if others else []
        reasons = [*self._refused, *self._failed, *self._dropped]
        return Measured(
            counts={
                "subscribers": len(self._shelves),
                "refused": self._refused.total(),
                "dropped": self._dropped.total(),
                "published": self._published,
                "accepted": len(self._ledger.accepted),
                "expected": expected,
                "delivered": expected - lost,
                "lost": lost,
                "duplicated": self._ledger.duplicated,
                "out of order": self._ledger.disordered,
            },
            rates={
                "published": self._published / self._seconds if self._seconds else 0.0,
                "delivered": (expected - lost) / self._seconds if self._seconds else 0.0,
            },
            latency_of="from when a publication was due until it was in a subscriber's socket here",
            latency_ms=self._ledger.latencies.summary(),
            failures=failures(refused=self._refused, failed=self._failed, dropped=self._dropped),
            advice=advice.sayings(reasons) + notes,
        )

    def figures(self) -> dict[str, float]:
        latency, expected = self._ledger.latencies.summary(), self._expected()
        return {
            "p50": latency.p50,
            "p95": latency.p95,
            "p99": latency.p99,
            "failed": share(
                self._refused.total() + self._failed.total(),
                self._published + len(self._shelves) + self._refused.total(),
            ),
            "lost": share(self._lost(), expected),
            "duplicated": share(self._ledger.duplicated, expected),
            "dropped": share(self._dropped.total(), len(self._shelves)),
        }


def _reached(body: bytes) -> int:
    """How many subscribers the server has counted; 0 if it does not say."""
    try:
        return int(orjson.loads(body)["subscriberCount"])
    except (ValueError, KeyError, TypeError):
        return 0
