"""The loads: what is done to a server, and the window in which it is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Self

from msgspec import structs

from mechamap_rt.bench import messages
from mechamap_rt.bench.job import MESSAGE_SIZE, BenchError, Job, LoadName, Result
from mechamap_rt.bench.procfs import cpu_ns, memory_bytes, process_tree
from mechamap_rt.bench.publisher import Publisher
from mechamap_rt.bench.subscriber import Swarm, Tally

#: Posts one publication, made at that moment, over the given connection.
Post = Callable[[Publisher], Awaitable[None]]

_STALLED = 5.0
_RAMP = 50
_PROBE_PADDING = 64


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


def _result(job: Job, tally: Tally, window: Window, units: int, lost: int, latencies: list[int]) -> Result:
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


def _pids(job: Job) -> list[int]:
    return process_tree(job.pid) if job.pid else []


async def _arrived(tally: Tally, expected: int) -> None:
    """Wait until so many messages arrived, or none has for some seconds."""
    seen, last = tally.received, time.monotonic()
    while tally.received < expected:
        await asyncio.sleep(0.005)
        if tally.received != seen:
            seen, last = tally.received, time.monotonic()
        elif time.monotonic() - last > _STALLED:
            return


async def _calibrate(publisher: Publisher, tally: Tally, subscribers: int) -> messages.Filler:
    """Find the padding with which the message that arrives has the agreed size."""
    tally.reset()
    await publisher.post(messages.Filler(_PROBE_PADDING).body())
    await _arrived(tally, subscribers)
    if tally.received != subscribers:
        raise BenchError(f"the probe reached {tally.received} of {subscribers} subscribers")
    return messages.Filler(max(0, _PROBE_PADDING + MESSAGE_SIZE - tally.message_size))


async def _closed_loop(publishers: list[Publisher], post: Post, count: int) -> None:
    """Post so many publications, each connection the next one as soon as its last was answered."""
    left = iter(range(count))

    async def publishing(publisher: Publisher) -> None:
        for _ in left:
            await post(publisher)

    async with asyncio.TaskGroup() as group:
        for publisher in publishers:
            group.create_task(publishing(publisher))


async def _paced(publisher: Publisher, post: Post, job: Job, count: int) -> None:
    """Post so many publications at the job's rate; one that is late does not delay the next."""
    began = time.monotonic()
    for number in range(count):
        await asyncio.sleep(began + number / job.rate - time.monotonic())
        await post(publisher)


async def fanout(job: Job) -> Result:
    """Publications on one channel to all clients: in a closed loop (``flat``) or at a rate (``paced``)."""
    tally = Tally()
    swarm = Swarm(job, tally, channel=messages.CHANNEL)
    await swarm.connect(swarm.identities(job.connections), min(_RAMP, job.connections))
    in_flight = job.in_flight if job.load == "flat" else 1
    publishers = [await Publisher.open(job, messages.BROADCAST_PATH) for _ in range(in_flight)]
    filler = await _calibrate(publishers[0], tally, job.connections)

    async def post(publisher: Publisher) -> None:
        await publisher.post(filler.body())

    async def run(count: int) -> None:
        tally.reset()
        if job.load == "flat":
            await _closed_loop(publishers, post, count)
        else:
            await _paced(publishers[0], post, job, count)
        await _arrived(tally, count * job.connections)

    await _closed_loop(publishers, post, job.warmup)
    await _arrived(tally, (job.warmup + 1) * job.connections)
    await asyncio.sleep(0.3)
    with Window(_pids(job)) as window:
        await run(job.operations)
    expected, latencies = job.operations * job.connections, tally.latencies_us.tolist()
    lost = abs(expected - tally.received) + tally.disconnected
    result = _result(job, tally, window, expected, lost, latencies)
    await _close(swarm, publishers)
    return result


async def connect(job: Job) -> Result:
    """Clients that connect, authenticate and subscribe, some at once, and stay."""
    tally = Tally()
    swarm = Swarm(job, tally, channel=messages.CHANNEL)
    await swarm.connect(swarm.identities(job.warmup), job.in_flight)
    identities = swarm.identities(job.connections)
    del swarm.connect_us[:]
    await asyncio.sleep(0.3)
    with Window(_pids(job)) as window:
        await swarm.connect(identities, job.in_flight)
    result = _result(job, tally, window, job.connections, tally.disconnected, swarm.connect_us.tolist())
    await _close(swarm, [])
    return result


async def idle(job: Job) -> Result:
    """Connections that say nothing: the memory that each one costs.

    Some connections are there before and stay: they use up what the start of the server left free in its heap, so
    that the others show what one more connection costs.
    """
    tally = Tally()
    swarm = Swarm(job, tally, channel=None)
    await swarm.connect(swarm.identities(job.warmup), _RAMP)
    identities = swarm.identities(job.connections)
    del swarm.connect_us[:]
    await asyncio.sleep(job.settle)
    pids = _pids(job)
    before = memory_bytes(pids)
    with Window(pids) as window:
        await swarm.connect(identities, _RAMP)
        await asyncio.sleep(job.settle)
        after = memory_bytes(pids)
    measured = _result(job, tally, window, job.connections, tally.disconnected, swarm.connect_us.tolist())
    await _close(swarm, [])
    return structs.replace(measured, value=(after - before) / 1024 / job.connections)


async def post(job: Job) -> Result:
    """Notifications to one user, one after the other over one kept connection."""
    tally = Tally()
    swarm = Swarm(structs.replace(job, sample=1), tally, channel="private-user.1")
    await swarm.connect(swarm.identities(1), 1)
    publishers = [await Publisher.open(job, messages.LARAVEL_PATH)]

    async def notify(publisher: Publisher) -> None:
        await publisher.post(messages.laravel_body(1, 1))

    await _closed_loop(publishers, notify, job.warmup)
    await _arrived(tally, job.warmup)
    await asyncio.sleep(0.3)
    tally.reset()
    with Window(_pids(job)) as window:
        await _closed_loop(publishers, notify, job.operations)
        await _arrived(tally, job.operations)
    lost = abs(job.operations - tally.received) + tally.disconnected
    result = _result(job, tally, window, job.operations, lost, tally.latencies_us.tolist())
    await _close(swarm, publishers)
    return result


async def _close(swarm: Swarm, publishers: list[Publisher]) -> None:
    for publisher in publishers:
        publisher.close()
    await swarm.disconnect()


LOADS: Final[dict[LoadName, Callable[[Job], Awaitable[Result]]]] = {
    "flat": fanout,
    "paced": fanout,
    "idle": idle,
    "connect": connect,
    "post": post,
}
