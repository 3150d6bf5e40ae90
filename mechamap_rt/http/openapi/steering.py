"""The endpoints by which administrators steer processes."""

from __future__ import annotations

from typing import Any, Final

from mechamap_rt.http.openapi.operation import Body, Group, Operation, Who
from mechamap_rt.http.openapi.schemas import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Schema,
    answer,
    const,
    listed,
    members,
    ref,
    said,
)
from mechamap_rt.http.replies import Error
from mechamap_rt.http.steering import MOST

_STARTED: Final = answer({"state": const("started"), "result": {"type": "null"}})
_DONE: Final = answer({"state": const("done"), "result": {"type": "object"}})
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MOST}


def _act(name: str, ident: str, summary: str, text: str, body: Body | None) -> Operation:
    return Operation(
        "POST",
        f"/api/cluster/{name}",
        ident,
        summary,
        text,
        _DONE,
        who=Who.ADMINISTRATOR,
        body=body,
        also={
            202: ("It is under way; `/api/cluster` says how it goes.", _STARTED),
            409: ("Not now, or not with a single process.", {"allOf": [ref("Error"), _fault()]}),
        },
    )


def _fault() -> dict[str, Any]:
    return members({"error": const(Error.CONFLICT.code)})


_STATE: Final = Operation(
    "GET",
    "/api/cluster",
    "clusterState",
    "The processes of this host",
    "As who looks after them sees them.",
    answer(
        {
            "cluster": members(
                {},
                {
                    "mode": {"enum": ["single", "cluster"]},
                    "version": TEXT,
                    "host": TEXT,
                    "state": {"enum": ["running", "reloading", "stopping"]},
                    "uptime": NUMBER,
                    "degraded": FLAG,
                    "wanted": said(COUNT, "Workers that there should be."),
                    "workers": listed({"type": "object"}),
                    "restarts": COUNT,
                    "reloads": COUNT,
                },
            )
        }
    ),
    who=Who.ADMINISTRATOR,
)
_ERRORS: Final = Operation(
    "GET",
    "/api/cluster/errors",
    "recentErrors",
    "The last errors in the log",
    "Of this host, the newest first.",
    answer(
        {
            "errors": listed(
                members(
                    {
                        "time": said(NUMBER, "Seconds since the epoch."),
                        "level": {"enum": ["error", "critical"]},
                        "logger": TEXT,
                        "worker": said(TEXT, "The process's name, or `master`."),
                        "message": TEXT,
                    }
                )
            )
        }
    ),
    who=Who.ADMINISTRATOR,
)

GROUP: Final = Group(
    "Steering",
    "The host whose process answers: what `mechamapctl` does there, over HTTP. Reloading and the like need "
    "a master and "
    "workers (`CLUSTER_ENABLED`).",
    (
        _STATE,
        _ERRORS,
        _act(
            "reload",
            "reload",
            "Reload",
            "New workers, with new code and the settings as they are in the file now, take the place of all.",
            None,
        ),
        _act(
            "restart",
            "restartWorker",
            "Restart a worker",
            "Another takes its place; its clients come back to others.",
            Body(members({"worker": said(_NUMBER, "The worker's number.")}), {"the second": {"worker": 2}}),
        ),
        _act(
            "scale",
            "scale",
            "Change the number of workers",
            "From now on, until the next start.",
            Body(members({"workers": _NUMBER}), {"three": {"workers": 3}}),
        ),
    ),
)
