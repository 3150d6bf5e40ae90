"""The figures of the server over HTTP: for the operators' commands, for Prometheus, and what is over a threshold.

They are sums and numbers, no names: nobody needs a key to read them. To change or reset something takes the
administrators' key.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt import __version__
from mechamap_rt.bus.node import Node
from mechamap_rt.core.metrics import SECONDS, merged
from mechamap_rt.core.thresholds import THRESHOLDS, Thresholds
from mechamap_rt.http.audit import Acts
from mechamap_rt.http.bodies import Fields
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.routing import Route, read_json
from mechamap_rt.http.traffic import Traffic
from mechamap_rt.wire import json

_log = Logger()

#: Figures of a process that are summed over all of them.
_SUMS: Final = (
    "connections",
    "users",
    "subscriptions",
    "published",
    "delivered",
    "dropped",
    "coalesced",
    "bytes",
    "cpu",
    "rss",
    "descriptors",
    "requests",
    "errors",
    "refused",
    "limited",
    "wrongKeys",
    "seconds",
)


class Monitoring:
    """Answers for the whole cluster, by asking every process for its figures.

    :param figures: of this process, see :meth:`mechamap_rt.app.Realtime.measure`.
    :param clock: seconds since the epoch.
    :param about: what is switched on, by name.
    :param facts: what the process that looks after this one has last said.
    :param enabled: does it answer at all, and ``prometheus``: in Prometheus' format?
    """

    def __init__(
        self,
        node: Node,
        keys: Keys,
        acts: Acts,
        clock: Callable[[], float],
        figures: Callable[[], dict[str, Any]],
        traffic: Traffic,
        about: Mapping[str, Any],
        *,
        enabled: bool,
        prometheus: bool,
        facts: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._node = node
        self._keys = keys
        self._acts = acts
        self._clock = clock
        self._about = about
        self._enabled = enabled
        self._prometheus = prometheus
        self._facts = facts
        self.thresholds = Thresholds()
        node.answer("alerts", self._known_alerts)
        node.answer("measures", lambda asked: figures())
        node.answer("thresholds", self._learn)
        node.answer("reset", lambda asked: traffic.reset())

    def start(self) -> None:
        """Learn what an operator has changed in the other processes, which can be asked now."""
        learning = Deferred.fromCoroutine(self._spread())
        learning.addErrback(lambda reason: _log.failure("The thresholds of the other processes are not known", reason))

    def routes(self) -> list[Route]:
        if not self._enabled:
            return []
        routes = [
            Route("/api/monitoring/metrics", {"GET": self.metrics}, exempt=True),
            Route("/api/monitoring/connections", {"GET": self.connections}, exempt=True),
            Route("/api/monitoring/health", {"GET": self.health}, exempt=True),
            Route("/api/monitoring/performance", {"GET": self.performance}, exempt=True),
            Route("/api/monitoring/alerts", {"GET": self.alerts}, exempt=True),
            Route("/api/monitoring/info", {"GET": self.info}, exempt=True),
            Route("/api/monitoring/reset", {"POST": self.reset}),
            Route("/api/monitoring/thresholds", {"GET": self.show_thresholds, "PUT": self.change_thresholds}),
        ]
        if self._prometheus:
            routes += [
                Route(path, {"GET": self.prometheus}, exempt=True)
                for path in ("/metrics", "/api/monitoring/prometheus")
            ]
        return routes

    # reading

    async def _measures(self) -> list[dict[str, Any]]:
        """The figures of every process."""
        return await self._node.ask("measures", None)

    async def metrics(self, call: Call) -> Reply:
        """Everything at once: ``performance``, ``connections``, ``events``, ``memory``, ``workers``."""
        rows = await self._measures()
        total = _total(rows)
        data = {
            "performance": _performance(rows, total),
            "connections": _connections(rows, total),
            "events": {name: total[name] for name in ("published", "delivered", "dropped", "coalesced")},
            "memory": {"rss": total["rss"], "perWorker": [row["rss"] for row in rows]},
            "workers": [_worker(row) for row in rows],
        }
        return self._answer(data)

    async def connections(self, call: Call) -> Reply:
        """How many there are, and where."""
        rows = await self._measures()
        return self._answer(_connections(rows, _total(rows)))

    async def performance(self, call: Call) -> Reply:
        """Response times, processor, memory, event loops."""
        rows = await self._measures()
        return self._answer(_performance(rows, _total(rows)))

    async def health(self, call: Call) -> Reply:
        """``healthy``, or ``degraded`` with what is the matter."""
        rows = await self._measures()
        found = [f"{alert['name']}: {alert['message']}" for alert in (await self._alerts())[0]]
        if self._node.degraded:
            found.append("a part of the cluster is out of reach")
        found += [f"database {row['database']} at {row['worker']}" for row in rows if row["database"] != "up"]
        status = "degraded" if found else "healthy"
        return self._answer({"status": status, "problems": found, "workers": len(rows)})

    async def alerts(self, call: Call) -> Reply:
        """What is the matter now, at any host, and what was."""
        raised, cleared = await self._alerts()
        return self._answer(
            {
                "alerts": [_shown(alert) for alert in raised],
                "count": len(raised),
                "history": [_shown(alert) for alert in cleared],
                "thresholds": self.thresholds.values,
            }
        )

    async def _alerts(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Those that are raised, oldest first, and those that were cleared, newest first; each once."""
        raised: dict[tuple[Any, ...], dict[str, Any]] = {}
        cleared: dict[tuple[Any, ...], dict[str, Any]] = {}
        for now, before in await self._node.ask("alerts", None):
            raised |= {(alert["host"], alert["name"]): alert for alert in now}
            cleared |= {(alert["host"], alert["name"], alert["since"]): alert for alert in before}
        return (
            sorted(raised.values(), key=lambda alert: alert["since"]),
            sorted(cleared.values(), key=lambda alert: -alert["until"]),
        )

    def _known_alerts(self, asked: None) -> tuple[list[Any], list[Any]]:
        facts = self._facts()
        return facts.get("alerts", []), facts.get("history", [])

    async def live(self) -> dict[str, Any]:
        """What the page of operators is told every second: sums and counters, from which it makes rates."""
        rows = await self._measures()
        total = _total(rows)
        kinds: Counter[str] = Counter()
        for row in rows:
            for protocol, transport, _, count in row["kinds"]:
                kinds[f"{protocol} {transport}"] += count
        raised, cleared = await self._alerts()
        facts = self._facts()
        return {
            "at": self._clock(),
            "totals": total,
            "kinds": dict(kinds),
            "latency": merged([row["counts"]["latency"] for row in rows]),
            "bounds": SECONDS,
            "processes": [_process(row) for row in rows],
            "host": {name: facts.get(name) for name in ("mode", "state", "host", "version", "wanted", "workers")},
            "alerts": [_shown(alert) for alert in raised],
            "history": [_shown(alert) for alert in cleared[:20]],
            "degraded": self._node.degraded,
        }

    async def info(self, call: Call) -> Reply:
        """What it is that runs here."""
        return self._answer(
            {
                "name": "mechamap_rt",
                "version": __version__,
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "features": dict(self._about),
                "worker": self._node.name,
            }
        )

    async def prometheus(self, call: Call) -> Reply:
        """The figures of every process of this host, in Prometheus' text format."""
        # needed by few, and not small
        from mechamap_rt.http.exposition import CONTENT_TYPE, exposition

        host = self._node.name[:3]
        rows = [row for row in await self._measures() if row["worker"].startswith(host)]
        return Reply(exposition(rows, _master(self._facts())), content_type=CONTENT_TYPE)

    # changing

    async def reset(self, call: Call) -> Reply:
        """Count HTTP requests and their times anew, in every process."""
        with self._acts.act(call, "monitoring.reset") as act:
            act.caller = await self._keys.require(call, Right.ADMINISTER)
            await self._node.ask("reset", None)
            return self._answer({"message": "Counted anew from now on"})

    async def show_thresholds(self, call: Call) -> Reply:
        await self._keys.require(call, Right.ADMINISTER)
        return self._answer(self._described())

    async def change_thresholds(self, call: Call) -> Reply:
        """``{name: number, …}``: these are changed in every process, and in those that come after them."""
        with self._acts.act(call, "monitoring.thresholds") as act:
            act.caller = await self._keys.require(call, Right.ADMINISTER)
            changed = _thresholds_in(call)
            act.target |= changed
            self.thresholds.learn(self._clock(), changed)
            await self._spread()
            return self._answer(self._described())

    async def _spread(self) -> None:
        """Tell every process what holds here, and learn what holds there."""
        for state in await self._node.ask("thresholds", self.thresholds.state()):
            self.thresholds.learn(*state)

    def _learn(self, state: tuple[float, dict[str, float]]) -> tuple[float, dict[str, float]]:
        self.thresholds.learn(*state)
        return self.thresholds.state()

    def _described(self) -> dict[str, Any]:
        return {
            "thresholds": self.thresholds.values,
            "described": {
                name: {"default": each.default, "least": each.least, "most": each.most, "meaning": each.doc}
                for name, each in THRESHOLDS.items()
            },
        }

    def _answer(self, data: dict[str, Any]) -> Reply:
        return Reply.of({"success": True, "data": data, "timestamp": json.timestamp(self._clock())})


