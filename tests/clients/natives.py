"""Very many native clients that keep account of what they see and come back when they are told to: one thread."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping

import orjson

from tests.clients.accounts import EVENT, Account, Stay
from tests.clients.background import Background

#: Seconds after which a client comes back that was not told when.
PAUSE = 0.5


class _Client:
    """One client: its socket, and what it is waiting for."""

    def __init__(self, port: int, token: str, account: Account, context: ssl.SSLContext | None) -> None:
        self.account = account
        self.stay: Stay | None = None
        self.socket: socket.socket | None = None
        self._port = port
        self._token = token
        self._context = context
        self._buffer = b""
        self._greeted = False
        self.due = 0.0

    def connect(self) -> None:
        self._buffer, self._greeted, self.stay = b"", False, None
        key = b64encode(os.urandom(16)).decode()
        self.socket = socket.create_connection(("127.0.0.1", self._port), 5.0)
        if self._context is not None:
            self.socket = self._context.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.sendall(
            f"GET /ws?token={self._token} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.socket.setblocking(False)

    def read(self) -> bool:
        """Take what has come; is the connection still open?"""
        assert self.socket is not None
        try:
            data = self.socket.recv(262_144)
            # what TLS has taken from the kernel no selector tells of
            while isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
                data += self.socket.recv(262_144)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            data = b""
        self._buffer += data
        if not self._greeted and b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._greeted = b" 101 " in head
            if not self._greeted:
                return False
        return self._frames() and bool(data) if self._greeted else bool(data)

    def _frames(self) -> bool:
        buffer, at, is_open = self._buffer, 0, True
        while is_open and len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if len(buffer) < start + size:
                break
            is_open = self._frame(buffer[at] & 0x0F, buffer[start : start + size])
            at = start + size
        self._buffer = buffer[at:]
        return is_open

    def _frame(self, kind: int, payload: bytes) -> bool:
        if kind == 1:
            self._message(orjson.loads(payload))
        elif kind == 9:
            self._write(b"\x8a\x80\0\0\0\0")
        elif kind == 8:
            if self.stay is not None:
                self.stay.how = str(int.from_bytes(payload[:2], "big"))
            self._write(b"\x88\x82\0\0\0\0" + payload[:2])
            return False
        return True

    def _message(self, message: dict[str, object]) -> None:
        kind = message["type"]
        if kind == "event" and message["event"] == EVENT:
            assert self.stay is not None
            self.stay.seen.append(message["data"]["n"])  # type: ignore[index]
        elif kind == "connected":
            self.stay = Stay(time.time())
            self.account.stays.append(self.stay)
            request = orjson.dumps({"type": "subscribe", "channel": self.account.channel})
            assert len(request) < 126
            head = bytes((0x81, 0x80 | len(request)))
            self._write(head + b"\0\0\0\0" + request)
        elif kind == "reply" and message["event"] == "subscribed":
            assert self.stay is not None
            self.stay.subscribed = time.time()
        elif kind == "reconnect" and self.stay is not None:
            self.stay.delay = message["delay"]  # type: ignore[assignment]

    def _write(self, data: bytes) -> None:
        assert self.socket is not None
        try:
            self.socket.send(data)
        except OSError:
            return

    def closed(self) -> None:
        """The connection has ended: say so, and come back when told."""
        assert self.socket is not None
        self.socket.close()
        self.socket = None
        stay = self.stay
        if stay is None:
            self.account.refused += 1
            self.due = time.monotonic() + PAUSE
        else:
            stay.left = time.time()
            self.due = time.monotonic() + (PAUSE if stay.delay is None else stay.delay / 1000)


class Natives(Background):
    """Clients, all of which stay connected, or come back, until :meth:`end`.

    :param clients: token and channel of each, by its name.
    :param context: whom to believe, of a server with TLS.
    """

    def __init__(
        self, port: int, clients: Mapping[str, tuple[str, str]], context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self._accounts = [Account(name, "native", channel) for name, (_, channel) in clients.items()]
        tokens = [token for token, _ in clients.values()]
        self._clients = [_Client(port, *pair, context) for pair in zip(tokens, self._accounts, strict=True)]
        self.start()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            away = list(self._clients)
            while not self._over.is_set():
                now = time.monotonic()
                for client in [each for each in away if each.due <= now]:
                    away.remove(client)
                    self._connect(client, selector, away)
                for key, _ in selector.select(0.02):
                    client = key.data
                    if not client.read():
                        selector.unregister(key.fileobj)
                        client.closed()
                        away.append(client)
            for client in self._clients:
                if client.socket is not None:
                    client.socket.close()

    def _connect(self, client: _Client, selector: selectors.BaseSelector, away: list[_Client]) -> None:
        try:
            client.connect()
        except OSError:
            client.account.refused += 1
            client.due = time.monotonic() + PAUSE
            away.append(client)
        else:
            selector.register(client.socket, selectors.EVENT_READ, client)  # type: ignore[arg-type]

    def subscribed(self) -> int:
        """Clients that are connected and subscribed now."""
        last = [account.stays[-1] for account in self._accounts if account.stays]
        return sum(stay.subscribed is not None and stay.left is None for stay in last)

    def received(self) -> int:
        """Deliveries so far."""
        return sum(len(stay.seen) for account in self._accounts for stay in tuple(account.stays))

    def accounts(self) -> list[Account]:
        return self._accounts
