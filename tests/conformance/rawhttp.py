"""HTTP/1.1 on a plain socket: no more of it than long polling needs, and nothing that repairs or repeats."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

MAX_LINE = 1 << 16


class Answer(NamedTuple):
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"HTTP {self.status} {self.body[:200]!r}"


class Connection:
    """One kept-alive connection, opened when it is needed; one request at a time.

    :param limit: seconds that an answer may take unless the request says otherwise.
    """

    def __init__(self, url: str, limit: float) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc
        self._limit = limit
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection, whatever is going on on it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def request(
        self,
        method: str,
        where: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        limit: float | None = None,
    ) -> Answer | None:
        """Send a request and read its answer; ``None`` when the connection was cut before it was complete.

        :raises TimeoutError: no answer in time; the connection is dropped.
        """
        try:
            async with asyncio.timeout(limit or self._limit):
                await self.send(method, where, body, headers)
                return await self.answer()
        except BaseException:
            self.close()
            raise

    async def send(
        self,
        method: str,
        where: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send a request, or (``length`` is more than ``body``) its beginning."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls or None, limit=MAX_LINE)
        lines = [f"{method} {where} HTTP/1.1", f"Host: {self._authority}"]
        sent = dict(headers or {})
        if body is not None:
            sent = {"Content-Type": "text/plain;charset=UTF-8", "Content-Length": str(length or len(body))} | sent
        lines += [f"{name}: {value}" for name, value in sent.items()]
        self._streams[1].write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    async def answer(self) -> Answer | None:
        """Read the answer of what was sent."""
        assert self._streams is not None
        reader = self._streams[0]
        try:
            status, headers = await self._head(reader)
            body = await self._body(reader, status, headers)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            return None
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body)

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in filter(None, lines):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(first.split(" ", 2)[1]), headers

    async def _body(self, reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> bytes:
        if status in (204, 304):
            return b""
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding", "").lower() != "chunked":
            body = await reader.read()
            self.close()
            return body
        chunks = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            chunks.append((await reader.readexactly(size + 2))[:-2])
        await reader.readuntil(b"\r\n")
        return b"".join(chunks)
