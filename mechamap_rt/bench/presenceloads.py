"""The loads of presence: people who come and go, people who stay, and the question who is online."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import orjson
from msgspec import structs
from picows import WSFrame, WSMsgType, WSTransport

from mechamap_rt.bench.dialects import DIALECTS
from mechamap_rt.bench.job import BenchError, Job, Result
from mechamap_rt.bench.measuring import Window, arrived, close, open_publishers, percentile, processes, result
from mechamap_rt.bench.procfs import memory_bytes
from mechamap_rt.bench.subscriber import Subscriber, Swarm, Tally

_RAMP: Final = 50
_CALM: Final = 1.0
_ANSWER: Final = 10.0
#: Where it is watched who comes and goes, and where the others are: ten in each.
WATCHED: Final = "presence-public.watched"
TENS: Final = "presence-public.ten-{ten}"
ONLINE_PATH: Final = "/api/presence/online"


class _Visitor(Subscriber):
    """A client that subscribes and unsubscribes, over and over."""

    _answer: asyncio.Future[None] | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._ready.done():
            return self._converse(transport, frame)
        if frame.msg_type != WSMsgType.TEXT:
            return None
        message = frame.get_payload_as_bytes()
        if message == b"2":
            transport.send(WSMsgType.TEXT, b"3")
        elif message.startswith((b'42["subscribed"', b'42["unsubscribed"')) and self._answer is not None:
            self._answer.set_result(None)
        return None

    async def ask(self, event: str) -> None:
        """Subscribe, or unsubscribe, and wait for the answer.

        :raises BenchError: there is none.
        """
        if self.transport is None:
            raise BenchError("the visitor is not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.TEXT, b"42" + orjson.dumps([event, {"channel": WATCHED}]))
        try:
            await asyncio.wait_for(self._answer, _ANSWER)
        except TimeoutError as error:
            raise BenchError(f"{event} was not answered within {_ANSWER:.0f} s") from error


async def come_and_go(job: Job) -> Result:
    """One user comes to a channel and leaves it, before its watchers' eyes, while others are online elsewhere."""
    tally = Tally()
    others = Swarm(job, Tally(), channel=TENS)
    await others.connect(others.identities(job.crowd), _RAMP)
    watchers = Swarm(job, tally, channel=WATCHED)
    watchers.begin_at(job.crowd + 1)
    await watchers.connect(watchers.identities(job.watchers), min(_RAMP, job.watchers))
    visitor = await watchers.open(_Visitor, DIALECTS[job.dialect])

    async def run(count: int) -> None:
        for _ in range(count):
            await visitor.ask("subscribe")
            await visitor.ask("unsubscribe")

    await run(job.warmup)
    await asyncio.sleep(_CALM)
    tally.reset()
    expected = 2 * job.operations * job.watchers
    with Window(processes(job)) as window:
        await run(job.operations)
        await arrived(tally, expected)
    lost = abs(expected - tally.received) + tally.disconnected
    measured = result(job, tally, window, 2 * job.operations, lost, [])
    visitor.disconnect()
    await close(watchers, [])
    await close(others, [])
    return structs.replace(measured, figures={"per_watcher": measured.value / job.watchers})


async def stay(job: Job) -> Result:
    """People who are online and say nothing: per cent of a core, and what each costs in memory."""
    tally = Tally()
    swarm = Swarm(job, tally, channel=job.channel)
    pids = processes(job)
    before = memory_bytes(pids)
    await swarm.connect(swarm.identities(job.connections), _RAMP)
    await asyncio.sleep(_CALM)
    with Window(pids) as window:
        await asyncio.sleep(job.settle)
    grown = (memory_bytes(pids) - before) / 1024 / job.connections
    measured = result(job, tally, window, job.connections, tally.disconnected, [])
    await close(swarm, [])
    share = window.server_us / 1e4 / window.wall_s
    return structs.replace(measured, value=share, figures={"memory": grown})


async def ask_online(job: Job) -> Result:
    """Who of a thousand users is online? Half of them are. One question after another, to each worker in turn."""
    tally = Tally()
    swarm = Swarm(job, tally, channel=None)
    await swarm.connect(swarm.identities(job.connections), min(_RAMP, job.connections))
    publishers = await open_publishers(job, ONLINE_PATH, 1)
    body = orjson.dumps({"user_ids": list(range(1, 2 * job.connections + 1))})
    took: list[int] = []

    async def run(count: int) -> None:
        for number in range(count):
            began = time.monotonic_ns()
            answer = await publishers[number % len(publishers)].post(body)
            took.append((time.monotonic_ns() - began) // 1000)
            if orjson.loads(answer)["count"] != job.connections:
                raise BenchError(f"{orjson.loads(answer)['count']} of {job.connections} are said to be online")

    await run(job.warmup)
    await asyncio.sleep(_CALM)
    del took[:]
    with Window(processes(job)) as window:
        await run(job.operations)
    measured = result(job, tally, window, job.operations, tally.disconnected, took)
    await close(swarm, publishers)
    return structs.replace(measured, figures={"worst": percentile(took, 1.0), "p99": percentile(took, 0.99)})
