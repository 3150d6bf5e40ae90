"""The master: holds the listening sockets and the workers' lives, and does no client's work.

It binds before privileges are given up, starts the workers, watches them, and stops them. What an operator asks is in
:mod:`mechamap_rt.process.steering`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt.announcement import announce, announce_failure
from mechamap_rt.place import audit_log, host_name
from mechamap_rt.process.control import Control, tcp_port
from mechamap_rt.process.crew import Crew
from mechamap_rt.process.serverlog import Logging, ServerLog
from mechamap_rt.process.steering import Steering
from mechamap_rt.settings import Settings
from mechamap_rt.system import listening
from mechamap_rt.system.collector import Collector
from mechamap_rt.system.dump import dump_on_signal
from mechamap_rt.system.listening import Bound
from mechamap_rt.system.memory import settle
from mechamap_rt.system.notify import Notifier

if TYPE_CHECKING:
    from mechamap_rt.process.manhole import Ways
    from mechamap_rt.settings.credentials import Credentials
    from mechamap_rt.system.renewal import Renewal

_log = Logger()

#: Seconds between two looks at the workers, at most.
LOOK: Final = 1.0


class Master(Logging):
    """The master process as a service.

    :param env_file: where the settings are read from again at a reload, besides the environment.
    :param say: prints what a person at a terminal should see.
    :param give_up: called when the start has failed.
    :param log: writes the log; is to be started.
    """

    name = "mechamap"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        env_file: Path | None,
        say: Callable[[str], object],
        give_up: Callable[[], object],
        log: ServerLog,
    ) -> None:
        super().__init__(log)
        self._reactor = reactor
        self._settings = settings
        self._say = say
        self._give_up = give_up
        self._sockets: list[Bound] = []
        self._unready: Exception | None = None
        self._notifier = Notifier(os.environ)
        self._collector = Collector(reactor, settings.cluster.gc_interval)
        self._crew = Crew(reactor, host_name(settings), settings)
        self._crew.levels = log.levels
        self._audit = audit_log(reactor, settings, "master")
        self._renewal = self._make_renewal() if settings.tls.enabled else None
        self._steering = Steering(
            reactor, self._crew, settings, env_file, self._notifier, self._audit, log, self._renewal
        )
        self._ways = self._steering.ways = self._make_ways() if settings.manhole.enabled else None
        self._control = Control(reactor, self._steering.run, self._audit, log.journal)
        self._looking = LoopingCall(self._steering.look)

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind low ports, and read the certificate while it may still read the key;
        called before privileges are given up."""
        try:
            self._sockets = listening.bind(self._settings, os.environ)
            if self._renewal is not None:
                self._crew.credentials = self._renewal.begin()
        except Exception as error:
            # it is told when there is somebody to tell
            self._unready = error

    def _make_renewal(self) -> Renewal:
        # what TLS takes is only for those who have it
        from mechamap_rt.system.renewal import Renewal

        tls = self._settings.tls
        return Renewal(self._reactor, tls.cert_path, tls.key_path, self._renewed)

    def _make_ways(self) -> Ways:
        # what the manhole takes is only for those who have one
        from mechamap_rt.process.manhole import Ways

        return Ways.of_master(self._reactor, self._settings, self._audit, self._crew, self)

    def _renewed(self, credentials: Credentials) -> None:
        Deferred.fromCoroutine(self._crew.certify(credentials)).addErrback(
            lambda reason: _log.failure("The certificate was not given to the workers", reason)
        )

    def startService(self) -> None:
        super().startService()
        # whoever signals the whole service wants to see the workers, not to end the master
        dump_on_signal()
        starting = Deferred.fromCoroutine(self._start())
        starting.addErrback(self._fail)

    async def _start(self) -> None:
        self.log.start()
        if self._unready is not None:
            raise self._unready
        self._audit.start(self._settings.server.production)
        self._control.listen(self._settings, tcp_port(self._sockets))
        signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self._steering.hang_up))
        self._crew.sockets = self._sockets
        await self._crew.fill()
        if self._steering.stopping:
            return
        if self._ways is not None:
            self._ways.open()
        self._collector.start()
        self._looking.clock = self._reactor
        self._looking.start(min(LOOK, self._settings.monitoring.health_check_timeout / 4), now=False)
        if self._renewal is not None:
            self._renewal.start()
        announce(self._settings, [bound.url for bound in self._sockets], self._say)
        self._notifier.ready()
        # as long as there is somebody to serve clients
        self._notifier.watch_over(self._reactor, lambda: self._crew.workers)
        settle(self._reactor)

    def _fail(self, reason: Failure) -> None:
        """The start failed: say why, and stop. That a stop has ended it is no failure."""
        if self._steering.stopping:
            return
        announce_failure(reason, self._say)
        self._give_up()
        self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._steering.stopping = True
        if self._looking.running:
            self._looking.stop()
        self._collector.stop()
        self._steering.stop()
        if self._renewal is not None:
            await self._renewal.stop()
        if self._ways is not None:
            await self._ways.close()
        await self._crew.stop()
        for bound in self._sockets:
            bound.socket.close()
            bound.unlink()
        await self._control.stop()
        await self._audit.stop()
        await self.log.stop()
