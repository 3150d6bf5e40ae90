"""Looks at the figures of a host's processes once a second, and has people told when something is the matter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.core.alerting import Watch
from mechamap_rt.core.thresholds import Thresholds
from mechamap_rt.interfaces import IReactor
from mechamap_rt.process.alerts import Alert, Alerts
from mechamap_rt.process.notices import Notices, shown
from mechamap_rt.settings import Settings

_log = Logger()

#: Where the browsers of administrators hear of alerts, and the event's name.
CHANNEL: Final = "admin.alerts"
EVENT: Final = "alert"
#: Publishes: the arguments of the operator's command ``publish``.
Publish = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Watchman:
    """The watch of one host.

    :ivar alerts: what is the matter, whoever has found it out.
    :ivar thresholds: those that hold.
    """

    def __init__(self, reactor: IReactor, settings: Settings, host: str, publish: Publish) -> None:
        self._reactor = reactor
        self.alerts = Alerts(host)
        self.thresholds = Thresholds()
        self._watch = Watch(self.alerts.tell, reactor.seconds)
        self._notices = Notices(reactor, settings.alerting)
        self._publish = publish
        self.alerts.listeners += [self._note, self._announce]

    def settle(self, settings: Settings) -> None:
        """Other settings hold."""
        self._notices.stop()
        self._notices = Notices(self._reactor, settings.alerting)

    def look(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """:param rows: the figures of each process that serves clients, by its name."""
        for figures in rows.values():
            changed = figures.get("thresholds")
            if changed is not None:
                self.thresholds.learn(*changed)
        self._watch.look(rows, self.thresholds.values)

    def stop(self) -> None:
        self._notices.stop()

    def _note(self, alert: Alert) -> None:
        self._notices.note(alert)

    def _announce(self, alert: Alert) -> None:
        """Tell the administrators who look at the site."""
        asked = {"channel": CHANNEL, "event": EVENT, "data": shown(alert)}
        telling = Deferred.fromCoroutine(self._tell(asked))
        telling.addErrback(lambda reason: _log.warn("Nobody could be told on {channel}", channel=CHANNEL))

    async def _tell(self, asked: Mapping[str, Any]) -> None:
        await self._publish(asked)
