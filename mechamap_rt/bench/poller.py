"""Long-polling clients of the load generator: one connection each, on which the next GET follows every answer."""

from __future__ import annotations

import asyncio
import re
from typing import Final, Protocol, cast

import orjson

from mechamap_rt.bench.dialects import DIALECTS, Identity, Refused

_PATH: Final = "/socket.io/?EIO=4&transport=polling"
_STAMP: Final = re.compile(rb'"at":(\d{16})')
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
#: What a browser sends besides, so that requests have their usual size.
_BROWSER: Final = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n"
    "Accept: */*\r\nAccept-Language: vi,en;q=0.8\r\nConnection: keep-alive\r\n"
)


class Counter(Protocol):
    """Where a client counts what it gets."""

    def arrived(self, count: int, size: int, stamps: list[bytes]) -> None:
        """So many publications came, one of them ``size`` bytes long, with these times of publication."""

    def gone(self) -> None:
        """The connection ended."""


class Poller(asyncio.Protocol):
    """One session over long polling.

    :param ready: completed when it is subscribed, failed when it is refused.
    :param sampled: read the times of publication too.
    """

    def __init__(
        self, host: str, who: Identity, counter: Counter, ready: asyncio.Future[None], sampled: bool, floor: int
    ) -> None:
        self._who = who
        self._counter = counter
        self._ready = ready
        self._sampled = sampled
        self._floor = floor
        self._tail = f" HTTP/1.1\r\nHost: {host}\r\n{_BROWSER}".encode()
        self._get = b""
        self._path = _PATH.encode()
        self._buffer = b""
        self._dialect = DIALECTS["socketio"]
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(b"GET " + self._path + self._tail + b"\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._counter.gone()
        if not self._ready.done():
            self._ready.set_exception(Refused("the server closed the connection before it was ready"))

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
        if length is None or len(data) < end + 4 + int(length[1]):
            return
        self._buffer = b""
        if not data.startswith(b"HTTP/1.1 200"):
            self._fail(data)
            return
        self._answered(data[end + 4 :])

    def _answered(self, body: bytes) -> None:
        if self._ready.done() and b"\x1e" not in body and len(body) >= self._floor:
            self._next()
            self._counter.arrived(1, len(body), _STAMP.findall(body) if self._sampled else [])
            return
        reply: bytes | None = None
        count = size = 0
        for packet in body.split(b"\x1e") if body != b"ok" else ():
            if self._ready.done() and len(packet) >= self._floor:
                count, size = count + 1, len(packet)
            else:
                reply = self._converse(packet) or reply
        if reply is None:
            self._next()
        else:
            self._post(reply)
        if count:
            self._counter.arrived(count, size, _STAMP.findall(body) if self._sampled else [])

    def _converse(self, packet: bytes) -> bytes | None:
        if packet == b"2":
            return b"3"
        if packet.startswith(b"0{"):
            sid = orjson.loads(packet[1:])["sid"]
            self._path = f"{_PATH}&t=PVk3&sid={sid}".encode()
            self._get = b"GET " + self._path + self._tail + b"\r\n"
        if self._ready.done():
            return None
        try:
            reply, ready = self._dialect.advance(packet, self._who)
        except Refused as refusal:
            self._ready.set_exception(refusal)
            return None
        if ready:
            self._ready.set_result(None)
        return reply

    def _next(self) -> None:
        if self.transport is not None:
            self.transport.write(self._get)

    def _post(self, body: bytes) -> None:
        if self.transport is not None:
            head = b"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.transport.write(b"POST " + self._path + self._tail + head + body)

    def _fail(self, answer: bytes) -> None:
        if not self._ready.done():
            self._ready.set_exception(Refused(f"the server said {answer[:200]!r}"))
        elif self.transport is not None:
            self.transport.close()

    def disconnect(self) -> None:
        if self.transport is not None:
            self.transport.abort()
