"""The presence channels that clients of this process take part in: who else is there, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from mechamap_rt.bus.node import Node
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.deferreds import shared
from mechamap_rt.core.loader import Loader
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.errors import Unavailable
from mechamap_rt.presence.notices import Notice
from mechamap_rt.presence.roster import Card, Change, Roster, described
from mechamap_rt.presence.seats import Seats
from mechamap_rt.presence.standing import Standing
from mechamap_rt.wire import json

#: Resources of one question about what processes have, and members of one answer, roughly.
CHUNK: Final = 500
MAX_CARDS: Final = 100_000
#: Members of a channel up to which it is told who comes and goes: it is told to each, so that it costs their square
#: when all come at once. Beyond it their number is told, so many seconds after it has changed.
MAX_TOLD: Final = 2_000
COUNTING: Final = 1.0


class Room:
    """One presence channel.

    :ivar watchers: the connections of this process that are told who comes and goes.
    :ivar loading: fires when every process has been asked who is there; ``None`` when that is over.
    :ivar coming: how many wait for it.
    :ivar counting: when the number of members is told next.
    """

    __slots__ = ("coming", "counting", "loading", "roster", "watchers")

    def __init__(self) -> None:
        self.roster = Roster()
        self.watchers: dict[Connection, None] = {}
        self.loading: Deferred[None] | None = None
        self.coming = 0
        self.counting: Deadline | None = None


class Rooms:
    """All of them.

    :param seats: of this process; asked for when others want to know.
    :param clock: seconds since the epoch.
    :param grace: seconds that users of a process that is gone have to come back.
    """

    def __init__(
        self, node: Node, wheel: Wheel, clock: Callable[[], float], seats: Seats, standing: Standing, grace: float
    ) -> None:
        self._node = node
        self._wheel = wheel
        self._clock = clock
        self._seats = seats
        self._standing = standing
        self._grace = grace
        self._rooms: dict[str, Room] = {}
        self._serials = count(1)
        self._ghosts: dict[str, set[int]] = {}
        self._loader: Loader[str, None] = Loader(self._fetch)
        node.answer("roster", self._answer_roster)
        node.answer("seats", self._answer_seats)

    def __len__(self) -> int:
        return len(self._rooms)

    def get(self, resource: str) -> Room | None:
        return self._rooms.get(resource)

    def haunted_by(self, user_id: int) -> bool:
        """Was this user in a process that is gone, a moment ago?"""
        return bool(self._ghosts) and any(user_id in users for users in self._ghosts.values())

    # this process's clients

    async def watch(self, connection: Connection, resource: str) -> Roster | None:
        """Have ``connection``, which attends ``resource``, told who comes and goes from now on.

        :returns: who is there; ``None`` if the connection has left meanwhile.
        """
        room = self._rooms.get(resource)
        if room is None:
            room = self._rooms[resource] = Room()
            loading = Deferred.fromCoroutine(self._load(resource))
            if not loading.called:
                room.loading = loading.addBoth(self._loaded, room)
        room.coming += 1
        try:
            if room.loading is not None:
                await shared(room.loading)
        finally:
            room.coming -= 1
        attendance = (connection.presence or {}).get(resource)
        if attendance is None or connection.presence is None:
            self._perhaps_drop(resource, room)
            return None
        if connection not in room.watchers:
            # who asks again knows still of whom it was told before
            connection.presence[resource] = attendance._replace(since=next(self._serials))
        room.watchers[connection] = None
        return room.roster

    async def _load(self, resource: str) -> None:
        room = self._rooms.get(resource)
        if room is None:
            return
        room.roster.ask()
        # when too many ask at once, what is missing comes with the next comparison
        try:
            with suppress(Unavailable):
                await self._loader.load(resource)
        finally:
            room.roster.asked()

    def _loaded(self, result: Any, room: Room) -> Any:
        room.loading = None
        return result

    def unwatch(self, connection: Connection, resource: str) -> None:
        room = self._rooms.get(resource)
        if room is not None:
            room.watchers.pop(connection, None)
            self._perhaps_drop(resource, room)

    def _perhaps_drop(self, resource: str, room: Room) -> None:
        if not room.watchers and not room.coming and self._rooms.get(resource) is room:
            del self._rooms[resource]
            self._standing.forget_room(resource, room.roster)

    # what processes say

    def change(self, resource: str, process: str, version: int, card: Card | None, user_id: int, seen: float) -> None:
        """``process`` says that a user has come (with a card) or gone."""
        room = self._rooms.get(resource)
        if room is not None:
            self._tell(resource, room, room.roster.change(process, version, user_id, card), seen)

    def _tell(self, resource: str, room: Room, change: Change, seen: float) -> None:
        crowded = len(room.roster) > MAX_TOLD
        if crowded and (change.joined or change.left) and room.counting is None:
            room.counting = self._wheel.after(COUNTING, partial(self._count, resource, room))
        for user_id in () if crowded else change.joined:
            self._notice(resource, room, "member_joined", room.roster.card(user_id))
            self._standing.came(resource, room, room.roster.card(user_id), next(self._serials))
        for card in change.left:
            if not crowded:
                self._notice(resource, room, "member_left", card)
                self._standing.went(resource, card, next(self._serials), seen)
            else:
                self._standing.slipped(resource, card[0])

    def _count(self, resource: str, room: Room) -> None:
        """Tell how many there are, where there are too many to tell who comes and goes."""
        room.counting = None
        total, now = len(room.roster), json.timestamp(self._clock())
        payload = lambda name: {"channel": name, "total": total, "timestamp": now}  # noqa: E731
        notice = Notice("members_changed", payload, DeliveryClass.STATE, f"{resource} members_changed")
        for watcher in room.watchers:
            if watcher.presence is not None:
                notice.send(watcher, watcher.presence[resource].name)

    def _notice(self, resource: str, room: Room, event: str, card: Card) -> None:
        total, now = len(room.roster), json.timestamp(self._clock())
        kind, _, ident = resource.partition(".")
        group = {"group_id": int(ident)} if kind == "group" and ident.isdecimal() else {}

        def payload(name: str) -> dict[str, Any]:
            return {"channel": name, **group, "user": described(card), "total": total, "timestamp": now}

        notice = Notice(event, payload)
        for watcher in room.watchers:
            if watcher.identity.user_id != card[0] and watcher.presence is not None:
                notice.send(watcher, watcher.presence[resource].name)

    # processes that are gone

    def bury(self, process: str, silent: float) -> None:
        """A process is gone; its users have the rest of the grace to come back."""
        ghost = f"{process} {next(self._serials)}"
        users: set[int] = set()
        for room in self._rooms.values():
            if room.roster.bury(process, ghost):
                users |= room.roster.held[ghost]
        if users:
            self._ghosts[ghost] = users
            seen = self._clock() - silent
            self._wheel.after(max(self._grace - silent, 0.0), partial(self._forget, ghost, seen))

    def _forget(self, ghost: str, seen: float) -> None:
        del self._ghosts[ghost]
        for resource, room in tuple(self._rooms.items()):
            self._tell(resource, room, room.roster.forget(ghost), seen)

    # asking the others

    async def _fetch(self, resources: list[str]) -> dict[str, None]:
        for process, version, cards in await self._node.ask("roster", resources):
            for resource, held in cards.items():
                room = self._rooms.get(resource)
                if room is not None:
                    change = room.roster.replace(process, version, map(tuple, held))
                    self._tell(resource, room, change, self._clock())
        return {}

    async def compare(self) -> None:
        """See whether something was missed, and ask for it."""
        resources = list(self._rooms)
        for at in range(0, len(resources), CHUNK):
            chunk = resources[at : at + CHUNK]
            answers = await self._node.ask("seats", chunk)
            stale = self._stale(chunk, answers)
            await DeferredList([Deferred.fromCoroutine(self._load(resource)) for resource in stale])

    def _stale(self, resources: Iterable[str], answers: list[Any]) -> Iterator[str]:
        for resource in resources:
            room = self._rooms.get(resource)
            if room is not None and not all(
                room.roster.agrees(process, *versions.get(resource, (0, 0))) for process, versions in answers
            ):
                yield resource

    def _answer_roster(self, resources: list[str]) -> tuple[str, int, dict[str, list[Card]]]:
        found: dict[str, list[Card]] = {}
        room = MAX_CARDS
        for resource in resources:
            found[resource] = self._seats.cards(resource)
            room -= len(found[resource])
            if room <= 0:
                break
        return self._node.name, self._seats.now(), found

    def _answer_seats(self, resources: list[str]) -> tuple[str, dict[str, tuple[int, int]]]:
        return self._node.name, self._seats.versions(resources)
