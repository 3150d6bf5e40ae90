"""Clients that come back when they are sent away, as socket.io-client and the native protocol have it; and a prober."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import orjson
from msgspec import structs
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from mechamap_rt.bench import messages
from mechamap_rt.bench.dialects import DIALECTS, Dialect, Identity
from mechamap_rt.bench.job import BenchError, DialectName, Job
from mechamap_rt.bench.subscriber import Swarm, Tally

_RAMP = 50
_LIMIT = 10.0
#: Seconds of waiting before socket.io-client comes back: ``reconnectionDelay``, half more or less at random; twice as
#: much after each failure.
_DELAY, _LONGEST = 1.0, 5.0
_ALL_BACK = 30.0
_WIRES: tuple[DialectName, ...] = ("native", "socketio")


class Comers:
    """So many clients, half of them native.

    :ivar back_at: when each client that had gone was subscribed again, in seconds of the monotonic clock.
    :ivar gaps: for how many seconds each was away.
    :ivar departures: how often a client that was subscribed lost its connection.
    :ivar faults: why attempts to connect failed.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._there: set[_Comer] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.back_at: list[float] = []
        self.gaps: list[float] = []
        self.departures = 0
        self.faults: list[str] = []

    async def connect(self, count: int) -> None:
        """Connect everybody, half native and half Socket.IO.

        :raises BenchError: if they are not all there in time.
        """
        identities = Swarm(self._job, Tally(), channel=messages.CHANNEL).identities(count)
        ramp = asyncio.Semaphore(_RAMP)
        first: list[asyncio.Future[None]] = []
        for number, who in enumerate(identities):
            wire = _WIRES[number % len(_WIRES)]
            first.append(asyncio.get_running_loop().create_future())
            self._tasks.append(
                asyncio.create_task(self._live(structs.replace(self._job, dialect=wire), who, ramp, first[-1]))
            )
        try:
            async with asyncio.timeout(_ALL_BACK):
                await asyncio.gather(*first)
        except TimeoutError as error:
            raise BenchError(f"{len(self._there)} of {count} clients are there; {self.faults[:1]}") from error

    async def _live(self, job: Job, who: Identity, ramp: asyncio.Semaphore, first: asyncio.Future[None]) -> None:
        """One client's life: connect, stay, and come back."""
        failures, left = 0, 0.0
        while True:
            comer = _Comer(DIALECTS[job.dialect], who)
            try:
                async with ramp if not first.done() else asyncio.Semaphore():
                    async with asyncio.timeout(_LIMIT):
                        await comer.connect(job)
            except (BenchError, OSError, TimeoutError) as fault:
                self.faults.append(f"{job.dialect}: {type(fault).__name__}: {fault}")
                failures += 1
                await asyncio.sleep(_pause(failures))
                continue
            failures = 0
            self._there.add(comer)
            if first.done():
                self.back_at.append(time.monotonic())
                self.gaps.append(self.back_at[-1] - left)
            else:
                first.set_result(None)
            await comer.gone
            left = time.monotonic()
            self._there.discard(comer)
            self.departures += 1
            await asyncio.sleep(_pause(0) if comer.delay is None else comer.delay)

    @property
    def missing(self) -> int:
        """Clients that are not there."""
        return len(self._tasks) - len(self._there)

    async def all_back(self, began: float) -> None:
        """Wait until everybody is there, for some time."""
        deadline = time.monotonic() + _ALL_BACK
        while self.missing and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    def disconnect(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()
        for comer in self._there:
            comer.cut()


def _pause(failures: int) -> float:
    return float(min(_LONGEST, _DELAY * 2**failures) * random.uniform(0.5, 1.5))


class _Comer(WSListener):
    """One connection.

    :ivar gone: completed when it has ended.
    :ivar delay: seconds after which the server wants the client back; ``None`` if it does not say.
    """

    def __init__(self, dialect: Dialect, who: Identity) -> None:
        loop = asyncio.get_running_loop()
        self._dialect = dialect
        self._who = who
        self._ready: asyncio.Future[None] = loop.create_future()
        self._transport: WSTransport | None = None
        self.gone: asyncio.Future[None] = loop.create_future()
        self.delay: float | None = None

    async def connect(self, job: Job) -> None:
        """Return when it is subscribed.

        :raises BenchError: if it is refused.
        :raises OSError: if there is no connection.
        """
        options: dict[str, Any] = {"read_buffer_init_size": 4096, "enable_auto_ping": False}
        url = f"ws://{job.host}:{job.port}{self._dialect.path}"
        try:
            await ws_connect(lambda: self, url, extra_headers=self._dialect.headers, **options)
            await self._ready
        except BaseException:
            self.cut()
            raise

    def cut(self) -> None:
        """End the connection."""
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        opening = self._dialect.opening(self._who)
        if opening is not None:
            transport.send(WSMsgType.TEXT, opening)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            return
        message = frame.get_payload_as_bytes()
        if not self._ready.done():
            self._advance(transport, message)
        elif message == b"2":
            transport.send(WSMsgType.TEXT, b"3")
        elif message.startswith(b'{"type":"reconnect"'):
            self.delay = orjson.loads(message)["delay"] / 1000

    def _advance(self, transport: WSTransport, message: bytes) -> None:
        try:
            reply, ready = self._dialect.advance(message, self._who)
        except BenchError as refusal:
            self._ready.set_exception(refusal)
            return
        if reply is not None:
            transport.send(WSMsgType.TEXT, reply)
        if ready:
            self._ready.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._ready.done():
            self._ready.set_exception(BenchError("the server closed the connection before it was ready"))
        if not self.gone.done():
            self.gone.set_result(None)


class Prober:
    """Somebody who asks ``GET /api/health`` at the job's rate, over a fresh connection each time.

    :ivar asked: how often it did.
    :ivar faults: what went wrong.
    :ivar took_us: how long each answer took, in microseconds.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stopped = False
        self.asked = 0
        self.faults: list[str] = []
        self.took_us: list[int] = []

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True

    async def run(self) -> None:
        """Ask until told to stop; return when everything was answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self._stopped:
                group.create_task(self._ask())
                self.asked += 1
                await asyncio.sleep(max(0.0, began + self.asked / self._job.rate - time.monotonic()))

    async def _ask(self) -> None:
        began = time.monotonic_ns()
        try:
            async with asyncio.timeout(_LIMIT):
                answer = await self._get()
            if not answer.startswith(b"HTTP/1.1 200 ") or b'"healthy"' not in answer:
                self.faults.append(f"health: {answer[:100]!r}")
        except (OSError, TimeoutError) as fault:
            self.faults.append(f"health: {type(fault).__name__}: {fault}")
        self.took_us.append((time.monotonic_ns() - began) // 1000)

    async def _get(self) -> bytes:
        reader, writer = await asyncio.open_connection(self._job.host, self._job.port)
        try:
            writer.write(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()
