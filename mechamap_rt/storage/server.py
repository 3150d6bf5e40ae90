"""One database server: does it answer, and what is asked of it.

A server that does not answer is not asked again by everybody who has a question: they are told at once, while one
probe after another finds out when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from random import random
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mechamap_rt.core.deferreds import within
from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import IReactor
from mechamap_rt.storage.driver import Driver, Fate
from mechamap_rt.storage.pool import Pool

_log = Logger()
T = TypeVar("T")

#: Seconds between two looks at what waits.
TICK: Final = 0.2
#: Seconds after which a server that owes an answer and gives none counts as away.
SILENCE: Final = 3.0
#: Seconds after which one that owes an answer is asked something else: the statement may be slow, or wait for a lock.
DOUBT: Final = 1.0
#: Seconds that the start waits for its first answer.
FIRST: Final = 2.0
#: Why a server is away that has said nothing.
SILENT: Final = "it does not answer"
#: Seconds that it may owe one longer than a statement may take.
PATIENCE: Final = 0.5
#: Seconds after which a server of which nobody wants anything is asked whether it is there.
QUIET: Final = 5.0
#: Seconds between two probes of a server that is away: they grow from the first to the second.
PROBES: Final = (0.2, 1.0)


class State(Enum):
    """What is known of a server."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Server:
    """One server, and the connections to it.

    :param size: how many connections there may be, now; ``most`` how many ever.
    :param timeout: seconds that a statement may wait, and then take.

    :ivar reason: why it is down, in a few words.
    """

    def __init__(self, reactor: IReactor, driver: Driver, size: int, most: int, timeout: float) -> None:
        self._reactor = reactor
        self._driver = driver
        self.name = driver.name
        self.pool = Pool(reactor, driver, size, most, timeout, self._observe)
        self.state = State.UNKNOWN
        self.reason = ""
        self._timeout = timeout
        # a server that is there ends a statement after the timeout, and says so
        self._silence = min(SILENCE, timeout + PATIENCE)
        self._answered_at = reactor.seconds()
        self._probing = self._asking = False
        self._next_probe = 0.0
        self._wait = PROBES[0]
        self._complaints: dict[str, float] = {}
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor

    async def start(self) -> None:
        """Look whether it is there; if it is not, it is waited for in the background."""
        if not self.pool.running:
            self.pool.start()
        self._watch.start(TICK, now=False).addErrback(lambda reason: _log.failure("A database is not watched", reason))
        try:
            await within(self._reactor, FIRST, Deferred.fromCoroutine(self._probe()))
        except TimeoutError:
            self._gone(SILENT)

    async def stop(self) -> None:
        if self._watch.running:
            self._watch.stop()
        await self.pool.shut()

    @property
    def usable(self) -> bool:
        """Is there no reason to ask another server?"""
        return self.state is not State.DOWN and not self._owes(self._timeout)

    def _owes(self, seconds: float) -> bool:
        """Has it been asked so long ago, and answered nobody since?"""
        return self.pool.stalled(seconds) and self._reactor.seconds() - self._answered_at > seconds

    def query(self, statement: str, arguments: Sequence[Any]) -> Deferred[list[tuple[Any, ...]]]:
        """The rows of one ``SELECT``."""
        return self._perform(lambda connection: self._driver.query(connection, statement, arguments))

    def execute(self, statement: str, arguments: Sequence[Any]) -> Deferred[int]:
        """Change rows, by a statement that does no harm when it is run twice; how many it has found."""
        return self._perform(lambda connection: self._driver.execute(connection, statement, arguments))

    def _perform(self, task: Callable[[Any], T]) -> Deferred[T]:
        if self.state is State.DOWN:
            return fail(Unavailable(self.reason))
        return self.pool.perform(task)

    # watching

    def _observe(self, took: float, fate: Fate | None) -> None:
        if fate is None or not (fate.down or fate.lost):
            self._answered()
            if fate is not None:
                self._complain(fate.reason)
        elif fate.down:
            self._gone(fate.reason)
        elif took > self._timeout and self._reactor.seconds() - self._answered_at >= took:
            # the client has waited as long as it may, and nobody else got an answer meanwhile
            self._gone(SILENT)
        else:
            self._complain(fate.reason)

    def _answered(self) -> None:
        self._answered_at = self._reactor.seconds()
        if self.state is not State.UP:
            if self.state is State.DOWN:
                _log.info("The database {name} answers again", name=self.name)
            self.state = State.UP
            self.reason = ""
            self._wait = PROBES[0]

    def _gone(self, reason: str) -> None:
        if self.state is not State.DOWN or self.reason != reason:
            _log.error("The database {name} is away: {reason}", name=self.name, reason=reason)
        self.reason = reason
        if self.state is not State.DOWN:
            self.state = State.DOWN
            self._next_probe = self._reactor.seconds() + self._wait
            self.pool.give_up(reason)

    def follow(self, other: Server) -> None:
        """``other`` is the same server over connections of its own: if it says nothing there, nobody tries here."""
        silent = other.state is State.DOWN and other.reason == SILENT
        if silent and self.state is not State.DOWN and self._reactor.seconds() - self._answered_at > self._timeout:
            self._gone(SILENT)

    def _complain(self, reason: str) -> None:
        """A statement has failed that others may not have; the log hears of each kind once a minute."""
        now = self._reactor.seconds()
        if now - self._complaints.get(reason, -60.0) >= 60.0 and len(self._complaints) < 100:
            self._complaints[reason] = now
            _log.error("A query of the database {name} failed: {reason}", name=self.name, reason=reason)

    def _look(self) -> None:
        self.pool.tick()
        now = self._reactor.seconds()
        if self.state is State.DOWN:
            if self._probing:
                if self.pool.stalled(self._silence):
                    self.pool.give_up(self.reason)
            elif now >= self._next_probe:
                Deferred.fromCoroutine(self._probe())
        elif self._owes(self._silence):
            self._gone(SILENT)
        elif self._driver.distant and self.state is State.UP and self._owes(DOUBT) and not self._asking:
            Deferred.fromCoroutine(self._ask_apart())
        elif now - self._answered_at > QUIET and not self._probing:
            Deferred.fromCoroutine(self._probe())

    async def _ask_apart(self) -> None:
        """Find out whether it is the server that is silent, or only what was asked of it."""
        self._asking = True
        try:
            await self.pool.apart(lambda connection: self._driver.query(connection, "SELECT 1", ()))
        except Unavailable:
            return
        finally:
            self._asking = False
        if self.state is not State.DOWN:
            self._answered()

    async def _probe(self) -> None:
        self._probing = True
        try:
            await self.pool.perform(lambda connection: self._driver.query(connection, "SELECT 1", ()))
        except Unavailable as error:
            if self.state is not State.DOWN:
                self._gone(str(error))
        finally:
            self._probing = False
            self._next_probe = self._reactor.seconds() + self._wait * (0.75 + random() / 2)
            self._wait = min(self._wait * 1.5, PROBES[1])

    def figures(self) -> dict[str, Any]:
        """For health and metrics."""
        found: dict[str, Any] = {"server": self.name, "status": self.state.value}
        if self.reason:
            found["reason"] = self.reason
        return found | self.pool.figures()
