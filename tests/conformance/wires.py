"""Engine.IO sessions of the client's side: over long polling, over a WebSocket, and moved from the one to the other."""

from __future__ import annotations

import asyncio
import json
import re
import time
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections import deque
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.conformance.rawhttp import Answer, Connection
from tests.conformance.target import Target, Violation, check, refused

SEPARATOR = "\x1e"
Raw = str | bytes


class Closed(Exception):
    """The server closed the session."""


class Packet(NamedTuple):
    """One Socket.IO packet as it came."""

    kind: int
    namespace: str
    id: int | None
    data: Any
    attachments: int


_PACKET = re.compile(r"4([0-6])(?:(\d+)-)?(?:(/[^,]*),)?(\d+)?(?:([\[{\"].*))?", re.DOTALL)


def parse(raw: str) -> Packet:
    """One Engine.IO message with a Socket.IO packet in it."""
    match = _PACKET.fullmatch(raw)
    if match is None:
        raise Violation(f"not a Socket.IO packet: {raw[:200]!r}")
    kind, attachments, namespace, ident, body = match.groups()
    try:
        data = None if body is None else json.loads(body)
    except ValueError:
        raise Violation(f"not JSON: {raw[:200]!r}") from None
    number = None if ident is None else int(ident)
    return Packet(int(kind), namespace or "/", number, data, int(attachments or 0))


def head(kind: str, namespace: str = "/", ident: int | None = None) -> str:
    """What stands before the JSON of a packet."""
    return f"4{kind}{'' if namespace == '/' else namespace + ','}{'' if ident is None else ident}"


def opening(packet: Raw) -> dict[str, Any]:
    """The JSON of an open packet."""
    check(isinstance(packet, str) and packet.startswith("0{"), f"an open packet was expected: {packet!r}")
    hello = json.loads(packet[1:])
    assert isinstance(hello, dict)
    return hello


