"""The link: one connection for commands and one subscriber, to the same Redis, for as long as the process lives.

They are one thing on purpose. After a failover two connections that come back by themselves may end at different
servers, and a process that hears but cannot speak, or the other way round, is no part of the cluster.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mechamap_rt.interfaces import IReactor
from mechamap_rt.redis.errors import in_words
from mechamap_rt.redis.places import Places, secrets_of, written
from mechamap_rt.redis.protocols import Connection, Subscriber
from mechamap_rt.settings.backing import Redis

_log = Logger()

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
#: A link that held less long than this was none: the delays go on growing.
STABLE: Final = 1.0
PING_INTERVAL: Final = 1.0
#: What this process may itself have been late by, before it calls Redis silent.
GRACE: Final = 0.05
#: The same complaint is not logged more often.
COMPLAINT_INTERVAL: Final = 60.0
#: Seconds that a closing connection has to send its last bytes.
LEAVE_LIMIT: Final = 0.5


class Pulse:
    """Aborts a connection whose peer has stopped answering, which TCP alone notices only after many minutes."""

    def __init__(self, reactor: IReactor, connection: Connection, limit: float) -> None:
        self._reactor, self._connection, self._limit = reactor, connection, limit
        self._asked = 0.0
        self._graced = False
        self._call: IDelayedCall | None = None
        self._beat()

    def stop(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _beat(self) -> None:
        now = self._reactor.seconds()
        silent = now - self._asked
        delay = min(PING_INTERVAL, self._limit)
        if self._connection.heard:
            self._connection.heard, self._graced, self._asked = False, False, now
            self._connection.knock()
        elif silent < self._limit:
            delay = min(PING_INTERVAL, self._limit - silent)
        elif not self._graced:
            # timers run before sockets are read: after a long pause of ours the answer may lie there unread
            self._graced, delay = True, GRACE
        else:
            self._connection.abort(TimeoutError())
            return
        self._call = self._reactor.callLater(max(delay, 0.01), self._beat)


class Link:
    """Keeps the two connections, and makes them anew when either is lost.

    :param name: what Redis shows of us in ``CLIENT LIST``.
    :ivar on_open: called with both connections when they are ready.
    :ivar on_lost: called at once when either is lost; what is written to the other afterwards goes nowhere.
    :ivar endpoint: where it is connected, or was last tried; ``host:port``.
    :ivar reconnects: how often it was made anew.
    """

    def __init__(self, reactor: IReactor, settings: Redis, name: str) -> None:
        self._reactor = reactor
        self._settings = settings
        self._name = name
        self._places = Places(reactor, settings, spread=sum(name.encode()))
        self._stopping = False
        self._running: Deferred[None] | None = None
        self._pulses: list[Pulse] = []
        self._lost: Deferred[BaseException] | None = None
        self._complaint = ("", 0.0)
        self.commands: Connection | None = None
        self.on_open: Callable[[Connection, Subscriber], object] = lambda commands, subscriber: None
        self.on_lost: Callable[[], object] = lambda: None
        self.endpoint = ""
        self.reconnects = -1

    def start(self) -> None:
        """Begin to connect; never fails, and tries until :meth:`stop`."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._running.addErrback(lambda failure: _log.failure("the link to Redis has ended", failure))

    async def stop(self) -> None:
        """Close both connections when what was written has gone out; fires when the sockets are closed."""
        self._stopping = True
        if self._running is not None:
            self._running.cancel()
        self._part()
        leaving = [connection.closed for connection in self._places.open]
        for connection in tuple(self._places.open):
            connection.leave()
        late = self._reactor.callLater(LEAVE_LIMIT, self._abort_all)
        await DeferredList(leaving)
        if late.active():
            late.cancel()

    def _abort_all(self) -> None:
        for connection in tuple(self._places.open):
            connection.cut()

    async def _run(self) -> None:
        delay = FIRST_DELAY
        while True:
            opened: float | None = None
            try:
                commands, subscriber = await Deferred.fromCoroutine(self._connect())
                opened = self._reactor.seconds()
                error = await self._hold(commands, subscriber)
            except CancelledError:
                raise
            except Exception as raised:
                error = raised
            if self._stopping:
                # what was cancelled may have failed in words of its own
                return
            if opened is not None and self._reactor.seconds() - opened >= STABLE:
                delay = FIRST_DELAY
                self._complaint = ("", 0.0)
            self._complain(error)
            await deferLater(self._reactor, delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, LONGEST_DELAY)

    async def _connect(self) -> tuple[Connection, Subscriber]:
        place = await self._places.find()
        self.endpoint = written(place)
        lost: list[BaseException] = []
        commands, subscriber = Connection(lost.append), Subscriber(lost.append)
        greeting = Deferred.fromCoroutine(self._greet(place, commands, subscriber))
        try:
            await greeting.addTimeout(self._settings.timeout, self._reactor)
            if lost:
                raise lost[0]
        except BaseException as error:
            commands.abort(error)
            subscriber.abort(error)
            raise
        return commands, subscriber

    async def _greet(self, place: tuple[str, int], *connections: Connection) -> None:
        for connection in connections:
            await self._places.connect(place, connection)
            await self._places.greet(connection, self._name)

    async def _hold(self, commands: Connection, subscriber: Subscriber) -> BaseException:
        """Until either is lost."""
        self._lost = lost = Deferred[BaseException]()
        for connection in (commands, subscriber):
            connection.on_lost = self._one_is_lost
        self._pulses = [Pulse(self._reactor, one, self._settings.timeout) for one in (commands, subscriber)]
        self.commands = commands
        self.reconnects += 1
        self.on_open(commands, subscriber)
        return await lost

    def _one_is_lost(self, reason: BaseException) -> None:
        lost, self._lost = self._lost, None
        if lost is None:
            return
        self._part()
        for connection in tuple(self._places.open):
            connection.abort(reason)
        self.on_lost()
        lost.callback(reason)

    def _part(self) -> None:
        self._lost, self.commands = None, None
        for pulse in self._pulses:
            pulse.stop()
        self._pulses = []

    def _complain(self, error: BaseException) -> None:
        """Tell the operator, but not with every attempt."""
        reason = in_words(error, *secrets_of(self._settings))
        now = self._reactor.seconds()
        if self._complaint[0] != reason or now - self._complaint[1] >= COMPLAINT_INTERVAL:
            self._complaint = (reason, now)
            _log.error(
                "Redis at {endpoint} cannot be used: {reason}. It is tried again until it can.",
                endpoint=self.endpoint or "an address not yet known",
                reason=reason,
            )
