"""Schemas that more than one group of the description needs; bounds and names are those of the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mechamap_rt.core import channels
from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.core.publication import DeliveryClass, Priority
from mechamap_rt.http import bodies
from mechamap_rt.http.replies import Error
from mechamap_rt.wire.socketio import RESERVED

#: A JSON Schema (2020-12), as OpenAPI 3.1 has them.
Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
FLAG: Final[Schema] = {"type": "boolean"}
#: Six characters that name a process.
WORKER: Final[Schema] = {"type": "string", "pattern": "^[0-9a-z]{6}$", "examples": ["a1b001"]}
#: What a publisher is given for a publication.
PUBLICATION: Final[Schema] = {
    "type": "string",
    "pattern": "^[0-9a-z]{6}-[0-9a-z]{1,13}$",
    "examples": ["a1b001-19uac3zv1"],
}


def ref(name: str) -> Schema:
    """The schema of that name in :data:`SHARED` or in a group."""
    return {"$ref": f"#/components/schemas/{name}"}


def said(schema: Schema, description: str) -> Schema:
    """``schema``, and what it is for here."""
    return schema | {"description": description}


def const(value: Any) -> Schema:
    return {"const": value}


def listed(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items} | more


def by_name(values: Schema, description: str) -> Schema:
    """An object whose members' names are not known beforehand."""
    return {"type": "object", "additionalProperties": values, "description": description}


def members(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **more: Any) -> Schema:
    """An object with these members; others may come with later versions, or are not looked at."""
    properties = {**required, **(optional or {})}
    found: Schema = {"type": "object"}
    if required:
        found["required"] = list(required)
    return found | {"properties": properties} | more


def answer(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **more: Any) -> Schema:
    """An answer that all went well, with the time."""
    return members({"success": const(True), **required, "timestamp": ref("Timestamp")}, optional, **more)


def message(text: str, **more: Any) -> Schema:
    return {"type": "string", "description": "For people.", "examples": [text]} | more


def up_to(most: int) -> str:
    """A pattern of the decimal digits of 1 to ``most``."""
    digits = str(most)
    shorter = rf"[1-9][0-9]{{0,{len(digits) - 2}}}"
    found = [shorter]
    for at, digit in enumerate(digits):
        low, high = ("1" if at == 0 else "0"), int(digit) - 1
        left = len(digits) - at - 1
        if high >= int(low):
            first = low if str(high) == low else f"[{low}-{high}]"
            found.append(digits[:at] + first + (f"[0-9]{{{left}}}" if left else ""))
    return f"^(?:{'|'.join([*found, digits])})$"


IDENT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_ID}

ERRORS: Final = {
    Error.VALIDATION: "The request is not valid; `details` names every field that is wrong, and why.",
    Error.UNAUTHORIZED: "There is no key or token, or none that is valid.",
    Error.FORBIDDEN: "The key or token is valid, and does not allow this.",
    Error.NOT_FOUND: "There is no such path.",
    Error.METHOD: "The path has other methods: `Allow` names them. `HEAD` is with every `GET`, `OPTIONS` everywhere.",
    Error.TOO_SLOW: "The request did not come in time.",
    Error.CONFLICT: "A request with this `Idempotency-Key` is still under way.",
    Error.TOO_LARGE: "The body is larger than `WS_MAX_HTTP_BUFFER_SIZE`; it was not read.",
    Error.MEDIA_TYPE: "`Content-Type` is something else than JSON, or there is a `Content-Encoding`.",
    Error.KEY_REUSED: "This `Idempotency-Key` came with another body before.",
    Error.RATE_LIMITED: "Too many requests of this key or address, or too many wrong keys from this address.",
    Error.HEADERS_TOO_LARGE: "A line of the request's head is too long.",
    Error.SERVER: "A fault of the server; it is in the log, under the request's id.",
    Error.UNAVAILABLE: "The server is going down, or what it has to ask does not answer now: come again.",
}

