"""Stand-ins for what a test looks at from both sides: a transport, a connection."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from mechamap_rt.core.connection import Connection
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.outbox import SocketOutbox, Turn
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import IAuditLog
from mechamap_rt.system.audit import Actor
from mechamap_rt.wire.socketio import EventEncoder


class Wire:
    """A transport whose kernel buffer has a size: ``room`` bytes are taken, the rest waits."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.sent = b""
        self.buffered = b""
        self.producer: Any = None
        self.calls = 0
        self.broken = False

    def send(self, data: bytes) -> int:
        self.calls += 1
        if self.broken:
            raise ConnectionResetError
        if self.room is None:
            self.sent += data
            return len(data)
        if self.room == 0:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def write(self, data: bytes) -> None:
        self.buffered += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def drain(self, room: int | None = None) -> None:
        """The peer reads: the transport's buffer empties, and ``room`` more bytes fit."""
        self.sent, self.buffered = self.sent + self.buffered, b""
        self.room = room
        if self.producer is not None:
            self.producer.resumeProducing()


def make_outbox(clock: Clock, wire: Wire, soft: int = 1000, hard: int = 4000) -> tuple[SocketOutbox, list[str]]:
    """An outbox that writes to ``wire``, and a list that tells when it overflowed."""
    overflows: list[str] = []
    turn = Turn(clock, soft, hard)
    return SocketOutbox(turn, wire, wire.send, lambda: overflows.append("overflow")), overflows


def make_connection(
    clock: Clock,
    ident: str = "c1",
    user_id: int = 5,
    role: str = "member",
    wire: Wire | None = None,
    turn: Turn | None = None,
    encoder: Any = None,
) -> tuple[Connection, Wire, list[Disconnect]]:
    """A connection, its wire, and the reasons it was ended for."""
    wire = wire or Wire()
    outbox = SocketOutbox(turn or Turn(clock), wire, wire.send, lambda: None)
    ended: list[Disconnect] = []
    identity = Identity(user_id, f"User {user_id}", role, permissions=("receive_notifications",))
    connection = Connection(ident, identity, encoder or EventEncoder(), outbox, "127.0.0.1", 0.0, ended.append)
    return connection, wire, ended


@implementer(IAuditLog)
class AuditMemory:
    """An audit log that keeps its acts."""

    def __init__(self) -> None:
        self.acts: list[dict[str, Any]] = []

    def note(self, actor: Actor, action: str, target: Any, outcome: str, **more: str | None) -> None:
        self.acts.append({"actor": actor, "action": action, "target": dict(target), "outcome": outcome, **more})
