"""Those who must not notice: clients of every protocol, and a backend that publishes, in one thread of asyncio.

Every publication has a number. A client that was subscribed before a publication was asked for, and still is after it
was answered, must have got it, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson

from tests.clients.waiting import until
from tests.server import Server

CHANNEL = "public.chaos"
EVENT = "tick"
#: Seconds before the end of a connection in which what was published may not have come any more.
GRACE = 0.3
#: The same for a connection that was cut.
CUT_GRACE = 1.5
REQUEST_LIMIT = 15.0

_numbers = itertools.count(1)
_users = itertools.count(1000)


@dataclass(slots=True)
class Publication:
    """One publication: its number, when it was asked for and answered, and with what."""

    number: int
    asked: float
    done: float = 0.0
    status: int = 0
    subscribers: int = -1
    fault: str = ""

    @property
    def took(self) -> float:
        return self.done - self.asked


@dataclass(slots=True)
class Visit:
    """One connection of a client.

    :ivar node: the name of the worker that has it.
    :ivar got: the numbers of the publications, in the order they came, and ``at`` when each did.
    :ivar code: of the close frame, if one came.
    :ivar told: the ``service_status`` events.
    """

    opened: float
    node: str = ""
    subscribed: float = 0.0
    ended: float = 0.0
    code: int | None = None
    fault: str = ""
    greeting: dict[str, Any] = field(default_factory=dict)
    got: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    own: list[int] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.subscribed > 0 and not self.ended


class Client:
    """One client, which comes back whenever it is let go."""

    def __init__(self, server: Server, kind: str, user: int) -> None:
        self.server = server
        self.kind = kind
        self.user = user
        self.visits: list[Visit] = []

    @property
    def visit(self) -> Visit:
        return self.visits[-1]

    @property
    def live(self) -> bool:
        return bool(self.visits) and self.visit.live

    @property
    def node(self) -> str:
        return self.visit.node if self.live else ""

    async def run(self) -> None:
        token = self.server.token(self.user)
        while True:
            visit = Visit(time.monotonic())
            self.visits.append(visit)
            try:
                await _KINDS[self.kind](self, visit, token)
            except (TimeoutError, OSError, asyncio.IncompleteReadError, _Refused) as error:
                visit.fault = repr(error)
            visit.ended = time.monotonic()
            await asyncio.sleep(random.uniform(0.05, 0.3))

    # the protocols

    async def _native(self, visit: Visit, token: str) -> None:
        async with _websocket(self.server.port, f"/ws?token={token}") as stream:
            async for text in stream.messages(visit):
                message = orjson.loads(text)
                if message["type"] == "connected":
                    self._greeted(visit, message)
                    stream.send(orjson.dumps({"type": "subscribe", "channel": CHANNEL}))
                elif message["type"] == "reply":
                    visit.subscribed = time.monotonic()
                elif message["type"] == "event":
                    self._event(visit, message["event"], message["data"])

    async def _socketio(self, visit: Visit, token: str) -> None:
        async with _websocket(self.server.port, "/socket.io/?EIO=4&transport=websocket") as stream:
            async for packet in stream.messages(visit):
                for answer in self._packet(visit, packet, token):
                    stream.send(answer)

    async def _polling(self, visit: Visit, token: str) -> None:
        """Every request over a connection of its own, so that it comes to any worker."""
        path = "/socket.io/?EIO=4&transport=polling"
        while True:
            _, body = await _request(self.server.port, "GET", path, limit=60.0)
            for packet in body.split(b"\x1e"):
                if packet[:1] == b"0":
                    path += "&sid=" + orjson.loads(packet[1:])["sid"]
                if packet[:1] == b"1":
                    visit.code = 1012
                    return
                for answer in self._packet(visit, packet, token):
                    await _request(self.server.port, "POST", path, answer)

    def _packet(self, visit: Visit, packet: bytes, token: str) -> Iterator[bytes]:
        """What to answer to a packet of Engine.IO."""
        if packet[:1] == b"0":
            yield b"40" + orjson.dumps({"token": token})
        elif packet[:1] == b"2":
            yield b"3"
        elif packet[:2] == b"42":
            event, data = orjson.loads(packet[2:])
            if event == "connected":
                self._greeted(visit, data)
                yield b"42" + orjson.dumps(["subscribe", {"channel": CHANNEL}])
            elif event == "subscribed":
                visit.subscribed = time.monotonic()
            else:
                self._event(visit, event, data)

    def _greeted(self, visit: Visit, greeting: dict[str, Any]) -> None:
        visit.greeting = greeting
        visit.node = greeting["socketId"][:6]

    def _event(self, visit: Visit, event: str, data: dict[str, Any]) -> None:
        if event == EVENT:
            visit.got.append(data["n"])
            visit.at.append(time.monotonic())
        elif event == "own":
            visit.own.append(data["n"])
        elif event == "service_status":
            visit.told.append(data["status"])


_KINDS: dict[str, Callable[[Client, Visit, str], Awaitable[None]]] = {
    "native": Client._native,
    "socketio": Client._socketio,
    "polling": Client._polling,
}


class Bystanders:
    """The clients and the backend. A context manager: its thread ends with it."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.publications: list[Publication] = []
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(REQUEST_LIMIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(REQUEST_LIMIT)
        self._loop.close()

    async def _leave(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, work: Any) -> asyncio.Task[Any]:
        """Start something in the thread."""

        async def start() -> asyncio.Task[Any]:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return task

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result(REQUEST_LIMIT)

    # clients

    def join(self, server: Server, count: int, kinds: Sequence[str] = ("native", "socketio")) -> list[Client]:
        """So many clients more, of each kind in turn; returns when they are subscribed."""
        joined = [Client(server, kinds[number % len(kinds)], next(_users)) for number in range(count)]
        self.clients += joined
        for at in range(0, count, 50):
            for client in joined[at : at + 50]:
                self.begin(client.run())
            until(lambda: all(client.live for client in joined[: at + 50]), lambda: _absent(joined), 20)  # noqa: B023
        return joined

    def of(self, *nodes: str) -> list[Client]:
        """The clients of these workers, now."""
        return [client for client in self.clients if client.node in nodes]

    def wait_all_live(self, limit: float = 10.0) -> None:
        until(lambda: all(client.live for client in self.clients), lambda: _absent(self.clients), limit)

    # the backend

    def publish_steadily(self, *servers: Server, rate: float = 50.0, size: int = 0) -> asyncio.Task[Any]:
        """Publish from now on, each over a fresh connection, whether or not the ones before were answered."""
        return self.begin(self._publish_steadily(servers, rate, size))

    async def _publish_steadily(self, servers: Sequence[Server], rate: float, size: int) -> None:
        at = time.monotonic()
        for server in itertools.cycle(servers):
            task = asyncio.create_task(self._publish(server, size))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            at += 1 / rate
            await asyncio.sleep(max(0.0, at - time.monotonic()))

    async def _publish(self, server: Server, size: int = 0, channel: str = CHANNEL, event: str = EVENT) -> Publication:
        one = Publication(next(_numbers), time.monotonic())
        if event == EVENT:
            self.publications.append(one)
        body = orjson.dumps({"channel": channel, "event": event, "data": {"n": one.number, "x": "x" * size}})
        try:
            one.status, answer = await _request(
                server.port, "POST", "/api/broadcast", body, server.settings["LARAVEL_API_KEY"]
            )
            if one.status == 200:
                one.subscribers = json.loads(answer).get("subscriberCount", -1)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, _Refused) as error:
            one.fault = repr(error)
        one.done = time.monotonic()
        return one

    def publish(self, server: Server, **members: Any) -> Publication:
        """One publication, answered."""
        work = self._publish(server, **members)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(REQUEST_LIMIT + 1)

    def stop(self, task: asyncio.Task[Any]) -> None:
        """End a steady publishing, and wait until what was asked for is answered."""
        self._loop.call_soon_threadsafe(task.cancel)
        until(lambda: all(one.done for one in self.publications), lambda: "publications are not answered", 20)

    # the verdict

    def failed(self) -> list[Publication]:
        """The publications that were not accepted."""
        return [one for one in self.publications if one.done and one.status != 200]

    def slowest(self, since: float = 0.0) -> float:
        """Seconds of the publication that took longest, of those asked for from ``since`` on."""
        return max((one.took for one in self.publications if one.done and one.asked >= since), default=0.0)

    def latencies(self, since: float, until: float) -> list[float]:
        """Seconds from asking for a publication until a client had it, of all that were asked for in that time."""
        asked = {one.number: one.asked for one in self.publications if since <= one.asked < until}
        arrivals = [pair for client in self.clients for v in client.visits for pair in zip(v.got, v.at, strict=True)]
        return sorted(at - asked[number] for number, at in arrivals if number in asked)

    def lost(self, clients: Sequence[Client] | None = None) -> list[tuple[Client, int]]:
        """(client, number of the publication) of all that should have come and has not."""
        accepted = [one for one in self.publications if one.status == 200]
        missing = []
        for client in self.clients if clients is None else clients:
            for visit in client.visits:
                if not visit.subscribed:
                    continue
                last = time.monotonic() if not visit.ended else visit.ended - (GRACE if visit.code else CUT_GRACE)
                got = set(visit.got)
                missing += [
                    (client, one.number)
                    for one in accepted
                    if one.asked > visit.subscribed and one.done < last and one.number not in got
                ]
        return missing

    def doubled(self, clients: Sequence[Client] | None = None) -> list[tuple[Client, int]]:
        """(client, number of the publication) of all that came more than once."""
        found = []
        for client in self.clients if clients is None else clients:
            counts = Counter(number for visit in client.visits for number in visit.got)
            found += [(client, number) for number, count in counts.items() if count > 1]
        return found

    def disturbed(self, clients: Sequence[Client]) -> list[Client]:
        """Those that had to come back."""
        return [client for client in clients if len(client.visits) > 1 or not client.live]

    def settle(self, clients: Sequence[Client] | None = None, limit: float = 8.0) -> None:
        """Everything that should come has come, once."""
        until(lambda: not self.lost(clients), lambda: f"lost: {described(self.lost(clients))}", limit)
        assert not self.doubled(clients), f"doubled: {described(self.doubled(clients))}"


