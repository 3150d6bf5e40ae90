"""Who has been told of whom that they are online, so that each is told once, and told again when it is over.

A connection knows of a user by the member list of a channel or by ``user_online``; it hears ``user_offline`` when the
user is connected nowhere any more. A user who has left the channel and is online still is looked at from time to time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.core.connection import Connection
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.presence.notices import Notice
from mechamap_rt.presence.roster import Card, Roster
from mechamap_rt.wire import json

if TYPE_CHECKING:
    from mechamap_rt.presence.rooms import Room

_log = Logger()

#: Seconds after somebody has left the last channel until it is asked whether they are online elsewhere, and between two
#: such questions as long as they are.
SOON: Final = 0.25
AGAIN: Final = 5.0
#: Seconds for which a process that does not answer may yet know better, from the first question that missed it.
PATIENCE: Final = 15.0
#: Users of one question, and of those who are away at most.
CHUNK: Final = 1_000
MAX_AWAY: Final = 50_000

#: Says who of these is online, and whether the others are not: ``False`` when a process that may know better has not
#: answered, ``None`` when a part of the cluster is out of reach.
Asked = Callable[[list[int]], Awaitable[tuple[set[int], bool | None]]]


class _Known:
    """A user of whom somebody here has been told.

    :ivar card: as last seen.
    :ivar rooms: resource → the number of the moment at which the user was last seen to come or go there.
    """

    __slots__ = ("card", "missed", "rooms", "seen", "since")

    def __init__(self, card: Card) -> None:
        self.card = card
        self.rooms: dict[str, int] = {}
        #: Seconds since the epoch.
        self.seen = 0.0
        #: When the last channel was left, in seconds since the epoch.
        self.since = 0.0
        #: Since when nobody who can be heard has known them to be online; 0 while somebody does.
        self.missed = 0.0


class Standing:
    """Tells of users who come online and go offline.

    :param ask: of all processes.
    :param room: of a resource, if anybody here takes part in it.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self, wheel: Wheel, clock: Callable[[], float], ask: Asked, room: Callable[[str], Room | None]
    ) -> None:
        self._wheel = wheel
        self._clock = clock
        self._ask = ask
        self._room = room
        self._known: dict[int, _Known] = {}
        self._away: dict[int, None] = {}
        self._next: Deadline | None = None
        self._looking = False
        #: Users who were told of, since the start: as online, as offline.
        self.online = self.offline = 0

    def __len__(self) -> int:
        return len(self._known)

    # rooms

    def came(self, resource: str, room: Room, card: Card, moment: int) -> None:
        """A user has come to a channel: those there who do not know of them are told that they are online."""
        user_id = card[0]
        known = self._known.get(user_id)
        if known is None:
            known = self._known[user_id] = _Known(card)
        self._away.pop(user_id, None)
        known.card, known.seen = card, self._clock()
        strangers = [
            watcher
            for watcher in room.watchers
            if watcher.identity.user_id != user_id and not self._acquainted(watcher, user_id, known, resource)
        ]
        known.rooms[resource] = moment
        if strangers:
            self.online += 1
            self._tell(strangers, known, "user_online", "online")

    def _acquainted(self, watcher: Connection, user_id: int, known: _Known, resource: str) -> bool:
        """Does this connection know that the user is online, other than by their coming to ``resource`` now?"""
        attending = watcher.presence or {}
        for place, moment in known.rooms.items():
            attendance = attending.get(place)
            if attendance is None:
                continue
            if attendance.since <= moment:
                return True
            room = self._room(place)
            if place != resource and room is not None and user_id in room.roster:
                return True
        return False

    def went(self, resource: str, card: Card, moment: int, seen: float) -> None:
        """A user has left a channel."""
        known = self._known.get(card[0])
        if known is None:
            return
        known.rooms[resource] = moment
        known.seen = max(seen, known.seen) if seen else known.seen
        self._perhaps_away(card[0], known)

    def slipped(self, resource: str, user_id: int) -> None:
        """A user has left a channel in which nobody is told who comes and goes."""
        known = self._known.get(user_id)
        if known is not None and user_id not in self._away:
            known.rooms.pop(resource, None)
            self._perhaps_away(user_id, known)

    def forget_room(self, resource: str, roster: Roster) -> None:
        """Nobody here takes part in it any more."""
        for user_id in roster:
            known = self._known.get(user_id)
            if known is not None:
                known.rooms.pop(resource, None)
                self._perhaps_away(user_id, known)

    def _perhaps_away(self, user_id: int, known: _Known) -> None:
        for place in tuple(known.rooms):
            room = self._room(place)
            if room is None:
                del known.rooms[place]
            elif user_id in room.roster:
                return
        if not known.rooms:
            del self._known[user_id]
            self._away.pop(user_id, None)
            return
        known.since, known.missed = self._clock(), 0.0
        if len(self._away) >= MAX_AWAY:
            oldest = next(iter(self._away))
            del self._away[oldest], self._known[oldest]
        self._away[user_id] = None
        self._look_in(SOON)

    # those who are in no channel any more

    def _look_in(self, seconds: float) -> None:
        """Look by then: those who leave one after the other do not put it off."""
        if self._next is not None:
            if self._next.due <= self._wheel.seconds() + seconds:
                return
            self._next.cancel()
        self._next = self._wheel.after(seconds, self._look)

    def _look(self) -> None:
        self._next = None
        if self._looking:
            return self._look_in(SOON)
        self._looking = True
        looking = Deferred.fromCoroutine(self._settle())
        looking.addErrback(lambda reason: _log.failure("Who is online could not be asked", reason))
        looking.addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._looking = False
        if self._away and self._next is None:
            self._look_in(AGAIN)

    async def _settle(self) -> None:
        away = list(self._away)
        for at in range(0, len(away), CHUNK):
            chunk, asked = away[at : at + CHUNK], self._clock()
            online, whole = await self._ask(chunk)
            now = self._clock()
            for user_id in chunk:
                # who has come and left again since the question is not who was asked about
                known = self._known[user_id] if user_id in self._away else None
                if known is None or known.since > asked:
                    continue
                if user_id in online or whole is None:
                    known.missed = 0.0
                    if next(self._audience(known), None) is None:
                        # nobody who knows of them is there any more
                        del self._away[user_id], self._known[user_id]
                    continue
                known.missed = known.missed or now
                if whole or now - known.missed >= PATIENCE:
                    self._gone(user_id, known)

    def _gone(self, user_id: int, known: _Known) -> None:
        """A user is online nowhere any more: whoever knows of them is told."""
        del self._away[user_id], self._known[user_id]
        others = list(dict.fromkeys(self._audience(known)))
        if others:
            self.offline += 1
            self._tell(others, known, "user_offline", "offline")

    def _audience(self, known: _Known) -> Iterator[Connection]:
        """Those who know that the user is, or was, online; some more than once."""
        for place, moment in known.rooms.items():
            room = self._room(place)
            for watcher in () if room is None else room.watchers:
                attendance = (watcher.presence or {}).get(place)
                knows = attendance is not None and attendance.since <= moment
                if knows and watcher.identity.user_id != known.card[0]:
                    yield watcher

    def _tell(self, watchers: list[Connection], known: _Known, event: str, status: str) -> None:
        user_id, name, avatar = known.card
        data = {"user_id": user_id, "name": name, "avatar": avatar, "last_seen": json.timestamp(known.seen)}
        # the newest of each kind is enough for somebody who cannot keep up
        coming = Notice(event, json.encode(data), DeliveryClass.STATE, f"user_online {user_id}")
        state = {"user_id": user_id, "status": status}
        standing = Notice("user.status", json.encode(state), DeliveryClass.STATE, f"user.status {user_id}")
        for watcher in watchers:
            coming.send(watcher)
            standing.send(watcher)
