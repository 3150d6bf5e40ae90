"""The endpoints by which the server says what it is and how it is, and what is on its channels."""

from __future__ import annotations

from typing import Final

from mechamap_rt.bus.census import MAX_NAMED
from mechamap_rt.http.information import TOP
from mechamap_rt.http.openapi.operation import Group, Operation, Who
from mechamap_rt.http.openapi.schemas import (
    COUNT,
    FLAG,
    IDENT,
    NUMBER,
    TEXT,
    WORKER,
    Schema,
    answer,
    by_name,
    const,
    listed,
    members,
    ref,
    said,
)

_ENVIRONMENT: Final[Schema] = {"enum": ["development", "production"]}
_BEHIND: Final[Schema] = {"enum": ["up", "degraded", "down"]}
_SECONDS: Final[Schema] = NUMBER | {"minimum": 0}

_POOL: Final = members(
    {
        "role": {"enum": ["read", "write", "read and write"]},
        "server": TEXT,
        "status": {"enum": ["unknown", "up", "down"]},
        "size": COUNT,
        "inUse": COUNT,
        "waiting": COUNT,
    },
    {"reason": said(TEXT, "Why it is down.")},
    additionalProperties=True,
    description="The connections to one server of the database, and what they have done since the start.",
)
_HEALTH: Final = answer(
    {
        "status": const("healthy"),
        "version": TEXT,
        "uptime": said(_SECONDS, "Seconds since the process started."),
        "memory": members(
            {"rss": said(COUNT, "Bytes that are resident."), "peak": said(COUNT, "The most there were.")}
        ),
        "worker": WORKER,
        "connections": said(COUNT, "Of this process."),
        "database": members(
            {"status": _BEHIND}, {"pools": said(listed(_POOL), "Only with a key: where it is, and how it does.")}
        ),
    },
    {
        "site": members(
            {"status": said({"enum": ["closed", "open", "trying"]}, "`closed` is well: requests pass.")},
            {"requests": said(COUNT, "Only with a key.")},
            description="Only where the site's HTTP interface is asked.",
        )
    },
)
_STATUS: Final = answer(
    {
        "status": const("running"),
        "environment": _ENVIRONMENT,
        "features": {"type": "object", "description": "What is switched on, by name."},
        "degraded": said(FLAG, "Is a part of the cluster out of reach?"),
        "connections": members({"total": COUNT, "users": COUNT}, description="Of the whole cluster."),
    }
)
_CHECK: Final[Schema] = {"type": "string", "description": "`ok`, or what is wrong."}
_READY: Final[dict[str, Schema]] = {
    "worker": WORKER,
    "checks": members({"draining": _CHECK}, dict.fromkeys(("bus", "database", "reactor"), _CHECK)),
    "failed": said(listed(TEXT), "The names of the checks that fail."),
}

_ROOT: Final = Operation(
    "GET",
    "/",
    "service",
    "What this is",
    "The name of the service, its version, and where to go from here.",
    answer(
        {
            "name": const("mechamap_rt"),
            "version": TEXT,
            "status": const("running"),
            "environment": _ENVIRONMENT,
            "endpoints": by_name(TEXT, "Paths, by what they are for."),
        }
    ),
)


def _health(path: str, name: str) -> Operation:
    text = "Of the process that answers, for people and scripts. For probes there are `/live` and `/ready`."
    return Operation("GET", path, name, "How this process is", text, _HEALTH, who=Who.ANYBODY_OR_KEY)


def _status(path: str, name: str) -> Operation:
    text = "Of the whole cluster: what is switched on, and how many are connected."
    return Operation("GET", path, name, "What is switched on", text, _STATUS)


_LIVE: Final = Operation(
    "GET",
    "/live",
    "live",
    "Does a process answer?",
    "For a liveness probe: nothing else is looked at.",
    answer({"status": const("live")}),
)
_READINESS: Final = Operation(
    "GET",
    "/ready",
    "ready",
    "May it be sent clients?",
    "For a readiness probe: yes if what is published comes back in time, the database answers, the event "
    "loop is less than "
    "0.5 s late, and the process does not let its clients go.",
    answer({"status": const("ready")} | _READY),
    also={
        503: (
            "No; `failed` says why.",
            members(
                {"success": const(False), "status": {"enum": ["draining", "degraded"]}}
                | _READY
                | {"timestamp": ref("Timestamp")}
            ),
        )
    },
    query={
        "exclude": {
            "description": "Checks to leave out, joined by commas: what other places are out of as well is "
            "no reason to "
            "send nobody anywhere.",
            "schema": {"type": "string", "pattern": "^(bus|database|reactor)(,(bus|database|reactor))*$"},
            "example": "database",
        }
    },
)
_CHANNELS: Final = Operation(
    "GET",
    "/api/channels/stats",
    "channelStatistics",
    "How many channels there are",
    f"Resources with subscribers, in the whole cluster, and the {TOP} with the most.",
    answer(
        {
            "stats": members(
                {
                    "totalChannels": COUNT,
                    "totalSubscriptions": COUNT,
                    "channelsByType": by_name(COUNT, "By the first part of their names: `thread` of `thread.7`."),
                    "topChannels": listed(members({"channel": TEXT, "subscriberCount": COUNT}), maxItems=TOP),
                }
            )
        }
    ),
    who=Who.BACKEND,
)
_CHANNEL: Final = Operation(
    "GET",
    "/api/channels/<channel>",
    "channel",
    "Who is subscribed to a channel",
    f"By any of its three names. At most {MAX_NAMED} users are listed; all are counted.",
    members(
        {
            "success": const(True),
            "channel": ref("ChannelName"),
            "subscriberCount": said(COUNT, "Subscriptions, in the whole cluster."),
            "subscribers": listed(members({"userId": IDENT, "name": TEXT, "connections": COUNT}), maxItems=MAX_NAMED),
            "metadata": members(
                {
                    "resource": said(TEXT, "What the name names."),
                    "type": said(TEXT, "Its first part."),
                    "users": said(COUNT, "Users who are subscribed."),
                    "listed": said(COUNT, "How many of them are named here."),
                }
            ),
        }
    ),
    who=Who.BACKEND,
)
_DESCRIPTION: Final = Operation(
    "GET",
    "/api/openapi.json",
    "description",
    "This description",
    "OpenAPI 3.1 of what this server serves with its settings. A page that shows it is at `/docs`.",
    members({"openapi": TEXT, "info": {"type": "object"}, "paths": {"type": "object"}}, additionalProperties=True),
)
_CONSOLE: Final = Operation(
    "GET",
    "/console/config.json",
    "consoleConfiguration",
    "What the demo console needs",
    "Tokens of the demo users, and the backend's key. Only while the demo is on, which it never is in production.",
    members(
        {
            "users": listed(members({"id": IDENT, "name": TEXT, "role": TEXT, "token": TEXT})),
            "channels": listed(members({"name": TEXT, "hint": TEXT})),
            "apiKey": TEXT,
            "socketio": FLAG,
            "transports": listed(TEXT),
            "version": TEXT,
        }
    ),
)

GROUP: Final = Group(
    "Information",
    "What the server says of itself, and of its channels.",
    (
        _ROOT,
        _health("/api/health", "health"),
        _health("/health", "healthShort"),
        _LIVE,
        _READINESS,
        _status("/api/status", "status"),
        _status("/status", "statusShort"),
        _CHANNELS,
        _CHANNEL,
        _DESCRIPTION,
        _CONSOLE,
    ),
)
