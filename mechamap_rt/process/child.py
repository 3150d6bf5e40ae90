"""A worker, as the master sees it: its process, its streams, its state, its words."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorSocket, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from mechamap_rt.bus.link import Link, adopt
from mechamap_rt.errors import OperationFault
from mechamap_rt.process.figures import shown
from mechamap_rt.process.helm import packed
from mechamap_rt.process.mandate import Mandate
from mechamap_rt.process.orders import Beat, Hello, Steer, Stream
from mechamap_rt.system.dump import DUMP_SIGNAL
from mechamap_rt.system.listening import Bound
from mechamap_rt.system.loglevels import Levels
from mechamap_rt.system.logrecord import Record, event_of, record_of_line
from mechamap_rt.system.rates import RateTable
from mechamap_rt.system.scoreboard import Scoreboard, Slot
from mechamap_rt.wire import json

#: The first descriptor of a worker that is not standard input, output or errors.
_FIRST: Final = 3
#: Bytes of a line that a worker writes before it ends.
_MAX_LINE: Final = 128 * 1024


class IProcessReactor(IReactorProcess, IReactorSocket, IReactorTime):
    """What the master needs of its reactor."""


class State(StrEnum):
    """What a worker is doing. ``HUNG`` is a worker that is about to be killed, for whatever reason."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    HUNG = "hung"
    ENDED = "ended"


#: Does what an operator asks: the command and its arguments.
Steering = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class Child(ProcessProtocol):
    """One worker's process.

    :param number: ever increasing.
    :param name: of the process, in the cluster.
    :param generation: of code and configuration.
    :param ended: called once, when the process has ended.

    :ivar figures: what it last said of itself.
    :ivar beat_at: when that was.
    :ivar met: is it, or is it about to be, joined with the others?
    :ivar hello: fires when it waits to be joined; fails when it ends before that.
    :ivar gone: fires when its process has ended.
    """

    def __init__(
        self,
        reactor: IProcessReactor,
        number: int,
        name: str,
        generation: int,
        slot: Slot,
        ended: Callable[[Child], object],
    ) -> None:
        self._reactor = reactor
        self.number = number
        self.name = name
        self.generation = generation
        self.slot = slot
        self._ended = ended
        self.state = State.STARTING
        self.started_at = self.beat_at = reactor.seconds()
        self.figures: dict[str, Any] = {}
        self.met = False
        self.hello: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.orders = _Orders(self)
        #: Does what an operator asks of the master by way of this worker.
        self.steer: Steering = nobody
        #: Has it been told what it cannot know from what is told every second?
        self.informed = False
        self.pid = 0
        #: Shall nobody take its place? And in what way it ended, in words.
        self.retiring = False
        self.how = ""
        self._words = b""

    def spawn(
        self,
        environ: Mapping[str, str],
        sockets: Sequence[Bound],
        board: Scoreboard,
        rates: RateTable,
        store: Link,
        levels: Levels,
    ) -> None:
        """Start the process.

        :param store: answers what it asks of the session store.
        """
        control, its_control = socket.socketpair()
        counting, its_counting = socket.socketpair()
        listening = [each.socket.fileno() for each in sockets]
        given = [its_control.fileno(), its_counting.fileno(), board.fd, rates.fd, *listening]
        mandate = Mandate(
            name=self.name,
            slot=self.slot.number,
            control=_FIRST,
            store=_FIRST + 1,
            board=_FIRST + 2,
            rates=_FIRST + 3,
            sockets=[(_FIRST + 4 + place, bound.url) for place, bound in enumerate(sockets)],
            levels=levels.members(),
        )
        adopt(self._reactor, control.detach(), self.orders)
        adopt(self._reactor, counting.detach(), store)
        descriptors: dict[int, int | str] = {0: "w", 1: "r", 2: "r"}
        process: Any = self._reactor.spawnProcess(
            self,
            sys.executable,
            [sys.executable, "-m", "mechamap_rt.process.worker"],
            env={**environ, **mandate.environ()},
            childFDs=descriptors | {_FIRST + place: descriptor for place, descriptor in enumerate(given)},
        )
        its_control.close()
        its_counting.close()
        self.pid = process.pid

    @property
    def alive(self) -> bool:
        return self.state is not State.ENDED

    @property
    def uptime(self) -> float:
        return self._reactor.seconds() - self.started_at

    def beat(self, figures: dict[str, Any]) -> None:
        self.figures = figures
        self.beat_at = self._reactor.seconds()

    def describe(self) -> dict[str, Any]:
        """What an operator sees of it."""
        return {
            "worker": self.number,
            "node": self.name,
            "pid": self.pid,
            "state": self.state.value,
            "uptime": round(self.uptime, 1),
            "generation": self.generation,
            **shown(self.figures),
        }

    # ending it

    def send(self, number: int) -> None:
        """Send a signal, if there still is a process."""
        transport: Any = self.transport
        with contextlib.suppress(ProcessExitedAlready):
            transport.signalProcess(number)

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            self.state = State.HUNG
            self.send(signal.SIGKILL)

    def dump(self) -> None:
        """Have it write where each of its threads is, then end it."""
        self.state = State.HUNG
        self.send(DUMP_SIGNAL)
        self._reactor.callLater(0.5, self.kill)

    # what the process says

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._words = (self._words + data).split(b"\n")
        for line in lines:
            self._log_line(line)
        if len(self._words) > _MAX_LINE:
            self._log_line(self._words)
            self._words = b""

    def _log_line(self, line: bytes) -> None:
        record = None
        if line.startswith(b"["):
            with contextlib.suppress(msgspec.MsgspecError):
                record = msgspec.json.decode(line, type=Record)._replace(worker=self.name, number=self.number)
        if record is None:
            record = record_of_line(line, self.name, self.number)
        if record.message.strip():
            globalLogPublisher(event_of(record))

    def processEnded(self, reason: Failure) -> None:
        if self._words:
            self._log_line(self._words)
        self.state = State.ENDED
        self.how = how(reason)
        if not self.hello.called:
            self.hello.errback(RuntimeError(f"worker {self.number} ended before it was ready"))
        self._ended(self)
        self.gone.callback(None)