_FIELD: Final = members(
    {
        "field": said(TEXT, "The field: `channels[2]`, `data.type`, a header's name, or `body` for all of it."),
        "message": said(TEXT, "What is wrong with it."),
    }
)


def fault(code: Schema) -> Schema:
    """The body of an answer that something is wrong."""
    return members(
        {
            "success": const(False),
            "error": code,
            "message": said(TEXT, "One sentence for people."),
        },
        {"details": said(listed(ref("WrongField"), minItems=1), "Every field that is wrong.")},
    )


_ID: Final[Schema] = said(PUBLICATION, "The publication's id; `/api/trace/<id>` says what becomes of it.")
_SUBSCRIBERS: Final = said(COUNT, "Subscribers when it was published, in the whole cluster.")

SHARED: Final[Mapping[str, Schema]] = {
    "Timestamp": {
        "type": "string",
        "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        "description": "UTC, with milliseconds.",
        "examples": ["2026-11-23T10:30:00.000Z"],
    },
    "WrongField": _FIELD,
    "Error": fault({"enum": [error.code for error in Error], "description": "For programs."}),
    "Id": {
        "description": "An id of the site's database: an integer, or its digits in a string.",
        "anyOf": [IDENT, {"type": "string", "pattern": up_to(MAX_ID)}],
        "examples": [5, "5"],
    },
    "ChannelName": {
        "type": "string",
        "minLength": 1,
        "maxLength": channels.MAX_LENGTH,
        "pattern": r"^[A-Za-z0-9_=@,.;:\-]+$",
        "not": {"enum": ["private-", "presence-"]},
        "description": "`X`, `private-X` and `presence-X` name one resource: whichever is published to, all who "
        "subscribed by any of them hear it.",
        "examples": ["private-user.5"],
    },
    "Channel": {
        "description": "A channel's name, or an object with it, which is how PHP serialises its channel objects.",
        "anyOf": [ref("ChannelName"), members({"name": ref("ChannelName")})],
        "examples": ["thread.7", {"name": "private-user.5"}],
    },
    "EventName": {
        "type": "string",
        "minLength": 1,
        "maxLength": bodies.MAX_EVENT,
        "not": {"enum": sorted(RESERVED)},
        "description": "The event's name, as the browser's code listens to it. Those that Socket.IO keeps for itself "
        "are refused.",
        "examples": ["comment.created"],
    },
    "Data": {
        "description": "What the event says: an object, passed through as it is. PHP's empty array `[]`, `null` and "
        "nothing at all are the empty object.",
        "type": ["object", "array", "null"],
        "maxItems": 0,
        "examples": [{"id": 12, "body": "Chào cả nhà"}, []],
    },
    "DeliveryClass": {
        "enum": [*(kind.name.lower() for kind in DeliveryClass if kind is not DeliveryClass.INTERNAL), None],
        "description": "What may happen to the event when a client cannot keep up: `volatile` is dropped, of `state` "
        "only the newest is kept, `durable` closes the connection rather than being lost. Without it the event's name "
        "and `key` decide.",
    },
    "Priority": {
        "enum": [*(priority.name.lower() for priority in Priority), None],
        "description": "How long it may be held back to leave together with others of its channel. Without it: `high`, "
        "which is not at all.",
    },
    "CoalescingKey": {
        "type": ["string", "null"],
        "maxLength": bodies.MAX_KEY,
        "description": "Events of class `state` with the same name and key replace one another. A key without a class "
        "makes an event `state`.",
        "examples": ["likes"],
    },
    "Published": answer(
        {
            "message": message("Event broadcast"),
            "channel": ref("ChannelName"),
            "event": ref("EventName"),
            "subscriberCount": _SUBSCRIBERS,
            "id": _ID,
        },
        {"userId": said(IDENT, "Only where the path names a user.")},
    ),
    "PublishedEach": members(
        {"channel": ref("ChannelName"), "event": ref("EventName"), "subscriberCount": COUNT, "success": const(True)}
    ),
    "Reached": members({"channel": ref("ChannelName"), "subscriberCount": COUNT}),
}
