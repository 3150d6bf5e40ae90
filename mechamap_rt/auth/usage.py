"""When tokens were last used, and when users were last seen: written in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from mechamap_rt.core.writing import Pace, WriteBehind
from mechamap_rt.interfaces import IAccounts

#: Seconds until what was noted is written, and how many of one statement.
INTERVAL: Final = 10.0
BATCH: Final = 500


class Usage:
    """Gathers the tokens that have been used, and writes their ``last_used_at``.

    What cannot be written now is written later, with the time of then.

    :param clock: seconds since the epoch.
    :param pace: of all that this process writes.
    """

    def __init__(
        self, reactor: IReactorTime, accounts: IAccounts, clock: Callable[[], float], pace: Pace | None = None
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._pace = pace or Pace(reactor)
        self._behind: WriteBehind[int, None] = WriteBehind(
            reactor, self._write, "Uses of tokens", interval=INTERVAL, batch=BATCH
        )

    def note(self, token_id: int) -> None:
        """This token has been used."""
        self._behind.note(token_id, None)

    @property
    def written(self) -> int:
        """Since the start."""
        return self._behind.written

    def start(self) -> None:
        self._behind.start()

    async def stop(self) -> None:
        """Write what is left, if the database takes it."""
        self._pace.hurry()
        await self._behind.stop()

    async def _write(self, batch: dict[int, None]) -> None:
        await self._pace.turn()
        await self._accounts.used(list(batch), self._clock())


class LastSeen:
    """Gathers the users who have come or gone, and writes their ``last_seen_at``, which never goes back.

    :param clock: seconds since the epoch.
    :param pace: of all that this process writes.
    """

    def __init__(
        self, reactor: IReactorTime, accounts: IAccounts, clock: Callable[[], float], pace: Pace | None = None
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._pace = pace or Pace(reactor)
        self._behind: WriteBehind[int, float] = WriteBehind(
            reactor, self._write, "Times users were seen", merge=max, interval=INTERVAL, batch=BATCH
        )

    def note(self, user_id: int) -> None:
        """This user has been seen, now."""
        self._behind.note(user_id, self._clock())

    @property
    def written(self) -> int:
        """Since the start."""
        return self._behind.written

    def start(self) -> None:
        self._behind.start()

    async def stop(self) -> None:
        """Write what is left, if the database takes it."""
        self._pace.hurry()
        await self._behind.stop()

    async def _write(self, batch: dict[int, float]) -> None:
        await self._pace.turn()
        await self._accounts.seen(batch)
