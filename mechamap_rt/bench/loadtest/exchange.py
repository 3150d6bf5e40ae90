"""A connection on which HTTP/1.1 requests are made, one after the other; what an answer may be is bounded."""

from __future__ import annotations

import asyncio
import re
from typing import Final, NamedTuple, Self, cast

from mechamap_rt.bench.job import BenchError
from mechamap_rt.bench.loadtest.target import Target

MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 16 * 1024 * 1024
#: Of what came and is not whole: a body in small chunks is larger than its content.
_MAX_BUFFER: Final = MAX_HEAD + 2 * MAX_BODY
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[^\r]*close", re.IGNORECASE)
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)[ \r]")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]*)?\r\n")


class Fault(BenchError):
    """No answer: none came in time, or what came is none. The text is short, for counting."""


class Answer(NamedTuple):
    """:ivar head: with the blank line's first CRLF; ``keep``: may another request follow on the connection?"""

    status: int
    head: bytes
    body: bytes
    keep: bool

    def header(self, name: str) -> str:
        """A header's value; "" without it."""
        found = re.search(rb"\r\n" + name.encode() + rb":[ \t]*([^\r\n]*)", self.head, re.IGNORECASE)
        return found[1].decode("latin-1").strip() if found else ""


class Exchange(asyncio.Protocol):
    """One connection. :meth:`open` makes it; it is over when :attr:`ended` says so."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self.ended = False

    @classmethod
    async def open(cls, target: Target, timeout: float) -> Self:
        """Connect.

        :raises Fault: not within ``timeout`` seconds.
        :raises OSError: not at all.
        """
        name = target.host if target.tls is not None else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, exchange = await loop.create_connection(
                    cls, target.address, target.port, ssl=target.tls, server_hostname=name
                )
        except TimeoutError:
            raise Fault("not connected in time") from None
        return exchange

    async def ask(self, request: bytes, timeout: float) -> Answer:
        """Send a request and wait for its answer.

        :raises Fault: none comes within ``timeout`` seconds, or it is none.
        """
        if self._transport is None or self.ended:
            raise Fault("connection closed by the server")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout):
                return await self._answer
        except TimeoutError:
            self.close()
            raise Fault("no answer in time") from None

    def close(self) -> None:
        """End the connection."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read(over=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._read(over=True)
        self._fail("connection reset by the server" if exc else "connection closed by the server")

    def _read(self, *, over: bool) -> None:
        if self._answer is None or self._answer.done():
            self._buffer.clear()
            return
        try:
            answer = parse(self._buffer, over=over)
        except Fault as fault:
            self._fail(str(fault))
            self.close()
            return
        if answer is not None:
            self._buffer.clear()
            self._answer.set_result(answer)
            if not answer.keep:
                self.close()

    def _fail(self, words: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Fault(words))


def parse(buffer: bytes | bytearray, *, over: bool) -> Answer | None:
    """The answer that ``buffer`` begins with (RFC 9112 section 6.3), or ``None`` while it is not whole.

    :param over: is this all that will ever come?
    :raises Fault: it is none, or larger than may be.
    """
    if len(buffer) > _MAX_BUFFER:
        raise Fault("the answer is too large")
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD or (len(buffer) > 16 and not buffer.startswith(b"HTTP/1.")):
            raise Fault("the answer is not HTTP/1.1")
        return None
    head = bytes(buffer[: end + 2])
    line = _STATUS.match(head)
    if line is None or len(head) > MAX_HEAD:
        raise Fault("the answer is not HTTP/1.1")
    status, keep = int(line[2]), line[1] == b"1" and not _CLOSE.search(head)
    start = end + 4
    if status in (204, 304) or status < 200:
        return Answer(status, head, b"", keep)
    if _CHUNKED.search(head):
        body = _unchunked(buffer, start)
        return None if body is None else Answer(status, head, body, keep)
    if length := _LENGTH.search(head):
        size = int(length[1])
        if size > MAX_BODY:
            raise Fault("the answer is too large")
        return Answer(status, head, bytes(buffer[start : start + size]), keep) if len(buffer) >= start + size else None
    if len(buffer) - start > MAX_BODY:
        raise Fault("the answer is too large")
    return Answer(status, head, bytes(buffer[start:]), False) if over else None


def _unchunked(buffer: bytes | bytearray, place: int) -> bytes | None:
    """The chunks from ``place`` on, put together; ``None`` while they are not whole (RFC 9112 section 7.1)."""
    body = bytearray()
    while True:
        if (line := buffer.find(b"\r\n", place)) < 0:
            return None
        size_line = _CHUNK.fullmatch(buffer, place, line + 2)
        if size_line is None:
            raise Fault("the answer's chunks are broken")
        size, place = int(size_line[1], 16), line + 2
        if len(body) + size > MAX_BODY:
            raise Fault("the answer is too large")
        if not size:
            # the last chunk; then trailers, of which there are most often none, and a blank line
            whole = buffer[place : place + 2] == b"\r\n" or buffer.find(b"\r\n\r\n", place) >= 0
            return bytes(body) if whole else None
        if len(buffer) < place + size + 2:
            return None
        body += buffer[place : place + size]
        place += size + 2
