"""What the loads have in common: the window in which is measured, and what drives a server in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self

from mechamap_rt.bench import messages
from mechamap_rt.bench.job import MESSAGE_SIZE, BenchError, Job, Result
from mechamap_rt.bench.procfs import cpu_ns, process_tree
from mechamap_rt.bench.publisher import Publisher
from mechamap_rt.bench.subscriber import Swarm, Tally

#: Posts one publication, made at that moment, over the given connection.
Post = Callable[[Publisher], Awaitable[None]]

_STALLED = 5.0
_PROBE_PADDING = 64
#: Connections that may be opened for each that is wanted, until they are spread evenly.
_TRIES = 50


class Window:
    """A span of time and of CPU: the server's and the generator's own."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self.wall_s = self.server_us = self.generator_share = 0.0

    def __enter__(self) -> Self:
        self._own = time.process_time_ns()
        self._wall = time.monotonic_ns()
        self._server = cpu_ns(self._pids)
        return self

    def __exit__(self, *exc: object) -> None:
        self.server_us = (cpu_ns(self._pids) - self._server) / 1000
        self.wall_s = (time.monotonic_ns() - self._wall) / 1e9
        self.generator_share = (time.process_time_ns() - self._own) / 1e9 / self.wall_s


def percentile(values: list[int], share: float) -> float:
    """The value below which ``share`` of the values lie, in thousandths of their unit; 0.0 of nothing."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1000


def result(job: Job, tally: Tally, window: Window, units: int, lost: int, latencies: list[int]) -> Result:
    """What was measured in a window, with CPU time a unit as its figure."""
    return Result(
        units=units,
        lost=lost,
        message_size=tally.message_size,
        wall_s=window.wall_s,
        server_cpu_us=window.server_us,
        value=window.server_us / units if job.pid else 0.0,
        p50_ms=percentile(latencies, 0.50),
        p99_ms=percentile(latencies, 0.99),
        generator_share=window.generator_share,
    )


def processes(job: Job) -> list[int]:
    """The processes that are measured, as they are now."""
    return [each for pid in (job.pid, *job.others) if pid for each in process_tree(pid)]


async def arrived(tally: Tally, expected: int) -> None:
    """Wait until so many messages arrived, or none has for some seconds."""
    seen, last = tally.received, time.monotonic()
    while tally.received < expected:
        await asyncio.sleep(0.005)
        if tally.received != seen:
            seen, last = tally.received, time.monotonic()
        elif time.monotonic() - last > _STALLED:
            return


async def calibrate(publisher: Publisher, tally: Tally, subscribers: int) -> messages.Filler:
    """Find the padding with which the message that arrives has the agreed size."""
    tally.reset()
    await publisher.post(messages.Filler(_PROBE_PADDING).body())
    await arrived(tally, subscribers)
    if tally.received != subscribers:
        raise BenchError(f"the probe reached {tally.received} of {subscribers} subscribers")
    return messages.Filler(max(0, _PROBE_PADDING + MESSAGE_SIZE - tally.message_size))


async def closed_loop(publishers: list[Publisher], post: Post, count: int) -> None:
    """Post so many publications, each connection the next one as soon as its last was answered."""
    left = iter(range(count))

    async def publishing(publisher: Publisher) -> None:
        for _ in left:
            await post(publisher)

    async with asyncio.TaskGroup() as group:
        for publisher in publishers:
            group.create_task(publishing(publisher))


async def open_publishers(job: Job, path: str, count: int) -> list[Publisher]:
    """Connections for posting, of which every worker of the host has the same number, in turns.

    :raises BenchError: if some worker does not get its part.
    """
    if job.workers <= 1:
        return [await Publisher.open(job, path) for _ in range(count)]
    part = -(-count // job.workers)
    of_worker: dict[str, list[Publisher]] = {}
    surplus: list[Publisher] = []
    while len(of_worker) < job.workers or min(map(len, of_worker.values())) < part:
        if len(surplus) > count * _TRIES:
            raise BenchError(f"connections do not reach all of {job.workers} workers: {sorted(of_worker)}")
        publisher = await Publisher.open(job, path)
        mine = of_worker.setdefault(await publisher.worker(), [])
        (mine if len(mine) < part else surplus).append(publisher)
    for publisher in surplus:
        publisher.close()
    return [publisher for turn in zip(*of_worker.values(), strict=True) for publisher in turn]


async def close(swarm: Swarm, publishers: list[Publisher]) -> None:
    """End all connections."""
    for publisher in publishers:
        publisher.close()
    await swarm.disconnect()
