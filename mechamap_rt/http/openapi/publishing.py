"""The endpoints by which the backend publishes."""

from __future__ import annotations

from typing import Any, Final

from mechamap_rt.http import bodies
from mechamap_rt.http.openapi.operation import Body, Group, Operation, Who
from mechamap_rt.http.openapi.schemas import (
    COUNT,
    PUBLICATION,
    Schema,
    answer,
    const,
    listed,
    members,
    message,
    ref,
    said,
)

_HOW: Final[dict[str, Schema]] = {
    "data": ref("Data"),
    "class": ref("DeliveryClass"),
    "key": ref("CoalescingKey"),
    "priority": ref("Priority"),
}
_NO_TARGET: Final[Schema] = {"type": "null", "description": "Not there, where a channel is named."}
_ONE: Final = members({"channel": ref("Channel"), "event": ref("EventName")}, {"to": _NO_TARGET} | _HOW)
_EACH: Final = members({"channel": ref("Channel"), "event": ref("EventName")}, _HOW)


def _target(to: str, ident: str) -> Schema:
    return members({"to": const(to), ident: ref("Id"), "event": ref("EventName")}, _HOW)


_NAMED_DATA: Final = members(
    {"type": ref("EventName")}, description="What the event says; its `type` is the event's name."
)
_COMMENT: Final[dict[str, Any]] = {"id": 12, "body": "Chào cả nhà ⚙️"}

_LARAVEL: Final = Operation(
    "POST",
    "/api/laravel-broadcast",
    "laravelBroadcast",
    "Publish as Laravel's broadcaster does",
    "One event for one or more channels. Clients get `data` with `timestamp` (the one given, or now) and "
    '`source: "laravel"`, which win over members of these names in `data`.\n\nA resource that several of the '
    "channels name is published to once, and counted once in `totalSubscribers`.",
    answer(
        {
            "message": message("Event broadcast"),
            "event": ref("EventName"),
            "channelCount": said(COUNT, "How many channels were named."),
            "totalSubscribers": said(COUNT, "Subscribers of all these resources, in the whole cluster."),
            "results": said(listed(ref("Reached")), "Each channel, in the order given."),
            "ids": said(listed(PUBLICATION), "Of the publications, likewise; channels of one resource share one."),
        }
    ),
    who=Who.BACKEND_OR_ADDRESS,
    body=Body(
        members(
            {
                "channels": said(
                    listed(ref("Channel"), minItems=1, maxItems=bodies.MAX_CHANNELS), "Where it is published."
                ),
                "event": ref("EventName"),
            },
            _HOW
            | {
                "timestamp": {
                    "description": "When it happened, passed on as it is; without it, now.",
                    "anyOf": [
                        {"type": ["number", "null"]},
                        {"type": "string", "minLength": 1, "maxLength": bodies.MAX_TIMESTAMP},
                    ],
                },
                "socket": {
                    "type": ["string", "null"],
                    "maxLength": bodies.MAX_SOCKET,
                    "description": "The `socketId` of the one connection that does not get it: Laravel's `toOthers()`.",
                },
            },
        ),
        {
            "strings": {"channels": ["private-thread.1"], "event": "comment.created", "data": _COMMENT},
            "PHP objects, empty data": {
                "channels": [{"name": "private-user.5"}, {"name": "presence-thread.7"}],
                "event": "thread.closed",
                "data": [],
                "socket": "a1b001Gk3u8Zp0QwXr5T",
            },
        },
    ),
    idempotent=True,
)

_BROADCAST: Final = Operation(
    "POST",
    "/api/broadcast",
    "broadcast",
    "Publish to a channel, a user or a thread",
    'Clients get `data` with `timestamp` and `source: "api"`, unless `data` has these itself.',
    ref("Published"),
    who=Who.BACKEND,
    body=Body(
        {"oneOf": [ref("BroadcastToChannel"), ref("BroadcastToUser"), ref("BroadcastToThread")]},
        {
            "a channel": {"channel": "thread.7", "event": "comment.created", "data": _COMMENT},
            "a user": {"to": "user", "user_id": 5, "event": "order.paid", "data": {"order": 99}},
            "a thread, only the newest counts": {
                "to": "thread",
                "thread_id": 7,
                "event": "thread.stats.updated",
                "data": {"views": 1024},
                "class": "state",
                "key": "views",
                "priority": "low",
            },
        },
    ),
    idempotent=True,
)

_MULTI: Final = Operation(
    "POST",
    "/api/broadcast/multi",
    "broadcastMulti",
    "Publish several events",
    "As often as there are entries; all of them are looked at before the first is published.",
    answer(
        {
            "message": message("2 events broadcast"),
            "results": said(listed(ref("PublishedEach")), "Each event, in the order given."),
            "ids": said(listed(PUBLICATION), "Of the publications, likewise."),
        }
    ),
    who=Who.BACKEND,
    body=Body(
        members({"broadcasts": listed(_EACH, minItems=1, maxItems=bodies.MAX_BROADCASTS)}),
        {
            "two": {
                "broadcasts": [
                    {"channel": "thread.7", "event": "comment.created", "data": _COMMENT},
                    {"channel": "private-user.5", "event": "comment.received", "data": []},
                ]
            }
        },
    ),
    idempotent=True,
)

_USER: Final = Operation(
    "POST",
    "/api/broadcast/user/<id>",
    "broadcastToUser",
    "Publish to a user",
    "On `private-user.<id>`, to which every connection of the user is subscribed from its beginning.",
    ref("Published"),
    who=Who.BACKEND,
    body=Body(
        members({"event": ref("EventName")}, _HOW),
        {"an order": {"event": "order.paid", "data": {"order": 99}}},
    ),
    idempotent=True,
)

_NOTIFY: Final = Operation(
    "POST",
    "/api/notify",
    "notify",
    "Send a notification",
    "To a user the event's name is `notification`, to a channel it is `data.type`. A `data.priority` is the site's own "
    "and decides nothing here.",
    ref("Published"),
    who=Who.BACKEND,
    body=Body(
        {"oneOf": [ref("NotifyUser"), ref("NotifyChannel")]},
        {
            "a user": {"action": "send_to_user", "user_id": 5, "data": {"id": 31, "title": "Trả lời mới"}},
            "a channel": {
                "action": "broadcast_to_channel",
                "channel": "public.news",
                "data": {"type": "news.created", "id": 8},
            },
        },
    ),
    idempotent=True,
)

GROUP: Final = Group(
    "Publishing",
    "The site's backend publishes; whoever is subscribed, on any process and host, hears it.",
    (_LARAVEL, _BROADCAST, _MULTI, _USER, _NOTIFY),
    {
        "BroadcastToChannel": said(_ONE, "To a channel."),
        "BroadcastToUser": said(_target("user", "user_id"), "To a user, on `private-user.<id>`."),
        "BroadcastToThread": said(_target("thread", "thread_id"), "To a thread, on `thread.<id>`."),
        "NotifyUser": said(
            members({"action": const("send_to_user"), "user_id": ref("Id")}, _HOW), "A notification to a user."
        ),
        "NotifyChannel": said(
            members(
                {"action": const("broadcast_to_channel"), "channel": ref("Channel"), "data": _NAMED_DATA},
                {name: schema for name, schema in _HOW.items() if name != "data"},
            ),
            "A notification to a channel.",
        ),
    },
)
