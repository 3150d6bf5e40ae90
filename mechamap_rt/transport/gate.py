"""Autobahn's factory with our protocol: the WebSocket paths, their options, and every WebSocket there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.interfaces import IReactorTime

from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.transport.pacing import Queue
from mechamap_rt.transport.websocket import LINGER, Accept, Pipe
from mechamap_rt.wire.websocket import WINDOW_BITS

#: Largest windows a client may ask for that ours fits into.
_WINDOWS: Final = tuple(range(WINDOW_BITS, 16))


class Gate(WebSocketServerFactory):
    """Autobahn's factory, with our protocol and the routes of the WebSocket paths.

    :param max_payload: bytes of one message; over it the connection is closed with 1009 before it is read whole.
    :param address_of: the client's address, from the peer's and the request's headers.
    :param deflate: accept permessage-deflate where it is offered.

    :ivar draining: nobody is let in any more.
    :ivar routes: path → who makes the session.
    :ivar pipes: every WebSocket that is not gone yet.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        turn: Turn,
        wheel: Wheel,
        max_payload: int,
        address_of: Callable[[str, Mapping[str, str]], str],
        deflate: bool = False,
    ) -> None:
        super().__init__(reactor=reactor, server="")
        self.turn = turn
        self.wheel = wheel
        #: WebSockets that have sent more than can be taken at once.
        self.queue = Queue(reactor)
        self.address_of = address_of
        self.draining = False
        self.routes: dict[str, Accept] = {}
        self.pipes: dict[Pipe, None] = {}
        self.setProtocolOptions(
            webStatus=False,
            utf8validateIncoming=False,
            maxFramePayloadSize=max_payload,
            maxMessagePayloadSize=max_payload,
            failByDrop=False,
            echoCloseCodeReason=True,
            allowNullOrigin=True,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=LINGER,
        )
        options = {name: getattr(self, name) for name in WebSocketServerProtocol.CONFIG_ATTRS}
        options["perMessageCompressionAccept"] = _deflate if deflate else _no_compression
        protocol: Any = type("Pipe", (Pipe,), options)
        self.protocol = protocol

    def open_pipes(self) -> list[Pipe]:
        """The WebSockets that nobody has begun to close."""
        return [pipe for pipe in self.pipes if pipe.state == pipe.STATE_OPEN]

    def dismiss_all(self, reason: Disconnect) -> None:
        """End every session."""
        for pipe in tuple(self.pipes):
            pipe.dismiss(reason)

    def abort_all(self) -> None:
        """Cut what has not ended by itself."""
        for pipe in tuple(self.pipes):
            pipe.transport.abortConnection()


def _no_compression(pipe: Pipe, offers: object) -> None:
    """permessage-deflate is not negotiated."""


_CLIENT_BITS = re.compile(r"client_max_window_bits\s*=\s*\"?([0-9]+)")


def _deflate(pipe: Pipe, offers: list[Any]) -> Any:
    """Accept permessage-deflate without context: a message is then compressed once for all, in a small window."""
    # Autobahn forgets the value of an offered client_max_window_bits, which ours must not exceed
    asked = _CLIENT_BITS.findall(pipe.http_headers.get("sec-websocket-extensions", ""))
    bits = min(WINDOW_BITS, *map(int, asked), 15)
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer) and offer.request_max_window_bits in (0, *_WINDOWS):
            return PerMessageDeflateOfferAccept(
                offer,
                request_no_context_takeover=offer.accept_no_context_takeover,
                request_max_window_bits=bits if offer.accept_max_window_bits else 0,
                no_context_takeover=True,
                window_bits=WINDOW_BITS,
                mem_level=1,
            )
    return None
