"""Clients that connect, authenticate and stay, over WebSocket or long polling, until they are told to go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import orjson
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from mechamap_rt.bench.dialects import Dialect, Identity, Native, Refused, SocketIO
from mechamap_rt.bench.loadtest import refusals
from mechamap_rt.bench.loadtest.exchange import Exchange, Fault
from mechamap_rt.bench.loadtest.target import Target

ProtocolName = Literal["socketio", "native"]
#: Longest silence of a long poll: more than any server's interval between two heartbeats.
_POLL_TIMEOUT: Final = 120.0
#: Seconds that a server may take for a goodbye.
_GOODBYE: Final = 1.0
_POLLING: Final = "/socket.io/?EIO=4&transport=polling"
_SEPARATOR: Final = b"\x1e"
#: Bytes of a frame that a client takes.
_MAX_FRAME: Final = 16 * 1024 * 1024


class _Greeted(SocketIO):
    """Socket.IO to a server that greets: a client over a limit is connected too, just to be told so."""

    def advance(self, message: bytes, who: Identity) -> tuple[bytes | None, bool]:
        if message.startswith(b"40"):
            return None, False
        return super().advance(b"40" if message.startswith(b'42["connected"') else message, who)


_DIALECTS: Final[dict[ProtocolName, Dialect]] = {"socketio": _Greeted(), "native": Native()}


class Client(Protocol):
    """Somebody who is connected, or is about to be.

    :ivar opened: did the server take the connection, before it knew whose it is?
    :ivar gone: completed with the reason when a connection that was ready has ended by itself.
    """

    opened: bool
    gone: asyncio.Future[str]

    async def connect(self, target: Target, timeout: float) -> None:
        """Return when it is authenticated, and subscribed if it wants to be.

        :raises Exception: it is not; :func:`refusals.of` tells the reason.
        """

    def cut(self) -> None:
        """End the connection; nothing is told of it."""

    async def leave(self) -> None:
        """The same, but the server is told, if it would not know otherwise."""


class WebSocketClient(WSListener):
    """A client over WebSocket.

    :param heard: called with each message after it is ready, as a view that is good for the call only.
    """

    def __init__(
        self, protocol: ProtocolName, who: Identity, heard: Callable[[memoryview], None] | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._dialect = _DIALECTS[protocol]
        self._who = who
        self._heard = heard
        self._ready: asyncio.Future[None] = loop.create_future()
        self._transport: WSTransport | None = None
        self.opened = False
        self.gone: asyncio.Future[str] = loop.create_future()

    async def connect(self, target: Target, timeout: float) -> None:
        options: dict[str, Any] = {"read_buffer_init_size": 4096, "enable_auto_ping": False}
        if target.tls is not None:
            options |= {"ssl_context": target.tls, "server_hostname": target.host}
        try:
            async with asyncio.timeout(timeout):
                await ws_connect(
                    lambda: self,
                    target.websocket(self._dialect.path),
                    extra_headers=[("Host", target.authority), *self._dialect.headers],
                    websocket_handshake_timeout=timeout,
                    max_redirects=0,
                    max_frame_size=_MAX_FRAME,
                    **options,
                )
                await self._ready
        except BaseException:
            self.cut()
            raise

    def cut(self) -> None:
        self.gone.cancel()
        if self._ready.done():
            self._ready.cancelled() or self._ready.exception()
        else:
            self._ready.cancel()
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.disconnect(graceful=False)

    async def leave(self) -> None:
        self.cut()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.opened = True
        self._transport = transport
        opening = self._dialect.opening(self._who)
        if opening is not None:
            transport.send(WSMsgType.TEXT, opening)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            code, reason = frame.get_close_code(), frame.get_close_reason()
            self._ended(refusals.closed(_number(code), reason or ""))
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            if not self._ready.done():
                self._advance(transport, frame.get_payload_as_bytes())
            elif frame.payload_size <= 2:
                self._brief(transport, frame.get_payload_as_bytes())
            elif self._heard is not None:
                self._heard(frame.get_payload_as_memoryview())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._ended(refusals.closed(None))

    def _advance(self, transport: WSTransport, message: bytes) -> None:
        try:
            reply, ready = self._dialect.advance(message, self._who)
        except Refused as refusal:
            self._ready.set_exception(refusal)
            return
        except (ValueError, AttributeError):
            self._ready.set_exception(Refused("not our protocol"))
            return
        if reply is not None:
            transport.send(WSMsgType.TEXT, reply)
        if ready:
            self._ready.set_result(None)

    def _brief(self, transport: WSTransport, message: bytes) -> None:
        """Engine.IO's heartbeat, or Socket.IO's end."""
        if message == b"2":
            transport.send(WSMsgType.TEXT, b"3")
        elif message == b"41":
            self._ended("disconnected by the server")

    def _ended(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(Refused(reason))
        elif not self.gone.done():
            self.gone.set_result(reason)


def _number(code: object) -> int:
    """Of a close code: picows has names for the common ones."""
    found = getattr(code, "value", code)
    return found if isinstance(found, int) else 1005


class PollingClient:
    """A client over long polling: two connections, as a browser has them, one of which waits."""

    def __init__(self, who: Identity) -> None:
        self._who = who
        self._dialect = _DIALECTS["socketio"]
        self._requests: dict[str, bytes] = {}
        self._exchanges: dict[str, Exchange] = {}
        self._polling: asyncio.Task[None] | None = None
        self._authenticated = False
        self.opened = False
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def connect(self, target: Target, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._open(target, timeout)
                while not self._authenticated:
                    await self._turn(target, timeout)
        except BaseException:
            self.cut()
            raise
        self._polling = asyncio.create_task(self._stay(target))

    def cut(self) -> None:
        self.gone.cancel()
        if self._polling is not None:
            self._polling.cancel()
        for exchange in self._exchanges.values():
            exchange.close()

    async def leave(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
        exchange = self._exchanges.get("POST")
        if exchange is not None and not self.gone.done():
            with contextlib.suppress(Fault):
                await exchange.ask(self._request("POST", b"1"), _GOODBYE)
        self.cut()

    async def _open(self, target: Target, timeout: float) -> None:
        path = target.prefix + _POLLING
        self._words(target, path)
        opened = await self._ask("GET", b"", target, timeout)
        try:
            sid = str(orjson.loads(opened[1:])["sid"])
        except (ValueError, KeyError, TypeError):
            raise Refused("not our protocol") from None
        self.opened = True
        self._words(target, f"{path}&sid={sid}")
        reply, _ = self._dialect.advance(opened, self._who)
        if reply is not None:
            await self._ask("POST", reply, target, timeout)

    def _words(self, target: Target, path: str) -> None:
        if not path.isascii() or not path.isprintable() or " " in path:
            raise Refused("not our protocol")
        common = f"{path} HTTP/1.1\r\nHost: {target.authority}\r\nAccept: */*\r\nConnection: keep-alive\r\n"
        kind = "Content-Type: text/plain;charset=UTF-8\r\n"
        self._requests = {"GET": f"GET {common}\r\n".encode(), "POST": f"POST {common}{kind}".encode()}

    async def _ask(self, method: str, body: bytes, target: Target, timeout: float) -> bytes:
        """One request over the method's own connection; the body of its answer.

        :raises Fault: there is none, or it is not 200.
        """
        exchange = self._exchanges.get(method)
        if exchange is None or exchange.ended:
            exchange = self._exchanges[method] = await Exchange.open(target, timeout)
        answer = await exchange.ask(self._request(method, body), timeout)
        if answer.status != 200:
            raise Fault(refusals.status(answer.status) + ("" if self._authenticated else refusals.HANDSHAKE))
        return answer.body

    def _request(self, method: str, body: bytes) -> bytes:
        head = self._requests[method]
        return head if method == "GET" else head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

    async def _turn(self, target: Target, timeout: float) -> None:
        """One poll, and what is to be said to what it brought.

        :raises Refused: the server ends the session.
        """
        body = await self._ask("GET", b"", target, timeout)
        for packet in body.split(_SEPARATOR):
            if packet == b"2":
                await self._ask("POST", b"3", target, timeout)
            elif packet in (b"1", b"41"):
                raise Refused("disconnected by the server")
            elif not self._authenticated:
                reply, self._authenticated = self._dialect.advance(packet, self._who)
                if reply is not None:
                    await self._ask("POST", reply, target, timeout)

    async def _stay(self, target: Target) -> None:
        try:
            while True:
                await self._turn(target, _POLL_TIMEOUT)
        except (Refused, Fault, OSError) as fault:
            if not self.gone.done():
                self.gone.set_result(refusals.of(fault))
