"""The hub: which connections of this process are subscribed to which resource, and delivery to them.

A publication is encoded once for each group of connections that see the same bytes (same protocol, same
namespace, and for protocols that name the channel the same name), and the bytes are shared by the group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.publication import Publication

if TYPE_CHECKING:
    from mechamap_rt.core.connection import Connection, Encoder

#: The connections that share bytes, and the name they subscribed by (empty where the bytes do not name it).
_Key = tuple["Encoder", str]
_Topic = dict[_Key, dict["Connection", None]]


class Hub:
    """Subscriptions of this process, by resource."""

    __slots__ = ("_topics", "delivered", "on_delivered", "subscriptions")

    def __init__(self) -> None:
        #: Called with every publication that has been given to somebody here, to how many, and by groups to whom.
        self.on_delivered: Callable[[Publication, int, Iterable[Iterable[Connection]]], object] = _ignore
        self._topics: dict[str, _Topic] = {}
        #: Deliveries (one publication to one connection) since the start.
        self.delivered = 0
        #: Subscriptions held now.
        self.subscriptions = 0

    def add(self, connection: Connection, resource: str, name: str) -> bool:
        """Subscribe ``connection``; is it the first subscriber of ``resource`` here?"""
        topic = self._topics.get(resource)
        first = topic is None
        if topic is None:
            topic = self._topics[resource] = {}
        encoder = connection.encoder
        topic.setdefault((encoder, name if encoder.names_channel else ""), {})[connection] = None
        self.subscriptions += 1
        return first

    def remove(self, connection: Connection, resource: str, name: str) -> bool:
        """End a subscription made by :meth:`add` with the same arguments; was it the last of ``resource`` here?"""
        topic = self._topics[resource]
        encoder = connection.encoder
        key = (encoder, name if encoder.names_channel else "")
        group = topic[key]
        del group[connection]
        self.subscriptions -= 1
        if group:
            return False
        del topic[key]
        if topic:
            return False
        del self._topics[resource]
        return True

    def deliver(self, publication: Publication) -> int:
        """Queue ``publication`` for its subscribers here; returns how many they are."""
        topic = self._topics.get(publication.channel.resource)
        if topic is None:
            return 0
        count = 0
        sender = publication.sender
        for (encoder, name), group in topic.items():
            payload = encoder.event(publication.event, publication.data, name, publication.id)
            frame = Frame.text(payload, publication.delivery, publication.key, publication.id)
            count += len(group)
            if sender:
                for connection in group:
                    if connection.id == sender:
                        count -= 1
                    else:
                        connection.outbox.push(frame)
            else:
                for connection in group:
                    connection.outbox.push(frame)
        self.delivered += count
        self.on_delivered(publication, count, topic.values())
        return count

    def count(self, resource: str) -> int:
        """How many connections are subscribed to ``resource`` here."""
        return sum(len(group) for group in self._topics.get(resource, {}).values())

    def subscribers(self, resource: str) -> Iterator[Connection]:
        for group in self._topics.get(resource, {}).values():
            yield from group

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Every resource that has subscribers here, with their number."""
        for resource, topic in self._topics.items():
            yield resource, sum(len(group) for group in topic.values())


def _ignore(publication: Publication, count: int, groups: object) -> None:
    """Nobody wants to know."""
