"""Who is typing where: announced to the channel's other subscribers, and always taken back.

What is announced is heard by every process that has subscribers of the channel, the announcing one included; so each
knows what others are shown of a user, whichever device and process it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.bus.node import Node
from mechamap_rt.commands.arguments import ident
from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Announced, Connection
from mechamap_rt.core.publication import Publication
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.wire import json

_log = Logger()

#: Seconds after which a start without a stop is taken back.
EXPIRY: Final = 10.0
#: Seconds between two starts of one user in one channel that others are told of.
INTERVAL: Final = 2.0
#: Seconds after the last start after which a stop must have come, unless its process is gone or out of reach.
LOST: Final = EXPIRY + INTERVAL + 2.0
#: Channels in which one connection may be typing at once.
MAX_AT_ONCE: Final = 16
#: Users, each in one channel, of whom it is remembered what others are shown.
MAX_SHOWN: Final = 50_000


class Form(NamedTuple):
    """How typing is told: the events' names, and their data but for the time."""

    start: str
    stop: str
    describe: Callable[[Connection, str], dict[str, Any]]


def _in_channel(connection: Connection, name: str) -> dict[str, Any]:
    identity, channel = connection.identity, channels.parse(name)
    payload: dict[str, Any] = {"userId": identity.user_id, "name": identity.name, "channel": name}
    number = ident(channel.resource.partition(".")[2]) if channel.kind == "thread" else None
    # where the site decides who hears what, a thread's channel may have any name
    if number is not None:
        payload["thread_id"] = number
    return payload


def _in_group(connection: Connection, name: str) -> dict[str, Any]:
    identity, group = connection.identity, channels.parse(name).resource.partition(".")[2]
    return {"group_id": int(group), "user_id": identity.user_id, "user_name": identity.name}


CHANNEL: Final = Form("user_typing", "user_stopped_typing", _in_channel)
GROUP: Final = Form("group_typing_start", "group_typing_stop", _in_group)
_FORMS: Final = {form.start: form for form in (CHANNEL, GROUP)}

#: A user, a resource, and the name of the form's start event.
_Key = tuple[int, str, str]


class _Shown:
    """What others are shown of one user in one channel.

    :ivar name: of the channel, in the last start that was announced: its end has the same.
    :ivar since: when that was, in the reactor's seconds.
    :ivar over: when it is forgotten.
    :ivar typing: has it not been taken back?
    :ivar pending: a start that came too soon, and will be announced.
    """

    __slots__ = ("name", "over", "pending", "since", "typing")

    def __init__(self, name: str, since: float, over: Deadline) -> None:
        self.name = name
        self.since = since
        self.over = over
        self.typing = True
        self.pending: Deadline | None = None


