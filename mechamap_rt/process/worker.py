"""A worker: one process of the server that the master has started (``python -m mechamap_rt.process.worker``).

It inherits the listening sockets and three descriptors: the stream of the master's orders, the stream to its session
store, and the scoreboard. When the master is gone it takes no more clients, lets those it has go, and ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure

from mechamap_rt import __version__
from mechamap_rt.app import Realtime
from mechamap_rt.bus.link import OneLink
from mechamap_rt.bus.relay import RelayBus
from mechamap_rt.interfaces import IReactor
from mechamap_rt.place import Place, joined, process_number, quota, stored
from mechamap_rt.process.child import MANDATE
from mechamap_rt.process.operations import OperationFault, Operations
from mechamap_rt.process.orders import Accept, Beat, Drain, Hello, Meet, Operate, Refused, Stop, Stream
from mechamap_rt.sessions.host import HostStore
from mechamap_rt.settings import Settings, SettingsError, load
from mechamap_rt.system.dump import dump_on_signal
from mechamap_rt.system.listening import Bound
from mechamap_rt.system.memory import settle
from mechamap_rt.system.meter import Meter
from mechamap_rt.system.scoreboard import FairShare, Scoreboard
from mechamap_rt.transport.handover import WITH_DESCRIPTOR
from mechamap_rt.wire import json

_log = Logger()

#: The environment name of the mandate.
#: Bytes of log that wait for the master.
MAX_LOG_WAITING: Final = 256 * 1024
#: Whose information is of no use to an operator: of ports and of the reactor, for each worker again.
_CHATTER: Final = frozenset(("log_legacy", "twisted.internet.base"))
#: Seconds between two signs of life.
BEAT: Final = 1.0


class Mandate(msgspec.Struct):
    """What the master tells a worker when it starts it.

    :ivar name: of the process, in the cluster.
    :ivar slot: on the scoreboard.
    :ivar control: descriptors, as ``store`` and ``board``.
    :ivar sockets: descriptor and URL of each listening socket.
    """

    name: str
    slot: int
    control: int
    store: int
    board: int
    sockets: list[tuple[int, str]]


class Worker:
    """One worker, from its first order to its end."""

    def __init__(self, reactor: IReactor, settings: Settings, mandate: Mandate) -> None:
        self._reactor = reactor
        self._settings = settings
        self._relay = RelayBus(reactor)
        store = HostStore(reactor, quota(settings))
        adopt(reactor, mandate.store, store.link())
        self._board = Scoreboard.attach(mandate.board)
        self._slot = self._board.slot(mandate.slot)
        self._slot.worker = process_number(mandate.name)
        sockets = [Bound(socket.socket(fileno=descriptor), url) for descriptor, url in mandate.sockets]
        bus = joined(reactor, settings, self._relay, mandate.name)
        place = Place(
            mandate.name,
            bus,
            stored(reactor, settings, store, bus, mandate.name),
            self._relay,
            sockets,
            FairShare(reactor, self._board, self._slot),
        )
        self._place = place
        self.realtime = Realtime(reactor, settings, place)
        self._operations = Operations(self.realtime.node, self.realtime.census)
        self._meter = Meter(reactor, reactor.seconds)
        self._beating = LoopingCall(self._beat)
        self.ending = False
        #: Called every second or so.
        self.on_beat: Callable[[], object] = lambda: None
        self._master = Master(self)
        adopt(reactor, mandate.control, self._master)
        reactor.addSystemEventTrigger("before", "shutdown", self._shut_down)

    async def start(self) -> None:
        await self.realtime.start_up()
        self._meter.start()
        self._beating.clock = self._reactor
        await self._master.callRemote(Hello, version=__version__)
        self._beating.start(BEAT)

    def _beat(self) -> None:
        node = self.realtime.node
        figures = {
            "connections": node.connection_count(),
            "users": node.user_count(),
            "subscriptions": node.hub.subscriptions,
            "published": node.published,
            "delivered": node.hub.delivered,
            "degraded": node.degraded,
            **self._meter.sample(),
        }
        self._master.callRemote(Beat, figures=json.encode(figures))
        self.on_beat()

    # orders

    def meet(self, name: str, stream: int) -> None:
        adopt(self._reactor, stream, self._relay.meet(name, WITH_DESCRIPTOR))

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
            raise Refused(json.encode(fault.members()).decode()) from None

    def orphaned(self) -> None:
        """The master is gone, and the log with it: nobody would replace this process, or stop it."""
        if not self.ending:
            leaving = Deferred.fromCoroutine(self.drain(self._settings.cluster.drain_time))
            leaving.addErrback(lambda reason: _log.failure("Letting the clients go failed", reason))

    def _shut_down(self) -> Deferred[None]:
        self.ending = True
        if self._beating.running:
            self._beating.stop()
        self._meter.stop()
        return Deferred.fromCoroutine(self.realtime.shut_down())


class Master(Stream):
    """The stream of orders, seen from the worker."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    @Meet.responder
    def meet(self, name: str, stream: int) -> dict[str, Any]:
        self._worker.meet(name, stream)
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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._worker.orphaned()


def adopt(reactor: IReactor, descriptor: int, protocol: Any) -> None:
    """Speak ``protocol`` over an inherited end of a socket pair."""
    os.set_blocking(descriptor, False)
    factory: Any = OneLink(protocol)
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)
    os.close(descriptor)


class LogPipe:
    """A log observer that writes each event to the master as one line of JSON: the master writes the log.

    A master that does not read must not hold up this process: what does not fit is dropped, and counted.

    :param descriptor: of the pipe; is made non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = b""
        self._dropped = 0
        os.set_blocking(descriptor, False)

    def __call__(self, event: Mapping[str, Any]) -> None:
        level = event.get("log_level") or LogLevel.info
        if level <= LogLevel.info and event.get("log_namespace") in _CHATTER:
            return
        text = formatEvent(dict(event))
        failure = event.get("log_failure")
        if failure is not None:
            text = f"{text}\n{failure.getTraceback().rstrip()}"
        if self._dropped and len(self._waiting) < MAX_LOG_WAITING:
            text = f"({self._dropped} lines were dropped before this one) {text}"
            self._dropped = 0
        self._add(json.encode([level.name, str(event.get("log_namespace", "")), text]) + b"\n")

    def _add(self, line: bytes) -> None:
        if len(self._waiting) + len(line) > MAX_LOG_WAITING:
            self._dropped += 1
        else:
            self._waiting += line
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes."""
        # without a master there is no log
        with contextlib.suppress(OSError):
            while self._waiting:
                self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]


def main() -> None:
    """Run until the master, or its end, says otherwise."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    faulthandler.enable()
    dump_on_signal()
    pipe: Any = LogPipe(1)
    globalLogBeginner.beginLoggingTo([pipe], redirectStandardIO=False, discardBuffer=True)
    mandate = msgspec.json.decode(os.environ.pop(MANDATE), type=Mandate)
    try:
        settings = load(os.environ, None).settings
    except SettingsError as error:
        sys.exit("\n".join(str(fault) for fault in error.faults))
    worker = Worker(reactor, settings, mandate)
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
