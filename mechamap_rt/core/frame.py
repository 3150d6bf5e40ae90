"""One message ready for the wire, made once for everybody who gets it."""

from __future__ import annotations

from typing import Final

from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.wire import websocket

#: Bytes from which a message is compressed, for clients that negotiated it.
DEFLATE_FROM: Final = 256


class Frame:
    """One message ready for the wire, shared by every connection it goes to.

    :ivar payload: the message itself, for transports that frame it otherwise; empty for control frames.
    :ivar wire: the message as a WebSocket frame.
    :ivar delivery: what may happen to it under pressure.
    :ivar key: two ``STATE`` frames with the same key replace each other.
    :ivar publication: the id of the publication that it carries, if it does.
    """

    __slots__ = ("_deflated", "delivery", "key", "payload", "publication", "size", "wire")

    def __init__(
        self,
        wire: bytes,
        delivery: DeliveryClass = DeliveryClass.DURABLE,
        key: str = "",
        payload: bytes = b"",
        publication: str = "",
    ) -> None:
        self.wire = wire
        self.size = len(wire)
        self.delivery = delivery
        self.key = key
        self.payload = payload
        self.publication = publication
        self._deflated: Frame | None = None

    @classmethod
    def text(
        cls, payload: bytes, delivery: DeliveryClass = DeliveryClass.DURABLE, key: str = "", publication: str = ""
    ) -> Frame:
        """One WebSocket text message."""
        return cls(websocket.text_message(payload), delivery, key, payload, publication)

    @classmethod
    def binary(cls, data: bytes, text: bytes) -> Frame:
        """One WebSocket binary message; ``text`` is its form for transports that carry text only."""
        return cls(websocket.binary_message(data), payload=text)

    def deflated(self) -> Frame:
        """The same message compressed (RFC 7692), made once for all; itself where that does not pay."""
        if self._deflated is None:
            text = self.wire[:1] == b"\x81" and len(self.payload) >= DEFLATE_FROM
            wire = websocket.deflated_message(self.payload) if text else self.wire
            shorter = len(wire) < self.size
            deflated = Frame(wire, self.delivery, self.key, self.payload, self.publication)
            self._deflated = deflated if shorter else self
        return self._deflated
