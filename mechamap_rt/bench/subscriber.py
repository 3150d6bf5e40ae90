"""The clients of the load generator: they connect, and then do as little as a client can."""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jwt
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from mechamap_rt.bench import site
from mechamap_rt.bench.dialects import DIALECTS, Dialect, Identity, Refused
from mechamap_rt.bench.job import BenchError, Job
from mechamap_rt.bench.poller import Poller

#: Shorter messages after the handshake are heartbeats and answers, not publications.
_EVENT_FLOOR = 100
_HANDSHAKE = 1 << 30
_STAMP = re.compile(rb'"at":(\d{16})')
_STAMP_BASE = 10**15
_CONNECT_TIMEOUT = 20.0


def stamp() -> int:
    """Now, in microseconds of the monotonic clock, always 16 digits so that messages keep their size."""
    return _STAMP_BASE + time.monotonic_ns() // 1000


@dataclass(slots=True)
class Tally:
    """What all clients of a job count together.

    :ivar newest: the latest stamp that a client that looks at them has got.
    """

    received: int = 0
    disconnected: int = 0
    message_size: int = 0
    newest: int = 0
    latencies_us: array[int] = field(default_factory=lambda: array("q"))

    def arrived(self, count: int, size: int, stamps: list[bytes]) -> None:
        """So many publications came at once, to a client of long polling."""
        self.received += count
        self.message_size = size
        now = stamp() if stamps else 0
        self.latencies_us.extend(now - int(sent) for sent in stamps)

    def gone(self) -> None:
        """A client lost its connection."""
        self.disconnected += 1

    def reset(self) -> None:
        """Forget what was received; the measured window begins."""
        self.received = 0
        del self.latencies_us[:]


