"""What the server says of itself: service information, health, features, channels."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from mechamap_rt import __version__
from mechamap_rt.bus.canary import Canary
from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.channels import InvalidChannel
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.routing import Route
from mechamap_rt.wire import json

TOP = 10
#: Seconds that the event loop of a process may be late that is sent clients.
MAX_LAG: Final = 0.5
#: What ``/ready`` can leave out.
_CHECKS: Final = ("bus", "database", "reactor")


class Information:
    """Answers questions about this service.

    :param features: what is switched on, by name.
    :param database: ``up``, ``down`` or ``degraded``.
    :param behind: the figures of what stands behind this process: ``database``, and ``site`` where it is asked.
    :param canary: says whether publications arrive.
    :param lag: seconds that the event loop was late, lately.
    :ivar closing: does this process let its clients go?
    """

    def __init__(
        self,
        node: Node,
        census: Census,
        keys: Keys,
        clock: Callable[[], float],
        features: Mapping[str, Any],
        environment: str,
        database: Callable[[], str],
        behind: Callable[[], dict[str, Any]],
        canary: Canary,
        lag: Callable[[], float],
    ) -> None:
        self._node = node
        self._census = census
        self._keys = keys
        self._clock = clock
        self._features = features
        self._environment = environment
        self._database = database
        self._behind = behind
        self._canary = canary
        self._lag = lag
        self.closing = False
        self._memory_read: dict[str, int] = {}
        self._memory_until = 0.0
        self._started = time.monotonic()

    def routes(self) -> list[Route]:
        return [
            Route("/", {"GET": self.service}),
            Route("/health", {"GET": self.health}, exempt=True),
            Route("/api/health", {"GET": self.health}, exempt=True),
            Route("/live", {"GET": self.live}, exempt=True),
            Route("/ready", {"GET": self.ready}, exempt=True),
            Route("/status", {"GET": self.status}),
            Route("/api/status", {"GET": self.status}),
            Route("/api/channels/stats", {"GET": self.channel_stats}),
            Route("/api/channels/<channel>", {"GET": self.channel}),
        ]

    async def service(self, call: Call) -> Reply:
        return Reply.of(
            {
                "success": True,
                "name": "mechamap_rt",
                "version": __version__,
                "status": "running",
                "environment": self._environment,
                "endpoints": {
                    "socketio": "/socket.io/",
                    "websocket": "/ws",
                    "health": "/api/health",
                    "status": "/api/status",
                    "openapi": "/api/openapi.json",
                    "docs": "/docs",
                },
                "timestamp": self._now(),
            }
        )

    async def health(self, call: Call) -> Reply:
        """Where the database is, and how its connections do, is for who has a key."""
        behind: Mapping[str, Any] = {}
        if (await self._keys.caller(call)).right:
            behind = self._behind()
        body = json.encode(
            {
                "success": True,
                "status": "healthy",
                "version": __version__,
                "uptime": round(time.monotonic() - self._started, 3),
                "memory": self._memory(),
                "worker": self._node.name,
                "connections": self._node.connection_count(),
                "database": {"status": self._database()},
                **behind,
                "timestamp": self._now(),
            }
        )
        return Reply(_even(body))

    def _memory(self) -> dict[str, int]:
        """At most a second old."""
        now = time.monotonic()
        if now >= self._memory_until:
            self._memory_until, self._memory_read = now + 1.0, memory()
        return self._memory_read

    async def live(self, call: Call) -> Reply:
        """The process runs, and answers; nothing else is looked at."""
        return Reply.of({"success": True, "status": "live", "timestamp": self._now()})

    async def ready(self, call: Call) -> Reply:
        """May it be sent clients? Only if what is published arrives, the database answers, and it is not too busy.

        ``?exclude=database,bus`` leaves out what other places are out of as well: 503 from all of them helps nobody.
        """
        excluded = _excluded(call)
        checks = {name: fault for name, fault in self._faults().items() if name not in excluded}
        ready = not any(checks.values())
        status = "draining" if self.closing else "ready" if ready else "degraded"
        answer = {
            "success": ready,
            "status": status,
            "worker": self._node.name,
            "checks": {name: fault or "ok" for name, fault in checks.items()},
            "failed": [name for name, fault in checks.items() if fault],
            "timestamp": self._now(),
        }
        return Reply.of(answer, 200 if ready else 503)

    def _faults(self) -> dict[str, str]:
        """What is wrong with each part that has to be well, or ``""``."""
        database, lag = self._database(), self._lag()
        bus = "" if self._canary.well else "what is published does not come back in time"
        return {
            "bus": "a part of the cluster is out of reach" if self._node.degraded else bus,
            "database": "does not answer" if database == "down" else "",
            "reactor": f"{lag * 1000:.0f} ms late" if lag > MAX_LAG else "",
            "draining": "lets its clients go" if self.closing else "",
        }

    async def status(self, call: Call) -> Reply:
        figures = await self._census.figures()
        return Reply.of(
            {
                "success": True,
                "status": "running",
                "environment": self._environment,
                "features": dict(self._features),
                "degraded": self._node.degraded,
                "connections": {"total": figures["connections"], "users": figures["users"]},
                "timestamp": self._now(),
            }
        )

    async def channel(self, call: Call) -> Reply:
        await self._keys.require(call, Right.PUBLISH)
        try:
            channel = channels.parse(call.variables["channel"])
        except InvalidChannel as error:
            raise HTTPFault(Error.VALIDATION, "The request is not valid", [("channel", str(error))]) from None
        found = await self._census.channel(channel.resource)
        return Reply.of(
            {
                "success": True,
                "channel": channel.name,
                "subscriberCount": found["count"],
                "subscribers": found["subscribers"],
                "metadata": {
                    "resource": channel.resource,
                    "type": channel.kind,
                    "users": found["users"],
                    "listed": len(found["subscribers"]),
                },
            }
        )

    async def channel_stats(self, call: Call) -> Reply:
        await self._keys.require(call, Right.PUBLISH)
        sizes = await self._census.channels()
        kinds = Counter(name.partition(".")[0] for name in sizes)
        top = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:TOP]
        stats = {
            "totalChannels": len(sizes),
            "totalSubscriptions": sum(sizes.values()),
            "channelsByType": dict(kinds),
            "topChannels": [{"channel": name, "subscriberCount": size} for name, size in top],
        }
        return Reply.of({"success": True, "stats": stats, "timestamp": self._now()})

    def _now(self) -> str:
        return json.timestamp(self._clock())


def _excluded(call: Call) -> set[str]:
    """The parts that shall not be looked at.

    :raises HTTPFault: there is no such part.
    """
    values = parse_qs(call.query.decode("latin-1"), keep_blank_values=True).get("exclude", ())
    named = {name for value in values for name in value.split(",")}
    unknown = named.difference(_CHECKS)
    if unknown:
        raise HTTPFault(Error.VALIDATION, "The request is not valid", [("exclude", "one of " + ", ".join(_CHECKS))])
    return named


def _even(body: bytes) -> bytes:
    """Blanks to the next multiple of 256: load generators (``ab``) take answers of different lengths for failures."""
    return body.ljust(-(-len(body) // 256) * 256)


def memory() -> dict[str, int]:
    """Bytes: resident now, and its peak."""
    with open("/proc/self/statm", "rb") as statm:
        resident = int(statm.read().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"rss": resident, "peak": max(peak, resident)}
