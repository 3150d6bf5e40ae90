"""The loads of several processes: fan-out that leaves the cores to them, Redis between hosts, a reload, memory."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import orjson
from msgspec import structs

from mechamap_rt.bench import messages
from mechamap_rt.bench.comers import Comers, Prober
from mechamap_rt.bench.job import BenchError, Job, Result
from mechamap_rt.bench.lazy import Crowd
from mechamap_rt.bench.measuring import (
    Window,
    arrived,
    calibrate,
    close,
    closed_loop,
    open_publishers,
    percentile,
    processes,
    result,
)
from mechamap_rt.bench.procfs import memory_of, process_tree
from mechamap_rt.bench.publisher import Publisher
from mechamap_rt.bench.subscriber import Swarm, Tally

_RAMP = 50
#: One subscriber in so many reads at once and measures latency.
_PROMPT = 50
#: Connections that carry the publications of ``notify``.
_PUBLISHERS = 8
_JOINED = 10.0
#: Seconds before and after a reload.
_CALM = 1.0
_MIB = 1024 * 1024


async def spread(job: Job) -> Result:
    """Publications on one channel to all clients, in a closed loop over connections to every worker."""
    tally, crowd = Tally(), Crowd(job)
    swarm = Swarm(structs.replace(job, sample=1), tally, channel=messages.CHANNEL)
    identities = swarm.identities(job.connections)
    prompt = max(1, job.connections // _PROMPT)
    await swarm.connect(identities[:prompt], min(_RAMP, prompt))
    await crowd.connect(identities[prompt:], min(_RAMP, job.connections))
    publishers = await open_publishers(job, messages.BROADCAST_PATH, job.in_flight)
    filler = await calibrate(publishers[0], tally, prompt)

    async def post(publisher: Publisher) -> None:
        await publisher.post(filler.body())

    async def run(count: int) -> None:
        tally.reset()
        crowd.reset()
        await closed_loop(publishers, post, count)
        await arrived(tally, count * prompt)
        await crowd.arrived(tally.message_size, count * (job.connections - prompt))

    await asyncio.sleep(0.1)
    await run(job.warmup)
    await asyncio.sleep(0.3)
    with Window(processes(job)) as window:
        await run(job.operations)
    expected, latencies = job.operations * job.connections, tally.latencies_us.tolist()
    came = tally.received + crowd.received(tally.message_size)
    lost = abs(expected - came) + tally.disconnected + crowd.disconnected
    measured = result(job, tally, window, expected, lost, latencies)
    await close(swarm, publishers)
    await crowd.disconnect()
    return structs.replace(measured, figures={"rate": expected / window.wall_s})


async def notify(job: Job) -> Result:
    """Notifications to one user at a steady rate, whether or not the last one has been answered."""
    tally = Tally()
    its = structs.replace(job, sample=1, port=job.subscriber_port or job.port)
    swarm = Swarm(its, tally, channel="private-user.1")
    await swarm.connect(swarm.identities(1), 1)
    publishers = await open_publishers(job, messages.LARAVEL_PATH, _PUBLISHERS)
    await _joined(publishers[0], tally)
    free: asyncio.Queue[Publisher] = asyncio.Queue()
    for publisher in publishers:
        free.put_nowait(publisher)

    async def one(publisher: Publisher) -> None:
        await publisher.post(messages.laravel_body(1, 1))
        free.put_nowait(publisher)

    async def run(count: int) -> float:
        tally.reset()
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                ahead = began + number / job.rate - time.monotonic()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                group.create_task(one(await free.get()))
        took = time.monotonic() - began
        await arrived(tally, count)
        return count / took

    await run(job.warmup)
    await asyncio.sleep(0.3)
    with Window(processes(job)) as window:
        rate = await run(job.operations)
    lost = abs(job.operations - tally.received) + tally.disconnected
    measured = result(job, tally, window, job.operations, lost, tally.latencies_us.tolist())
    await close(swarm, publishers)
    return structs.replace(measured, figures={"rate": rate})


async def _joined(publisher: Publisher, tally: Tally) -> None:
    """Wait until what is published arrives.

    :raises BenchError: if it never does.
    """
    deadline = time.monotonic() + _JOINED
    while not tally.received:
        if time.monotonic() > deadline:
            raise BenchError("what is published does not arrive")
        await publisher.post(messages.laravel_body(1, 1))
        await asyncio.sleep(0.1)


async def reload(job: Job) -> Result:
    """``mechamapctl reload`` with clients that come back by themselves, while somebody asks for health all the time."""
    if not job.control:
        raise BenchError("a reload needs the server's control socket")
    comers, prober = Comers(job), Prober(job)
    await comers.connect(job.connections)
    probing = asyncio.create_task(prober.run())
    await asyncio.sleep(_CALM)
    with Window([]) as window:
        began = time.monotonic()
        answer = await _mechamapctl(job, "reload", "--drain", f"{job.drain:g}s")
        took = time.monotonic() - began
        await comers.all_back(began)
    back = max(comers.back_at, default=began) - began
    await asyncio.sleep(_CALM)
    prober.stop()
    await probing
    gaps = [int(gap * 1e6) for gap in comers.gaps]
    figures = {
        "back": back,
        "left": float(comers.departures),
        "http": float(prober.asked),
        "http_failed": float(len(prober.faults)),
        "refused": float(len(comers.faults)),
        "dismissed": float(answer["dismissed"]),
        "gap_p99": percentile(gaps, 0.99) / 1000,
        "http_p99_ms": percentile(prober.took_us, 0.99),
    }
    faults = [*prober.faults, *comers.faults]
    measured = Result(
        units=job.connections,
        lost=comers.missing,
        message_size=0,
        wall_s=window.wall_s,
        server_cpu_us=0.0,
        value=took,
        p50_ms=0.0,
        p99_ms=0.0,
        generator_share=window.generator_share,
        figures=figures,
        faults=sorted(set(faults))[:10],
    )
    comers.disconnect()
    return measured


async def _mechamapctl(job: Job, *arguments: str) -> dict[str, int]:
    """The answer to a command to the server.

    :raises BenchError: if it was refused.
    """
    command = (str(Path(sys.executable).with_name("mechamapctl")), "--socket", job.control, "--json", *arguments)
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    answer, noise = await running.communicate()
    if running.returncode:
        raise BenchError(f"mechamapctl {arguments[0]}: {(noise or answer).decode(errors='replace').strip()[-500:]}")
    found: dict[str, int] = orjson.loads(answer)
    return found


async def memory(job: Job) -> Result:
    """A server that has started and has nothing to do: its processes' memory, in MiB."""
    await asyncio.sleep(job.settle)
    master, *workers = process_tree(job.pid)
    with Window([]) as window:
        of_master, of_workers = memory_of(master), [memory_of(pid) for pid in workers]
        await asyncio.sleep(0.01)
    figures = {f"master_{kind}": amount / _MIB for kind, amount in of_master.items()} if workers else {}
    for kind in of_master:
        largest = max(each[kind] for each in of_workers or [of_master])
        figures[f"worker_{kind}"] = largest / _MIB
    figures["total_pss"] = sum(each["pss"] for each in (of_master, *of_workers)) / _MIB
    return Result(
        units=max(1, len(workers)),
        lost=0,
        message_size=0,
        wall_s=window.wall_s,
        server_cpu_us=0.0,
        value=figures["worker_rss"],
        p50_ms=0.0,
        p99_ms=0.0,
        generator_share=window.generator_share,
        figures=figures,
    )
