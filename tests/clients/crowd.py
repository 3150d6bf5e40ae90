"""Very many native clients in one thread: raw sockets and a selector, which read as little as they must."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import struct
import time
from base64 import b64encode
from types import TracebackType
from typing import Self

import orjson


class Member:
    """One raw WebSocket client of the native protocol."""

    def __init__(self, port: int, token: str, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        key = b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws?token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.buffer = b""
        #: Messages behind one that was waited for.
        self._kept: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        while b"\r\n\r\n" not in self.buffer:
            assert self._receive(5.0), f"closed after {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head, head
        self.wait_for(b'"type":"connected"')

    def send(self, **message: object) -> None:
        payload = orjson.dumps(message)
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
        self.socket.sendall(b"\x81" + length + b"\0\0\0\0" + payload)

    def subscribe(self, channel: str) -> None:
        self.send(type="subscribe", channel=channel)
        self.wait_for(b'"subscribed"')

    def wait_for(self, text: bytes, limit: float = 10.0) -> bytes:
        """Read messages until one holds ``text``."""
        deadline = time.monotonic() + limit
        while True:
            messages = self.messages()
            for place, message in enumerate(messages):
                if text in message:
                    self._kept = messages[place + 1 :]
                    return message
            if not self._receive(deadline - time.monotonic()):
                raise AssertionError(f"closed ({self.closed}) before {text!r} came")

    def _receive(self, limit: float) -> bool:
        if limit <= 0:
            raise AssertionError("nothing came in time")
        self.socket.settimeout(limit)
        try:
            data = self.socket.recv(262_144)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        self.buffer += data
        return bool(data)

    def take(self) -> list[bytes]:
        """What has arrived, without waiting."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.buffer += self.socket.recv(262_144)
        return self.messages()

    def messages(self) -> list[bytes]:
        """The whole text messages in the buffer; a close frame is kept in :attr:`closed`."""
        found, self._kept = self._kept, []
        buffer, at = self.buffer, 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if len(buffer) < start + size:
                break
            payload = buffer[start : start + size]
            if buffer[at] & 0x0F == 1:
                found.append(payload)
            elif buffer[at] & 0x0F == 9:
                self.socket.sendall(b"\x8a\x80\0\0\0\0")
            elif buffer[at] & 0x0F == 8:
                self.closed = (int.from_bytes(payload[:2], "big"), payload[2:].decode())
            at = start + size
        self.buffer = buffer[at:]
        return found

    def drain_to_close(self, limit: float = 10.0) -> tuple[int, str] | None:
        """Read everything there is; returns the close frame's code and reason, if one came."""
        deadline = time.monotonic() + limit
        self.messages()
        while self.closed is None and self._receive(deadline - time.monotonic()):
            self.messages()
        return self.closed


class Crowd:
    """Many members that all read."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self._selector = selectors.DefaultSelector()
        for member in members:
            self._selector.register(member.socket, selectors.EVENT_READ, member)

    def gather(self, text: bytes, limit: float = 20.0) -> float:
        """Read until every member has got a message with ``text``; returns the seconds it took."""
        begun = time.monotonic()
        missing = set(self.members)
        while missing:
            if time.monotonic() - begun > limit:
                raise AssertionError(f"{len(missing)} of {len(self.members)} did not get {text!r} in {limit:g} s")
            for key, _ in self._selector.select(0.5):
                if any(text in message for message in key.data.take()):
                    missing.discard(key.data)
        return time.monotonic() - begun

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        for member in self.members:
            member.socket.close()