def described(found: list[tuple[Client, int]]) -> str:
    clients = {client.user: client for client, _ in found}
    visits = [(client.kind, client.server.port, *(v.node for v in client.visits)) for client in clients.values()]
    numbers = sorted({number for _, number in found})
    return f"{len(found)} by {len(clients)} clients {visits[:8]}, numbers {numbers[:20]}"


def _absent(clients: Sequence[Client]) -> str:
    absent = [(client.kind, client.visits[-2:]) for client in clients if not client.live]
    return f"{len(absent)} clients are not there: {absent[:3]}"


# the wire


class _Refused(Exception):
    """The handshake was refused, or an answer made no sense."""


class _Stream:
    """A WebSocket, as raw as can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, payload: bytes, opcode: int = 1) -> None:
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self._writer.write(bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload)

    async def messages(self, visit: Visit) -> Any:
        """Text messages until the server closes."""
        buffer = b""
        while True:
            data = await self._reader.read(262_144)
            if not data:
                return
            buffer += data
            at = 0
            while (frame := _frame(buffer, at)) is not None:
                opcode, payload, at = frame
                if opcode == 1:
                    yield payload
                elif opcode == 9:
                    self.send(payload, 10)
                elif opcode == 8:
                    visit.code = int.from_bytes(payload[:2], "big")
                    self.send(payload[:2], 8)
            buffer = buffer[at:]


def _frame(buffer: bytes, at: int) -> tuple[int, bytes, int] | None:
    if len(buffer) - at < 2:
        return None
    size, start = buffer[at + 1], at + 2
    if size == 126:
        size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
    elif size == 127:
        size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
    if len(buffer) < start + size:
        return None
    return buffer[at] & 15, buffer[start : start + size], start + size


@contextlib.asynccontextmanager
async def _websocket(port: int, path: str) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        key = b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_LIMIT)
        if b" 101 " not in head:
            raise _Refused(head[:100])
        yield _Stream(reader, writer)
    finally:
        writer.close()


async def _request(
    port: int, method: str, path: str, body: bytes = b"", key: str = "", limit: float = REQUEST_LIMIT
) -> tuple[int, bytes]:
    """One request over a fresh connection; the status, and the body of the answer."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), limit)
    try:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Length: {len(body)}"]
        if key:
            lines += [f"X-WebSocket-API-Key: {key}", "Content-Type: application/json"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), limit)
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer = await asyncio.wait_for(reader.readexactly(length), limit)
        status = int(head[9:12])
        if status != 200 and not key:
            raise _Refused(answer)
        return status, answer
    finally:
        writer.close()
