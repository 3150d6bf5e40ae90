"""The workers of a host: started, joined with each other, watched, replaced.

There are as many as are wanted, of the newest generation of code and configuration; older ones are on their way out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt.core.deferreds import shared, within
from mechamap_rt.core.ledger import Ledger
from mechamap_rt.core.limits import Tally
from mechamap_rt.place import process_name, quota
from mechamap_rt.process.backoff import CrashLoop
from mechamap_rt.process.child import Child, IProcessReactor, State, Steering, closing, nobody, pair
from mechamap_rt.process.environment import environ_for_workers
from mechamap_rt.process.orders import Accept, Certify, Drain, Level, Meet, Stop
from mechamap_rt.sessions.host import Teller
from mechamap_rt.settings import Settings
from mechamap_rt.system.listening import Bound
from mechamap_rt.system.loglevels import Levels
from mechamap_rt.system.rates import RateTable
from mechamap_rt.system.scoreboard import Scoreboard
from mechamap_rt.wire import json

if TYPE_CHECKING:
    from mechamap_rt.settings.credentials import Credentials

_log = Logger()

T = TypeVar("T")

#: Seconds in which a worker must have come up.
START_LIMIT: Final = 30.0
#: Seconds in which the others must have met a new worker; one that hangs meets it when it comes to.
MEET_LIMIT: Final = 3.0
#: Seconds in which a worker must have taken up another certificate.
CERTIFY_LIMIT: Final = 10.0
#: Seconds that a worker may take beyond the time it was given to let its clients go.
END_LIMIT: Final = 8.0
#: Seconds in which every worker must have ended when the server stops; then it is ended.
STOP_LIMIT: Final = 4.2
#: How many times MEMORY_LIMIT a worker may have before it is killed.
TOO_MUCH: Final = 1.5

#: Workers of one host: the scoreboard has slots for two generations of them.
MAX_WORKERS: Final = 32

Progress = Callable[[str], object]
Alert = Callable[[str, str | None], object]


class Crew:
    """The workers.

    :param host: the host's name.

    :ivar sockets: on which they accept; to be given before any is started.
    :ivar alert: told ``(name, message)``; a message of ``None`` is the all-clear.
    :ivar credentials: the server's certificate, which each worker is given; ``None`` without TLS.
    :ivar levels: of the log, which each worker is given.
    :ivar wanted: how many there shall be.
    :ivar restarts: workers that were replaced without having been asked to end.
    """

    def __init__(self, reactor: IProcessReactor, host: str, settings: Settings) -> None:
        self._reactor = reactor
        self.host = host
        self._tally = Tally(quota(settings), reactor.seconds)
        self._ledger = Ledger(reactor.seconds)
        self._board = Scoreboard.create()
        self._rates = RateTable.create()
        self._numbers = count(1)
        self._crash_loop = CrashLoop(reactor.seconds)
        self._stopping = self._renewing = False
        self._checked_at = reactor.seconds()
        self._generation = 1
        self._environ: Mapping[str, str] = {}
        self._configure(settings)
        self.sockets: Sequence[Bound] = ()
        self.alert: Alert = lambda name, message: None
        #: Does what operators ask of the master by way of a worker.
        self.steer: Steering = nobody
        self.credentials: Credentials | None = None
        self.levels = Levels(settings.log.level)
        self.workers: dict[int, Child] = {}
        self.wanted = min(settings.cluster.worker_range(os.cpu_count() or 1)[1], MAX_WORKERS)
        self.restarts = 0

    def _configure(self, settings: Settings) -> None:
        """What of the settings concerns new workers, and the watching."""
        self._environ = environ_for_workers(settings)
        self._hung_after = settings.monitoring.health_check_timeout
        self._memory_limit = settings.cluster.memory_limit
        if quota(settings) != self._tally.quota:
            self._tally.change(quota(settings))

    # who is there

    def serving(self) -> list[Child]:
        """The workers that take clients, the least busy first."""
        ready = [child for child in self.workers.values() if child.state is State.READY]
        return sorted(ready, key=lambda child: child.figures.get("lag", 0.0))

    def _in_service(self) -> list[Child]:
        """The workers that are there or on their way, and that nobody has asked to end."""
        return [child for child in self.workers.values() if child.state in (State.STARTING, State.READY)]

    def current(self) -> list[Child]:
        """Those that count: of this generation."""
        return [child for child in self._in_service() if child.generation == self._generation]

    # starting

    async def start(self, generation: int | None = None) -> Child:
        """A new worker, joined with the others, that takes clients.

        :raises RuntimeError: it did not come up.
        """
        number = next(self._numbers)
        name = process_name(self.host, number)
        child = Child(
            self._reactor,
            number,
            name,
            self._generation if generation is None else generation,
            self._board.slot(self._free_slot()),
            self._ended,
        )
        self.workers[number] = child
        child.steer = self.steer
        child.spawn(
            self._environ,
            self.sockets,
            self._board,
            self._rates,
            Teller(self._tally, self._ledger, name).link(),
            self.levels,
        )
        try:
            await within(self._reactor, START_LIMIT, child.hello)
            await self._certify(child)
            await self._introduce(child)
            await within(self._reactor, START_LIMIT, child.orders.callRemote(Accept))
        except Exception as error:
            child.kill()
            raise RuntimeError(f"Worker {number} did not come up: {error}") from None
        if child.state is State.STARTING:
            child.state = State.READY
            _log.info("Worker {worker} ({pid}) takes clients", worker=number, pid=child.pid)
        return child

    async def _certify(self, child: Child) -> None:
        """Give it the certificate.

        :raises RuntimeError: it cannot use it.
        """
        credentials = self.credentials
        if credentials is not None:
            order = child.orders.callRemote(Certify, certificate=credentials.certificate, key=credentials.key)
            fault = (await within(self._reactor, CERTIFY_LIMIT, order))["fault"]
            if fault:
                raise RuntimeError(f"the certificate cannot be used: {fault}")

    async def certify(self, credentials: Credentials) -> None:
        """Have all workers use another certificate from now on."""
        self.credentials = credentials
        there = [child for child in self.workers.values() if child.alive and child.hello.called]
        given = [Deferred.fromCoroutine(self._certify(child)).addErrback(_not_certified, child) for child in there]
        await gatherResults(given)

    async def tell_levels(self) -> int:
        """Have all workers log from the levels on that hold now; how many do."""
        levels = json.encode(self.levels.members())
        orders = [child.orders.callRemote(Level, levels=levels) for child in self.workers.values() if child.alive]
        told = [within(self._reactor, MEET_LIMIT, order).addCallbacks(lambda _: 1, lambda _: 0) for order in orders]
        return sum(await gatherResults(told))

    def _free_slot(self) -> int:
        taken = {child.slot.number for child in self.workers.values()}
        return next(number for number in range(self._board.slots) if number not in taken)

    async def _introduce(self, child: Child) -> None:
        """Give it a stream to each of the others; from then on it hears what they publish."""
        others = [other for other in self.workers.values() if other.met and other.alive]
        child.met = True
        meetings: list[Deferred[Any]] = []
        for other in others:
            ours, theirs = pair()
            meetings.append(self._meet(child, other.name, ours))
            meetings.append(self._meet(other, child.name, theirs))
        await gatherResults(meetings, consumeErrors=True)

    def _meet(self, child: Child, name: str, stream: int) -> Deferred[Any]:
        meeting = closing(child.orders.callRemote(Meet, name=name, stream=stream), stream)
        return within(self._reactor, MEET_LIMIT, meeting).addErrback(lambda _: None)

    async def fill(self) -> None:
        """Start as many as are missing."""
        missing = self.wanted - len(self.current())
        if missing > 0:
            await _all([self.start() for _ in range(missing)])

    # ending

    async def retire(self, child: Child, seconds: float) -> int:
        """Have a worker let its clients go over ``seconds``, and end; how many clients it let go."""
        child.retiring = True
        if child.state is State.STARTING:
            child.kill()
            await shared(child.gone)
            return 0
        child.state = State.DRAINING
        dismissed = 0
        try:
            drained = child.orders.callRemote(Drain, seconds=seconds)
            dismissed = (await within(self._reactor, seconds * 2 + END_LIMIT, drained))["dismissed"]
            await within(self._reactor, END_LIMIT, shared(child.gone))
        except Exception as error:
            if child.alive:
                _log.warn("Worker {worker} did not end: {reason}", worker=child.number, reason=str(error))
                child.kill()
                await shared(child.gone)
        return dismissed

    async def replace(self, child: Child, seconds: float) -> tuple[Child, int]:
        """Start another in a worker's place, and retire it."""
        another = await self.start()
        return another, await self.retire(child, seconds)

    async def renew(
        self,
        settings: Settings,
        wanted: int,
        seconds: float,
        say: Progress,
        credentials: Credentials | None = None,
    ) -> dict[str, Any]:
        """Replace everybody: the new ones are ready before the old ones are let go.

        :param credentials: the certificate of the new ones.
        :raises RuntimeError: the new ones did not come up; the old ones go on.
        """
        before, self._environ = (self._environ, self.credentials), environ_for_workers(settings)
        self.credentials = credentials
        generation = self._generation + 1
        say(f"Starting {wanted} new workers")
        self._renewing = True
        try:
            new = await _all([self.start(generation) for _ in range(wanted)])
        except RuntimeError:
            self._environ, self.credentials = before
            self._give_up(generation)
            raise
        else:
            self._generation, self.wanted = generation, wanted
            self._configure(settings)
        finally:
            self._renewing = False
            # for those that have died meanwhile, of whichever generation goes on
            self._refill()
        old = [child for child in self._in_service() if child.generation != generation]
        say("The new workers take clients; the old ones let theirs go")
        gone = await _all([self.retire(child, seconds) for child in old])
        return {
            "old": [child.number for child in old],
            "new": [child.number for child in new],
            "dismissed": sum(gone),
        }

    def _give_up(self, generation: int) -> None:
        """A generation has not come up: end those of it that have."""
        for child in self._in_service():
            if child.generation == generation:
                self._let_go(child, 0.0)

    def _let_go(self, child: Child, seconds: float) -> None:
        Deferred.fromCoroutine(self.retire(child, seconds)).addErrback(_not_retired)

    async def scale(self, wanted: int, seconds: float) -> None:
        """Have another number of workers; those that are too many let their clients go over ``seconds``.

        :raises RuntimeError: the new ones did not come up; the number is as before.
        """
        before, self.wanted = self.wanted, wanted
        try:
            await self.fill()
        except RuntimeError:
            self.wanted = before
            raise
        fullest_first = sorted(self.current(), key=lambda child: -child.figures.get("connections", 0))
        for child in fullest_first[wanted:]:
            self._let_go(child, seconds)

    async def stop(self) -> None:
        """End everybody."""
        self._stopping = True
        there = [child for child in self.workers.values() if child.alive]
        for child in there:
            child.orders.callRemote(Stop)
        everybody = gatherResults([shared(child.gone) for child in there])
        try:
            await within(self._reactor, STOP_LIMIT, everybody)
        except TimeoutError:
            for child in there:
                child.kill()
            await gatherResults([shared(child.gone) for child in there])

    # watching

    def _ended(self, child: Child) -> None:
        del self.workers[child.number]
        child.slot.clear()
        if self._stopping or child.generation != self._generation or child.retiring:
            return
        self.restarts += 1
        delay = self._crash_loop.died(child.uptime)
        if self._crash_loop.looping:
            self.alert("crash_loop", f"Workers end by themselves; the next is started in {delay:g} s")
        _log.error(
            "Worker {worker} ({pid}) {how}; another is started in {delay:g} s",
            worker=child.number,
            pid=child.pid,
            how=child.how,
            delay=delay,
        )
        self._reactor.callLater(delay, self._refill)

    def _refill(self) -> None:
        if not (self._stopping or self._renewing):
            filling = Deferred.fromCoroutine(self.fill())
            filling.addErrback(_not_filled)

    def check(self) -> list[Child]:
        """Look after everybody's health; called every second or so.

        :returns: those that have more memory than they should, to be replaced.
        """
        now = self._reactor.seconds()
        if now - self._checked_at > self._hung_after / 2:
            # this process stood still itself, and has not read what the workers have said since
            for child in self.workers.values():
                child.beat_at = now
        self._checked_at = now
        fat = []
        for child in tuple(self.workers.values()):
            if child.state in (State.READY, State.DRAINING) and now - child.beat_at > self._hung_after:
                _log.error(
                    "Worker {worker} hangs: no sign of life for {limit:g} s",
                    worker=child.number,
                    limit=self._hung_after,
                )
                child.dump()
            elif self._memory_limit and child.figures.get("rss", 0) > self._memory_limit:
                if child.figures["rss"] > self._memory_limit * TOO_MUCH and child.state is not State.HUNG:
                    _log.error("Worker {worker} has far more memory than MEMORY_LIMIT", worker=child.number)
                    child.kill()
                elif child.state is State.READY:
                    fat.append(child)
        current = self.current()
        if len(current) >= self.wanted:
            self._crash_loop.alive_for(min((child.uptime for child in current), default=0.0))
        if not self._crash_loop.looping:
            self.alert("crash_loop", None)
        return fat


async def _all(work: Sequence[Coroutine[Deferred[Any], Any, T]]) -> list[T]:
    """The results of all of them.

    :raises RuntimeError: one of them did.
    """
    try:
        return await gatherResults([Deferred.fromCoroutine(each) for each in work], consumeErrors=True)
    except FirstError as first:
        raise RuntimeError(first.subFailure.getErrorMessage()) from None


def _not_certified(reason: Failure, child: Child) -> None:
    if child.alive:
        _log.error(
            "Worker {worker} has not taken up the certificate: {reason}",
            worker=child.number,
            reason=reason.getErrorMessage(),
        )


def _not_retired(reason: Failure) -> None:
    _log.error("A worker was not let go: {reason}", reason=reason.getErrorMessage())


def _not_filled(reason: Failure) -> None:
    _log.error("A worker could not be replaced: {reason}", reason=reason.getErrorMessage())
