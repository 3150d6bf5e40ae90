"""The site's notifications: whose they are, which of them are unread, and that they have been read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mechamap_rt.core.loader import Loader
from mechamap_rt.interfaces import IDatabase, INotifications
from mechamap_rt.storage.statements import chosen, marks, text

#: A notification's id, and the id of the user who is said to own it.
Pair = tuple[int, int]

#: Takes one argument, the time of now.
_UNREAD: Final = (
    "is_read = 0 AND archived_at IS NULL AND status <> 'archived' AND (expires_at IS NULL OR expires_at > %s)"
)
_READ: Final = "UPDATE notifications SET is_read = 1, status = 'read', updated_at = %s, read_at = "


class Outstanding(NamedTuple):
    """The unread notifications of one user: how many, and the highest id among them."""

    unread: int
    highest: int


class Reading(NamedTuple):
    """A user who has read all.

    :ivar highest: the highest id that counts: what came later has not been seen.
    :ivar until: seconds since the epoch; what was made after it does not count. ``None``: no matter when it was made.
    :ivar moment: when it was read.
    """

    highest: int
    until: float | None
    moment: float


@implementer(INotifications)
class Notifications:
    """Asks an :class:`~mechamap_rt.interfaces.IDatabase`, and always where it is written: a replica may lag behind.

    :param zone: in which the site writes times.
    :param clock: seconds since the epoch.
    """

    def __init__(self, database: IDatabase, clock: Callable[[], float], zone: tzinfo = UTC) -> None:
        self._database = database
        self._clock = clock
        self._zone = zone
        self._counts: Loader[int, int] = Loader(self._fetch_counts)

    def _now(self) -> str:
        return text(self._clock(), self._zone)

    def belonging(self, pairs: Iterable[Pair]) -> Deferred[dict[Pair, bool]]:
        return Deferred.fromCoroutine(self._belonging(set(pairs)))

    async def _belonging(self, pairs: set[Pair]) -> dict[Pair, bool]:
        ids = sorted({ident for ident, _ in pairs})
        rows = await self._database.query(
            f"SELECT id, user_id, CASE WHEN {_UNREAD} THEN 1 ELSE 0 END FROM notifications"
            f" WHERE id IN ({marks(len(ids))})",
            [self._now(), *ids],
            fresh=True,
        )
        return {(ident, user): bool(unread) for ident, user, unread in rows if (ident, user) in pairs}

    def read(self, moments: Mapping[Pair, float]) -> Deferred[int]:
        ids = {ident: text(moment, self._zone) for (ident, _), moment in moments.items()}
        read_at, arguments = chosen("id", ids)
        # only the primary key is searched: "+ 0" keeps other indexes out; lists of pairs not every version searches for
        owners = " OR ".join(["(id = %s AND user_id + 0 = %s)"] * len(moments))
        now = self._now()
        return self._database.execute(
            f"{_READ}{read_at} WHERE id IN ({marks(len(ids))}) AND {_UNREAD} AND ({owners})",
            [now, *arguments, *ids, now, *(part for pair in moments for part in pair)],
        )

    def outstanding(self, users: Mapping[int, float | None]) -> Deferred[dict[int, Outstanding]]:
        return Deferred.fromCoroutine(self._outstanding(users))

    async def _outstanding(self, users: Mapping[int, float | None]) -> dict[int, Outstanding]:
        conditions: list[str] = []
        arguments: list[Any] = [*users, self._now()]
        for user, until in users.items():
            conditions.append(f"(user_id = %s{_made_before(until)})")
            arguments += [user, *self._until(until)]
        rows = await self._database.query(
            f"SELECT user_id, COUNT(*), MAX(id) FROM notifications WHERE user_id IN ({marks(len(users))})"
            f" AND {_UNREAD} AND ({' OR '.join(conditions)}) GROUP BY user_id",
            arguments,
            fresh=True,
        )
        return {user: Outstanding(unread, highest) for user, unread, highest in rows}

    def read_all(self, users: Mapping[int, Reading]) -> Deferred[int]:
        read_at, arguments = chosen("user_id", {user: text(one.moment, self._zone) for user, one in users.items()})
        now = self._now()
        arguments = [now, *arguments, *users, now]
        conditions: list[str] = []
        for user, one in users.items():
            # "+ 0": the users' own rows are searched, and not all that are as old
            conditions.append(f"(user_id = %s AND id + 0 <= %s{_made_before(one.until)})")
            arguments += [user, one.highest, *self._until(one.until)]
        return self._database.execute(
            f"{_READ}{read_at} WHERE user_id IN ({marks(len(users))}) AND {_UNREAD} AND ({' OR '.join(conditions)})",
            arguments,
        )

    def _until(self, until: float | None) -> list[str]:
        return [] if until is None else [text(until, self._zone)]

    def unread(self, user_id: int) -> Deferred[int]:
        return self._counts.load(user_id).addCallback(lambda count: count or 0)

    async def _fetch_counts(self, ids: Sequence[int]) -> dict[int, int]:
        rows = await self._database.query(
            f"SELECT user_id, COUNT(*) FROM notifications WHERE user_id IN ({marks(len(ids))})"
            f" AND {_UNREAD} GROUP BY user_id",
            [*ids, self._now()],
            fresh=True,
        )
        return dict.fromkeys(ids, 0) | dict(rows)


def _made_before(until: float | None) -> str:
    """A row without a time of its making is older than all."""
    return "" if until is None else " AND (created_at IS NULL OR created_at <= %s)"
