"""The site's HTTP interface for the tests: a real server in threads of its own, which can be made to fail.

It plays the two endpoints that the server asks, ``/api/websocket-api/verify-user`` and ``/broadcasting/auth``, and
keeps account of all that it was asked. Without a knob turned it answers as Laravel does.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.leaks import remember
from tests.server import LARAVEL_API_KEY

LIMIT = 10.0
VERIFY = "/api/websocket-api/verify-user"
CHANNELS = "/broadcasting/auth"

User = dict[str, Any]


def token_of(number: int) -> str:
    """A token that looks like Sanctum's."""
    return remember(f"{number}|" + f"secret{number}".ljust(48, "x"))


def user_of(ident: Any, **more: Any) -> User:
    """A user as the site describes one."""
    known = {"name": f"Kỹ sư {ident}", "email": f"u{ident}@example.org", "role": "member", "avatar": None}
    return {"id": ident, **known, "permissions": ["receive_notifications"], "status": "active"} | more


@dataclass(frozen=True)
class Asked:
    """One request, and the number of the connection that it came over."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode(), strict_parsing=True)


@dataclass(frozen=True)
class Answer:
    """What the site says, and how.

    :ivar body: bytes, or what becomes JSON.
    :ivar chunked: in chunks of a few bytes.
    :ivar cut: hang up after so many bytes of the body, though more were announced.
    :ivar stall: wait for :meth:`Site.release` after so many bytes of the body; ``-1``: before anything is said.
    :ivar hang_up: say nothing and close the connection.
    :ivar reset: and break it.
    :ivar leave: close the connection after the answer without having said so.
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    cut: int | None = None
    stall: int | None = None
    hang_up: bool = False
    reset: bool = False
    leave: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Site:
    """The site; give it up with :meth:`end`.

    :param tls: paths of its certificate and key; it then speaks nothing but TLS.

    :ivar users: by token.
    :ivar channels: who may hear a channel, tokens by its name as it is asked about.
    :ivar script: answers to the next requests, instead of the site's own.
    :ivar always: answers every request, once ``script`` is empty.
    :ivar asked: all requests, in order.
    :ivar most: connections that were open at the same time.
    :ivar held: requests that wait for :meth:`release` now.
    """

    def __init__(self, tls: tuple[str, str] | None = None, key: str = LARAVEL_API_KEY, port: int = 0) -> None:
        self.users: dict[str, User] = {}
        self.channels: dict[str, set[str]] = {}
        self.script: deque[Answer] = deque()
        self.always: Answer | Callable[[Asked], Answer | None] | None = None
        self.asked: list[Asked] = []
        self.accepted = self.open = self.most = self.held = 0
        self._key = key
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._lock = threading.Lock()
        self._gate = threading.Event()
        self._over = False
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._spawn(self._accept)

    def release(self) -> None:
        """Go on with all that is held, and hold nothing any more until something is scripted again."""
        gate, self._gate = self._gate, threading.Event()
        gate.set()

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def hang_up(self) -> None:
        """Close every connection that is open now, as a site does that restarts."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Close everything; the port is free then. Safe at any time."""
        self._over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self.release()
        for thread in self._threads:
            thread.join(LIMIT)

    # serving

    def _spawn(self, what: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over:
                self._spawn(self._serve, self._listener.accept()[0])

    def _serve(self, plain: socket.socket) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self.accepted += 1
            number = self.accepted
            self.open += 1
            self.most = max(self.most, self.open)
            self._sockets.add(plain)
        # Python's sockets have no second owner: what TLS is spoken over stays open beside it, for hang_up and reset
        wire = plain.dup() if self._context is not None else plain
        try:
            if self._context is not None:
                wire = self._context.wrap_socket(wire, server_side=True)
            with wire.makefile("rb") as reading:
                while not self._over and (asked := _read(reading, number)) is not None:
                    if not self._converse(asked, plain, wire):
                        break
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self.open -= 1
                self._sockets.discard(plain)
            wire.close()
            with contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_RDWR)
            plain.close()

    def _converse(self, asked: Asked, plain: socket.socket, wire: socket.socket) -> bool:
        """Answer; may the connection go on?"""
        with self._lock:
            answer = self.script.popleft() if self.script else None
            self.asked.append(asked)
            gate = self._gate
        if answer is None and self.always is not None:
            answer = self.always if isinstance(self.always, Answer) else self.always(asked)
        answer = answer or self._own(asked)
        if answer.stall == -1:
            self._hold(gate)
        if answer.reset:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer.hang_up or answer.reset:
            return False
        content = answer.content
        headers = {"Content-Type": "application/json"} | answer.headers
        headers |= {"Transfer-Encoding": "chunked"} if answer.chunked else {"Content-Length": str(len(content))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        wire.sendall(f"HTTP/1.1 {answer.status} Said\r\n{lines}\r\n".encode())
        if answer.stall is not None and answer.stall >= 0:
            wire.sendall(content[: answer.stall])
            self._hold(gate)
            content = content[answer.stall :]
        if answer.chunked:
            pieces = [content[start : start + 7] for start in range(0, len(content), 7)]
            content = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        wire.sendall(content if answer.cut is None else content[: answer.cut])
        return answer.cut is None and not answer.leave

    def _hold(self, gate: threading.Event) -> None:
        with self._lock:
            self.held += 1
        gate.wait(LIMIT)
        with self._lock:
            self.held -= 1

    def _own(self, asked: Asked) -> Answer:
        """What Laravel would say."""
        if asked.method != "POST" or asked.path not in (VERIFY, CHANNELS):
            return Answer(404, {"message": "Not Found"})
        if asked.path == VERIFY:
            if asked.headers.get("x-websocket-api-key") != self._key:
                return Answer(401, {"success": False, "message": "Invalid API key"})
            user = self.users.get(asked.json["token"])
            if user is None:
                return Answer(401, {"success": False, "message": "Invalid token"})
            return Answer(200, {"success": True, "data": {"user": user}})
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        allowed = token in self.channels.get(asked.form["channel_name"][0], ())
        return Answer(200, {"user_id": 1}) if allowed else Answer(403, {"message": "Forbidden"})


def _read(reading: Any, connection: int) -> Asked | None:
    """The next request; ``None`` when the client has gone."""
    first = reading.readline()
    if not first:
        return None
    method, path, _ = first.decode().split(" ")
    headers: dict[str, str] = {}
    while line := reading.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = reading.read(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body, connection)


class Deaf:
    """A port that accepts connections and nothing more: nobody reads them, and nobody answers."""

    def __init__(self, scheme: str = "http") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def end(self) -> None:
        self._listener.close()
