"""What is to be written to a database that may be away: gathered, bounded, and written in batches."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mechamap_rt.core.deferreds import shared, within
from mechamap_rt.errors import RowRefused, Unavailable

_log = Logger()

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Seconds between two statements that write, of one process.
GAP: Final = 0.05
#: Seconds until what could not be written is tried again.
RETRY: Final = 0.5
#: Keys that wait to be written.
MAX_WAITING: Final = 50_000
#: Seconds for what is left at the end; the server has five in all.
STOP_LIMIT: Final = 0.5


class Pace:
    """Lets those who write go one after another, no two within ``gap`` seconds."""

    def __init__(self, reactor: IReactorTime, gap: float = GAP) -> None:
        self._reactor = reactor
        self._gap = gap
        self._next = reactor.seconds()
        # as many as there are who write: each waits for one turn at a time
        self._waiting: deque[Deferred[None]] = deque()
        self._timer: IDelayedCall | None = None

    def turn(self) -> Deferred[None]:
        """Fires when the next statement may be sent; it must then be sent at once."""
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        self._pump()
        return turn

    def _pump(self) -> None:
        while self._waiting and self._timer is None:
            now = self._reactor.seconds()
            if now < self._next:
                self._timer = self._reactor.callLater(self._next - now, self._due)
                return
            self._next = now + self._gap
            self._waiting.popleft().callback(None)

    def _due(self) -> None:
        self._timer = None
        self._pump()

    def hurry(self) -> None:
        """The process ends: nobody waits for a turn any more."""
        self._gap = 0.0
        self._next = self._reactor.seconds()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._pump()


class WriteBehind(Generic[K, V]):
    """Keeps one value for each key until it has been written.

    What could not be written because the database is away stays in front, and is tried again. A batch that the database
    refuses is written in halves, until what it does not take is found and forgotten.

    :param write: writes a batch; fails with :class:`~mechamap_rt.errors.Unavailable` when it should be tried again.
    :param what: for the log: ``uses of tokens``.
    :param merge: the value of a key that is noted again, from the older and the newer one.
    :param interval: seconds from the first note to the writing; 0 writes as soon as the batch before is written.
    :param batch: keys of one batch.
    :param most: keys that may wait; beyond it the oldest are forgotten.

    :ivar away: has the last batch not been written because the database is away?
    """

    def __init__(
        self,
        reactor: IReactorTime,
        write: Callable[[dict[K, V]], Awaitable[object]],
        what: str,
        *,
        merge: Callable[[V, V], V] = lambda older, newer: newer,
        interval: float = 0.0,
        batch: int = 500,
        most: int = MAX_WAITING,
    ) -> None:
        self._reactor = reactor
        self._write = write
        self._what = what
        self._merge = merge
        self._interval = interval
        self._batch = batch
        self._most = most
        self._waiting: OrderedDict[K, V] = OrderedDict()
        self._writing: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._running = False
        self.away = False
        #: Since the start: written, and forgotten because too many waited or because of a fault.
        self.written = self.forgotten = 0
        self._forgotten_before = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def note(self, key: K, value: V) -> None:
        """This is to be written."""
        known = self._waiting.get(key)
        self._waiting[key] = value if known is None else self._merge(known, value)
        self._bound()
        self._arm(self._interval)

    def _bound(self) -> None:
        while len(self._waiting) > self._most:
            self._waiting.popitem(last=False)
            self.forgotten += 1

    def start(self) -> None:
        self._running = True
        if self._waiting:
            self._arm(self._interval)

    def _arm(self, seconds: float) -> None:
        if not self._running or self._writing is not None or self._timer is not None:
            return
        if seconds > 0.0:
            self._timer = self._reactor.callLater(seconds, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._timer = None
        # what is noted while the first batch is taken must not begin a second one
        writing: Deferred[None] = Deferred()
        self._writing = writing
        Deferred.fromCoroutine(self._write_all()).addBoth(self._ended, writing)

    def _ended(self, _: object, writing: Deferred[None]) -> None:
        self._writing = None
        if self._waiting:
            self._arm(max(RETRY, self._interval) if self.away else self._interval)
        writing.callback(None)

    async def _write_all(self) -> None:
        while self._waiting:
            batch = dict(self._waiting.popitem(last=False) for _ in range(min(self._batch, len(self._waiting))))
            if not await self._write_batch(batch):
                return

    async def _write_batch(self, batch: dict[K, V]) -> bool:
        """``False``: the database is away, and what is not written waits again."""
        try:
            await self._write(batch)
        except RowRefused as refused:
            if len(batch) > 1:
                return await self._write_halves(list(batch.items()))
            self.forgotten += 1
            _log.error("One of {what} is refused by the database: {reason}", what=self._what, reason=str(refused))
        except Unavailable:
            self._put_back(batch)
            self.away = True
            return False
        except Exception:
            # the same again would fail again, and hold up all others
            self.forgotten += len(batch)
            _log.failure("{what} could not be written", what=self._what)
        else:
            self.written += len(batch)
            self._returned()
        return True

    async def _write_halves(self, items: list[tuple[K, V]]) -> bool:
        middle = len(items) // 2
        rest = dict(items[middle:])
        if await self._write_batch(dict(items[:middle])):
            return await self._write_batch(rest)
        self._put_back(rest)
        return False

    def _put_back(self, batch: dict[K, V]) -> None:
        for key in reversed(batch):
            newer = self._waiting.get(key)
            self._waiting[key] = batch[key] if newer is None else self._merge(batch[key], newer)
            self._waiting.move_to_end(key, last=False)
        self._bound()

    def _returned(self) -> None:
        if self.away:
            self.away = False
            lost = self.forgotten - self._forgotten_before
            _log.info("{what} are written again; {lost} were forgotten", what=self._what, lost=lost)
        self._forgotten_before = self.forgotten

    async def stop(self) -> None:
        """Write what is left at once, if the database takes it soon."""
        self._running = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        with suppress(TimeoutError):
            await within(self._reactor, STOP_LIMIT, Deferred.fromCoroutine(self._finish()))
        if self._waiting:
            _log.warn("{count} {what} were not written", count=len(self._waiting), what=self._what)

    async def _finish(self) -> None:
        if self._writing is not None:
            await shared(self._writing)
        await self._write_all()
