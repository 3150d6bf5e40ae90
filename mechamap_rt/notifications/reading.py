"""What users have read: written behind them, told to their other devices once it is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.core.writing import Pace, WriteBehind
from mechamap_rt.errors import ClientFault, Code, Unavailable
from mechamap_rt.interfaces import INotifications
from mechamap_rt.notifications.counts import Counts
from mechamap_rt.storage.notifications import Pair, Reading
from mechamap_rt.wire import json

#: Seconds after which a request is answered though it is not stored yet.
PATIENCE: Final = 1.0
#: Connections that are remembered for one entry that waits: who asked last is told last.
MAX_ASKERS: Final = 16
#: Entries of one statement.
BATCH: Final = 500

STORED: Final = "stored"
ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True)
class Marked:
    """What became of a request.

    :ivar state: ``stored``, or ``accepted``: it will be.
    :ivar unread: how many unread ones are left, where it is known.
    :ivar count: how many were read at once, where all were.
    """

    state: str
    unread: int | None = None
    count: int | None = None


class Asker:
    """One request of a connection, of which only the id is kept: it may be gone long before this is."""

    __slots__ = ("_deadline", "answer", "ident")

    def __init__(self, ident: str, wheel: Wheel) -> None:
        self.ident = ident
        self.answer: Deferred[Marked] = Deferred()
        self._deadline: Deadline | None = wheel.after(PATIENCE, lambda: self.settle(Marked(ACCEPTED)))

    def settle(self, result: Marked | ClientFault | Exception) -> bool:
        """Answer; was it the first answer?"""
        if self._deadline is None:
            return False
        self._deadline.cancel()
        self._deadline = None
        if isinstance(result, Marked):
            self.answer.callback(result)
        else:
            self.answer.errback(result)
        return True


@dataclass(slots=True)
class Entry:
    """What waits to be written.

    :ivar moment: when it was read, in seconds since the epoch.
    :ivar late: has it had to wait for the database?
    :ivar tried: has it been sent to the database, perhaps without an answer?
    """

    moment: float
    askers: list[Asker] = field(default_factory=list)
    late: bool = False
    tried: bool = False

    def merged(self, newer: Entry) -> Entry:
        """Both in one."""
        askers = [*self.askers, *newer.askers]
        for forgotten in askers[:-MAX_ASKERS]:
            forgotten.settle(Marked(ACCEPTED))
        moment = newer.moment if newer.late or self.late else self.moment
        return Entry(moment, askers[-MAX_ASKERS:], self.late or newer.late, self.tried or newer.tried)

    def settle(self, result: Marked | Exception) -> None:
        for asker in self.askers:
            asker.settle(result)


K = TypeVar("K", int, Pair)


class ReadMarks:
    """Marks notifications read: as soon as possible, all at once, and later what cannot be now.

    :param pace: of all that this process writes.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        node: Node,
        notifications: INotifications,
        counts: Counts,
        pace: Pace,
        wheel: Wheel,
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._notifications = notifications
        self._counts = counts
        self._pace = pace
        self._wheel = wheel
        self._clock = clock
        self._single: WriteBehind[Pair, Entry] = WriteBehind(
            reactor, self._write_single, "Notifications that were read", merge=Entry.merged, batch=BATCH
        )
        self._all: WriteBehind[int, Entry] = WriteBehind(
            reactor, self._write_all, "Users who have read all", merge=Entry.merged, batch=BATCH
        )

    def start(self) -> None:
        self._single.start()
        self._all.start()

    async def stop(self) -> None:
        """Write what is left, if the database takes it."""
        self._pace.hurry()
        both = [Deferred.fromCoroutine(behind.stop()) for behind in (self._single, self._all)]
        for stopping in both:
            await stopping

    def read(self, connection: Connection, ident: int) -> Deferred[Marked]:
        """The user has read one notification.

        :returns: fails with :class:`~mechamap_rt.errors.ClientFault` when it is not the user's own.
        """
        return self._note(self._single, (ident, connection.identity.user_id), connection)

    def read_all(self, connection: Connection) -> Deferred[Marked]:
        """The user has read all of them."""
        return self._note(self._all, connection.identity.user_id, connection)

    def _note(self, behind: WriteBehind[K, Entry], key: K, connection: Connection) -> Deferred[Marked]:
        asker = Asker(connection.id, self._wheel)
        if behind.away:
            asker.settle(Marked(ACCEPTED))
        behind.note(key, Entry(self._clock(), [asker], late=behind.away))
        return asker.answer

    # one by one

    async def _write_single(self, batch: dict[Pair, Entry]) -> None:
        try:
            await self._mark(batch)
        except Exception as error:
            _postpone(batch.values(), error)
            raise

    async def _mark(self, batch: dict[Pair, Entry]) -> None:
        found = await self._notifications.belonging(batch)
        unread = {pair: batch[pair].moment for pair, is_unread in found.items() if is_unread}
        # one whose answer was lost is read already, and nobody knows it yet
        changed = [pair for pair in found if pair in unread or batch[pair].tried]
        if unread:
            await self._pace.turn()
            for pair in unread:
                batch[pair].tried = True
            await self._notifications.read(unread)
        counts = await self._counts.changed({user for _, user in found})
        for pair, entry in batch.items():
            if pair in found:
                entry.settle(Marked(STORED, counts.get(pair[1])))
            else:
                self._refuse(pair, entry)
        for pair in changed:
            self._announce_one(pair, batch[pair])
        self._announce_counts({user for _, user in changed}, counts)

    def _refuse(self, pair: Pair, entry: Entry) -> None:
        """It is not the user's own: the same for one that is not there, so that nobody finds out which there are."""
        here = {connection.id: connection for connection in self._node.connections_of(pair[1])}
        for asker in entry.askers:
            fault = ClientFault(Code.PERMISSION_DENIED, "Not a notification of yours", field="notificationId")
            if not asker.settle(fault) and asker.ident in here:
                details = {"field": "notificationId", "notificationId": pair[0]}
                payload = {"error": fault.message, "code": fault.code, "details": details, "timestamp": self._now()}
                here[asker.ident].emit("error", payload)

    def _announce_one(self, pair: Pair, entry: Entry) -> None:
        ident, user = pair
        payload = {"notificationId": ident, "readBy": user, "timestamp": self._now()}
        self._tell(user, "notification_read", payload, entry.askers[0].ident)
        self._tell(user, "notification.read", {"notificationId": ident, "userId": user, "timestamp": self._now()})

    # all of a user

    async def _write_all(self, batch: dict[int, Entry]) -> None:
        try:
            await self._mark_all(batch)
        except Exception as error:
            _postpone(batch.values(), error)
            raise

    async def _mark_all(self, batch: dict[int, Entry]) -> None:
        # what came while this waited has not been seen
        waited = self._clock() - PATIENCE
        until = {u: entry.moment if entry.late or entry.moment < waited else None for u, entry in batch.items()}
        found = await self._notifications.outstanding(until)
        changed = [user for user, entry in batch.items() if user in found or entry.tried]
        if found:
            await self._pace.turn()
            for user in found:
                batch[user].tried = True
            await self._notifications.read_all(
                {user: Reading(one.highest, until[user], batch[user].moment) for user, one in found.items()}
            )
        counts = await self._counts.changed(batch)
        for user, entry in batch.items():
            entry.settle(Marked(STORED, counts.get(user), found[user].unread if user in found else 0))
        for user in changed:
            sender = batch[user].askers[0].ident
            self._tell(user, "notifications_read_all", {"readBy": user, "timestamp": self._now()}, sender)
        self._announce_counts(changed, counts)

    # telling

    def _announce_counts(self, users: Collection[int], counts: dict[int, int]) -> None:
        for user in users:
            if user in counts:
                self._counts.announce(user, counts[user])

    def _tell(self, user: int, event: str, payload: dict[str, Any], sender: str = "") -> None:
        self._node.announce(channels.parse(f"private-user.{user}"), event, payload, sender)

    def _now(self) -> str:
        return json.timestamp(self._clock())


def _postpone(entries: Collection[Entry], error: Exception) -> None:
    """It could not be written: those who wait are told that it will be, or what went wrong with it."""
    for entry in entries:
        entry.late = True
        entry.settle(Marked(ACCEPTED) if isinstance(error, Unavailable) else error)