class _Orders(Stream):
    """The stream of orders, seen from the master."""

    def __init__(self, child: Child) -> None:
        super().__init__()
        self._child = child

    @Hello.responder
    def hello(self, version: str) -> dict[str, Any]:
        child = self._child
        child.beat_at = child._reactor.seconds()
        if not child.hello.called:
            child.hello.callback(None)
        return {}

    @Beat.responder
    def beat(self, figures: bytes) -> dict[str, Any]:
        self._child.beat(msgspec.json.decode(figures))
        return {}

    @Steer.responder
    def steer(self, command: str, asked: bytes) -> Deferred[dict[str, Any]]:
        steering = Deferred.fromCoroutine(self._steer(command, asked))
        return steering.addCallback(lambda answer: {"answer": answer})

    async def _steer(self, command: str, asked: bytes) -> bytes:
        try:
            return json.encode(await self._child.steer(command, json.decode(asked)))
        except OperationFault as fault:
            raise packed(fault) from None


async def nobody(command: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """In the place of a master that takes no orders yet."""
    raise OperationFault("NO_MASTER", "The master takes no orders yet")


def how(reason: Failure) -> str:
    """How a process ended, in words."""
    if reason.check(ProcessDone):
        return "ended"
    value: Any = reason.value
    if value.signal is not None:
        return f"was ended by {signal.Signals(value.signal).name}"
    return f"ended with status {value.exitCode}"


def pair() -> tuple[int, int]:
    """The two ends of a stream."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def closing(order: Deferred[Any], descriptor: int) -> Deferred[Any]:
    """Close a descriptor that was sent along with an order, once it has been."""

    def close(result: Any) -> Any:
        os.close(descriptor)
        return result

    return order.addBoth(close)
