"""The loads of presence: people who come and go, people who stay, and the question who is online."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

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
#: Seconds for an answer.
_LIMIT: Final = 10.0
_ANSWERS: Final = (b'42["subscribed"', b'42["unsubscribed"', b'42["online_users"')
#: Where it is watched who comes and goes, and where the others are: ten in each.
WATCHED: Final = "presence-public.watched"
TENS: Final = "presence-public.ten-{ten}"
ONLINE_PATH: Final = "/api/presence/online"


class _Asker(Subscriber):
    """A client that asks for something and waits for the answer, over and over."""

    _answer: asyncio.Future[bytes] | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._ready.done():
            return self._converse(transport, frame)
        if frame.msg_type != WSMsgType.TEXT:
            return None
        message = frame.get_payload_as_bytes()
        if message == b"2":
            transport.send(WSMsgType.TEXT, b"3")
        elif message.startswith(_ANSWERS) and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)
        return None

    async def ask(self, event: str, data: dict[str, Any]) -> bytes:
        """Send an event; the packet that answers it.

        :raises BenchError: there is none.
        """
        if self.transport is None:
            raise BenchError("the client is not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.TEXT, b"42" + orjson.dumps([event, data]))
        try:
            return await asyncio.wait_for(self._answer, _LIMIT)
        except TimeoutError as error:
            raise BenchError(f"{event} was not answered within {_LIMIT:.0f} s") from error


async def come_and_go(job: Job) -> Result:
    """One user comes to a channel and leaves it, before its watchers' eyes, while others are online elsewhere."""
    tally = Tally()
    others = Swarm(job, Tally(), channel=TENS)
    await others.connect(others.identities(job.crowd), _RAMP)
    watchers = Swarm(job, tally, channel=WATCHED)
    watchers.begin_at(job.crowd + 1)
    await watchers.connect(watchers.identities(job.watchers), min(_RAMP, job.watchers))
    visitor = await watchers.open(_Asker, DIALECTS[job.dialect])
    took: list[int] = []

    async def run(count: int) -> None:
        for _ in range(count):
            for event in ("subscribe", "unsubscribe"):
                began = time.monotonic_ns()
                await visitor.ask(event, {"channel": WATCHED})
                took.append((time.monotonic_ns() - began) // 1000)

    await run(job.warmup)
    await asyncio.sleep(_CALM)
    tally.reset()
    del took[:]
    expected = 2 * job.operations * job.watchers
    with Window(processes(job)) as window:
        await run(job.operations)
        await arrived(tally, expected)
    # who is told more than that somebody has come or gone is told too much
    lost = abs(expected - tally.received) + tally.disconnected
    measured = result(job, tally, window, 2 * job.operations, lost, took)
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
    """Who of a thousand users is online? Half of them are. One question after another, to each worker in turn.

    Then over a WebSocket, as clients ask.
    """
    tally = Tally()
    swarm = Swarm(job, tally, channel=None)
    await swarm.connect(swarm.identities(job.connections), min(_RAMP, job.connections))
    publishers = await open_publishers(job, ONLINE_PATH, 1)
    asked = {"user_ids": list(range(1, 2 * job.connections + 1))}
    body = orjson.dumps(asked)
    swarm.begin_at(2 * job.connections + 1)
    asker = await swarm.open(_Asker, DIALECTS[job.dialect])

    async def post(number: int) -> int:
        return int(orjson.loads(await publishers[number % len(publishers)].post(body))["count"])

    async def emit(number: int) -> int:
        answer = await asker.ask("who_is_online", asked)
        return len(orjson.loads(answer[2:])[1]["online"])

    by_post = await _asked(job, post)
    by_socket = await _asked(job, emit)
    measured = result(job, tally, by_post.window, job.operations, tally.disconnected, by_post.took)
    asker.disconnect()
    await close(swarm, publishers)
    figures = {
        "worst": percentile(by_post.took, 1.0),
        "socket_us": by_socket.window.server_us / job.operations,
        "socket_p99": percentile(by_socket.took, 0.99),
    }
    return structs.replace(measured, figures=figures)


class _Asked(NamedTuple):
    """A window, and how long each answer in it took, in microseconds."""

    window: Window
    took: list[int]


async def _asked(job: Job, ask: Callable[[int], Awaitable[int]]) -> _Asked:
    """Ask as often as the job says.

    :param ask: given a number, says how many are online.

    :raises BenchError: it is not half of them.
    """
    took: list[int] = []

    async def run(count: int) -> None:
        for number in range(count):
            began = time.monotonic_ns()
            online = await ask(number)
            took.append((time.monotonic_ns() - began) // 1000)
            if online != job.connections:
                raise BenchError(f"{online} of {job.connections} are said to be online")

    await run(job.warmup)
    await asyncio.sleep(_CALM)
    del took[:]
    with Window(processes(job)) as window:
        await run(job.operations)
    return _Asked(window, took)
