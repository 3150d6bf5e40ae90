"""The endpoints with the server's figures."""

from __future__ import annotations

from typing import Final

from mechamap_rt.core.thresholds import THRESHOLDS
from mechamap_rt.http.openapi.operation import Body, Group, Operation, Who
from mechamap_rt.http.openapi.schemas import (
    COUNT,
    NUMBER,
    TEXT,
    WORKER,
    Schema,
    answer,
    by_name,
    listed,
    members,
    message,
    ref,
    said,
)

_AMOUNT: Final[Schema] = NUMBER | {"minimum": 0}
_DATABASE: Final[Schema] = {"enum": ["up", "degraded", "down"]}
_PERHAPS: Final[Schema] = {"type": ["number", "null"]}

_PERFORMANCE: Final = members(
    {
        "requests": said(COUNT, "HTTP requests answered, since the start or the last reset."),
        "errors": said(COUNT, "Of these with 500 or more."),
        "errorRate": said(_AMOUNT, "Per cent."),
        "averageResponseTime": said(_AMOUNT, "Milliseconds."),
        "maxResponseTime": said(_AMOUNT, "Milliseconds."),
        "rateLimited": said(COUNT, "Requests over the limit."),
        "wrongKeys": said(COUNT, "Requests with a key or token that was not valid."),
        "cpu": said(_AMOUNT, "Per cent of one core, all processes together."),
        "memory": said(COUNT, "Resident bytes, all processes together."),
        "reactorLag": said(_AMOUNT, "Milliseconds that the slowest event loop was late in the last second."),
        "uptime": said(_AMOUNT, "Seconds, of the oldest process."),
        "workers": COUNT,
    }
)
_CONNECTIONS: Final = members(
    {
        "total": COUNT,
        "users": said(COUNT, "Of each process; who is connected to two counts twice."),
        "subscriptions": COUNT,
        "workers": by_name(COUNT, "Connections of each process."),
    }
)
_EVENTS: Final = members(dict.fromkeys(("published", "delivered", "dropped", "coalesced"), COUNT))
_PROCESS: Final = members(
    {
        "worker": WORKER,
        "uptime": _AMOUNT,
        "connections": COUNT,
        "cpu": _AMOUNT,
        "memory": COUNT,
        "reactorLag": _AMOUNT,
        "descriptors": COUNT,
        "database": _DATABASE,
    }
)
_ALERT: Final = members(
    {
        "name": said(
            TEXT, "Of a threshold, or such as `bus_degraded`, `canary_lost`, `crash_loop`, `certificate_expiry`."
        ),
        "state": {"enum": ["raised", "cleared"]},
        "host": said(TEXT, "Three characters: the first of the names of its processes."),
        "message": said(TEXT, "For people."),
        "since": ref("Timestamp"),
        "until": {"anyOf": [ref("Timestamp"), {"type": "null"}], "description": "`null` while it is raised."},
        "value": said(_PERHAPS, "The figure, where there is one."),
        "worst": said(_PERHAPS, "The worst it has been."),
    }
)
_VALUES: Final = members({name: said(NUMBER, each.doc.capitalize() + ".") for name, each in THRESHOLDS.items()})
_DESCRIBED: Final = members(
    {
        "thresholds": ref("Thresholds"),
        "described": by_name(
            members({"default": NUMBER, "least": NUMBER, "most": NUMBER, "meaning": TEXT}), "What may be set, by name."
        ),
    }
)
_CHANGES: Final = members(
    {},
    {
        name: {
            "type": "number",
            "minimum": each.least,
            "maximum": each.most,
            "default": each.default,
            "description": each.doc.capitalize() + ".",
        }
        for name, each in THRESHOLDS.items()
    },
    additionalProperties=False,
    minProperties=1,
)


def _data(data: Schema) -> Schema:
    return answer({"data": data})


def _get(path: str, name: str, summary: str, text: str, data: Schema) -> Operation:
    return Operation("GET", f"/api/monitoring/{path}", name, summary, text, _data(data))


