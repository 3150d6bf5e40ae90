"""When tokens were last used, written in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import IAccounts

_log = Logger()

#: Seconds between two batches, and tokens of one statement.
INTERVAL: Final = 10.0
BATCH: Final = 500
#: Tokens that wait to be written; beyond it the oldest are forgotten, and seem to have been used earlier.
MAX_WAITING: Final = 50_000


class Usage:
    """Gathers the tokens that have been used, and writes their ``last_used_at``.

    What cannot be written now is written later, with the time of then.

    :param clock: seconds since the epoch.
    """

    def __init__(self, reactor: IReactorTime, accounts: IAccounts, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._waiting: dict[int, None] = {}
        self._writing: Deferred[None] | None = None
        self._timer = LoopingCall(self._write_in_turn)
        self._timer.clock = reactor
        #: Since the start: written, and forgotten because too many waited.
        self.written = self.forgotten = 0

    def note(self, token_id: int) -> None:
        """This token has been used."""
        if token_id not in self._waiting and len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.forgotten += 1
        self._waiting[token_id] = None

    def start(self) -> None:
        self._timer.start(INTERVAL, now=False).addErrback(lambda reason: _log.failure("Usage is not written", reason))

    async def stop(self) -> None:
        """Write what is left, if the database takes it."""
        if self._timer.running:
            self._timer.stop()
        if self._writing is not None:
            await self._writing
        await self._write()

    def _write_in_turn(self) -> None:
        if self._writing is None and self._waiting:
            self._writing = Deferred.fromCoroutine(self._write())
            self._writing.addErrback(lambda reason: _log.failure("Usage could not be written", reason))
            self._writing.addBoth(self._written)

    def _written(self, _: object) -> None:
        self._writing = None

    async def _write(self) -> None:
        while self._waiting:
            batch = [ident for ident, _ in zip(self._waiting, range(BATCH), strict=False)]
            for ident in batch:
                del self._waiting[ident]
            try:
                await self._accounts.used(batch, self._clock())
            except Unavailable:
                # those noted meanwhile stay where they are, the others wait again
                for ident in batch:
                    self.note(ident)
                return
            self.written += len(batch)
