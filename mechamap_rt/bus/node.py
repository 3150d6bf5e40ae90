"""The node: the connections of this process, their subscriptions, and the bus.

Protocols, HTTP and the operator's commands all enter here; nothing below knows about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Connection, State
from mechamap_rt.core.hub import Hub
from mechamap_rt.core.publication import DeliveryClass, Publication, PublicationIds
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import IBus, IReceiver
from mechamap_rt.wire import json


@implementer(IReceiver)
class Node:
    """The connections of this process, joined with the bus.

    :param name: distinguishes this process in publication ids.
    """

    def __init__(self, bus: IBus, name: str) -> None:
        self._bus = bus
        self._ids = PublicationIds(name)
        self.hub = Hub()
        self._connections: dict[str, Connection] = {}
        self._users: dict[int, tuple[Connection, ...]] = {}
        #: Publications accepted since the start.
        self.published = 0

    def start(self) -> Deferred[None]:
        return self._bus.start(self)

    def stop(self) -> Deferred[None]:
        return self._bus.stop()

    # connections

    def join(self, connection: Connection) -> None:
        """A connection has been admitted."""
        self._connections[connection.id] = connection
        user = connection.identity.user_id
        self._users[user] = (*self._users.get(user, ()), connection)

    def leave(self, connection: Connection) -> None:
        """A connection has ended: its subscriptions end with it."""
        connection.state = State.CLOSED
        for resource, names in connection.subscriptions.items():
            if self.hub.remove(connection, resource, names[0]):
                self._bus.unsubscribe(resource)
        connection.subscriptions = {}
        if self._connections.pop(connection.id, None) is None:
            return
        user = connection.identity.user_id
        rest = tuple(other for other in self._users[user] if other is not connection)
        if rest:
            self._users[user] = rest
        else:
            del self._users[user]

    def connections(self) -> Iterator[Connection]:
        return iter(tuple(self._connections.values()))

    def connections_of(self, user_id: int) -> tuple[Connection, ...]:
        return self._users.get(user_id, ())

    def connection_count(self) -> int:
        return len(self._connections)

    def user_count(self) -> int:
        return len(self._users)

    def disconnect_all(self, reason: Disconnect) -> None:
        for connection in self.connections():
            connection.close(reason)

    # subscriptions

    def subscribe(self, connection: Connection, channel: Channel) -> None:
        """Subscribe a connection that may; by a second name of the same resource it still hears everything once."""
        if connection.state is not State.ACTIVE:
            return
        names = connection.subscriptions.get(channel.resource)
        if names is None:
            connection.subscriptions[channel.resource] = (channel.name,)
            if self.hub.add(connection, channel.resource, channel.name):
                self._bus.subscribe(channel.resource)
        elif channel.name not in names:
            connection.subscriptions[channel.resource] = (*names, channel.name)

    def unsubscribe(self, connection: Connection, channel: Channel) -> bool:
        """Give up one name of a resource, and the subscription with the last; a name never used gives up all.

        :returns: was there anything to give up?
        """
        names = connection.subscriptions.get(channel.resource)
        if names is None:
            return False
        rest = tuple(name for name in names if name != channel.name) if channel.name in names else ()
        if rest and rest[0] == names[0]:
            connection.subscriptions[channel.resource] = rest
            return True
        last = self.hub.remove(connection, channel.resource, names[0])
        if rest:
            connection.subscriptions[channel.resource] = rest
            self.hub.add(connection, channel.resource, rest[0])
        else:
            del connection.subscriptions[channel.resource]
            if last:
                self._bus.unsubscribe(channel.resource)
        return True

    def drop(self, connection: Connection, resource: str) -> None:
        """End a subscription, by whatever names."""
        names = connection.subscriptions.pop(resource, None)
        if names is not None and self.hub.remove(connection, resource, names[0]):
            self._bus.unsubscribe(resource)

    # publications

    def publish(
        self,
        channel: Channel,
        event: str,
        data: bytes,
        *,
        delivery: DeliveryClass | None = None,
        key: str | None = None,
        sender: str = "",
    ) -> tuple[str, Deferred[int]]:
        """Publish on ``channel``; ``data`` is JSON.

        :returns: the publication's id, and a Deferred with the number of subscribers in the whole cluster.
        """
        publication = Publication(self._ids(), channel, event, data, delivery=delivery, key=key, sender=sender)
        self.published += 1
        return publication.id, self._bus.publish(publication)

    def announce(self, channel: Channel, event: str, payload: dict[str, Any], sender: str = "") -> None:
        """Publish what a client did, to the channel's other subscribers."""
        self.publish(channel, event, json.encode(payload), sender=sender)

    def count(self, resource: str) -> Deferred[int]:
        """Subscribers of ``resource`` in the whole cluster."""
        return self._bus.count(resource)

    def on_publication(self, publication: Publication) -> int:
        return self.hub.deliver(publication)

    def subscriber_count(self, resource: str) -> int:
        return self.hub.count(resource)
