"""The endpoints of administrators."""

from __future__ import annotations

from typing import Any, Final

from mechamap_rt.bus.census import MAX_LISTED, MAX_NAMED, MAX_TOP
from mechamap_rt.bus.stories import WORDS
from mechamap_rt.http.administration import MAX_REASON, TOPS
from mechamap_rt.http.openapi.operation import Body, Group, Operation, Who
from mechamap_rt.http.openapi.schemas import (
    COUNT,
    FLAG,
    IDENT,
    NUMBER,
    PUBLICATION,
    TEXT,
    WORKER,
    answer,
    by_name,
    const,
    listed,
    members,
    message,
    ref,
    said,
)


def _each(of: str, **more: Any) -> dict[str, Any]:
    return by_name(COUNT, f"Connections of each {of}.") | more


_STATS: Final = Operation(
    "GET",
    "/api/connections/stats",
    "connectionStatistics",
    "How many connections there are",
    "Of the whole cluster, by what they are.",
    answer(
        {
            "stats": members(
                {
                    "totalConnections": COUNT,
                    "uniqueUsers": COUNT,
                    "averagePerUser": NUMBER | {"minimum": 0},
                    "mostOfOneUser": COUNT,
                    "byWorker": _each("process"),
                    "byProtocol": _each("protocol"),
                    "byTransport": _each("transport"),
                    "byRole": _each("role"),
                }
            )
        }
    ),
    who=Who.ADMINISTRATOR,
)

_TOP: Final = Operation(
    "GET",
    "/api/top",
    "top",
    "What there is most of",
    "The channels with the most subscribers, the users with the most connections, or the events that were "
    "published most "
    "since the start, in the whole cluster.",
    answer({"of": {"enum": list(TOPS)}, "top": listed(members({"name": TEXT, "count": COUNT}), maxItems=MAX_TOP)}),
    who=Who.ADMINISTRATOR,
    query={
        "of": {"description": "Of what.", "schema": {"enum": list(TOPS), "default": "channels"}, "example": "channels"},
        "limit": {
            "description": "How many.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": 20},
            "example": 10,
        },
    },
)

_USER: Final = Operation(
    "GET",
    "/api/connections/user/<id>",
    "userConnections",
    "The connections of a user",
    f"The oldest {MAX_LISTED:,} of them, wherever they are. A user who is not known is one without connections.",
    answer(
        {
            "userId": IDENT,
            "connected": FLAG,
            "connectionCount": COUNT,
            "connections": listed(ref("Connection"), maxItems=MAX_LISTED),
        }
    ),
    who=Who.ADMINISTRATOR,
)

_DISCONNECT: Final = Operation(
    "POST",
    "/api/connections/disconnect/<id>",
    "disconnectUser",
    "End a user's connections",
    "Everywhere; the clients stay away until their user brings them back. To keep somebody out, revoke the tokens.",
    answer(
        {
            "message": message("Disconnected"),
            "userId": IDENT,
            "disconnected": said(COUNT, "Connections that ended, in the whole cluster."),
        }
    ),
    who=Who.ADMINISTRATOR,
    body=Body(
        members(
            {},
            {
                "reason": {
                    "type": ["string", "null"],
                    "maxLength": MAX_REASON,
                    "description": "What the user's clients are told.",
                }
            },
        ),
        {"with a reason": {"reason": "Spam"}},
        required=False,
    ),
)

_LOST: Final = members({"at": ref("Timestamp"), "user": IDENT, "reason": TEXT})
_TRACE: Final = Operation(
    "GET",
    "/api/trace/<publication>",
    "trace",
    "What became of a message",
    "Where it was accepted, to how many it was given in each process, and who did not get it and why; with "
    "`user` also what "
    "became of it at each connection that the user has or had then. Volatile events are traced by samples. "
    "What is asked "
    "for must be younger than `TRACE_HOURS`, and among the last `TRACE_PUBLICATIONS` of its process.",
    answer(
        {
            "id": PUBLICATION,
            "found": const(True),
            "publication": {"anyOf": [ref("TracedPublication"), {"type": "null"}]},
            "workers": listed(ref("TracedWorker")),
            "recipients": COUNT,
            "lost": COUNT,
        },
        {"user": ref("TracedUser")},
    ),
    who=Who.ADMINISTRATOR,
    query={"user": {"description": "Why this user has it, or has not.", "schema": IDENT, "example": 5}},
)

GROUP: Final = Group(
    "Administration",
    "Who is connected, and out with them.",
    (_STATS, _TOP, _USER, _DISCONNECT, _TRACE),
    {
        "TracedPublication": members(
            {
                "id": PUBLICATION,
                "at": ref("Timestamp"),
                "worker": said(WORKER, "That accepted it."),
                "channel": TEXT,
                "resource": TEXT,
                "event": TEXT,
                "class": ref("DeliveryClass"),
                "priority": ref("Priority"),
                "source": {"enum": ["api", "laravel", "client", "operator", "server"]},
                "request": said(TEXT, "The id of the HTTP request; empty for others."),
                "sender": said(TEXT, "The connection that does not get it back; empty for none."),
                "bytes": said(COUNT, "Of its data."),
            }
        ),
        "TracedWorker": members(
            {
                "worker": WORKER,
                "at": {"anyOf": [ref("Timestamp"), {"type": "null"}]},
                "recipients": said(COUNT, "Connections that it was given to."),
                "users": said(listed(IDENT), "Whose, where they are few."),
                "lost": COUNT,
                "byReason": by_name(COUNT, "Those who did not get it, by reason."),
                "losses": listed(_LOST),
            }
        ),
        "TracedUser": members(
            {
                "id": IDENT,
                "outcome": said({"enum": [*WORDS, "absent"]}, "The best of any connection."),
                "explanation": TEXT,
                "connections": listed(
                    members(
                        {
                            "connection": TEXT,
                            "worker": WORKER,
                            "protocol": TEXT,
                            "transport": TEXT,
                            "since": ref("Timestamp"),
                            "until": {"anyOf": [ref("Timestamp"), {"type": "null"}]},
                            "reason": said(TEXT, "Why it ended."),
                            "outcome": {"enum": list(WORDS)},
                            "explanation": TEXT,
                        }
                    )
                ),
            }
        ),
        "Connection": members(
            {
                "socketId": TEXT,
                "userId": IDENT,
                "name": TEXT,
                "role": TEXT,
                "protocol": said(TEXT, "`socket.io` or `native`."),
                "transport": said(TEXT, "`websocket` or `polling`."),
                "address": said(TEXT, "The client's, as far as proxies are trusted to tell it."),
                "worker": WORKER,
                "connectedAt": ref("Timestamp"),
                "channels": said(COUNT, "Its subscriptions."),
                "subscriptions": said(listed(TEXT, maxItems=MAX_NAMED), "The resources, or some of them."),
            }
        ),
    },
)