def _shown(alert: Mapping[str, Any]) -> dict[str, Any]:
    """An alert with its moments as the API writes them."""
    until = alert["until"]
    moments = {"since": json.timestamp(alert["since"]), "until": None if until is None else json.timestamp(until)}
    return dict(alert) | moments


def _master(facts: Mapping[str, Any]) -> dict[str, float]:
    """The figures of who looks after the processes of this host."""
    if not facts:
        return {}
    workers = facts["workers"]
    return {
        "ready": sum(worker["state"] == "ready" for worker in workers),
        "wanted": facts["wanted"],
        "alerts": len(facts["alerts"]),
        "restarts": facts["restarts"],
        "reloads": facts["reloads"],
    }


def _total(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) for name in _SUMS}


def _performance(rows: list[dict[str, Any]], total: Mapping[str, float]) -> dict[str, Any]:
    """Times in milliseconds, processor in per cent of one core, memory in bytes."""
    requests = total["requests"]
    return {
        "requests": requests,
        "errors": total["errors"],
        "errorRate": round(100 * total["errors"] / requests, 2) if requests else 0.0,
        "averageResponseTime": round(1000 * total["seconds"] / requests, 3) if requests else 0.0,
        "maxResponseTime": round(1000 * max((row["slowest"] for row in rows), default=0.0), 3),
        "rateLimited": total["limited"],
        "wrongKeys": total["wrongKeys"],
        "cpu": round(total["cpu"], 1),
        "memory": total["rss"],
        "reactorLag": round(1000 * max((row["lag"] for row in rows), default=0.0), 1),
        "uptime": round(max((row["uptime"] for row in rows), default=0.0), 1),
        "workers": len(rows),
    }


