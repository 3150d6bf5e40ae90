"""The load of priorities: a counter that changes all the time, at once or gathered."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from msgspec import structs

from mechamap_rt.bench import messages
from mechamap_rt.bench.job import BenchError, Job, Result
from mechamap_rt.bench.measuring import Window, close, processes, result
from mechamap_rt.bench.publisher import Publisher
from mechamap_rt.bench.subscriber import Swarm, Tally, stamp

_RAMP: Final = 50
#: Connections that carry the publications.
_PUBLISHERS: Final = 4
#: Seconds in which the last value must have arrived.
_LIMIT: Final = 15.0


class _Counter:
    """Publishes the next value at a steady rate, whether or not the last has been answered."""

    def __init__(self, job: Job, publishers: list[Publisher]) -> None:
        self._job = job
        self._value = 0
        self._free: asyncio.Queue[Publisher] = asyncio.Queue()
        for publisher in publishers:
            self._free.put_nowait(publisher)

    async def _post(self, publisher: Publisher) -> None:
        self._value += 1
        await publisher.post(messages.counter_body(self._value, self._job.priority))
        self._free.put_nowait(publisher)

    async def run(self, count: int) -> tuple[float, int]:
        """Publish so many values, the last after all others were answered; how many a second, and a time before it."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(count - 1):
                ahead = began + number / self._job.rate - time.monotonic()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                group.create_task(self._post(await self._free.get()))
        since = stamp()
        await self._post(await self._free.get())
        return count / (time.monotonic() - began), since


async def _arrived(job: Job, tally: Tally, since: int, count: int) -> None:
    """Wait until a value published ``since`` has arrived at every client, and if nothing is gathered all ``count``.

    :raises BenchError: if it does not.
    """
    deadline = time.monotonic() + _LIMIT
    least = job.connections * (1 if job.priority else count)
    while tally.newest < since or tally.received < least or tally.received % job.connections:
        if time.monotonic() > deadline:
            clients = f"{job.connections} clients, of which {tally.disconnected} are gone"
            raise BenchError(f"the last value did not arrive: {tally.received} messages for {clients}")
        await asyncio.sleep(0.002)


async def batched(job: Job) -> Result:
    """One counter to all clients; ``longest`` is how long its last value took, in seconds."""
    tally = Tally()
    swarm = Swarm(job, tally, channel=messages.CHANNEL)
    await swarm.connect(swarm.identities(job.connections), min(_RAMP, job.connections))
    publishers = [await Publisher.open(job, messages.BROADCAST_PATH) for _ in range(_PUBLISHERS)]
    counter = _Counter(job, publishers)

    async def run(count: int) -> tuple[float, float]:
        tally.reset()
        rate, since = await counter.run(count)
        await _arrived(job, tally, since, count)
        return rate, (stamp() - since) / 1e6

    if job.warmup:
        await run(job.warmup)
    await asyncio.sleep(0.3)
    with Window(processes(job)) as window:
        rate, longest = await run(job.operations)
    # what is gathered is replaced by what is newer; without that every value arrives
    missing = 0 if job.priority else job.operations * job.connections - tally.received
    lost = abs(missing) + tally.disconnected
    measured = result(job, tally, window, job.operations, lost, tally.latencies_us.tolist())
    figures = {"rate": rate, "received": tally.received / job.connections, "longest": longest}
    await close(swarm, publishers)
    return structs.replace(measured, figures=figures)