class Wire(ABC):
    """One session.

    :ivar hello: the JSON of its open packet.
    :ivar began: when the handshake began, by ``time.monotonic``.
    :ivar pongs: answer the server's pings? (While :meth:`receive` waits.)
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.hello: dict[str, Any] = {}
        self.began = time.monotonic()
        self.pongs = True

    @property
    def sid(self) -> str:
        sid = self.hello["sid"]
        assert isinstance(sid, str)
        return sid

    @abstractmethod
    async def open(self) -> None:
        """Connect, and take the open packet."""

    @abstractmethod
    async def send(self, *packets: Raw) -> None:
        """Send Engine.IO packets; ``bytes`` are binary messages.

        :raises Closed: the server did not take them.
        """

    @abstractmethod
    async def next(self) -> Raw:
        """The next packet of the server.

        :raises Closed: there will be none.
        """

    @abstractmethod
    async def close(self) -> None:
        """Drop the transport."""

    # heartbeat

    async def receive(self) -> Raw:
        """The next message of the server; its pings are answered."""
        while True:
            packet = await self.next()
            if packet == "2":
                if self.pongs:
                    await self.send("3")
            elif packet != "6":
                return packet

    # Socket.IO

    async def expect(
        self, kind: int, namespace: str = "/", ident: int | None = None, name: str | None = None
    ) -> Packet:
        """The next packet of this kind; others are passed over.

        :param name: of the event.
        """
        passed: list[Raw] = []
        try:
            async with asyncio.timeout(self.target.limit):
                while True:
                    raw = await self.receive()
                    passed.append(raw)
                    if isinstance(raw, bytes):
                        continue
                    packet = parse(raw)
                    named = name is None or (isinstance(packet.data, list) and packet.data[0] == name)
                    if packet.kind == kind and packet.namespace == namespace and packet.id == ident and named:
                        return packet
        except TimeoutError:
            why = "nothing of the kind came"
        except Closed as closed:
            why = f"the session was closed ({closed})"
        wanted = f"a packet of type {kind} in {namespace}" + ("" if ident is None else f" with id {ident}")
        raise Violation(f"{wanted} was expected, but {why}; before that came {passed!r:.600}")

    async def connect(self, namespace: str = "/") -> str:
        """Join a namespace with a good token; the Socket.IO id."""
        await self.send(head("0", namespace) + self.target.auth())
        packet = await self.expect(0, namespace)
        check(isinstance(packet.data, dict), f"the payload of a connect is an object: {packet.data!r}")
        sid = packet.data.get("sid")
        check(isinstance(sid, str) and sid, f"a connect has a sid: {packet.data!r}")
        assert isinstance(sid, str)
        return sid

    def event(self, ident: int | None = None, namespace: str = "/", **members: Any) -> str:
        """The target's own event, encoded."""
        payload = json.dumps([self.target.event, {"timestamp": 1} | members], separators=(",", ":"), ensure_ascii=False)
        return head("2", namespace, ident) + payload

    async def acknowledged(self, ident: int, namespace: str = "/", timestamp: Any = 1) -> None:
        """The acknowledgement with this id must come."""
        packet = await self.expect(3, namespace, ident)
        good = isinstance(packet.data, list) and packet.data and isinstance(packet.data[0], dict)
        check(good and packet.data[0].get("timestamp") == timestamp, f"not what was asked for: {packet.data!r}")

    async def alive(self, namespace: str = "/", ident: int = 7071) -> None:
        """An event must be acknowledged."""
        await self.send(self.event(ident, namespace, timestamp=ident))
        await self.acknowledged(ident, namespace, ident)

    async def closed(self, within: float | None = None, began: float | None = None) -> float:
        """The server must close the session; the seconds that took, from ``began`` or from now."""
        began = time.monotonic() if began is None else began
        came: list[Raw] = []
        try:
            async with asyncio.timeout(within or self.target.limit):
                while True:
                    came.append(await self.receive())
        except Closed:
            took = time.monotonic() - began
        except TimeoutError:
            raise Violation(f"the session was expected to be closed, but is open; there came {came!r:.600}") from None
        await self.gone()
        return took

    async def gone(self) -> None:
        """Soon no request may find the session: 400 at once, and then with the code of an unknown session."""
        late = time.monotonic() + self.target.limit
        while True:
            async with Connection(self.target.url, self.target.limit) as connection:
                answer = await connection.request("GET", self.target.query(sid=self.sid))
            try:
                return refused(answer, 1)
            except Violation:
                if answer is None or answer.status != 400 or time.monotonic() > late:
                    raise
            await asyncio.sleep(0.02)

    async def ends(self, *packets: Raw) -> None:
        """These packets must end the session."""
        try:
            await self.send(*packets)
        except Closed:
            return await self.gone()
        await self.closed()


