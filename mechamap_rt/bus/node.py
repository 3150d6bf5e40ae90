"""The node: the connections of this process, their subscriptions, and the bus.

Protocols, HTTP and the operator's commands all enter here; nothing below knows about them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mechamap_rt.core import channels
from mechamap_rt.core.batches import Batches
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Connection, Encoder, State
from mechamap_rt.core.frame import Frame
from mechamap_rt.core.hub import Hub
from mechamap_rt.core.kinds import Kinds
from mechamap_rt.core.metrics import Counts
from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.publication import DeliveryClass, Priority, Publication, PublicationIds
from mechamap_rt.core.tracing import Tracing
from mechamap_rt.core.visits import Visits
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import IBus, IReceiver
from mechamap_rt.wire import json

_log = Logger()

_STATE: Final = DeliveryClass.STATE
_SUBSCRIBED: Final[Deferred[None]] = succeed(None)

#: Answers one question put to every process: takes and gives what MessagePack can carry.
Answer = Callable[[Any], Any]
#: Hears a publication that has come to this process.
Heard = Callable[[Publication], object]


@implementer(IReceiver)
class Node:
    """The connections of this process, joined with the bus.

    :param name: distinguishes this process in the cluster: in publication ids and in the ids of sessions.

    :ivar published: publications accepted since the start.
    :ivar degraded: does the bus not reach the whole cluster now?
    """

    def __init__(self, bus: IBus, name: str) -> None:
        self.name = name
        self._bus = bus
        # from a point that moves faster than anybody publishes, so that a restart under the same name repeats nothing
        self._ids = PublicationIds(name, int((time.time() - 1.76e9) * 1e5))
        self.hub = Hub()
        #: Gathers what need not leave at once; without it everything does.
        self.batches: Batches | None = None
        self._connections: dict[str, Connection] = {}
        self._users: dict[int, tuple[Connection, ...]] = {}
        self._answers: dict[str, Answer] = {"subscribers": self.hub.count}
        self._heard: dict[str, Heard] = {}
        #: Called with the name of a process that is gone, and how many seconds it had been silent.
        self.gone: Callable[[str, float], object] = _ignore
        self._when_whole: list[Callable[[], object]] = []
        self.published = 0
        self.degraded = False
        self.kinds = Kinds()
        self.counts = Counts()
        #: Remembers what became of publications; ``None`` for nobody.
        self.tracing: Tracing | None = None
        self.visits = Visits()

    def start(self) -> Deferred[None]:
        return self._bus.start(self)

    def stop(self) -> Deferred[None]:
        if self.batches is not None:
            self.batches.close()
        return self._bus.stop()

    # connections

    def join(self, connection: Connection) -> None:
        """A connection has been admitted."""
        self._connections[connection.id] = connection
        user = connection.identity.user_id
        self._users[user] = (*self._users.get(user, ()), connection)
        self.move(connection, connection.outbox)

    def move(self, connection: Connection, outbox: Outbox) -> None:
        """A connection is carried by this outbox from now on."""
        connection.outbox = outbox
        outbox.user = connection.identity.user_id
        if connection.id in self._connections:
            self.kinds.count(connection)

    def leave(self, connection: Connection) -> None:
        """A connection has ended: its subscriptions end with it."""
        connection.state = State.CLOSED
        self.kinds.uncount(connection)
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

    def users(self) -> Iterator[int]:
        """The ids of the users who are connected here."""
        return iter(tuple(self._users))

    def connection_count(self) -> int:
        return len(self._connections)

    def user_count(self) -> int:
        return len(self._users)

    def disconnect_all(self, reason: Disconnect) -> None:
        for connection in self.connections():
            connection.close(reason)

    def tell_all(self, event: str, payload: dict[str, Any]) -> None:
        """Send an event to every connection of this process."""
        data = json.encode(payload)
        frames: dict[Encoder, Frame] = {}
        for connection in self.connections():
            frame = frames.get(connection.encoder)
            if frame is None:
                encoded = connection.encoder.event(event, data)
                frame = frames[connection.encoder] = Frame.text(encoded, DeliveryClass.STATE, event)
            connection.outbox.push(frame)

    # subscriptions

    def subscribe(self, connection: Connection, channel: Channel) -> Deferred[None]:
        """Subscribe a connection that may; by a second name of the same resource it still hears everything once.

        :returns: fires when it hears everything that is published from now on.
        """
        if connection.state is not State.ACTIVE:
            return _SUBSCRIBED
        names = connection.subscriptions.get(channel.resource)
        if names is not None:
            if channel.name not in names:
                connection.subscriptions[channel.resource] = (*names, channel.name)
            return _SUBSCRIBED
        reached = self._bus.subscribe(channel.resource)
        if reached.called:
            self._enter(connection, channel)
            return _SUBSCRIBED
        return reached.addCallback(lambda _: self._reach(connection, channel))

    def _reach(self, connection: Connection, channel: Channel) -> None:
        """The bus has had to be waited for: it may not have brought what was published since the last one left."""
        if self.batches is not None and not self.hub.count(channel.resource):
            self.batches.forget_states(channel.resource)
        self._enter(connection, channel)

    def _enter(self, connection: Connection, channel: Channel) -> None:
        """The bus brings what is published on the channel: begin to deliver, if the client is still there."""
        held = connection.subscriptions
        if connection.state is State.ACTIVE and channel.resource not in held:
            held[channel.resource] = (channel.name,)
            self.visits.changed(connection, channel.resource, True)
            if self.hub.add(connection, channel.resource, channel.name):
                # who waited for the same and left meanwhile has given up the interest: said again, it stays
                self._bus.subscribe(channel.resource)
        elif not self.hub.count(channel.resource):
            self._bus.unsubscribe(channel.resource)

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
            self.visits.changed(connection, channel.resource, False)
            del connection.subscriptions[channel.resource]
            if last:
                self._bus.unsubscribe(channel.resource)
        return True

    def drop(self, connection: Connection, resource: str) -> None:
        """End a subscription, by whatever names."""
        names = connection.subscriptions.pop(resource, None)
        if names is None:
            return
        self.visits.changed(connection, resource, False)
        if self.hub.remove(connection, resource, names[0]):
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
        counted: bool = True,
        priority: Priority = Priority.HIGH,
        source: str = "client",
        request: str = "",
    ) -> tuple[str, Deferred[int]]:
        """Publish on ``channel``; ``data`` is JSON.

        :param counted: is the number of subscribers wanted? Otherwise it may be too small.
        :param priority: may it be held back for a moment? Those who are subscribed then get it; the number is of now.
        :param source: who publishes, see :class:`~mechamap_rt.core.metrics.Counts`, and ``request``: the id of the
            HTTP request by which.
        :returns: the publication's id, and a Deferred with the number of subscribers in the whole cluster.
        """
        publication = Publication(
            self._ids(), channel, event, data, delivery=delivery, key=key, sender=sender, priority=priority
        )
        self.published += 1
        self.counts.published(event, source)
        if self.tracing is not None:
            self.tracing.accepted(publication, source, request)
        return publication.id, self._bus.publish(publication, counted)

    def announce(
        self,
        channel: Channel,
        event: str,
        payload: dict[str, Any],
        sender: str = "",
        key: str | None = None,
        source: str = "client",
    ) -> None:
        """Publish what a client did, to the channel's other subscribers."""
        self.publish(channel, event, json.encode(payload), sender=sender, key=key, counted=False, source=source)

    def listen(self, event: str, heard: Heard) -> None:
        """Have ``heard`` called with every publication of that event that comes here, before it is delivered."""
        self._heard[event] = heard

    def spread(self, resource: str, event: str, body: bytes) -> None:
        """Tell something to every process that has subscribers of ``resource``, this one first, and to no client."""
        channel = channels.parse(resource)
        publication = Publication(self._ids(), channel, event, body, delivery=DeliveryClass.INTERNAL)
        self._bus.publish(publication, False)

    def deliver_here(self, channel: Channel, event: str, data: bytes, sender: str = "") -> None:
        """Publish to the subscribers of this process alone what every process finds out by itself."""
        self.on_publication(Publication(self._ids(), channel, event, data, sender=sender))

    def on_publication(self, publication: Publication) -> int:
        heard = self._heard.get(publication.event)
        if heard is not None:
            heard(publication)
        if publication.delivery is DeliveryClass.INTERNAL:
            return 0
        if publication.priority or publication.delivery is _STATE:
            return self._perhaps_gather(publication)
        return self.hub.deliver(publication)

    def _perhaps_gather(self, publication: Publication) -> int:
        """Gather what need not leave at once; what does is newer than what has been gathered with its key.

        :returns: its subscribers here, as they are now; the sender is none.
        """
        batches = self.batches
        if batches is None:
            return self.hub.deliver(publication)
        if not publication.priority:
            batches.supersede(publication)
            return self.hub.deliver(publication)
        resource = publication.channel.resource
        count = self.hub.count(resource)
        if count:
            batches.add(publication)
            sender = self._connections.get(publication.sender)
            if sender is not None and resource in sender.subscriptions:
                count -= 1
        elif publication.delivery is _STATE:
            batches.renew(publication)
        return count

    # questions to every process

    def answer(self, question: str, answer: Answer) -> None:
        """Have ``answer`` answer a question in the name of this process."""
        self._answers[question] = answer

    async def ask(self, question: str, asked: Any) -> list[Any]:
        """What every process of the cluster answers; those that do not answer in time are left out."""
        bodies = await self._bus.ask(question, msgspec.msgpack.encode(asked))
        return [msgspec.msgpack.decode(body) for body in bodies if body]

    async def count(self, resource: str) -> int:
        """Subscribers of ``resource`` in the whole cluster."""
        return sum(await self.ask("subscribers", resource))

    def on_question(self, question: str, body: bytes) -> bytes:
        answer = self._answers.get(question)
        if answer is None:
            # a process of another version asks what this one does not know
            return b""
        try:
            return msgspec.msgpack.encode(answer(msgspec.msgpack.decode(body)))
        except Exception:
            _log.failure("The question {question} could not be answered", question=question)
            return b""

    def on_state(self, degraded: bool) -> None:
        """The bus has lost a part of the cluster, or found it again: clients are told."""
        if degraded is not self.degraded:
            self.degraded = degraded
            self.tell_all("service_status", self.state())
            if not degraded:
                for call in self._when_whole:
                    call()

    def when_whole(self, call: Callable[[], object]) -> None:
        """Have it called whenever the bus reaches the whole cluster again."""
        self._when_whole.append(call)

    def on_gone(self, process: str, silent: float) -> None:
        self.gone(process, silent)

    def state(self) -> dict[str, Any]:
        """The data of ``service_status``."""
        return {"status": "degraded" if self.degraded else "ok", "timestamp": json.timestamp(time.time())}


def _ignore(*_: Any) -> None:
    """Nobody wants to know."""
