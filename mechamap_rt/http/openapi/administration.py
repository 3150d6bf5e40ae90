"""The endpoints of administrators."""

from __future__ import annotations

from typing import Any, Final

from mechamap_rt.bus.census import MAX_LISTED
from mechamap_rt.http.administration import MAX_REASON
from mechamap_rt.http.openapi.operation import Body, Group, Operation, Who
from mechamap_rt.http.openapi.schemas import (
    COUNT,
    FLAG,
    IDENT,
    NUMBER,
    TEXT,
    WORKER,
    answer,
    by_name,
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

GROUP: Final = Group(
    "Administration",
    "Who is connected, and out with them.",
    (_STATS, _USER, _DISCONNECT),
    {
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
            }
        )
    },
)
