"""Subscribers that cost next to nothing: what comes is thrown away by the kernel, and only its bytes are counted.

A client that reads each message at once takes more time for it than the server did to send it. These are looked at now
and then, all that has come is dropped with one call (``MSG_TRUNC``, tcp(7)), and the cores are left to the servers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import time
from array import array

from mechamap_rt.bench.dialects import DIALECTS, Dialect, Identity
from mechamap_rt.bench.job import BenchError, Job

_LOOK = 0.025
_PARTS = 5
_STALLED = 5.0
_CONNECT_TIMEOUT = 20.0
_TEXT = 0x81


class Crowd:
    """The subscribers.

    :ivar disconnected: how many lost their connection.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._dialect = DIALECTS[job.dialect]
        self._sockets: list[socket.socket] = []
        self._bytes = array("q")
        self._sink = bytearray(1 << 20)
        self._looking: asyncio.Task[None] | None = None
        self.disconnected = 0

    async def connect(self, identities: list[Identity], concurrency: int) -> None:
        """Connect, authenticate and subscribe one client for each identity, so many at once; then look after them.

        :raises BenchError: if one is refused or too slow.
        """
        waiting = iter(identities)

        async def connector() -> None:
            for who in waiting:
                try:
                    async with asyncio.timeout(_CONNECT_TIMEOUT):
                        self._sockets.append(await _subscribed(self._job, self._dialect, who))
                except TimeoutError as error:
                    raise BenchError(f"a client was not ready within {_CONNECT_TIMEOUT:.0f} s") from error

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(connector())
        self._bytes = array("q", bytes(8 * len(self._sockets)))
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        part = -(-len(self._sockets) // _PARTS) or 1
        while True:
            for first in range(0, len(self._sockets), part):
                self._drop(first, part)
                await asyncio.sleep(_LOOK / _PARTS)

    def _drop(self, first: int, count: int) -> None:
        for position in range(first, min(first + count, len(self._sockets))):
            try:
                came = self._sockets[position].recv_into(self._sink, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                continue
            except OSError:
                came = 0
            if came:
                self._bytes[position] += came
            elif self._bytes[position] >= 0:
                self._bytes[position] = -(1 << 62)
                self.disconnected += 1

    def reset(self) -> None:
        """Forget what came; the measured window begins."""
        for position, count in enumerate(self._bytes):
            self._bytes[position] = min(count, 0)

    def received(self, size: int) -> int:
        """How many messages of that size came; a heartbeat or two beside them do not count."""
        frame = size + (2 if size < 126 else 4)
        return sum(count // frame for count in self._bytes if count > 0)

    async def arrived(self, size: int, expected: int) -> None:
        """Wait until so many came, or none has for some seconds."""
        seen, last = -1, time.monotonic()
        while (now := self.received(size)) < expected:
            if now != seen:
                seen, last = now, time.monotonic()
            elif time.monotonic() - last > _STALLED:
                return
            await asyncio.sleep(0.005)

    async def disconnect(self) -> None:
        """Close every client, in pieces so that the server is not stormed."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        for position, client in enumerate(self._sockets):
            client.close()
            if position % 100 == 99:
                await asyncio.sleep(0.01)


async def _subscribed(job: Job, dialect: Dialect, who: Identity) -> socket.socket:
    """A socket on which nothing but publications, and now and then a heartbeat, comes.

    :raises BenchError: if it is refused.
    """
    loop = asyncio.get_running_loop()
    client = socket.socket(socket.AF_INET6 if ":" in job.host else socket.AF_INET)
    client.setblocking(False)
    try:
        await loop.sock_connect(client, (job.host, job.port))
        headers = "".join(f"{name}: {value}\r\n" for name, value in dialect.headers)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {dialect.path} HTTP/1.1\r\nHost: {job.host}:{job.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
        )
        await loop.sock_sendall(client, request.encode())
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            buffer += await _some(client)
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise BenchError(f"the server answered {head[:200]!r}")
        opening = dialect.opening(who)
        if opening is not None:
            await loop.sock_sendall(client, masked(opening))
        ready = False
        while not ready:
            while (found := unframed(buffer)) is None:
                buffer += await _some(client)
            message, buffer = found
            reply, ready = dialect.advance(message, who)
            if reply is not None:
                await loop.sock_sendall(client, masked(reply))
    except OSError as error:
        client.close()
        raise BenchError(f"a client could not connect: {error}") from error
    except BaseException:
        client.close()
        raise
    return client


async def _some(client: socket.socket) -> bytes:
    data = await asyncio.get_running_loop().sock_recv(client, 65536)
    if not data:
        raise BenchError("the server closed the connection before it was ready")
    return data


def masked(payload: bytes) -> bytes:
    """A client's text frame (RFC 6455 section 5.2) of less than 64 kB, with a mask of zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((_TEXT,)) + length + b"\0\0\0\0" + payload


def unframed(buffer: bytes) -> tuple[bytes, bytes] | None:
    """The payload of the server's first frame, of less than 64 kB, and the rest; ``None`` while it is not whole."""
    if len(buffer) < 4:
        return None
    start, size = (2, buffer[1]) if buffer[1] < 126 else (4, int.from_bytes(buffer[2:4], "big"))
    return None if len(buffer) < start + size else (buffer[start : start + size], buffer[start + size :])
