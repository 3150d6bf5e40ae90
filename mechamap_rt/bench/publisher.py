"""A keep-alive HTTP/1.1 connection that posts publications, as the site's backend does."""

from __future__ import annotations

import asyncio
import re
from typing import Self, cast

import orjson

from mechamap_rt.bench.job import BenchError, Job

_LENGTH = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)")
_ANSWER_TIMEOUT = 30.0


class Publisher(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None

    @classmethod
    async def open(cls, job: Job, path: str) -> Self:
        """Connect to the job's server; every post goes to ``path``."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {job.host}:{job.port}\r\nUser-Agent: GuzzleHttp/7\r\n"
            f"Content-Type: application/json\r\nX-WebSocket-API-Key: {job.api_key}\r\nContent-Length: "
        ).encode()
        loop = asyncio.get_running_loop()
        _, publisher = await loop.create_connection(lambda: cls(head), job.host, job.port)
        return publisher

    async def post(self, body: bytes) -> bytes:
        """Post one publication and wait for its answer, which is returned.

        :raises BenchError: if the answer is not 200 or does not come.
        """
        return await self._ask(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))

    async def health(self) -> bytes:
        """Ask how the server is.

        :raises BenchError: if the answer is not 200 or does not come.
        """
        return await self._ask(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    async def worker(self) -> str:
        """The name of the server's process that has this connection.

        :raises BenchError: if it does not say.
        """
        return str(orjson.loads(await self.health())["worker"])

    async def _ask(self, request: bytes) -> bytes:
        if self._transport is None:
            raise BenchError("the publisher's connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await asyncio.wait_for(self._answer, _ANSWER_TIMEOUT)
        except TimeoutError as error:
            raise BenchError(f"a request was not answered within {_ANSWER_TIMEOUT:.0f} s") from error

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish(BenchError("the server closed the publisher's connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[: end + 2])
        length = _LENGTH.search(head)
        if length is None:
            self._finish(BenchError("an answer without Content-Length"))
            return
        if len(self._buffer) < end + 4 + int(length[1]):
            return
        body = bytes(self._buffer[end + 4 :])
        self._buffer.clear()
        ok = head.startswith(b"HTTP/1.1 200 ")
        self._finish(body if ok else BenchError(f"a request was answered {head[9:12]!r} {body[:300]!r}"))

    def _finish(self, outcome: bytes | BenchError) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        if isinstance(outcome, bytes):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)
