"""How many unread notifications users have: told to who comes, and to all of a user's connections when it changes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.connection import Connection, State
from mechamap_rt.core.publication import DeliveryClass, Publication
from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import INotifications
from mechamap_rt.wire import json

_log = Logger()

EVENT: Final = "notification.unread_count"
#: Seconds between two tries while the database is away.
RETRY: Final = 1.0
#: Users whose count has changed and could not be told; beyond it the longest waiting are not told.
MAX_OWED: Final = 50_000
#: How often a count is asked for again because another process told one meanwhile, which may be the newer one.
MAX_AGAIN: Final = 3
#: Users asked about at once when the database is back; a loader holds no more than a few times as many.
MAX_AT_ONCE: Final = 5_000


class Counts:
    """Tells true counts: what is asked before another count of the same user is heard is not told after it.

    :param clock: seconds since the epoch.
    """

    def __init__(
        self, reactor: IReactorTime, node: Node, notifications: INotifications, clock: Callable[[], float]
    ) -> None:
        self._node = node
        self._notifications = notifications
        self._clock = clock
        #: Who has come and has not been told, by user.
        self._new: dict[int, dict[Connection, None]] = {}
        #: Users whose connections must all be told, as soon as the database answers.
        self._owed: dict[int, None] = {}
        #: Users that are being asked about because of a change, and those of them whose count was heard meanwhile.
        self._asked: set[int] = set()
        self._heard: set[int] = set()
        #: What was told here a moment ago, and when; and what another process told just then, which may be older.
        self._told: dict[int, tuple[int, float]] = {}
        self._doubted: dict[int, int | None] = {}
        self._lock = DeferredLock()
        self._away = False
        self._trying = False
        self._timer = LoopingCall(self._try_again)
        self._timer.clock = reactor
        node.listen(EVENT, self._hear)

    def start(self) -> None:
        self._timer.start(RETRY, now=False).addErrback(lambda reason: _log.failure("Counts are not told", reason))

    def stop(self) -> None:
        if self._timer.running:
            self._timer.stop()

    # who comes and goes

    def welcome(self, connection: Connection) -> None:
        """Tell a new connection as soon as it is known; nothing waits for it."""
        user = connection.identity.user_id
        waiting = self._new.get(user)
        if waiting is not None:
            waiting[connection] = None
            return
        self._new[user] = {connection: None}
        if not self._away:
            self._ask(user)

    def forget(self, connection: Connection) -> None:
        """The connection has ended."""
        user = connection.identity.user_id
        waiting = self._new.get(user)
        if waiting is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._new[user]

    def _ask(self, user: int) -> Deferred[None]:
        asking = self._notifications.unread(user)
        return asking.addCallbacks(self._tell_new, self._failed, callbackArgs=(user, self._new.get(user)))

    def _tell_new(self, count: int, user: int, waiting: dict[Connection, None] | None) -> None:
        if waiting is None or self._new.get(user) is not waiting:
            # they have heard a newer one; who has come since is asked about anew
            return
        payload = self._payload(user, count)
        for connection in self._new.pop(user):
            if connection.state is State.ACTIVE:
                connection.emit(EVENT, payload, DeliveryClass.STATE)

    def _failed(self, reason: Any) -> None:
        if reason.check(Unavailable) is None:
            _log.failure("A count could not be asked for", reason)
        self._away = True

    def _hear(self, publication: Publication) -> None:
        """A count is told to all of a user's connections: those who are new need no other, which may be older."""
        kind, _, number = publication.channel.resource.partition(".")
        if kind == "user" and number.isdecimal():
            user = int(number)
            self._new.pop(user, None)
            if user in self._asked:
                self._heard.add(user)
            if user in self._doubted or user in self._told:
                self._cross(user, publication)

    def _cross(self, user: int, publication: Publication) -> None:
        """Another process tells a count just after this one has: which of the two came last, nobody knows."""
        if not publication.id.startswith(f"{self._node.name}-"):
            count = _count(publication.data)
            if user in self._doubted or count != self._told[user][0]:
                self._doubted[user] = count

    # changes

    def changed(self, users: Collection[int]) -> Deferred[dict[int, int]]:
        """Have all connections of these users told, once the result is there.

        :returns: the counts that are known, by user; the others are told when the database answers.
        """
        return self._lock.run(lambda: Deferred.fromCoroutine(self._find_out(users)))

    async def _find_out(self, users: Collection[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        asking = set(users)
        self._asked = set(users)
        try:
            for _ in range(MAX_AGAIN):
                self._heard.clear()
                order = list(asking)
                counts = await gatherResults([self._notifications.unread(user) for user in order], consumeErrors=True)
                found.update(zip(order, counts, strict=True))
                asking = set(self._heard)
                if not asking:
                    break
        except Exception as error:
            self._owe(set(users) - set(found), error)
        finally:
            self._asked = set()
        return found

    def _owe(self, users: Collection[int], error: Exception) -> None:
        cause = getattr(error, "subFailure", None)
        if cause is None or cause.check(Unavailable) is None:
            _log.error("Counts could not be asked for: {error!r}", error=error)
        self._away = True
        for user in users:
            self._owed[user] = None
        while len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]

    def announce(self, user: int, count: int) -> None:
        """Tell all connections of the user, wherever they are."""
        self._owed.pop(user, None)
        if len(self._told) < MAX_OWED:
            self._told[user] = (count, self._timer.clock.seconds())
        channel = channels.parse(f"private-user.{user}")
        self._node.announce(channel, EVENT, self._payload(user, count), source="server")

    def _payload(self, user: int, count: int) -> dict[str, Any]:
        return {"userId": user, "unreadCount": count, "timestamp": json.timestamp(self._clock())}

    # while the database is away

    def _try_again(self) -> None:
        since = self._timer.clock.seconds() - RETRY
        self._told = {user: told for user, told in self._told.items() if told[1] > since}
        if (self._away or self._owed or self._doubted) and not self._trying:
            self._trying = True
            trying = Deferred.fromCoroutine(self._catch_up())
            trying.addErrback(lambda reason: _log.failure("Counts could not be told", reason))
            trying.addBoth(self._tried)

    def _tried(self, _: object) -> None:
        self._trying = False

    async def _catch_up(self) -> None:
        """Ask about one user; when that is answered, about all that wait."""
        self._away = False
        for user in tuple(self._new)[:1]:
            await self._ask(user)
        if self._away:
            return
        owed = tuple(islice(self._owed, MAX_AT_ONCE))
        for user in owed:
            del self._owed[user]
        for user, count in (await self.changed(owed)).items() if owed else ():
            self.announce(user, count)
        doubted, self._doubted = self._doubted, {}
        for user, count in (await self.changed(doubted)).items() if doubted else ():
            if count != doubted[user]:
                self.announce(user, count)
        if not self._away:
            self._away = len(self._new) > MAX_AT_ONCE
            for user in tuple(islice(self._new, MAX_AT_ONCE)):
                self._ask(user)


def _count(data: bytes) -> int | None:
    """The count that an event of :data:`EVENT` tells, if it does."""
    try:
        told = json.decode(data)
    except json.BadJSON:
        return None
    count = told.get("unreadCount") if isinstance(told, dict) else None
    return count if isinstance(count, int) else None
