"""Subscriptions that end because the right to them has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList

from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Connection, State
from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import IPolicy
from mechamap_rt.wire import json

#: Subscriptions that are looked at together.
BATCH: Final = 200
#: How often a question is asked while the identity of the one it is about changes.
MAX_ATTEMPTS: Final = 3


class Subscriptions:
    """Ends what must not go on.

    :param before: called with the connection and the resource before a subscription ends.
    :param changed: called with a connection whose user's rights have changed.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        node: Node,
        policy: IPolicy,
        before: Callable[[Connection, str], object],
        changed: Callable[[Connection], object],
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._policy = policy
        self._before = before
        self._changed = changed
        self._clock = clock
        #: Subscriptions that were ended, since the start.
        self.ended = 0
        # of whom something could not be found out when their rights changed
        self._unsettled: dict[Connection, None] = {}

    async def allowed(self, connection: Connection, channel: Channel, *, fresh: bool = False) -> bool:
        """May the user subscribe, as what the user is when the answer is there?

        :param fresh: what was decided before does not count.
        :raises Unavailable: it cannot be found out now.
        """
        for _ in range(MAX_ATTEMPTS):
            identity = connection.identity
            allowed = await self._policy.may_subscribe(identity, channel, fresh=fresh, socket=connection.id)
            if connection.identity is identity:
                return allowed
            # another token, or another role, since: what was found out is of the one before
        raise Unavailable("the user's rights change all the time")

    def end(self, connection: Connection, resource: str, reason: str) -> None:
        """End a subscription by all its names, and tell the client why."""
        names = connection.subscriptions.get(resource)
        if names is None:
            return
        self._before(connection, resource)
        self._node.drop(connection, resource)
        self.ended += 1
        now = json.timestamp(self._clock())
        for name in names:
            connection.emit("unsubscribed", {"channel": name, "reason": reason, "timestamp": now})

    async def review(self, connection: Connection) -> None:
        """The user's rights have changed: end the subscriptions that they no longer cover."""
        self._node.kinds.count(connection)
        self._changed(connection)
        held = tuple(connection.subscriptions.values())
        if not await self._look((connection, names[0]) for names in held):
            self._unsettled[connection] = None

    async def sweep(self, connections: Iterable[Connection]) -> None:
        """Look whether what these hear is what they may hear now, as far as that can have changed by itself."""
        unsettled, self._unsettled = self._unsettled, {}
        for connection in unsettled:
            if connection.state is State.ACTIVE:
                await self.review(connection)
        changing = (
            (connection, names[0])
            for connection in connections
            for names in tuple(connection.subscriptions.values())
            if self._policy.changes(channels.parse(names[0]))
        )
        await self._look(changing)

    async def _look(self, held: Iterable[tuple[Connection, str]]) -> bool:
        """Was everything found out?"""
        batch: list[Deferred[None]] = []
        found = True
        for connection, name in held:
            batch.append(Deferred.fromCoroutine(self._judge(connection, channels.parse(name))))
            if len(batch) == BATCH:
                found &= all(known for known, _ in await DeferredList(batch, consumeErrors=True))
                batch = []
        return found & all(known for known, _ in await DeferredList(batch, consumeErrors=True))

    async def _judge(self, connection: Connection, channel: Channel) -> None:
        # what cannot be found out now stays as it is: the failure is not looked at
        if not await self.allowed(connection, channel, fresh=True):
            self.end(connection, channel.resource, "Unauthorized")
