"""Who is online, by user: over all devices, processes and hosts, with a grace for those who change the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import count
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.bus.node import Node
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import NOT_YET, Attendance, Connection
from mechamap_rt.core.publication import DeliveryClass, Publication
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.presence.notices import Notice
from mechamap_rt.presence.rooms import Rooms
from mechamap_rt.presence.roster import Card
from mechamap_rt.presence.seats import GRACE, Seats
from mechamap_rt.presence.standing import Standing
from mechamap_rt.wire import json

_log = Logger()

#: Members that are listed; their number is always told.
MAX_LISTED: Final = 1_000
#: Users of one question who is online.
MAX_ASKED: Final = 1_000
#: Seconds between two comparisons with what the other processes have.
COMPARE: Final = 20.0

#: What processes tell one another, as names of publications.
ROSTER: Final = "\x00roster"
NOTICE: Final = "\x00told"
#: Notices to several channels whose listeners are remembered for a moment, so that each is told once.
MAX_TELLING: Final = 256

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_roster: Final = msgspec.msgpack.Decoder(tuple[str, int, Card | None, int, float]).decode
_decode_notice: Final = msgspec.msgpack.Decoder(tuple[str, str, bytes, int]).decode


class Presence:
    """Presence as one process of the cluster knows it.

    :param clock: seconds since the epoch.
    :param grace: seconds for which somebody whose last connection has ended is there still.
    """

    def __init__(self, node: Node, wheel: Wheel, clock: Callable[[], float] = time.time, grace: float = GRACE) -> None:
        self._node = node
        self._wheel = wheel
        self._clock = clock
        self._grace = grace
        self._lingering: dict[int, Deadline] = {}
        self._processes: set[str] = set()
        # how many were lost, and when the last of them was heard of: its users may be on their way to another
        self._deaths, self._bereft = 0, -grace
        self._comparing: Deadline | None = None
        self._tellings = count(1)
        self._telling: dict[tuple[str, int], set[str]] = {}
        # from a point that moves faster than people come and go: a process of the same name goes on above the last
        self.seats = Seats(wheel, clock, int((time.time() - 1.76e9) * 1e5), self._changed)
        self.standing = Standing(wheel, clock, self._ask_online, lambda resource: self.rooms.get(resource))
        self.rooms = Rooms(node, wheel, clock, self.seats, self.standing, grace)
        node.answer("online", self._answer_online)
        node.listen(ROSTER, self._heard_roster)
        node.listen(NOTICE, self._heard_notice)
        node.gone = self._gone
        node.when_whole(self._compare)

    def start(self) -> None:
        """Compare what is known with the other processes from time to time."""
        self._comparing = self._wheel.after(COMPARE, self._compare)

    # connections

    def arrive(self, connection: Connection) -> None:
        """A connection has been let in."""
        if not connection.identity.invisible:
            deadline = self._lingering.pop(connection.identity.user_id, None)
            if deadline is not None:
                deadline.cancel()

    def depart(self, connection: Connection) -> None:
        """It has ended; its user is online for a while yet."""
        user_id = connection.identity.user_id
        if not connection.identity.invisible and not self._connected(user_id) and user_id not in self._lingering:
            self._lingering[user_id] = self._wheel.after(self._grace, partial(self._lingering.pop, user_id, None))
        for resource in tuple(connection.presence or ()):
            self.exit(connection, resource, self._grace)

    def review(self, connection: Connection) -> None:
        """The user's identity is another one now: perhaps they want to be seen, or not to be, from now on."""
        for resource, attendance in (connection.presence or {}).items():
            if connection.identity.invisible:
                self.seats.leave(connection, resource, 0.0)
            else:
                self.seats.take(connection, resource, attendance.user, attendance.avatar)

    # channels

    def enter(
        self, connection: Connection, channel: Channel, name: str, avatar: str | None
    ) -> Deferred[dict[str, Any]]:
        """``connection``, a subscriber of ``channel``, takes part in it, under that name.

        :returns: fires with ``members``: the first 1,000 of ``{id, name, avatar}``, and ``total``.
        """
        return Deferred.fromCoroutine(self._enter(connection, channel, name, avatar))

    async def _enter(self, connection: Connection, channel: Channel, name: str, avatar: str | None) -> dict[str, Any]:
        if channel.resource not in connection.subscriptions:
            return {}
        if connection.presence is None:
            connection.presence = {}
        known = connection.presence.get(channel.resource)
        if known is not None:
            if channel.name not in known.names:
                connection.presence[channel.resource] = known._replace(names=(*known.names, channel.name))
        else:
            connection.presence[channel.resource] = Attendance(channel.name, NOT_YET, name, avatar, (channel.name,))
            if not connection.identity.invisible:
                self.seats.take(connection, channel.resource, name, avatar)
        roster = await self.rooms.watch(connection, channel.resource)
        return {} if roster is None else {"members": roster.members(MAX_LISTED), "total": len(roster)}

    def keep(self, connection: Connection, resource: str, names: Collection[str]) -> None:
        """These names of the channel the connection has still; without one by which it takes part, it leaves."""
        attendance = (connection.presence or {}).get(resource)
        if attendance is None or connection.presence is None:
            return
        left = tuple(name for name in attendance.names if name in names)
        if not left:
            self.exit(connection, resource)
        elif left != attendance.names:
            connection.presence[resource] = attendance._replace(name=left[0], names=left)

    def exit(self, connection: Connection, resource: str, grace: float = 0.0) -> None:
        """It does not take part any more, if it did.

        :param grace: seconds for which its user is taken to be there still.
        """
        if connection.presence is None or connection.presence.pop(resource, None) is None:
            return
        if not connection.presence:
            connection.presence = None
        self.rooms.unwatch(connection, resource)
        self.seats.leave(connection, resource, grace)

    def tell(self, connection: Connection, event: str, payload: dict[str, Any]) -> None:
        """Tell everybody who shares a presence channel with this connection, each once; volatile."""
        if connection.identity.invisible:
            return
        resources = tuple(connection.presence or ())
        serial = next(self._tellings) if len(resources) > 1 else 0
        body = _encode((connection.id, event, json.encode(payload), serial))
        for resource in resources:
            self._node.spread(resource, NOTICE, body)

    # questions

    async def online(self, user_ids: Iterable[int]) -> set[int]:
        """Those of these users who are online, anywhere in the cluster."""
        asked = list(dict.fromkeys(user_ids))
        found: set[int] = set()
        for at in range(0, len(asked), MAX_ASKED):
            online, _ = await self._ask_online(asked[at : at + MAX_ASKED])
            found |= online
        return found

    async def _ask_online(self, user_ids: list[int]) -> tuple[set[int], bool | None]:
        deaths, cut = self._deaths, self._node.degraded
        answers = await self._node.ask("online", user_ids)
        online = {user_id for _, found in answers for user_id in found}
        if cut or self._node.degraded:
            return online, None
        answered = {process for process, _ in answers}
        settled = self._wheel.seconds() - self._bereft >= self._grace
        whole = settled and self._processes <= answered
        if deaths == self._deaths:
            # otherwise who has answered may be dead
            self._processes |= answered
        return online, whole

    def _answer_online(self, user_ids: list[int]) -> tuple[str, list[int]]:
        return self._node.name, [user_id for user_id in user_ids if self._here(user_id)]

    def _here(self, user_id: int) -> bool:
        return user_id in self._lingering or self._connected(user_id) or self.rooms.haunted_by(user_id)

    def _connected(self, user_id: int) -> bool:
        # asked for a thousand users at once: a loop costs half of what a generator does
        for connection in self._node.connections_of(user_id):  # noqa: SIM110
            if not connection.identity.invisible:
                return True
        return False

    # between processes

    def _changed(self, resource: str, version: int, card: Card | None, user_id: int, seen: float) -> None:
        self._node.spread(resource, ROSTER, _encode((self._node.name, version, card, user_id, seen)))

    def _heard_roster(self, publication: Publication) -> None:
        if publication.delivery is DeliveryClass.INTERNAL:
            process, version, card, user_id, seen = _decode_roster(publication.data)
            self.rooms.change(publication.channel.resource, process, version, card, user_id, seen)

    def _heard_notice(self, publication: Publication) -> None:
        room = self.rooms.get(publication.channel.resource)
        if room is None or publication.delivery is not DeliveryClass.INTERNAL:
            return
        sender, event, data, serial = _decode_notice(publication.data)
        told = self._told_of((sender, serial)) if serial else set()
        notice = Notice(event, data, DeliveryClass.VOLATILE)
        for watcher in room.watchers:
            if watcher.id != sender and watcher.id not in told:
                notice.send(watcher)
                if serial:
                    told.add(watcher.id)

    def _told_of(self, telling: tuple[str, int]) -> set[str]:
        """The ids of those who have been told already by another channel."""
        told = self._telling.get(telling)
        if told is None:
            if len(self._telling) >= MAX_TELLING:
                del self._telling[next(iter(self._telling))]
            told = self._telling[telling] = set()
            self._wheel.after(1.0, partial(self._telling.pop, telling, None))
        return told

    def _gone(self, process: str, silent: float) -> None:
        self._processes.discard(process)
        self._deaths += 1
        self._bereft = max(self._bereft, self._wheel.seconds() - silent)
        self.rooms.bury(process, silent)

    def _compare(self) -> None:
        if self._comparing is not None:
            self._comparing.cancel()
            self._comparing = self._wheel.after(COMPARE, self._compare)
        comparing = Deferred.fromCoroutine(self.rooms.compare())
        comparing.addErrback(lambda reason: _log.failure("Presence could not be compared", reason))

    def figures(self) -> dict[str, int]:
        """Sizes of what is kept here."""
        return {
            "channels": len(self.rooms),
            "seats": len(self.seats),
            "known": len(self.standing),
            "lingering": len(self._lingering),
        }
