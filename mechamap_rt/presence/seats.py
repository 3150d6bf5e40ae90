"""Who of this process's clients takes part in which channel, by user, and for a while after the last one has gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Final

from mechamap_rt.core.connection import Connection
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.presence.roster import Card

#: Seconds for which somebody whose connection has ended is still there, usually: who changes the page comes back.
GRACE: Final = 12.0

#: Takes a resource, the version of what this process has there, the card of who has come or ``None``, the user's id,
#: and when the user was last there, in seconds since the epoch.
Changed = Callable[[str, int, "Card | None", int, float], object]


class _Seat:
    """One user in one channel: the connections that take part, or the moment at which it is given up."""

    __slots__ = ("card", "connections", "deadline", "seen")

    def __init__(self, card: Card) -> None:
        self.card = card
        self.seen = 0.0
        self.connections: dict[Connection, None] = {}
        self.deadline: Deadline | None = None


class Seats:
    """The seats that users of this process have in channels.

    :param first: a number greater than every version of an earlier process of the same name.
    :param clock: seconds since the epoch.
    :param changed: called when a user has come or gone.
    """

    def __init__(self, wheel: Wheel, clock: Callable[[], float], first: int, changed: Changed) -> None:
        self._wheel = wheel
        self._clock = clock
        self._changed = changed
        self._serials = count(first)
        self._seats: dict[str, dict[int, _Seat]] = {}
        self._versions: dict[str, int] = {}

    def take(self, connection: Connection, resource: str, name: str, avatar: str | None) -> None:
        """``connection`` takes part in ``resource``, under that name."""
        user_id = connection.identity.user_id
        seats = self._seats.setdefault(resource, {})
        seat = seats.get(user_id)
        if seat is None:
            seat = seats[user_id] = _Seat((user_id, name, avatar))
            seat.connections[connection] = None
            return self._say(resource, seat.card, user_id, self._clock())
        if seat.deadline is not None:
            seat.deadline.cancel()
            seat.deadline = None
        seat.connections[connection] = None

    def leave(self, connection: Connection, resource: str, grace: float) -> None:
        """It does not any more; the user has the seat for ``grace`` seconds."""
        user_id = connection.identity.user_id
        seat = self._seats.get(resource, {}).get(user_id)
        if seat is None or connection not in seat.connections:
            return
        del seat.connections[connection]
        if seat.connections:
            return
        seat.seen = self._clock()
        if grace:
            seat.deadline = self._wheel.after(grace, partial(self._give_up, resource, user_id))
        else:
            self._give_up(resource, user_id)

    def _give_up(self, resource: str, user_id: int) -> None:
        seats = self._seats[resource]
        seat = seats.pop(user_id)
        if not seats:
            del self._seats[resource]
        self._say(resource, None, user_id, seat.seen)

    def _say(self, resource: str, card: Card | None, user_id: int, seen: float) -> None:
        version = next(self._serials)
        if resource in self._seats:
            self._versions[resource] = version
        else:
            self._versions.pop(resource, None)
        self._changed(resource, version, card, user_id, seen)

    # for others

    def now(self) -> int:
        """The version of what is told now: greater than that of every change so far, smaller than of those to come."""
        return next(self._serials)

    def cards(self, resource: str) -> list[Card]:
        return [seat.card for seat in self._seats.get(resource, {}).values()]

    def versions(self, resources: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Of those resources in which somebody has a seat: the version, and how many have one."""
        return {each: (self._versions[each], len(self._seats[each])) for each in resources if each in self._seats}

    def __len__(self) -> int:
        return sum(len(seats) for seats in self._seats.values())
