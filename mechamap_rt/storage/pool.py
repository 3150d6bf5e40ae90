"""The connections to one database server: who uses them, who waits for one, and for how long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from mechamap_rt.errors import RowRefused, Unavailable
from mechamap_rt.interfaces import IReactor
from mechamap_rt.storage.driver import Driver, Fate

T = TypeVar("T")

#: Statements that may wait for a connection; more are refused.
MAX_WAITING: Final = 2_000
#: How often a statement is tried again when its connection was dead, or it met another in a deadlock.
MAX_TRIES: Final = 2
#: Seconds for which no more connections are opened than there are, after the server has refused one.
MODESTY: Final = 5.0
#: Seconds after which what still runs when everything is closed is cut once more.
CUT_AGAIN: Final = 0.05


class Job(Generic[T]):
    """One task for a thread with a connection.

    :ivar since: when it was asked for, and then when it was begun, in the reactor's seconds.
    :ivar connection: the one it uses now.
    """

    __slots__ = ("again", "connection", "done", "dropped", "fate", "since", "task", "tries")

    def __init__(self, task: Callable[[Any], T], since: float) -> None:
        self.task = task
        self.since = since
        self.done: Deferred[T] = Deferred()
        self.connection: Any = None
        self.fate: Fate | None = None
        self.tries = 0
        self.dropped = False


class Refused(Exception):
    """A connection could not be had; the cause is the database's own error."""


