"""The native protocol, ``mechamap.v1.json`` (docs/protocols.rst): one JSON object per WebSocket text message."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple

from mechamap_rt.wire import json

SUBPROTOCOL: Final = "mechamap.v1.json"
MAX_REQUEST_ID: Final = 64


class RequestType(StrEnum):
    AUTH = "auth"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    EVENT = "event"
    PING = "ping"


class NativeError(ValueError):
    """Not a native request. ``field`` names the member that is wrong, ``id`` is the request's, where it was sound."""

    def __init__(self, message: str, field: str | None = None, ident: int | str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.id = ident


class Request(NamedTuple):
    """One request: its type, its id (``None`` where the client sent none) and the whole object."""

    type: RequestType
    id: int | str | None
    body: dict[str, Any]


_REQUIRED: Final = {RequestType.AUTH: "token", RequestType.EVENT: "event"}
_TYPES: Final = {str(kind): kind for kind in RequestType}


def decode(raw: bytes) -> Request:
    """Decode one message.

    :raises NativeError: it is no JSON object, has no known ``type``, or a member is of the wrong kind.
    """
    try:
        body = json.decode(raw)
    except json.BadJSON as error:
        raise NativeError(str(error)) from None
    if not isinstance(body, dict):
        raise NativeError("a message is a JSON object")
    ident = body.get("id")
    if ident is not None and not _sound(ident):
        raise NativeError(f"an integer of 53 bits or a string of at most {MAX_REQUEST_ID} characters", "id")
    name = body.get("type")
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise NativeError("one of " + ", ".join(RequestType), "type", ident)
    member = _REQUIRED.get(kind)
    if member is not None and not isinstance(body.get(member), str):
        raise NativeError("a string is required", member, ident)
    return Request(kind, ident, body)


def _sound(ident: object) -> bool:
    if isinstance(ident, str):
        return len(ident) <= MAX_REQUEST_ID
    return isinstance(ident, int) and not isinstance(ident, bool) and -(2**53) < ident < 2**53


def connected(ident: int | str | None, members: dict[str, Any]) -> bytes:
    return _message("connected", ident, members)


def reply(ident: int | str | None, event: str, data: dict[str, Any]) -> bytes:
    """The answer to a request that succeeded."""
    return _message("reply", ident, {"event": event, "data": data})


def error(ident: int | str | None, members: dict[str, Any]) -> bytes:
    """The answer to a request that failed: ``code``, ``error`` and what belongs to it."""
    return _message("error", ident, members)


def reconnect(delay: int) -> bytes:
    """This process goes down: come back, to another, after ``delay`` milliseconds. A close with 1012 follows."""
    return _message("reconnect", None, {"delay": delay})


def pong(ident: int | str | None, members: dict[str, Any]) -> bytes:
    return _message("pong", ident, members)


def _message(kind: str, ident: int | str | None, members: dict[str, Any]) -> bytes:
    head: dict[str, Any] = {"type": kind} if ident is None else {"type": kind, "id": ident}
    return json.encode(head | members)


class EventEncoder:
    """Encodes published events; every subscriber by the same name shares the same bytes."""

    __slots__ = ()

    protocol: Final = "native"
    names_channel: Final = True

    def event(self, name: str, data: bytes, channel: str = "", publication: str = "") -> bytes:
        """One event; ``data`` is JSON and is spliced in as it is. Without ``channel`` it is for one connection."""
        where = b'"channel":%b,' % json.string(channel) if channel else b""
        which = b'"publication":"%b",' % publication.encode() if publication else b""
        return b'{"type":"event",%b"event":%b,%b"data":%b}' % (where, json.string(name), which, data)
