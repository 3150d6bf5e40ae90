"""Engine.IO protocol 4: packets over WebSocket (https://socket.io/docs/v4/engine-io-protocol/).

A packet is one ASCII digit, its type, followed by its data. Over WebSocket a text message is one packet.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from mechamap_rt.wire import json

#: The protocol revision of socket.io-client 3 and 4.
PROTOCOL: Final = "4"


class PacketType(IntEnum):
    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


class Packet(NamedTuple):
    """One packet: its type and the bytes after it."""

    type: PacketType
    data: bytes


class EngineIOError(ValueError):
    """Not an Engine.IO packet; ``str()`` says why."""


class Refusal(NamedTuple):
    """A handshake that is refused, as the reference server words it (code and message of the JSON body)."""

    code: int
    message: str
    status: int = 400

    def body(self) -> bytes:
        return json.encode({"code": self.code, "message": self.message})


UNKNOWN_TRANSPORT: Final = Refusal(0, "Transport unknown")
UNKNOWN_SID: Final = Refusal(1, "Session ID unknown")
BAD_METHOD: Final = Refusal(2, "Bad handshake method")
BAD_REQUEST: Final = Refusal(3, "Bad request")
FORBIDDEN: Final = Refusal(4, "Forbidden", 403)
UNSUPPORTED_VERSION: Final = Refusal(5, "Unsupported protocol version")

_TYPES: Final = tuple(PacketType)


def decode(raw: bytes) -> Packet:
    """Decode one packet.

    :raises EngineIOError: it is empty or its first byte is no packet type.
    """
    if not raw:
        raise EngineIOError("empty packet")
    kind = raw[0] - 0x30
    if not 0 <= kind < len(_TYPES):
        raise EngineIOError("unknown packet type")
    return Packet(_TYPES[kind], raw[1:])


def encode(kind: PacketType, data: bytes = b"") -> bytes:
    """Encode one packet."""
    return b"%d%b" % (kind, data)


def open_packet(sid: str, *, upgrades: tuple[str, ...], interval: float, timeout: float, max_payload: int) -> bytes:
    """The handshake packet. ``interval`` and ``timeout`` are seconds here, milliseconds on the wire."""
    return encode(
        PacketType.OPEN,
        json.encode(
            {
                "sid": sid,
                "upgrades": upgrades,
                "pingInterval": round(interval * 1000),
                "pingTimeout": round(timeout * 1000),
                "maxPayload": max_payload,
            }
        ),
    )
