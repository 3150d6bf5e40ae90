"""Socket.IO protocol 5 (https://socket.io/docs/v4/socket-io-protocol/): packets inside Engine.IO messages.

A packet reads ``<type>[<attachments>-][<namespace>,][<ack id>][JSON]``. Decoding is as strict as the reference
parser, and bounded: every way of being wrong is a :class:`SocketIOError`.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any, Final, NamedTuple

from mechamap_rt.wire import json


class PacketType(IntEnum):
    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


#: Event names that a client may not emit.
RESERVED: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
MAX_NAMESPACE: Final = 128
#: Attachments of one binary packet at most.
MAX_ATTACHMENTS: Final = 64

_HEAD = re.compile(rb"([0-6])(?:(\d{1,4})-)?(/[^,]*)?(,)?(\d{1,16}(?=[\[{]|\Z))?", re.DOTALL)
_BINARY: Final = (PacketType.BINARY_EVENT, PacketType.BINARY_ACK)
_TYPES: Final = tuple(PacketType)


class SocketIOError(ValueError):
    """Not a Socket.IO packet; the session ends with ``parse error``, as the reference server does."""


class Packet(NamedTuple):
    """One decoded packet.

    ``data`` is the decoded JSON (``None`` where there was none); for ``EVENT`` a list that begins with the name.
    ``fault`` is set when the JSON is sound but cannot be taken (an unpaired surrogate): the sender is told, the
    session lives.
    """

    type: PacketType
    namespace: str = "/"
    data: Any = None
    id: int | None = None
    attachments: int = 0
    fault: str | None = None


def decode(raw: bytes) -> Packet:
    """Decode one packet (the data of an Engine.IO ``MESSAGE``).

    :raises SocketIOError: anything that the protocol does not allow.
    """
    head = _HEAD.match(raw)
    if head is None:
        raise SocketIOError("unknown packet type")
    kind = _TYPES[raw[0] - 0x30]
    attachments = int(head[2] or 0)
    if (kind in _BINARY) != (attachments > 0) or (head[2] is not None and kind not in _BINARY):
        raise SocketIOError("attachments do not fit the packet type")
    if attachments > MAX_ATTACHMENTS:
        raise SocketIOError("too many attachments")
    namespace = _namespace(head[3], head[4], len(raw) == head.end(3))
    ident = int(head[5]) if head[5] is not None else None
    body = raw[head.end() :]
    try:
        data = json.decode(body) if body else None
    except json.UnpairedSurrogate as error:
        return Packet(kind, namespace, None, ident, attachments, str(error))
    except json.BadJSON as error:
        raise SocketIOError(str(error)) from None
    if body and data is None:
        raise SocketIOError("null is no payload")
    _check(kind, data, ident)
    return Packet(kind, namespace, data, ident, attachments)


def _namespace(raw: bytes | None, comma: bytes | None, at_end: bool) -> str:
    if raw is None:
        if comma is not None:
            raise SocketIOError("comma without namespace")
        return "/"
    if comma is None and not at_end:
        raise SocketIOError("namespace without its comma")
    # a query behind the namespace is a habit of old clients (and holds their token); it is no part of the name
    raw = raw.partition(b"?")[0]
    if len(raw) > MAX_NAMESPACE:
        raise SocketIOError("namespace too long")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise SocketIOError("namespace is not UTF-8") from None


def _check(kind: PacketType, data: Any, ident: int | None) -> None:
    """Hold the payload against the packet type, as the reference parser's ``isPayloadValid`` does."""
    if kind in (PacketType.EVENT, PacketType.BINARY_EVENT):
        if not isinstance(data, list) or not data or isinstance(data[0], bool) or not isinstance(data[0], str | int):
            raise SocketIOError("an event is a list that begins with its name")
        if data[0] in RESERVED:
            raise SocketIOError("reserved event name")
    elif kind in (PacketType.ACK, PacketType.BINARY_ACK):
        if not isinstance(data, list) or ident is None:
            raise SocketIOError("an acknowledgement is a list with an id")
    elif kind is PacketType.CONNECT:
        if data is not None and not isinstance(data, dict):
            raise SocketIOError("the payload of a connect is an object")
    elif kind is PacketType.DISCONNECT:
        if data is not None:
            raise SocketIOError("a disconnect has no payload")
    elif not isinstance(data, dict | str):
        raise SocketIOError("the payload of a connect error is an object or a string")


def encode(kind: PacketType, namespace: str = "/", data: bytes = b"", ident: int | None = None) -> bytes:
    """Encode one packet; ``data`` is JSON already."""
    where = b"" if namespace == "/" else namespace.encode() + b","
    number = b"" if ident is None else b"%d" % ident
    return b"%d%b%b%b" % (kind, where, number, data)


def encode_binary(kind: PacketType, attachments: int, namespace: str, data: bytes, ident: int | None = None) -> bytes:
    """Encode one packet that announces ``attachments``."""
    plain = encode(kind, namespace, data, ident)
    return b"%b%d-%b" % (plain[:1], attachments, plain[1:])


class EventEncoder:
    """Encodes published events for the sockets of one namespace, as Engine.IO messages.

    Socket.IO events do not name a channel, so all subscribers of a channel share the same bytes.
    """

    __slots__ = ("_head", "namespace")

    #: Does the encoded event depend on the name a client subscribed by?
    protocol: Final = "socket.io"
    names_channel: Final = False

    def __init__(self, namespace: str = "/") -> None:
        self.namespace = namespace
        self._head = b"4" + encode(PacketType.EVENT, namespace) + b"["

    def event(self, name: str, data: bytes, channel: str = "", publication: str = "") -> bytes:
        """One event; ``data`` is JSON and is spliced in as it is."""
        return b"%b%b,%b]" % (self._head, json.string(name), data)
