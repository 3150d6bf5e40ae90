"""Groups: who takes part, who types, what is said. Only active members of a group may do anything with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from twisted.internet.defer import DeferredList

from mechamap_rt.bus.node import Node
from mechamap_rt.commands.arguments import group_of
from mechamap_rt.commands.dispatch import Command
from mechamap_rt.commands.outcome import Outcome
from mechamap_rt.commands.table import ClientCommands, echo
from mechamap_rt.commands.typing import GROUP, Typing
from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.loader import Loader
from mechamap_rt.errors import ClientFault, Code
from mechamap_rt.interfaces import ISite
from mechamap_rt.presence.presence import Presence
from mechamap_rt.wire import json

#: Characters of a message.
MAX_MESSAGE: Final = 10_000


class GroupCommands:
    """The events about groups.

    :param client: subscribes and unsubscribes.
    :param site: knows the members; ``None`` where nobody does.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        client: ClientCommands,
        *,
        node: Node,
        site: ISite | None,
        presence: Presence,
        typing: Typing,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._node = node
        self._presence = presence
        self._typing = typing
        self._clock = clock
        self._counts: Loader[int, tuple[int, int]] | None = None
        if site is not None:
            self._counts = Loader(partial(self._count, site))

    def table(self) -> Mapping[str, Command]:
        """Every event, by the name clients use."""
        return {
            "join_group": Command(self.join),
            "leave_group": Command(self.leave),
            "group_typing_start": Command(self.typing_start, limit="typing"),
            "group_typing_stop": Command(self.typing_stop, limit="typing"),
            "group_message": Command(self.message),
            "get_member_count": Command(self.member_count),
        }

    async def join(self, connection: Connection, data: Any) -> Outcome:
        """Subscribe to the group, and be seen there."""
        group_id = group_of(data)
        channel = await self._membership(connection, group_id)
        answer = await self._client.enter(connection, channel, present=True)
        return Outcome("subscribed", {"group_id": group_id} | answer)

    async def leave(self, connection: Connection, data: Any) -> Outcome:
        group_id = group_of(data)
        answer = self._client.give_up(connection, _channel(group_id))
        return Outcome("unsubscribed", {"group_id": group_id} | answer)

    async def typing_start(self, connection: Connection, data: Any) -> Outcome:
        channel = self._joined(connection, data)
        if self._typing.is_news(connection, channel.resource, GROUP):
            await self._client.spend(channel)
        if channel.resource in connection.subscriptions:
            self._typing.start(connection, channel, GROUP)
        return Outcome(None)

    async def typing_stop(self, connection: Connection, data: Any) -> Outcome:
        self._typing.stop(connection, self._joined(connection, data).resource)
        return Outcome(None)

    async def message(self, connection: Connection, data: Any) -> Outcome:
        """Say something to the others; the site stores it, not this server."""
        group_id, text = group_of(data), data.get("message") if isinstance(data, dict) else None
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_MESSAGE:
            wanted = f"A string of 1 to {MAX_MESSAGE} characters"
            raise ClientFault(Code.VALIDATION_ERROR, wanted, field="message")
        channel = await self._membership(connection, group_id)
        await self._client.spend(channel)
        stamp = echo(data.get("timestamp"), self._clock())
        said = {"group_id": group_id, "message": text, "user": connection.identity.card(), "timestamp": stamp}
        ident, _ = self._node.publish(channel, "group_message", json.encode(said), sender=connection.id, counted=False)
        return Outcome(None, {"group_id": group_id, "id": ident, "timestamp": stamp})

    async def member_count(self, connection: Connection, data: Any) -> Outcome:
        """How many active members there are, and how many of them are online, on whatever page."""
        group_id = group_of(data)
        await self._membership(connection, group_id)
        if self._counts is None:
            raise ClientFault(Code.SERVER_ERROR, "This needs the site's database")
        count, online = await self._counts.load(group_id) or (0, 0)
        counts = {"group_id": group_id, "count": count, "online": online}
        return Outcome("member_count_updated", counts | {"timestamp": json.timestamp(self._clock())})

    async def _count(self, site: ISite, group_ids: list[int]) -> dict[int, tuple[int, int]]:
        """Of each group: its active members, and how many of those who are listed are online."""
        groups = await DeferredList([site.group(group_id) for group_id in group_ids], consumeErrors=True)
        counts: dict[int, tuple[int, int]] = {}
        for group_id, (known, group) in zip(group_ids, groups, strict=True):
            if not known:
                group.raiseException()
            counts[group_id] = (group.count, len(await self._presence.online(group.members)))
        return counts

    async def _membership(self, connection: Connection, group_id: int) -> Channel:
        """The group's channel.

        :raises ClientFault: the user is no active member.
        """
        channel = _channel(group_id)
        if not await self._client.may(connection, channel):
            raise ClientFault(Code.PERMISSION_DENIED, "Not a member of this group", field="group_id")
        return channel

    def _joined(self, connection: Connection, data: Any) -> Channel:
        """The channel of a group that this connection is subscribed to."""
        channel = _channel(group_of(data))
        if channel.resource not in connection.subscriptions:
            raise ClientFault(Code.PERMISSION_DENIED, "Join the group first", field="group_id")
        return channel


def _channel(group_id: int) -> Channel:
    return channels.parse(f"group.{group_id}")
