"""Plain requests, so many at once, each the next as soon as its last is answered: what ``ab`` does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from mechamap_rt.bench.job import BenchError
from mechamap_rt.bench.loadtest import advice, refusals
from mechamap_rt.bench.loadtest.exchange import Answer, Exchange
from mechamap_rt.bench.loadtest.latencies import Latencies
from mechamap_rt.bench.loadtest.load import Tell, failures
from mechamap_rt.bench.loadtest.outcome import CommandName, Measured, share
from mechamap_rt.bench.loadtest.serverside import Meter
from mechamap_rt.bench.loadtest.target import Target


class Requests:
    """The load: GET.

    :param count: of requests.
    :param concurrency: of those under way at once.
    :param keepalive: over kept connections, instead of a fresh one for each.
    :param seconds: after which it ends in any case.
    :param timeout: seconds that one may take, its connection included.
    :param key: the backend's, for paths that need one; "" for none.
    """

    command: CommandName = "http"

    def __init__(
        self, *, count: int, concurrency: int, keepalive: bool, seconds: float, timeout: float, key: str = ""
    ) -> None:
        self._count, self._concurrency = count, min(concurrency, count)
        self._keepalive, self._timeout, self._key = keepalive, timeout, key
        self.options: dict[str, Any] = {
            "requests": count, "concurrency": concurrency, "keepalive": keepalive, "seconds": seconds,
            "timeout": timeout, "key": bool(key),
        }  # fmt: skip
        self.bound = seconds
        self.late = 0.0
        self._latencies = Latencies()
        self._statuses: Counter[int] = Counter()
        self._failed: Counter[str] = Counter()
        self._done = self._connections = self._bytes = 0
        self._retry_after = ""
        self._seconds = 0.0

    async def run(self, target: Target, tell: Tell, meter: Meter) -> None:
        numbers = iter(range(self._count))
        keep = "keep-alive" if self._keepalive else "close"
        key = f"X-WebSocket-API-Key: {self._key}\r\n" if self._key else ""
        request = (
            f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: mechamap-bench\r\n"
            f"Accept: */*\r\n{key}Connection: {keep}\r\n\r\n"
        ).encode()

        async def visiting() -> None:
            exchange: Exchange | None = None
            for _ in numbers:
                exchange = await self._visit(target, request, exchange)
                tell("requests", self._done, self._count)
            if exchange is not None:
                exchange.close()

        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(visiting())
        finally:
            self._seconds = time.monotonic() - began

    async def _visit(self, target: Target, request: bytes, kept: Exchange | None) -> Exchange | None:
        """One request; the connection on which the next may be made, if there is one."""
        began = time.monotonic()
        exchange = kept
        try:
            if exchange is None or exchange.ended:
                exchange = await Exchange.open(target, self._timeout)
                self._connections += 1
            answer = await exchange.ask(request, self._timeout)
        except (BenchError, OSError) as fault:
            self._failed[refusals.of(fault)] += 1
            answer = None
        except asyncio.CancelledError:
            if exchange is not None:
                exchange.close()
            raise
        self._done += 1
        if answer is not None:
            self._count_answer(answer, time.monotonic() - began)
        if exchange is None or exchange.ended or not self._keepalive:
            if exchange is not None:
                exchange.close()
            return None
        return exchange

    def _count_answer(self, answer: Answer, seconds: float) -> None:
        self._statuses[answer.status] += 1
        self._bytes += len(answer.head) + 2 + len(answer.body)
        if 200 <= answer.status < 300:
            self._latencies.add(seconds)
        else:
            self._failed[refusals.status(answer.status)] += 1
        if answer.status == 429:
            self._retry_after = answer.header("retry-after")[:20]

    async def close(self) -> None:
        """All is closed already."""

    def measured(self) -> Measured:
        advice_found = advice.sayings(self._failed)
        if self._retry_after.isdigit():
            advice_found.append(f"the last HTTP 429 asks to come back in {self._retry_after} s")
        return Measured(
            counts={
                "requests": self._done,
                "succeeded": self._latencies.count,
                "failed": self._failed.total(),
                "connections": self._connections,
                "bytes received": self._bytes,
                **{f"status {status}": count for status, count in sorted(self._statuses.items())},
            },
            rates={
                "succeeded": self._rate(),
                "kB": self._bytes / 1000 / self._seconds if self._seconds else 0.0,
            },
            latency_of="of a request that succeeded" + ("" if self._keepalive else ", its connection included"),
            latency_ms=self._latencies.summary(),
            failures=failures(failed=self._failed),
            advice=advice_found,
        )

    def _rate(self) -> float:
        """Requests a second that succeeded."""
        return self._latencies.count / self._seconds if self._seconds else 0.0

    def figures(self) -> dict[str, float]:
        latency = self._latencies.summary()
        return {
            "p50": latency.p50,
            "p95": latency.p95,
            "p99": latency.p99,
            "failed": share(self._failed.total(), self._done),
            "rate": self._rate(),
        }
