"""What people who are connected can do and what they are told, put together: commands, presence, notifications."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.debug import Debugging
from mechamap_rt.commands.dispatch import Command, Dispatcher
from mechamap_rt.commands.groups import GroupCommands
from mechamap_rt.commands.notifications import NotificationCommands
from mechamap_rt.commands.presence import PresenceCommands
from mechamap_rt.commands.table import ClientCommands
from mechamap_rt.commands.typing import Typing
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.interfaces import IReactor
from mechamap_rt.notifications.inbox import Inbox
from mechamap_rt.place import Place
from mechamap_rt.presence.presence import Presence
from mechamap_rt.rights import Rights
from mechamap_rt.settings import Settings
from mechamap_rt.transport.lobby import Lobby


class Community:
    """The people of one process.

    :ivar dispatcher: takes what they ask for.
    :ivar lobby: lets them in and sees them out.
    :ivar presence: who of them, and of those of other processes, is where.
    :ivar inbox: their notifications.
    :ivar revocation: ends rights at once.
    """

    def __init__(
        self,
        reactor: IReactor,
        place: Place,
        node: Node,
        rights: Rights,
        census: Census,
        wheel: Wheel,
        turn: Turn,
        settings: Settings,
    ) -> None:
        self._node = node
        self._rights = rights
        self._census = census
        self._wheel = wheel
        self._turn = turn
        self._store = place.store
        self.presence = Presence(node, wheel, grace=settings.limits.presence_grace)
        self.inbox = Inbox(reactor, node, rights.notifications, rights.pace, wheel, time.time)
        self._typing = Typing(node, wheel, time.time)
        self._subscriptions, self.revocation = rights.watch(
            node, before=self._before_end, changed=self.presence.review, extend=self._extend
        )
        self.lobby = self._lobby()

    def _lobby(self) -> Lobby:
        self.dispatcher = Dispatcher(self._commands(), self._store, time.time)
        return Lobby(
            node=self._node,
            dispatcher=self.dispatcher,
            authenticator=self._rights.authenticator,
            store=self._store,
            typing=self._typing,
            presence=self.presence,
            wheel=self._wheel,
            clock=time.time,
            came=self._came,
            left=self._left,
        )

    def _commands(self) -> Mapping[str, Command]:
        """Every event that clients may send, by name."""
        node, rights = self._node, self._rights
        client = ClientCommands(
            node=node,
            policy=rights.policy,
            authenticator=rights.authenticator,
            typing=self._typing,
            presence=self.presence,
            subscriptions=self._subscriptions,
            store=self._store,
            clock=time.time,
            extend=self._extend,
        )
        groups = GroupCommands(
            client,
            node=node,
            site=rights.rows if rights.truthful else None,
            presence=self.presence,
            typing=self._typing,
            clock=time.time,
        )
        requests = lambda: self.dispatcher.requests  # noqa: E731
        debugging = Debugging(node, self._census, self._wheel, requests, self._turn.stats, time.time)
        return {
            **client.table(),
            **groups.table(),
            **PresenceCommands(self.presence, time.time).table(),
            **NotificationCommands(self.inbox.marks, time.time).table(),
            **debugging.table(),
        }

    # people

    def _came(self, connection: Connection) -> None:
        self._seen(connection)
        self.inbox.welcome(connection)

    def _left(self, connection: Connection) -> None:
        self._seen(connection)
        self.inbox.forget(connection)

    def _seen(self, connection: Connection) -> None:
        """Somebody has come or gone, whom the site may know about."""
        last_seen = self._rights.last_seen
        if last_seen is not None and not connection.identity.invisible:
            last_seen.note(connection.identity.user_id)

    def _extend(self, connection: Connection) -> None:
        self.lobby.extend(connection)

    def _before_end(self, connection: Connection, resource: str) -> None:
        """A subscription is about to be ended."""
        self._typing.stop(connection, resource)
        self.presence.exit(connection, resource)

    # life

    def start(self) -> None:
        self.presence.start()
        self.inbox.start()

    async def stop(self) -> None:
        await self.inbox.stop()
