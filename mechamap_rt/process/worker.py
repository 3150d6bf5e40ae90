"""A worker: one process of the server that the master has started (``python -m mechamap_rt.process.worker``).

It inherits the listening sockets and three descriptors: the stream of the master's orders, the stream to its session
store, and the scoreboard. When the master is gone it takes no more clients, lets those it has go, and ends.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from mechamap_rt import __version__
from mechamap_rt.app import Realtime
from mechamap_rt.bus.link import adopt
from mechamap_rt.bus.relay import RelayBus
from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IReactor
from mechamap_rt.place import Place, audit_log, joined, process_number, quota, remembered, stored
from mechamap_rt.process.helm import WorkerHelm, packed
from mechamap_rt.process.logpipe import LogPipe
from mechamap_rt.process.mandate import Mandate
from mechamap_rt.process.operations import Operations
from mechamap_rt.process.orders import (
    Accept,
    Attend,
    Beat,
    Certify,
    Drain,
    Hello,
    Level,
    Meet,
    Operate,
    Stop,
    Stream,
    Tell,
)
from mechamap_rt.sessions.host import HostStore
from mechamap_rt.settings import Settings, SettingsError, load
from mechamap_rt.system.dump import dump_on_signal
from mechamap_rt.system.listening import Bound
from mechamap_rt.system.log import Log
from mechamap_rt.system.loglevels import Levels
from mechamap_rt.system.memory import settle
from mechamap_rt.system.rates import RateTable
from mechamap_rt.system.scoreboard import FairShare, Scoreboard
from mechamap_rt.transport.handover import WITH_DESCRIPTOR
from mechamap_rt.wire import json

if TYPE_CHECKING:
    from mechamap_rt.manhole.shell import Shells

_log = Logger()

#: Seconds between two signs of life.
BEAT: Final = 1.0


class Worker:
    """One worker, from its first order to its end."""

    def __init__(self, reactor: IReactor, settings: Settings, mandate: Mandate, log: Log) -> None:
        self._reactor = reactor
        self._settings = settings
        self._log = log
        self._relay = RelayBus(reactor)
        store = HostStore(reactor, quota(settings))
        adopt(reactor, mandate.store, store.link())
        self._board = Scoreboard.attach(mandate.board)
        self._slot = self._board.slot(mandate.slot)
        self._slot.worker = process_number(mandate.name)
        sockets = [Bound(socket.socket(fileno=descriptor), url) for descriptor, url in mandate.sockets]
        bus = joined(reactor, settings, self._relay, mandate.name)
        self._helm = WorkerHelm()
        place = Place(
            mandate.name,
            bus,
            stored(reactor, settings, store, bus, mandate.name),
            remembered(settings, store, bus),
            RateTable.attach(mandate.rates, mandate.slot),
            audit_log(reactor, settings, mandate.name),
            self._helm,
            self._relay,
            sockets,
            FairShare(reactor, self._board, self._slot),
        )
        self._place = place
        self.realtime = Realtime(reactor, settings, place)
        self._operations = Operations(
            self.realtime.node, self.realtime.census, self.realtime.watching.stories, self.realtime.web.monitoring.live
        )
        self._beating = LoopingCall(self._beat)
        self.ending = False
        self._shells: Shells | None = None
        #: Called every second or so.
        self.on_beat: Callable[[], object] = lambda: None
        self._master = self._helm.master = Master(self)
        adopt(reactor, mandate.control, self._master)
        reactor.addSystemEventTrigger("before", "shutdown", self._shut_down)

    async def start(self) -> None:
        self._place.audit.start(self._settings.server.production)
        await self.realtime.start_up()
        self._beating.clock = self._reactor
        await self._master.callRemote(Hello, version=__version__)
        self._beating.start(BEAT)

    def _beat(self) -> None:
        figures = self.realtime.figures()
        thresholds = self.realtime.web.monitoring.thresholds
        if thresholds.changed:
            figures["thresholds"] = thresholds.state()
        self._master.callRemote(Beat, figures=json.encode(figures))
        self.on_beat()

    # orders

    def meet(self, name: str, stream: int) -> None:
        adopt(self._reactor, stream, self._relay.meet(name, WITH_DESCRIPTOR))

    def attend(self, stream: int) -> None:
        """Somebody wants a shell here."""
        if self._shells is None:
            # what it takes is only for those who are looked into
            from mechamap_rt.process.shells import shells_of

            number = process_number(self._place.name)
            self._shells = shells_of(self._reactor, self._settings, self.realtime, number)
        self._shells.open(stream)

    async def certify(self, certificate: bytes, key: bytes) -> str:
        """Take a certificate; what is wrong with it, or nothing."""
        # what TLS takes is only for those who have it
        from mechamap_rt.settings.credentials import Credentials, CredentialsError

        terminal = self.realtime.terminal
        if terminal is None:
            return "there is no TLS here"
        try:
            await terminal.take(Credentials.parse(certificate, key))
        except CredentialsError as error:
            return str(error)
        return terminal.fault

    def level(self, levels: bytes) -> None:
        self._log.levels.change(**json.decode(levels))

    def accept(self) -> None:
        self.realtime.accept()
        settle(self._reactor)

    async def drain(self, seconds: float) -> int:
        """Let everybody go, and end soon after the answer."""
        self.ending = True
        dismissed = await self.realtime.drain(seconds, self._others)
        self._reactor.callLater(0, self._reactor.stop)
        return dismissed

    def _others(self) -> int:
        """Connections of the processes that accept."""
        return sum(connections for connections, _ in self._board.alive(time.monotonic_ns()))

    def stop(self) -> None:
        self.ending = True
        self._reactor.stop()

    async def operate(self, command: str, asked: bytes) -> bytes:
        try:
            return json.encode(await self._operations.run(command, json.decode(asked)))
        except OperationFault as fault:
            raise packed(fault) from None

    def tell(self, facts: bytes) -> None:
        """What the master has to say of the host."""
        self._helm.facts |= json.decode(facts)

    def orphaned(self) -> None:
        """The master is gone, and the log with it: nobody would replace this process, or stop it."""
        if not self.ending:
            leaving = Deferred.fromCoroutine(self.drain(self._settings.cluster.drain_time))
            leaving.addErrback(lambda reason: _log.failure("Letting the clients go failed", reason))

    def _shut_down(self) -> Deferred[None]:
        self.ending = True
        if self._beating.running:
            self._beating.stop()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self.realtime.shut_down()
        await self._place.audit.stop()
        self._log.flood.summarise()


class Master(Stream):
    """The stream of orders, seen from the worker."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    @Meet.responder
    def meet(self, name: str, stream: int) -> dict[str, Any]:
        self._worker.meet(name, stream)
        return {}

    @Attend.responder
    def attend(self, stream: int) -> dict[str, Any]:
        self._worker.attend(stream)
        return {}

    @Certify.responder
    def certify(self, certificate: bytes, key: bytes) -> Deferred[dict[str, Any]]:
        taking = Deferred.fromCoroutine(self._worker.certify(certificate, key))
        return taking.addCallback(lambda fault: {"fault": fault})

    @Level.responder
    def level(self, levels: bytes) -> dict[str, Any]:
        self._worker.level(levels)
        return {}

    @Accept.responder
    def accept(self) -> dict[str, Any]:
        self._worker.accept()
        return {}

    @Drain.responder
    def drain(self, seconds: float) -> Deferred[dict[str, Any]]:
        draining = Deferred.fromCoroutine(self._worker.drain(seconds))
        return draining.addCallback(lambda dismissed: {"dismissed": dismissed})

    @Stop.responder
    def stop(self) -> dict[str, Any]:
        self._worker.stop()
        return {}

    @Operate.responder
    def operate(self, command: str, asked: bytes) -> Deferred[dict[str, Any]]:
        operating = Deferred.fromCoroutine(self._worker.operate(command, asked))
        return operating.addCallback(lambda answer: {"answer": answer})

    @Tell.responder
    def tell(self, facts: bytes) -> dict[str, Any]:
        self._worker.tell(facts)
        return {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._worker.orphaned()


def main() -> None:
    """Run until the master, or its end, says otherwise."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    faulthandler.enable()
    dump_on_signal()
    pipe = LogPipe(1)
    mandate = Mandate.take(os.environ)
    log: Any = Log(reactor, Levels(**mandate.levels), mandate.name, pipe)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False, discardBuffer=True)
    try:
        settings = load(os.environ, None, first=False).settings
    except SettingsError as error:
        sys.exit("\n".join(str(fault) for fault in error.faults))
    worker = Worker(reactor, settings, mandate, log)
    worker.on_beat = pipe.flush
    reactor.callWhenRunning(_begin, reactor, worker)
    reactor.run()


def _begin(reactor: Any, worker: Worker) -> None:
    # Ctrl-C goes to the whole group, SIGHUP to whoever asked for a reload: both are the master's business
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    starting = Deferred.fromCoroutine(worker.start())
    starting.addErrback(_not_started, reactor, worker)


def _not_started(reason: Failure, reactor: Any, worker: Worker) -> None:
    if not worker.ending:
        _log.failure("The worker cannot start", reason)
        reactor.stop()


if __name__ == "__main__":
    main()