class Typing:
    """Announces typing, and its end: by a stop, by expiry, by leaving the channel, by disconnecting.

    :param clock: seconds since the epoch.
    """

    def __init__(self, node: Node, wheel: Wheel, clock: Callable[[], float]) -> None:
        self._node = node
        self._wheel = wheel
        self._clock = clock
        self._shown: dict[_Key, _Shown] = {}
        node.answer("typing", self._answer)
        for form in _FORMS.values():
            node.listen(form.start, partial(self._heard, form, True))
            node.listen(form.stop, partial(self._heard, form, False))

    def start(self, connection: Connection, channel: Channel, form: Form = CHANNEL) -> None:
        """``connection``, a subscriber of ``channel``, types there."""
        resource = channel.resource
        board = connection.typing
        if board is None:
            board = connection.typing = {}
        if resource in board and board[resource].form is not form:
            # what was told in one form is taken back in the same
            self.stop(connection, resource)
        running = board.pop(resource, None)
        if running is not None:
            running.deadline.cancel()
        elif len(board) >= MAX_AT_ONCE:
            self.stop(connection, next(iter(board)))
        deadline = self._wheel.after(EXPIRY, lambda: self.stop(connection, resource))
        board[resource] = Announced(channel.name, form, deadline)
        self._show(connection, resource, form)

    def stop(self, connection: Connection, resource: str, *, silently: bool = False) -> None:
        """It stopped; nothing is announced if it was not typing there, or another device of the user is."""
        board = connection.typing
        running = board.pop(resource, None) if board else None
        if running is None:
            return
        running.deadline.cancel()
        if silently or self._typist(connection.identity.user_id, resource, running.form) is not None:
            return
        ending = Deferred.fromCoroutine(self._take_back(connection, resource, running))
        ending.addErrback(
            lambda reason: _log.failure("Typing could not be taken back", reason, connection=connection.id)
        )

    async def _take_back(self, connection: Connection, resource: str, running: Announced) -> None:
        """Announce the end, unless the user types on in another process: then it is for that one to announce."""
        user_id, form = connection.identity.user_id, running.form
        key = (user_id, resource, form.start)
        shown = self._shown.get(key)
        if shown is not None and not shown.typing:
            # others see none; a start that is pending finds nobody to tell of
            return
        if any(await self._node.ask("typing", key)):
            return
        latest = self._shown.get(key)
        if latest is not None and (latest is not shown or not latest.typing):
            # begun again, or taken back, meanwhile
            return
        if self._typist(user_id, resource, form) is None:
            self._announce(connection, running.name if latest is None else latest.name, form, form.stop)

    def _answer(self, asked: list[Any]) -> bool:
        """Does this user, in this resource and form, type here?"""
        user_id, resource, start = asked
        form = _FORMS.get(start)
        return form is not None and self._typist(user_id, resource, form) is not None

    def leave_all(self, connection: Connection, *, silently: bool = False) -> None:
        """It is gone.

        :param silently: so is everybody else.
        """
        for resource in tuple(connection.typing or ()):
            self.stop(connection, resource, silently=silently)

    def _typist(self, user_id: int, resource: str, form: Form) -> Connection | None:
        """A connection of the user, here, that types there."""
        for connection in self._node.connections_of(user_id):
            running = (connection.typing or {}).get(resource)
            if running is not None and running.form is form:
                return connection
        return None

    # what others are shown

    def is_news(self, connection: Connection, resource: str, form: Form = CHANNEL) -> bool:
        """Would others be told of a start, now or soon? Otherwise it is a mere repetition."""
        shown = self._shown.get((connection.identity.user_id, resource, form.start))
        return shown is None or self._wait(shown) <= 0 or (not shown.typing and shown.pending is None)

    def _wait(self, shown: _Shown) -> float:
        return shown.since + INTERVAL - self._wheel.seconds()

    def _show(self, connection: Connection, resource: str, form: Form) -> None:
        """Announce a start, now or, where others see none, as soon as it may be."""
        if not self.is_news(connection, resource, form):
            return
        key = (connection.identity.user_id, resource, form.start)
        shown = self._shown.get(key)
        wait = 0.0 if shown is None else self._wait(shown)
        if shown is not None and wait > 0:
            shown.pending = self._wheel.after(wait, partial(self._show_late, key, form))
            return
        running = (connection.typing or {}).get(resource)
        if running is not None:
            self._announce(connection, running.name, form, form.start)

    def _show_late(self, key: _Key, form: Form) -> None:
        shown = self._shown.get(key)
        if shown is not None:
            shown.pending = None
        typist = self._typist(key[0], key[1], form)
        if typist is not None:
            self._show(typist, key[1], form)

    def _announce(self, connection: Connection, name: str, form: Form, event: str) -> None:
        payload = form.describe(connection, name) | {"timestamp": json.timestamp(self._clock())}
        user = str(connection.identity.user_id)
        self._node.announce(channels.parse(name), event, payload, sender=connection.id, key=user)

    def _heard(self, form: Form, started: bool, publication: Publication) -> None:
        """Somebody, here or in another process, has been announced to type, or not to any more."""
        user = publication.key.rpartition(" ")[2]
        if not publication.sender or not user.isdecimal():
            # the backend has made up an event of the same name
            return
        key = (int(user), publication.channel.resource, form.start)
        shown = self._shown.pop(key, None)
        if shown is not None:
            shown.over.cancel()
        if started:
            self._begun(key, shown, form, publication)
        elif shown is not None:
            shown.typing = False
            shown.over = self._wheel.after(self._wait(shown), partial(self._shown.pop, key, None))
            self._shown[key] = shown
            if shown.pending is None and self._typist(key[0], key[1], form) is not None:
                # one device has stopped, in another process, and one here has not: told again, but after the stop,
                # which is yet to be delivered here
                shown.pending = self._wheel.after(self._wait(shown), partial(self._show_late, key, form))

    def _begun(self, key: _Key, before: _Shown | None, form: Form, publication: Publication) -> None:
        if before is not None and before.pending is not None:
            before.pending.cancel()
        if not self._node.hub.count(key[1]):
            # the bus of a host brings everything, and this is nobody's here
            return
        if len(self._shown) >= MAX_SHOWN:
            self._shown.pop(next(iter(self._shown))).over.cancel()
        over = self._wheel.after(LOST, partial(self._lost, key, form, publication))
        self._shown[key] = _Shown(publication.channel.name, self._wheel.seconds(), over)

    def _lost(self, key: _Key, form: Form, start: Publication) -> None:
        """Nobody has taken back a start: each process does, for its own subscribers."""
        del self._shown[key]
        data = json.encode(json.decode(start.data) | {"timestamp": json.timestamp(self._clock())})
        self._node.deliver_here(start.channel, form.stop, data, start.sender)