class PollingWire(Wire):
    """A session over long polling: one connection for GETs, one for POSTs, both kept alive."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.gets = Connection(target.url, target.limit + target.ping_interval)
        self.posts = Connection(target.url, target.limit)
        self._queue: deque[Raw] = deque()

    async def open(self) -> None:
        answer = await self.gets.request("GET", self.target.query())
        check(answer is not None and answer.status == 200, f"no handshake: {answer}")
        assert answer is not None
        packets = decode(answer.body)
        self.hello = opening(packets[0])
        self._queue.extend(packets[1:])

    async def get(self) -> Answer | None:
        """One GET; ``None`` when the server cut it."""
        return await self.gets.request("GET", self.target.query(sid=self.sid))

    async def post(self, body: bytes, **headers: str) -> Answer | None:
        return await self.posts.request("POST", self.target.query(sid=self.sid), body, headers)

    async def payload(self) -> list[Raw]:
        """The packets of one GET, which must be answered with a payload."""
        answer = await self.get()
        check(answer is not None and answer.status == 200, f"a payload was expected: {answer}")
        assert answer is not None
        return decode(answer.body)

    async def send(self, *packets: Raw) -> None:
        answer = await self.post(SEPARATOR.join(map(_text, packets)).encode())
        if answer is None or answer.status >= 400:
            raise Closed(f"POST: {answer}")
        check(answer.status == 200, f"HTTP 200 was expected: {answer}")

    async def next(self) -> Raw:
        while not self._queue:
            answer = await self.get()
            if answer is None or answer.status >= 400:
                raise Closed(f"GET: {answer}")
            self._queue.extend(decode(answer.body))
        packet = self._queue.popleft()
        if packet == "1":
            raise Closed("close packet")
        return packet

    async def close(self) -> None:
        self.gets.close()
        self.posts.close()

    async def upgraded(self) -> WebSocketWire:
        """The same session, moved to a WebSocket."""
        wire = await self.probing()
        await wire.send("5")
        return wire

    async def probing(self) -> WebSocketWire:
        """A WebSocket for the same session, probed but not moved to."""
        wire = await self.beside()
        await wire.send("2probe")
        packet = await wire.next()
        check(packet == "3probe", f"3probe was expected: {packet!r}")
        return wire

    async def beside(self) -> WebSocketWire:
        """A second transport for the same session."""
        wire = WebSocketWire(self.target)
        wire.hello, wire.began = self.hello, self.began
        await wire.attach(sid=self.sid)
        return wire


def decode(payload: bytes) -> list[Raw]:
    """The packets of a payload."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise Violation(f"a payload is UTF-8: {payload[:200]!r}") from None
    return [b64decode(part[1:], validate=True) if part.startswith("b") else part for part in text.split(SEPARATOR)]


def _text(packet: Raw) -> str:
    return packet if isinstance(packet, str) else "b" + b64encode(packet).decode()


class WebSocketWire(Wire):
    """A session over a WebSocket."""

    socket: ClientConnection

    async def open(self) -> None:
        await self.attach()
        try:
            async with asyncio.timeout(self.target.limit):
                self.hello = opening(await self.next())
        except TimeoutError:
            raise Violation("no open packet came") from None

    async def attach(self, **parameters: str | None) -> None:
        """Open the WebSocket; its handshake must succeed."""
        try:
            self.socket = await plain(self.target, **parameters)
        except InvalidHandshake as error:
            raise Violation(f"the WebSocket handshake was refused: {error}") from None

    async def send(self, *packets: Raw) -> None:
        try:
            for packet in packets:
                await self.socket.send(packet)
        except ConnectionClosed as error:
            raise Closed(str(error)) from None

    async def next(self) -> Raw:
        try:
            return await self.socket.recv()
        except ConnectionClosed as error:
            raise Closed(str(error)) from None

    @property
    def close_code(self) -> int | None:
        """The code that the server closed with."""
        return self.socket.close_code

    async def close(self) -> None:
        if hasattr(self, "socket"):
            self.socket.transport.abort()


async def plain(target: Target, **parameters: str | None) -> ClientConnection:
    """A WebSocket to the server, with no heartbeat, compression or limits of its own."""
    return await connect(
        target.ws_url(**parameters),
        compression=None,
        proxy=None,
        max_size=None,
        ping_interval=None,
        open_timeout=target.limit,
        close_timeout=target.limit,
    )


async def turned_away(target: Target, **parameters: str | None) -> None:
    """A WebSocket must be refused, or closed before anything is sent on it."""
    try:
        socket = await plain(target, **parameters)
    except InvalidStatus as error:
        return check(error.response.status_code == 400, f"HTTP 400 was expected: {error}")
    except InvalidHandshake:
        return
    try:
        async with asyncio.timeout(target.limit):
            packet = await socket.recv()
    except ConnectionClosed:
        return
    except TimeoutError:
        raise Violation("the WebSocket was accepted and left open") from None
    finally:
        socket.transport.abort()
    raise Violation(f"the WebSocket was accepted; there came {packet!r:.200}")
