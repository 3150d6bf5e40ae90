"""The host as its master sees it: for operators who ask, and for its workers, who are told every second."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IReactorTime

from mechamap_rt import __version__
from mechamap_rt.process import certificate
from mechamap_rt.process.alerts import Alert, Alerts
from mechamap_rt.process.child import Child
from mechamap_rt.process.crew import Crew
from mechamap_rt.process.orders import Tell
from mechamap_rt.system.meter import resident
from mechamap_rt.wire import json

if TYPE_CHECKING:
    from mechamap_rt.system.renewal import Renewal

#: What the workers are told every second; and of alerts that have been cleared, so many of the last.
FACTS: Final = frozenset(
    ("mode", "version", "host", "state", "uptime", "degraded", "wanted", "workers", "restarts", "reloads", "alerts")
)
TOLD: Final = 50


class Overview:
    """Describes the host.

    :param renewal: watches the server's certificate; ``None`` without TLS.
    """

    def __init__(self, crew: Crew, alerts: Alerts, renewal: Renewal | None, reactor: IReactorTime) -> None:
        self._crew = crew
        self._alerts = alerts
        self._renewal = renewal
        self._reactor = reactor
        self._started = reactor.seconds()
        alerts.listeners.append(self._one_more)

    def certificate(self) -> dict[str, Any] | None:
        """What workers have for new connections, and why not what is in the files."""
        if self._renewal is None:
            return None
        return certificate.shown(
            (child.figures.get("certificate") for child in self._crew.serving()), self._renewal.fault
        )

    def described(self, state: str, reloads: int) -> dict[str, Any]:
        """For operators.

        :param state: ``running``, ``reloading`` or ``stopping``.
        :param reloads: how many there have been.
        """
        crew = self._crew
        workers = [child.describe() for child in crew.workers.values()]
        totals = {
            name: sum(worker[name] for worker in workers)
            for name in ("connections", "users", "subscriptions", "published", "delivered")
        }
        return {
            "mode": "cluster",
            "version": __version__,
            "pid": os.getpid(),
            "host": crew.host,
            "uptime": round(self._reactor.seconds() - self._started, 1),
            "state": state,
            "listening": [bound.url for bound in crew.sockets],
            "degraded": any(worker["degraded"] for worker in workers),
            **totals,
            "memory": {"rss": resident()},
            "wanted": crew.wanted,
            "workers": workers,
            "certificate": self.certificate(),
            "alerts": self._alerts.listed(),
            "reloads": reloads,
            "restarts": crew.restarts,
        }

    def tell(self, serving: Sequence[Child], state: str, reloads: int) -> None:
        """Tell the workers how it stands; what has been, only when it is another than they know."""
        facts = {name: each for name, each in self.described(state, reloads).items() if name in FACTS}
        short = json.encode(facts)
        whole = json.encode(facts | {"history": self._alerts.history()[:TOLD]})
        for child in serving:
            child.orders.callRemote(Tell, facts=short if child.informed else whole)
            child.informed = True

    def _one_more(self, alert: Alert) -> None:
        """What has been is another than before."""
        for child in self._crew.workers.values():
            child.informed = False
