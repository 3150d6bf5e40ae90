"""The loads: what is done to a server, and the window in which it is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import structs

from mechamap_rt.bench import messages
from mechamap_rt.bench.authloads import arrive, rush
from mechamap_rt.bench.batchloads import batched
from mechamap_rt.bench.clusterloads import memory, notify, reload, spread
from mechamap_rt.bench.httploads import health, visits
from mechamap_rt.bench.job import Job, LoadName, Result
from mechamap_rt.bench.measuring import (
    Post,
    Window,
    arrived,
    calibrate,
    close,
    closed_loop,
    open_publishers,
    processes,
    result,
)
from mechamap_rt.bench.presenceloads import ask_online, come_and_go, stay
from mechamap_rt.bench.procfs import memory_bytes
from mechamap_rt.bench.publisher import Publisher
from mechamap_rt.bench.subscriber import Swarm, Tally

_RAMP = 50


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
    filler = await calibrate(publishers[0], tally, job.connections)

    async def post(publisher: Publisher) -> None:
        await publisher.post(filler.body())

    async def run(count: int) -> None:
        tally.reset()
        if job.load == "flat":
            await closed_loop(publishers, post, count)
        else:
            await _paced(publishers[0], post, job, count)
        await arrived(tally, count * job.connections)

    await closed_loop(publishers, post, job.warmup)
    await arrived(tally, (job.warmup + 1) * job.connections)
    await asyncio.sleep(0.3)
    with Window(processes(job)) as window:
        await run(job.operations)
    expected, latencies = job.operations * job.connections, tally.latencies_us.tolist()
    lost = abs(expected - tally.received) + tally.disconnected
    measured = result(job, tally, window, expected, lost, latencies)
    await close(swarm, publishers)
    return measured


async def connect(job: Job) -> Result:
    """Clients that connect, authenticate and subscribe, some at once, and stay."""
    tally = Tally()
    swarm = Swarm(job, tally, channel=messages.CHANNEL)
    await swarm.connect(swarm.identities(job.warmup), job.in_flight)
    identities = swarm.identities(job.connections)
    del swarm.connect_us[:]
    await asyncio.sleep(0.3)
    with Window(processes(job)) as window:
        await swarm.connect(identities, job.in_flight)
    measured = result(job, tally, window, job.connections, tally.disconnected, swarm.connect_us.tolist())
    await close(swarm, [])
    return measured


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
    pids = processes(job)
    before = memory_bytes(pids)
    with Window(pids) as window:
        await swarm.connect(identities, _RAMP)
        await asyncio.sleep(job.settle)
        after = memory_bytes(pids)
    measured = result(job, tally, window, job.connections, tally.disconnected, swarm.connect_us.tolist())
    await close(swarm, [])
    return structs.replace(measured, value=(after - before) / 1024 / job.connections)


async def post(job: Job) -> Result:
    """Notifications to one user, one after the other over one kept connection, or one to each worker in turn."""
    tally = Tally()
    swarm = Swarm(structs.replace(job, sample=1), tally, channel="private-user.1")
    await swarm.connect(swarm.identities(1), 1)
    publishers = await open_publishers(job, messages.LARAVEL_PATH, 1)

    async def run(count: int) -> None:
        for number in range(count):
            await publishers[number % len(publishers)].post(messages.laravel_body(1, 1))

    await run(job.warmup)
    await arrived(tally, job.warmup)
    await asyncio.sleep(0.3)
    tally.reset()
    with Window(processes(job)) as window:
        await run(job.operations)
        await arrived(tally, job.operations)
    lost = abs(job.operations - tally.received) + tally.disconnected
    measured = result(job, tally, window, job.operations, lost, tally.latencies_us.tolist())
    await close(swarm, publishers)
    return measured


LOADS: Final[dict[LoadName, Callable[[Job], Awaitable[Result]]]] = {
    "flat": fanout,
    "paced": fanout,
    "idle": idle,
    "connect": connect,
    "post": post,
    "spread": spread,
    "notify": notify,
    "reload": reload,
    "memory": memory,
    "arrive": arrive,
    "rush": rush,
    "batched": batched,
    "come-and-go": come_and_go,
    "stay": stay,
    "ask-online": ask_online,
    "health": health,
    "visits": visits,
}
