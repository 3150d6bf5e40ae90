"""Loads of plain HTTP: the health, over a kept connection, and over a fresh one for each request as ``ab`` asks."""

from __future__ import annotations

import asyncio
import time

from msgspec import structs

from mechamap_rt.bench.job import BenchError, Job, Result
from mechamap_rt.bench.measuring import Window, processes, result
from mechamap_rt.bench.publisher import Publisher
from mechamap_rt.bench.subscriber import Tally

#: What ``ab`` (ApacheBench) sends.
_VISIT = b"GET /api/health HTTP/1.0\r\nHost: localhost\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n"


async def health(job: Job) -> Result:
    """GETs of ``/api/health``, one after the other over one kept connection."""
    publisher = await Publisher.open(job, "/")
    for _ in range(job.warmup):
        await publisher.health()
    latencies: list[int] = []
    with Window(processes(job)) as window:
        for _ in range(job.operations):
            began = time.monotonic_ns()
            await publisher.health()
            latencies.append((time.monotonic_ns() - began) // 1000)
    publisher.close()
    return result(job, Tally(), window, job.operations, 0, latencies)


async def visits(job: Job) -> Result:
    """GETs of ``/api/health``, each over a connection of its own, so many at once."""
    left = iter(range(job.warmup))
    sizes: list[int] = []
    latencies: list[int] = []

    async def visiting() -> None:
        for _ in left:
            began = time.monotonic_ns()
            sizes.append(await _visit(job))
            latencies.append((time.monotonic_ns() - began) // 1000)

    async def run() -> None:
        del sizes[:], latencies[:]
        async with asyncio.TaskGroup() as group:
            for _ in range(job.in_flight):
                group.create_task(visiting())

    await run()
    left = iter(range(job.operations))
    with Window(processes(job)) as window:
        await run()
    measured = result(job, Tally(), window, job.operations, job.operations - len(sizes), latencies)
    uneven = sum(size != sizes[0] for size in sizes)
    per_second = job.operations / (window.server_us / 1e6) if window.server_us else 0.0
    return structs.replace(measured, figures={"uneven": float(uneven), "rate": per_second})


async def _visit(job: Job) -> int:
    """Bytes of the answer's body.

    :raises BenchError: if it is not 200.
    """
    reader, writer = await asyncio.open_connection(job.host, job.port)
    writer.write(_VISIT)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head[:16]:
        raise BenchError(f"a visit was answered {head[:40]!r}")
    return len(body)
