"""The server as one process: no master, no workers, and the operator's socket all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger, globalLogPublisher

from mechamap_rt import __version__
from mechamap_rt.app import Realtime
from mechamap_rt.interfaces import IReactor
from mechamap_rt.place import HOST_LENGTH, alone
from mechamap_rt.process.control import Control, Say, tcp_port
from mechamap_rt.process.operations import OperationFault, Operations
from mechamap_rt.settings import Settings
from mechamap_rt.system.dump import dump_on_signal
from mechamap_rt.system.listening import ListenError
from mechamap_rt.system.memory import settle
from mechamap_rt.system.meter import Meter, resident
from mechamap_rt.system.notify import Notifier

_log = Logger()

#: Commands that only a master can do.
_OF_A_MASTER = frozenset(("workers", "reload", "scale", "restart", "drain"))


class Single(Realtime):
    """The one process, with the operator's socket."""

    def __init__(
        self,
        reactor: IReactor,
        settings: Settings,
        say: Callable[[str], object] | None = None,
        give_up: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(reactor, settings, alone(reactor, settings), say, give_up)
        self._control = Control(reactor, self._run)
        self._operations = Operations(self.node, self.census)
        self._meter = Meter(reactor, reactor.seconds)
        self._notifier = Notifier(os.environ)
        self._started = reactor.seconds()
        self._watchdog: Any = None

    async def start_up(self) -> None:
        await super().start_up()
        globalLogPublisher.addObserver(self._control.journal)
        dump_on_signal()
        self._listen_to_operators()
        signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(_hang_up))
        self._meter.start()

    def _listen_to_operators(self) -> None:
        """A server that serves clients is worth more than one that does not because nobody could operate it."""
        try:
            self._control.listen(self._settings, tcp_port(self._place.sockets))
        except (OSError, ValueError, ListenError) as error:
            _log.error("mechamapctl cannot reach this server: {reason}", reason=str(error))

    def accept(self) -> None:
        super().accept()
        self._notifier.ready()
        self._watch_over()
        settle(self._reactor)

    def _watch_over(self) -> None:
        interval = self._notifier.watchdog_interval
        if interval is not None:
            self._notifier.watchdog()
            self._watchdog = self._reactor.callLater(interval, self._watch_over)

    async def shut_down(self) -> None:
        self._notifier.stopping()
        self._meter.stop()
        if self._watchdog is not None and self._watchdog.active():
            self._watchdog.cancel()
        await super().shut_down()
        await self._control.stop()
        globalLogPublisher.removeObserver(self._control.journal)

    async def _run(self, command: str, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        if command == "status":
            return self._status()
        if command in _OF_A_MASTER:
            raise OperationFault("SINGLE_PROCESS", f"{command} needs a master and workers: set CLUSTER_ENABLED=true")
        return await self._operations.run(command, asked)

    def _status(self) -> dict[str, Any]:
        node = self.node
        uptime = round(self._reactor.seconds() - self._started, 1)
        figures = {
            "connections": node.connection_count(),
            "users": node.user_count(),
            "subscriptions": node.hub.subscriptions,
            "published": node.published,
            "delivered": node.hub.delivered,
        }
        sample = self._meter.sample()
        worker = {
            "worker": 1,
            "node": node.name,
            "pid": os.getpid(),
            "state": "ready",
            "uptime": uptime,
            "generation": 1,
            "degraded": node.degraded,
            **figures,
            "rss": sample["rss"],
            "cpu": sample["cpu"],
            "descriptors": sample["descriptors"],
            "lag": round(sample["lag"] * 1000, 1),
        }
        return {
            "mode": "single",
            "version": __version__,
            "pid": os.getpid(),
            "host": node.name[:HOST_LENGTH],
            "uptime": uptime,
            "state": "running" if self.running else "stopping",
            "listening": [bound.url for bound in self._place.sockets],
            "degraded": node.degraded,
            **figures,
            "memory": {"rss": resident()},
            "wanted": 1,
            "workers": [worker],
            "alerts": [],
            "reloads": 0,
            "restarts": 0,
        }


def _hang_up() -> None:
    _log.warn("SIGHUP: a single process cannot reload itself; restart it, or set CLUSTER_ENABLED=true")
