"""The server as one process: no master, no workers, and the operator's socket all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt import __version__
from mechamap_rt.announcement import announce, announce_failure
from mechamap_rt.app import Realtime
from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IReactor
from mechamap_rt.place import HOST_LENGTH, alone
from mechamap_rt.process import certificate
from mechamap_rt.process.acts import BY_SIGNAL, NO_MANHOLE, RELOAD
from mechamap_rt.process.control import Control, Say, tcp_port
from mechamap_rt.process.figures import shown
from mechamap_rt.process.helm import OwnHelm
from mechamap_rt.process.operations import Operations
from mechamap_rt.process.overview import FACTS, TOLD
from mechamap_rt.process.serverlog import Logging, ServerLog
from mechamap_rt.process.watchman import Watchman
from mechamap_rt.settings import Settings
from mechamap_rt.system import listening
from mechamap_rt.system.dump import dump_on_signal
from mechamap_rt.system.listening import ListenError
from mechamap_rt.system.memory import settle
from mechamap_rt.system.meter import resident
from mechamap_rt.system.notify import Notifier

if TYPE_CHECKING:
    from mechamap_rt.process.manhole import Ways
    from mechamap_rt.settings.credentials import Credentials
    from mechamap_rt.system.renewal import Renewal

_log = Logger()

#: Commands that only a master can do.
_OF_A_MASTER: Final = frozenset(("workers", "reload", "scale", "restart", "drain"))
SINGLE_PROCESS: Final = "SINGLE_PROCESS"
#: Seconds between two looks at how the process does.
LOOK: Final = 1.0


class Single(Logging):
    """The one process as a service, with the operator's socket.

    :param say: prints what a person at a terminal should see.
    :param give_up: called when the start has failed; the process must then end with a status that says so.
    :param log: writes the log; is to be started.
    """

    name = "mechamap"

    def __init__(
        self,
        reactor: IReactor,
        settings: Settings,
        say: Callable[[str], object],
        give_up: Callable[[], object],
        log: ServerLog,
    ) -> None:
        super().__init__(log)
        self._reactor = reactor
        self._settings = settings
        self._say = say
        self._give_up = give_up
        self._unready: Exception | None = None
        self._helm = OwnHelm()
        self._helm.run = self._steered
        self._place = alone(reactor, settings, self._helm)
        log.observer.worker = self._place.name
        self._realtime = Realtime(reactor, settings, self._place)
        self._audit = self._place.audit
        self._control = Control(reactor, self._run, self._audit, log.journal)
        self._operations = Operations(
            self._realtime.node,
            self._realtime.census,
            self._realtime.watching.stories,
            self._realtime.web.monitoring.live,
        )
        self._notifier = Notifier(os.environ)
        self._watchman = Watchman(reactor, settings, self._realtime.node.name[:HOST_LENGTH], self._operations.publish)
        self._watchman.thresholds = self._realtime.web.monitoring.thresholds
        self._alerts = self._watchman.alerts
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._renewal = self._make_renewal() if settings.tls.enabled else None
        self._ways = self._make_ways() if settings.manhole.enabled else None
        self._started = reactor.seconds()

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind low ports, and read the certificate while it may still read the key;
        called before privileges are given up."""
        try:
            self._place.sockets = listening.bind(self._settings, os.environ)
            if self._renewal is not None:
                self._renewal.begin()
        except Exception as error:
            # it is told when there is somebody to tell
            self._unready = error

    def startService(self) -> None:
        super().startService()
        starting = Deferred.fromCoroutine(self._start())
        starting.addErrback(self._fail)

    async def _start(self) -> None:
        self.log.start()
        if self._unready is not None:
            raise self._unready
        self._audit.start(self._settings.server.production)
        await self._realtime.start_up()
        dump_on_signal()
        self._listen_to_operators()
        signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self._hang_up))
        if self._renewal is not None and self._renewal.current is not None:
            await self._take(self._renewal.current)
        if not self.running:
            return
        if self._renewal is not None:
            self._renewal.start()
        self._realtime.accept()
        if self._ways is not None:
            self._ways.open()
        self._looking.start(LOOK)
        self._notifier.ready()
        self._notifier.watch_over(self._reactor)
        settle(self._reactor)
        announce(self._settings, [bound.url for bound in self._place.sockets], self._say)

    def _listen_to_operators(self) -> None:
        """A server that serves clients is worth more than one that does not because nobody could operate it."""
        try:
            self._control.listen(self._settings, tcp_port(self._place.sockets))
        except (OSError, ValueError, ListenError) as error:
            _log.error("mechamapctl cannot reach this server: {reason}", reason=str(error))

    def _fail(self, reason: Failure) -> None:
        """The start failed: say why, and stop."""
        announce_failure(reason, self._say)
        self._give_up()
        self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._notifier.stopping()
        if self._looking.running:
            self._looking.stop()
        self._watchman.stop()
        if self._renewal is not None:
            await self._renewal.stop()
        if self._ways is not None:
            await self._ways.close()
        await self._realtime.shut_down()
        await self._control.stop()
        await self._audit.stop()
        await self.log.stop()

    # the certificate

    def _make_renewal(self) -> Renewal:
        # what TLS takes is only for those who have it
        from mechamap_rt.system.renewal import Renewal

        tls = self._settings.tls
        return Renewal(self._reactor, tls.cert_path, tls.key_path, self._renewed, self._look_at_certificate)

    def _make_ways(self) -> Ways:
        # what the manhole takes is only for those who have one
        from mechamap_rt.process.manhole import Ways

        return Ways.of_single(self._reactor, self._settings, self._audit, self._realtime)

    async def _take(self, credentials: Credentials) -> None:
        terminal = self._realtime.terminal
        assert terminal is not None
        await terminal.take(credentials)
        if terminal.credentials is None:
            raise RuntimeError(f"The certificate cannot be used: {terminal.fault}")

    def _renewed(self, credentials: Credentials) -> None:
        Deferred.fromCoroutine(self._take(credentials)).addErrback(
            lambda reason: _log.failure("The certificate was not taken up", reason)
        )

    def _certificate(self) -> dict[str, Any] | None:
        terminal, renewal = self._realtime.terminal, self._renewal
        return None if terminal is None or renewal is None else certificate.shown([terminal.figures()], renewal.fault)

    def _look_at_certificate(self) -> None:
        warning = self._settings.tls.expiry_warning
        for name, message in certificate.alerts(self._certificate(), warning, time.time()).items():
            self._alerts.tell(name, message)

    def _hang_up(self) -> None:
        """SIGHUP: of all settings, one process can only read the certificate again."""
        if self._renewal is None:
            _log.warn("SIGHUP: a single process cannot reload itself; restart it, or set CLUSTER_ENABLED=true")
            self._audit.note(BY_SIGNAL, RELOAD, {}, "refused", code=SINGLE_PROCESS)
            return
        _log.info("SIGHUP: the certificate is read again; other settings need a restart, or CLUSTER_ENABLED=true")
        self._notifier.reloading()
        looking = Deferred.fromCoroutine(self._renewal.look_now())
        looking.addErrback(lambda reason: _log.failure("Looking at the certificate failed", reason))
        looking.addBoth(lambda _: self._notifier.ready())

    # watching

    def _look(self) -> None:
        self._watchman.look({self._realtime.node.name: self._realtime.figures()})
        facts = {name: each for name, each in self._status().items() if name in FACTS}
        self._helm.facts = facts | {"history": self._alerts.history()[:TOLD]}

    # operating

    async def _steered(self, command: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What an operator asks by way of the HTTP port."""
        return await self._run(command, asked, lambda progress: None)

    async def _run(self, command: str, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        if command == "status":
            return self._status()
        if command == "errors":
            return {"errors": list(reversed(self._control.journal.errors))}
        if command == "log-level":
            return self.log.change_level(asked)
        if command == "manhole":
            if self._ways is None:
                raise OperationFault("NO_MANHOLE", NO_MANHOLE)
            return self._ways.described(asked)
        if command in _OF_A_MASTER:
            raise OperationFault(SINGLE_PROCESS, f"{command} needs a master and workers: set CLUSTER_ENABLED=true")
        return await self._operations.run(command, asked)

    def _status(self) -> dict[str, Any]:
        name = self._realtime.node.name
        uptime = round(self._reactor.seconds() - self._started, 1)
        figures = self._realtime.figures()
        worker = {
            "worker": 1,
            "node": name,
            "pid": os.getpid(),
            "state": "ready",
            "uptime": uptime,
            "generation": 1,
            **shown(figures),
        }
        return {
            "mode": "single",
            "version": __version__,
            "pid": os.getpid(),
            "host": name[:HOST_LENGTH],
            "uptime": uptime,
            "state": "running" if self.running else "stopping",
            "listening": [bound.url for bound in self._place.sockets],
            **figures,
            "memory": {"rss": resident()},
            "wanted": 1,
            "workers": [worker],
            "certificate": self._certificate(),
            "alerts": self._alerts.listed(),
            "reloads": 0,
            "restarts": 0,
        }
