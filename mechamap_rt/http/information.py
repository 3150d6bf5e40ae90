"""What the server says of itself: service information, health, features, channels."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mechamap_rt import __version__
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


class Information:
    """Answers questions about this service.

    :param features: what is switched on, by name.
    :param leaving: does this process let its clients go?
    :param database: ``up``, ``down`` or ``degraded``.
    :param behind: the figures of what stands behind this process: ``database``, and ``site`` where it is asked.
    """

    def __init__(
        self,
        node: Node,
        census: Census,
        keys: Keys,
        clock: Callable[[], float],
        features: Mapping[str, Any],
        environment: str,
        leaving: Callable[[], bool],
        database: Callable[[], str],
        behind: Callable[[], dict[str, Any]],
    ) -> None:
        self._node = node
        self._census = census
        self._keys = keys
        self._clock = clock
        self._features = features
        self._environment = environment
        self._leaving = leaving
        self._database = database
        self._behind = behind
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
        """May it be sent clients? ``degraded`` is a yes: this host is served, but some other is out of reach."""
        leaving = self._leaving()
        status = "draining" if leaving else "degraded" if self._node.degraded else "ready"
        database = self._database()
        checks = {
            "bus": "degraded" if self._node.degraded else "ok",
            "database": "ok" if database == "up" else database,
        }
        if not leaving and database != "up":
            status = "degraded"
        answer = {"success": not leaving, "status": status, "worker": self._node.name, "checks": checks}
        return Reply.of(answer | {"timestamp": self._now()}, 503 if leaving else 200)

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


def _even(body: bytes) -> bytes:
    """Blanks to the next multiple of 256: load generators (``ab``) take answers of different lengths for failures."""
    return body.ljust(-(-len(body) // 256) * 256)


def memory() -> dict[str, int]:
    """Bytes: resident now, and its peak."""
    with open("/proc/self/statm", "rb") as statm:
        resident = int(statm.read().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"rss": resident, "peak": max(peak, resident)}