class Pool(adbapi.ConnectionPool):
    """adbapi's threads, with connections that belong to whoever needs one and not to a thread.

    Connections are made when they are needed and kept. One that turns out to be dead is replaced, and the statement
    tried once more; no statement is followed by a ``COMMIT``.

    :param size: how many connections there may be, now; ``most`` how many ever.
    :param timeout: seconds that a task may wait for a connection, and then for its answer.
    :param observe: told of each task that has ended: seconds, and what its error means.
    """

    def __init__(
        self,
        reactor: IReactor,
        driver: Driver,
        size: int,
        most: int,
        timeout: float,
        observe: Callable[[float, Fate | None], None],
    ) -> None:
        super().__init__(
            driver.module,
            cp_reactor=reactor,
            cp_min=0,
            cp_max=most,
            cp_name=driver.name,
        )
        self.size = self._allowed = min(size, most)
        self._time = reactor
        self._modest_until = 0.0
        self._driver = driver
        self._timeout = timeout
        self._observe = observe
        self._waiting: deque[Job[Any]] = deque()
        self._busy: dict[Job[Any], None] = {}
        # appended and taken in threads, which a deque allows
        self._idle: deque[Any] = deque()
        # of those who wait for none of the others
        self._extra: set[Any] = set()
        self._closed = False
        #: Since the start.
        self.tasks = self.failures = self.refused = self.connects = 0
        self.seconds = self.longest = 0.0

    # asking

    def perform(self, task: Callable[[Any], T]) -> Deferred[T]:
        """What ``task``, called in a thread with a connection, returns.

        :returns: fails with :class:`~mechamap_rt.errors.Unavailable`, and never waits for ever.
        """
        if self._closed:
            return fail(Unavailable("the database is closed"))
        if len(self._waiting) >= MAX_WAITING:
            self.refused += 1
            return fail(Unavailable("too many queries wait"))
        job = Job(task, self._time.seconds())
        self._waiting.append(job)
        self._pump()
        return job.done

    def apart(self, task: Callable[[Any], T]) -> Deferred[T]:
        """As :meth:`perform`, at once, over a connection that is made for it when all are in use, and then closed."""
        if len(self._busy) < self._allowed or self._closed:
            return self.perform(task)
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._alone, task)

    def _alone(self, task: Callable[[Any], T]) -> T:
        try:
            connection = self._driver.connect()
            self._extra.add(connection)
            try:
                return task(connection)
            finally:
                self._extra.discard(connection)
                self._driver.close(connection)
        except Exception as error:
            fate = self._driver.fate(error)
            raise Unavailable(fate.reason) from None

    def _pump(self) -> None:
        while self._waiting and len(self._busy) < self._allowed:
            job = self._waiting.popleft()
            job.since = self._time.seconds()
            self._busy[job] = None
            self.runWithConnection(job).addBoth(self._ended, job)

    def _ended(self, result: Any, job: Job[Any]) -> None:
        del self._busy[job]
        failed = isinstance(result, Failure)
        if failed and result.check(Refused) and self._wait_for_another(job):
            return
        took = self._time.seconds() - job.since
        self.tasks += 1
        self.failures += failed
        self.seconds += took
        self.longest = max(self.longest, took)
        fate = job.fate if failed else None
        self._observe(took, fate)
        self._pump()
        if failed:
            kind = RowRefused if fate is not None and fate.row else Unavailable
            job.done.errback(kind("unexpected" if fate is None else fate.reason))
        else:
            job.done.callback(result)

    def _wait_for_another(self, job: Job[Any]) -> bool:
        """The server gives no more connections; is there one that this job can have later?"""
        others = len(self._busy) + len(self._idle)
        if not others or job.dropped or self._closed:
            return False
        self._allowed = max(1, min(self._allowed, others))
        self._modest_until = self._time.seconds() + MODESTY
        # it takes one of those that there are: asking for a new one would be refused again, at once, for ever
        job.tries = 0
        self._waiting.appendleft(job)
        self._pump()
        return True

    # in the threads

    def _runWithConnection(self, func: Any, *args: Any, **kw: Any) -> Any:
        """Called by adbapi in one of its threads, with a job."""
        job: Job[Any] = func
        while True:
            self._lease(job)
            try:
                result = job.task(job.connection)
            except Exception as error:
                job.fate = fate = self._driver.fate(error)
                self._return(job, fate.lost)
                if not fate.again or job.dropped or job.tries >= MAX_TRIES:
                    raise
                job.tries += 1
            else:
                self._return(job, False)
                return result

    def _lease(self, job: Job[Any]) -> None:
        """Give ``job`` a connection."""
        job.connection = self._connection(job)
        if job.dropped:
            # while it had none that could have been cut
            self._return(job, False)
            job.fate = Fate(True, False, False, "given up")
            raise Refused("given up")

    def _connection(self, job: Job[Any]) -> Any:
        """One that was kept; or a new one, for when one of those was dead all may be."""
        if not job.tries:
            try:
                return self._idle.pop()
            except IndexError:
                pass
        try:
            connection = self._driver.connect()
        except Exception as error:
            job.fate = fate = self._driver.fate(error)._replace(down=True)
            raise Refused(fate.reason) from error
        self.connects += 1
        return connection

    def _return(self, job: Job[Any], lost: bool) -> None:
        connection, job.connection = job.connection, None
        if lost or self._closed or len(self._busy) > self._allowed:
            self._driver.close(connection)
        else:
            self._idle.append(connection)
        if lost:
            self._keep(0)

    def _keep(self, most: int) -> None:
        """Close the oldest of the idle connections, but for ``most``."""
        while len(self._idle) > max(most, 0):
            try:
                self._driver.close(self._idle.popleft())
            except IndexError:
                # a thread has taken it meanwhile
                return

    # looking after them

    def tick(self) -> None:
        """Let those go that have waited too long; to be called a few times a second."""
        now = self._time.seconds()
        while self._waiting and now - self._waiting[0].since > self._timeout:
            self._waiting.popleft().done.errback(Unavailable("no connection was free in time"))
        for job in self._busy:
            if now - job.since > self._timeout + 1.0:
                self._drop(job)
        if self._allowed < self.size and now > self._modest_until:
            self._allowed = self.size
            self._pump()

    def stalled(self, seconds: float) -> bool:
        """Is there a task that has been running for so long?"""
        return any(self._time.seconds() - job.since > seconds for job in self._busy)

    def give_up(self, reason: str) -> None:
        """Nobody waits any longer: neither for a connection, nor for an answer."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.done.errback(Unavailable(reason))
        self._drop_all()
        self._keep(0)

    def _drop_all(self) -> None:
        for job in tuple(self._busy):
            self._drop(job)
        for connection in tuple(self._extra):
            self._driver.cut(connection)

    def _drop(self, job: Job[Any]) -> None:
        job.dropped = True
        connection = job.connection
        if connection is not None:
            self._driver.cut(connection)

    def resize(self, size: int) -> None:
        """Have ``size`` connections at most from now on."""
        size = max(1, min(size, self.max))
        if size == self.size:
            return
        self.size = self._allowed = size
        self._keep(self.size - len(self._busy))
        self._pump()

    def rest(self) -> None:
        """Need one connection at most, and keep none that nobody uses, unless the database would be gone with it."""
        if self._driver.private:
            return
        self.resize(1)
        self._keep(0)

    def shut(self) -> Deferred[None]:
        """Close every connection; running tasks are cut."""
        if self._closed:
            return succeed(None)
        self._closed = True
        self.give_up("the server is going down")
        self._driver.halt()
        for trigger in (self.shutdownID, self.startID):
            if trigger is not None:
                self._reactor.removeSystemEventTrigger(trigger)
        self.shutdownID = self.startID = None
        # a connection that is cut just before its statement begins may not notice: SQLite's does not
        cutting = LoopingCall(self._drop_all)
        cutting.clock = self._time
        cutting.start(CUT_AGAIN, now=False)
        # waits for the threads, and so not here
        closing = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self.finalClose)
        return closing.addBoth(self._closed_down, cutting)

    def _closed_down(self, result: None, cutting: LoopingCall) -> None:
        cutting.stop()
        self._keep(0)
        return result

    def figures(self) -> dict[str, float]:
        """For the metrics: now, and since the start; times in seconds."""
        return {
            "size": self.size,
            "inUse": len(self._busy),
            "idle": len(self._idle),
            "waiting": len(self._waiting),
            "queries": self.tasks,
            "failures": self.failures,
            "refused": self.refused,
            "connects": self.connects,
            "querySeconds": round(self.seconds, 6),
            "longest": round(self.longest, 6),
        }
