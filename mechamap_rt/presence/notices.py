"""One event for several connections, encoded once for each protocol and name of the channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mechamap_rt.core.connection import Connection, Encoder
from mechamap_rt.core.frame import Frame
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.wire import json


class Notice:
    """An event.

    :param payload: its data as JSON, or what makes it, given the channel's name that the connection uses; ``""`` is no
        channel.
    :param key: two ``STATE`` notices with the same key replace each other.
    """

    __slots__ = ("_delivery", "_event", "_frames", "_key", "_payload")

    def __init__(
        self,
        event: str,
        payload: bytes | Callable[[str], dict[str, Any]],
        delivery: DeliveryClass = DeliveryClass.DURABLE,
        key: str = "",
    ) -> None:
        self._event = event
        self._payload = payload
        self._delivery = delivery
        self._key = key
        self._frames: dict[tuple[Encoder, str], Frame] = {}

    def send(self, connection: Connection, name: str = "") -> None:
        frame = self._frames.get((connection.encoder, name))
        if frame is None:
            made = self._payload
            data = made if isinstance(made, bytes) else json.encode(made(name))
            encoded = connection.encoder.event(self._event, data, name)
            frame = self._frames[(connection.encoder, name)] = Frame.text(encoded, self._delivery, self._key)
        connection.outbox.push(frame)
