"""Binary attachments of Socket.IO packets: ``{"_placeholder": true, "num": 0}`` in the JSON, the bytes behind it."""

from __future__ import annotations

from typing import Any

from mechamap_rt.wire.socketio import Packet, SocketIOError


class Assembly:
    """Puts a binary packet together from its attachments.

    :param packet: a ``BINARY_EVENT`` or ``BINARY_ACK`` that announced attachments.
    :param limit: bytes of all attachments together.
    """

    __slots__ = ("_limit", "_packet", "_parts", "_size")

    def __init__(self, packet: Packet, limit: int) -> None:
        self._packet = packet
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> Packet | None:
        """Take the next attachment; the whole packet with the last one.

        :raises SocketIOError: they are too large together, or the placeholders do not fit them.
        """
        self._size += len(part)
        if self._size > self._limit:
            raise SocketIOError("attachments too large")
        self._parts.append(part)
        if len(self._parts) < self._packet.attachments:
            return None
        if self._packet.fault is not None:
            return self._packet._replace(attachments=0)
        used: set[int] = set()
        data = self._fill(self._packet.data, used)
        if len(used) != len(self._parts):
            raise SocketIOError("an attachment without its placeholder")
        return self._packet._replace(data=data, attachments=0)

    def _fill(self, value: Any, used: set[int]) -> Any:
        if isinstance(value, list):
            return [self._fill(item, used) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("_placeholder") is True:
            number = value.get("num")
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(self._parts):
                raise SocketIOError("illegal attachments")
            used.add(number)
            return self._parts[number]
        return {name: self._fill(item, used) for name, item in value.items()}


def detach(value: Any, parts: list[bytes]) -> Any:
    """``value`` with every ``bytes`` in it moved to ``parts`` and replaced by its placeholder."""
    if isinstance(value, bytes):
        parts.append(value)
        return {"_placeholder": True, "num": len(parts) - 1}
    if isinstance(value, list | tuple):
        return [detach(item, parts) for item in value]
    if isinstance(value, dict):
        return {name: detach(item, parts) for name, item in value.items()}
    return value