def _prometheus(path: str, name: str) -> Operation:
    return Operation(
        "GET",
        path,
        name,
        "The figures for Prometheus",
        "Of every process of this host, in Prometheus' text format. Each host is scraped by itself.",
        TEXT,
        media_type="text/plain",
    )


_READ: Final = (
    _get(
        "metrics",
        "metrics",
        "All figures at once",
        "Of every process of the cluster.",
        members(
            {
                "performance": ref("Performance"),
                "connections": ref("ConnectionFigures"),
                "events": _EVENTS,
                "memory": members({"rss": COUNT, "perWorker": listed(COUNT)}, description="Resident bytes."),
                "workers": listed(_PROCESS),
            }
        ),
    ),
    _get("connections", "connectionFigures", "Connections", "How many there are, and where.", ref("ConnectionFigures")),
    _get(
        "performance",
        "performance",
        "Response times and load",
        "Response times, processor, memory, event loops.",
        ref("Performance"),
    ),
    _get(
        "health",
        "clusterHealth",
        "Is anything the matter?",
        "`degraded` when a figure is over its threshold, a database does not answer or a host is out of reach.",
        members(
            {
                "status": {"enum": ["healthy", "degraded"]},
                "problems": said(listed(TEXT), "What is the matter."),
                "workers": COUNT,
            }
        ),
    ),
    _get(
        "alerts",
        "alerts",
        "What is the matter, and what was",
        "Raised when it has held for a while, cleared when all has been well for a while; each once for a "
        "host, however many "
        "of its processes say so. The last 50 that were cleared are remembered.",
        members(
            {
                "alerts": said(listed(ref("Alert")), "Raised now, the oldest first."),
                "count": COUNT,
                "history": said(listed(ref("Alert")), "Cleared, the newest first."),
                "thresholds": ref("Thresholds"),
            }
        ),
    ),
    _get(
        "info",
        "build",
        "What runs here",
        "Versions, and what is switched on.",
        members(
            {
                "name": TEXT,
                "version": TEXT,
                "python": TEXT,
                "cores": {"type": ["integer", "null"]},
                "features": {"type": "object", "description": "What is switched on, by name."},
                "worker": WORKER,
            }
        ),
    ),
    _prometheus("/metrics", "prometheus"),
    _prometheus("/api/monitoring/prometheus", "prometheusLong"),
)
_CHANGE: Final = (
    Operation(
        "POST",
        "/api/monitoring/reset",
        "resetFigures",
        "Count HTTP requests anew",
        "Requests, errors and their times begin again, in every process. What Prometheus sees begins again with them.",
        _data(members({"message": message("Counted anew from now on")})),
        who=Who.ADMINISTRATOR,
    ),
    Operation(
        "GET",
        "/api/monitoring/thresholds",
        "thresholds",
        "The thresholds",
        "Those that hold, and what may be set.",
        _data(_DESCRIBED),
        who=Who.ADMINISTRATOR,
    ),
    Operation(
        "PUT",
        "/api/monitoring/thresholds",
        "changeThresholds",
        "Change thresholds",
        "Those that are named, in every process of the cluster, until all of them have ended.",
        _data(_DESCRIBED),
        who=Who.ADMINISTRATOR,
        body=Body(_CHANGES, {"processor and memory": {"cpu": 75, "memoryPerWorker": 800_000_000}}),
    ),
)

GROUP: Final = Group(
    "Monitoring",
    "Sums and numbers, no names: anybody may read them. To change something takes an administrator. Not there with "
    "`METRICS_ENABLED=false`; the ones for Prometheus not with `PROMETHEUS_METRICS=false`.",
    (*_READ, *_CHANGE),
    {
        "Performance": _PERFORMANCE,
        "Alert": _ALERT,
        "ConnectionFigures": _CONNECTIONS,
        "Thresholds": said(_VALUES, "Those that hold, by name."),
    },
)