class Subscriber(WSListener):
    """One client that counts publications.

    :param ready: completed when the client is subscribed, failed when it is refused.
    """

    def __init__(self, dialect: Dialect, who: Identity, tally: Tally, ready: asyncio.Future[None]) -> None:
        self._dialect = dialect
        self._who = who
        self._ready = ready
        self._tally = tally
        self._floor = _HANDSHAKE
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        opening = self._dialect.opening(self._who)
        if opening is not None:
            transport.send(WSMsgType.TEXT, opening)
        elif self._dialect is DIALECTS["bare"]:
            self._become_ready()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size >= self._floor:
            self._tally.received += 1
        else:
            self._converse(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._tally.disconnected += 1
        if not self._ready.done():
            self._ready.set_exception(Refused("the server closed the connection before it was ready"))

    def disconnect(self) -> None:
        """Cut the connection."""
        if self.transport is not None and not self.transport.is_disconnected:
            self.transport.disconnect(graceful=False)

    def _converse(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = frame.get_payload_as_bytes()
        if self._floor != _HANDSHAKE:
            if message == b"2":
                transport.send(WSMsgType.TEXT, b"3")
            return
        try:
            reply, ready = self._dialect.advance(message, self._who)
        except Refused as refusal:
            if not self._ready.done():
                self._ready.set_exception(refusal)
            return
        if reply is not None:
            transport.send(WSMsgType.TEXT, reply)
        if ready:
            self._become_ready()

    def _become_ready(self) -> None:
        self._floor = _EVENT_FLOOR
        if not self._ready.done():
            self._ready.set_result(None)


class SampledSubscriber(Subscriber):
    """A client that also reads the time of publication out of each message."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size < self._floor:
            self._converse(transport, frame)
            return
        tally = self._tally
        tally.received += 1
        tally.message_size = frame.payload_size
        if found := _STAMP.search(frame.get_payload_as_memoryview()):
            sent = int(found[1])
            tally.newest = max(tally.newest, sent)
            tally.latencies_us.append(stamp() - sent)


C = TypeVar("C", bound=Subscriber)


def _named(channel: str, user: int) -> str:
    return channel.replace("{user}", str(user)).replace("{ten}", str(user // 10))


class Swarm:
    """The clients of one job.

    :param job: the job; its secret signs a JWT for each client, unless they come with Sanctum tokens; each client is
        another user, from 1.
    :param channel: what every client subscribes to; ``None`` to stay at its user's own. ``{user}`` in it is the user,
        ``{ten}`` one for each ten of them.
    """

    def __init__(self, job: Job, tally: Tally, *, channel: str | None) -> None:
        self._job = job
        self._tally = tally
        self._channel = channel
        self._next_user = 1
        self._dialect = DIALECTS[job.dialect]
        self._clients: list[Subscriber | Poller] = []
        self.connect_us: array[int] = array("q")

    def identities(self, count: int) -> list[Identity]:
        """Sign tokens for the next users; beforehand, so that signing is not measured as connecting."""
        first, self._next_user = self._next_user, self._next_user + count
        channel = self._channel
        return [
            Identity(self._token(user), None if channel is None else _named(channel, user))
            for user in range(first, first + count)
        ]

    def begin_at(self, user: int) -> None:
        """The next client is this user."""
        self._next_user = user

    async def open(self, kind: type[C], dialect: Dialect) -> C:
        """Connect one more client, of another kind, that subscribes to nothing.

        :raises BenchError: if it is refused or too slow.
        """
        user, self._next_user = self._next_user, self._next_user + 1
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client = kind(dialect, Identity(self._token(user), None), Tally(), ready)
        url = f"ws://{self._job.host}:{self._job.port}{dialect.path}"
        await ws_connect(lambda: client, url, extra_headers=dialect.headers, enable_auto_ping=False)
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            await ready
        return client

    def _token(self, user: int) -> str:
        if self._job.credential != "jwt":
            return site.token(user)
        now = int(time.time())
        claims = {"role": "member", "permissions": ["receive_notifications"], "iat": now, "exp": now + 7200}
        return jwt.encode({"userId": user, **claims}, self._job.jwt_secret, algorithm="HS256")

    async def connect(self, identities: list[Identity], concurrency: int) -> None:
        """Connect, authenticate and subscribe one client for each identity, so many at once.

        :raises BenchError: if one is refused or too slow.
        """
        waiting = iter(identities)

        async def connector() -> None:
            for who in waiting:
                await self._connect_one(who)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(connector())

    async def _connect_one(self, who: Identity) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sampled = len(self._clients) % self._job.sample == 0
        began = time.monotonic_ns()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                if self._job.dialect == "polling":
                    await self._open_poller(who, ready, sampled)
                else:
                    await self._open_websocket(who, ready, sampled)
                await ready
        except TimeoutError as error:
            raise BenchError(f"a client was not ready within {_CONNECT_TIMEOUT:.0f} s") from error
        except OSError as error:
            raise BenchError(f"a client could not connect: {error}") from error
        self.connect_us.append((time.monotonic_ns() - began) // 1000)

    async def _open_websocket(self, who: Identity, ready: asyncio.Future[None], sampled: bool) -> None:
        kind = SampledSubscriber if sampled else Subscriber
        client = kind(self._dialect, who, self._tally, ready)
        self._clients.append(client)
        options: dict[str, Any] = {"read_buffer_init_size": 4096, "enable_auto_ping": False}
        await ws_connect(
            lambda: client,
            f"ws://{self._job.host}:{self._job.port}{self._dialect.path}",
            extra_headers=self._dialect.headers,
            **options,
        )

    async def _open_poller(self, who: Identity, ready: asyncio.Future[None], sampled: bool) -> None:
        client = Poller(self._job.host, who, self._tally, ready, sampled, _EVENT_FLOOR)
        self._clients.append(client)
        await asyncio.get_running_loop().create_connection(lambda: client, self._job.host, self._job.port)

    async def disconnect(self) -> None:
        """Close every client, in pieces so that the server is not stormed."""
        clients, self._clients = self._clients, []
        for position, client in enumerate(clients):
            client.disconnect()
            if position % 100 == 99:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
