"""Several processes of a cluster in one, on one clock: real buses and nodes, joined by streams that the test moves."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mechamap_rt.bus.link import Link
from mechamap_rt.bus.node import Node
from mechamap_rt.bus.relay import RelayBus
from mechamap_rt.core import channels
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.frame import Frame
from mechamap_rt.core.identity import INVISIBLE, Identity
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.presence.presence import Presence
from mechamap_rt.wire.native import EventEncoder

NATIVE = EventEncoder()


class Stream:
    """One direction of a stream between two links."""

    def __init__(self, other: Link) -> None:
        self.other = other
        self.way: deque[bytes] = deque()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Never paused."""

    def unregisterProducer(self) -> None:
        """Never paused."""

    def write(self, data: bytes) -> None:
        self.way.append(data)

    def loseConnection(self) -> None:
        """The test ends streams."""


class Inbox:
    """An outbox that keeps the events it is given.

    :ivar events: ``{event, data, channel?}``, oldest first.
    """

    transport_name = "websocket"
    user = 0

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def push(self, frame: Frame) -> None:
        self.events.append(json.loads(frame.payload))

    def named(self, *events: str) -> list[Any]:
        """The data of the events of those names."""
        return [each["data"] for each in self.events if each["event"] in events]

    def users(self, event: str) -> list[int]:
        """The users whom events of that name were about."""
        return [data["user_id"] if "user_id" in data else data["user"]["id"] for data in self.named(event)]


class Process:
    """One process.

    :ivar streams: the streams to the others, by their names.
    """

    def __init__(self, clock: Clock, name: str) -> None:
        self.name = name
        self.bus = RelayBus(clock)
        self.node = Node(self.bus, name)
        self.wheel = Wheel(clock)
        self.presence = Presence(self.node, self.wheel, clock.seconds)
        self.streams: dict[str, Stream] = {}
        self.node.start()
        self.presence.start()


class Device:
    """A client."""

    def __init__(self, process: Process, ident: str, identity: Identity) -> None:
        self.process = process
        self.inbox = Inbox()
        box: Any = self.inbox
        self.connection = Connection(ident, identity, NATIVE, box, "127.0.0.1", 0.0, lambda reason: None)
        process.node.join(self.connection)
        process.presence.arrive(self.connection)

    def subscribe(self, name: str) -> Deferred[dict[str, Any]]:
        channel, identity = channels.parse(name), self.connection.identity
        self.process.node.subscribe(self.connection, channel)
        return self.process.presence.enter(self.connection, channel, identity.name, identity.avatar)

    def unsubscribe(self, name: str) -> None:
        channel = channels.parse(name)
        self.process.node.unsubscribe(self.connection, channel)
        self.process.presence.exit(self.connection, channel.resource)

    def leave(self) -> None:
        self.process.node.leave(self.connection)
        self.process.presence.depart(self.connection)


class Cluster:
    """Processes, and the way between them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.processes: dict[str, Process] = {}
        self._devices = 0
        for name in names:
            self.start(name)

    def start(self, name: str) -> Process:
        process = Process(self.clock, name)
        for other in self.processes.values():
            one, two = process.bus.meet(other.name), other.bus.meet(name)
            process.streams[other.name], other.streams[name] = Stream(two), Stream(one)
            for link, stream in ((one, process.streams[other.name]), (two, other.streams[name])):
                link.makeConnection(stream)  # type: ignore[arg-type]
        self.processes[name] = process
        return process

    def kill(self, name: str) -> None:
        """A process dies: what it had written arrives, nothing more."""
        self.move()
        process = self.processes.pop(name)
        process.wheel.stop()
        process.presence.seats = None  # type: ignore[assignment]
        for other in self.processes.values():
            stream = process.streams[other.name]
            del other.streams[name]
            stream.other.connectionLost()

    def device(self, process: str, user_id: int, *, invisible: bool = False) -> Device:
        self._devices += 1
        permissions = ("receive_notifications", INVISIBLE) if invisible else ("receive_notifications",)
        identity = Identity(user_id, f"User {user_id}", "member", permissions=permissions, avatar=f"/{user_id}.png")
        return Device(self.processes[process], f"c{self._devices}", identity)

    def move(self) -> None:
        """Everything that is written arrives, and so does what is written in answer."""
        moved = True
        while moved:
            moved = False
            for process in tuple(self.processes.values()):
                for stream in tuple(process.streams.values()):
                    while stream.way:
                        moved = True
                        stream.other.dataReceived(stream.way.popleft())

    def wait(self, seconds: float) -> None:
        self.move()
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until - 1e-6:
            self.clock.advance(min(0.1, until - self.clock.seconds()))
            self.move()

    def online(self, process: str, *user_ids: int) -> set[int]:
        """Who of these is online, asked at ``process``."""
        found: list[set[int]] = []
        asking = Deferred.fromCoroutine(self.processes[process].presence.online(user_ids))
        asking.addCallback(found.append)
        self.move()
        return found[0]
