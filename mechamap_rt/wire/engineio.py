"""Engine.IO protocols 4 and 3: packets and payloads (https://socket.io/docs/v4/engine-io-protocol/).

A packet is one ASCII digit, its type, followed by its data. Over WebSocket a text message is one packet and a binary
message is the data of one ``MESSAGE``; over HTTP long polling a body is a payload, which holds several packets.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from mechamap_rt.wire import json


class Revision(IntEnum):
    """The protocol revision, ``EIO`` in the query."""

    #: socket.io-client 2: the client pings, payloads are length-prefixed.
    V3 = 3
    #: socket.io-client 3 and 4: the server pings.
    V4 = 4


REVISIONS: Final = {"3": Revision.V3, "4": Revision.V4}
#: Packets of one payload at most.
MAX_PACKETS: Final = 1024


class PacketType(IntEnum):
    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


class Packet(NamedTuple):
    """One packet: its type, the bytes after it, and whether they are binary data rather than text."""

    type: PacketType
    data: bytes
    binary: bool = False


class EngineIOError(ValueError):
    """Not an Engine.IO packet or payload; ``str()`` says why."""


class Refusal(NamedTuple):
    """A request that is refused, as the reference server words it (code and message of the JSON body)."""

    code: int
    message: str
    status: int = 400

    def body(self) -> bytes:
        return json.encode({"code": self.code, "message": self.message})


UNKNOWN_TRANSPORT: Final = Refusal(0, "Transport unknown")
UNKNOWN_SID: Final = Refusal(1, "Session ID unknown")
BAD_METHOD: Final = Refusal(2, "Bad handshake method")
BAD_REQUEST: Final = Refusal(3, "Bad request")
NO_JSONP: Final = Refusal(3, "JSONP polling is not supported; use XHR polling or WebSocket")
FORBIDDEN: Final = Refusal(4, "Forbidden", 403)
UNSUPPORTED_VERSION: Final = Refusal(5, "Unsupported protocol version")

_TYPES: Final = tuple(PacketType)
_SEPARATOR: Final = b"\x1e"


def decode(raw: bytes) -> Packet:
    """Decode one packet from a text message.

    :raises EngineIOError: it is empty or its first byte is no packet type.
    """
    if not raw:
        raise EngineIOError("empty packet")
    kind = raw[0] - 0x30
    if not 0 <= kind < len(_TYPES):
        raise EngineIOError("unknown packet type")
    return Packet(_TYPES[kind], raw[1:])


def decode_binary(raw: bytes, revision: Revision) -> Packet:
    """Decode one packet from a binary WebSocket message; revision 3 puts the type into its first byte.

    :raises EngineIOError: it is no message.
    """
    if revision is Revision.V4:
        return Packet(PacketType.MESSAGE, raw, True)
    if not raw or raw[0] != PacketType.MESSAGE:
        raise EngineIOError("unknown binary packet type")
    return Packet(PacketType.MESSAGE, raw[1:], True)


def encode(kind: PacketType, data: bytes = b"") -> bytes:
    """Encode one packet."""
    return b"%d%b" % (kind, data)


def decode_payload(raw: bytes, revision: Revision, *, octets: bool = False) -> list[Packet]:
    """Decode the body of a polling POST.

    :param octets: the body was sent as ``application/octet-stream``, which revision 3 does for binary data.
    :raises EngineIOError: it is malformed, or holds more than :data:`MAX_PACKETS` packets.
    """
    if octets:
        if revision is Revision.V4:
            raise EngineIOError("a payload is text")
        return _decode_octets(raw)
    if revision is Revision.V4:
        _utf8(raw)
        if raw.count(_SEPARATOR) >= MAX_PACKETS:
            raise EngineIOError("too many packets")
        return [_decode_text(part, b"b") for part in raw.split(_SEPARATOR)]
    return [_decode_text(part, b"b4") for part in _split_by_length(_utf8(raw))]


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise EngineIOError("a payload is UTF-8") from None


def _decode_text(part: bytes, binary: bytes) -> Packet:
    """One packet of a text payload; binary data is base64 behind a mark."""
    if not part.startswith(b"b"):
        return decode(part)
    try:
        if part.startswith(binary):
            return Packet(PacketType.MESSAGE, b64decode(part[len(binary) :], validate=True), True)
    except binascii.Error:
        pass
    raise EngineIOError("bad binary packet")


def _split_by_length(text: str) -> list[bytes]:
    """The parts of ``<length>:<packet><length>:<packet>…``; lengths count UTF-16 code units, as JavaScript does."""
    parts: list[bytes] = []
    wide = text.encode("utf-16-le")
    at = 0
    while at < len(wide):
        colon = wide.find(b":\x00", at, at + 22)
        if colon < 0 or (colon - at) % 2:
            raise EngineIOError("a packet without its length")
        digits = wide[at:colon].decode("utf-16-le")
        if not digits.isascii() or not digits.isdigit() or len(parts) >= MAX_PACKETS:
            raise EngineIOError("a packet without its length")
        begin, at = colon + 2, colon + 2 + 2 * int(digits)
        if at > len(wide):
            raise EngineIOError("a packet shorter than its length")
        try:
            parts.append(wide[begin:at].decode("utf-16-le").encode())
        except UnicodeError:
            raise EngineIOError("a length that cuts a character") from None
    if not parts:
        raise EngineIOError("empty payload")
    return parts


def _decode_octets(raw: bytes) -> list[Packet]:
    """The packets of a binary payload: ``<0 text, 1 binary><length, a digit a byte><0xff><packet>``."""
    packets: list[Packet] = []
    at = 0
    while at < len(raw):
        end = raw.find(b"\xff", at, at + 12)
        digits = raw[at + 1 : end]
        if end < 0 or raw[at] > 1 or not digits or max(digits) > 9 or len(packets) >= MAX_PACKETS:
            raise EngineIOError("a packet without its length")
        size = int("".join(map(str, digits)))
        part = raw[end + 1 : end + 1 + size]
        if len(part) < size:
            raise EngineIOError("a packet shorter than its length")
        packets.append(decode_binary(part, Revision.V3) if raw[at] else decode(part))
        at = end + 1 + size
    if not packets:
        raise EngineIOError("empty payload")
    return packets


def encode_payload(packets: Iterable[bytes], revision: Revision) -> bytes:
    """The body of a polling answer: encoded text packets, joined."""
    if revision is Revision.V4:
        return _SEPARATOR.join(packets)
    return b"".join(b"%d:%b" % (_utf16_length(packet), packet) for packet in packets)


def _utf16_length(packet: bytes) -> int:
    return len(packet) if packet.isascii() else len(packet.decode().encode("utf-16-le")) // 2


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