def _process(row: Mapping[str, Any]) -> dict[str, Any]:
    """One process on the page of operators."""
    shown = ("worker", "connections", "users", "cpu", "rss", "lag", "published", "delivered", "uptime", "queued")
    return {name: row[name] for name in shown}


def _connections(rows: list[dict[str, Any]], total: Mapping[str, float]) -> dict[str, Any]:
    return {
        "total": total["connections"],
        "users": total["users"],
        "subscriptions": total["subscriptions"],
        "workers": {row["worker"]: row["connections"] for row in rows},
    }


def _worker(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "worker": row["worker"],
        "uptime": round(row["uptime"], 1),
        "connections": row["connections"],
        "cpu": round(row["cpu"], 1),
        "memory": row["rss"],
        "reactorLag": round(1000 * row["lag"], 1),
        "descriptors": row["descriptors"],
        "database": row["database"],
    }


def _thresholds_in(call: Call) -> dict[str, float]:
    """The thresholds that the body changes.

    :raises HTTPFault: it is not valid, or changes none.
    """
    fields = Fields(read_json(call))
    changed = {}
    for name in fields.names():
        threshold = THRESHOLDS.get(name)
        value = fields.value(name)
        if threshold is None:
            fields.fault(name, "unknown; there are " + ", ".join(THRESHOLDS))
        elif (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not (threshold.least <= value <= threshold.most)
        ):
            fields.fault(name, f"a number from {threshold.least:g} to {threshold.most:g}: {threshold.doc}")
        else:
            changed[name] = value
    fields.check()
    if not changed:
        raise HTTPFault(Error.VALIDATION, "The request is not valid", [("body", "at least one threshold")])
    return changed
