"""A connection: one authenticated client of one protocol, as the core sees it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, NamedTuple, Protocol

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.core.wheel import Deadline
from mechamap_rt.errors import Disconnect
from mechamap_rt.wire import json


class Encoder(Protocol):
    """Turns an event into the bytes of one protocol. Instances are shared, and are keys of the hub."""

    @property
    def protocol(self) -> str: ...

    @property
    def names_channel(self) -> bool: ...

    def event(self, name: str, data: bytes, channel: str = "", publication: str = "") -> bytes: ...


class State(Enum):
    """A connection is born active, after authentication; it is closing from the moment somebody decided so."""

    ACTIVE = auto()
    CLOSING = auto()
    CLOSED = auto()


class Announced(NamedTuple):
    """An announcement that will be taken back: by which name of the channel, in which form, and when at the latest."""

    name: str
    form: Any
    deadline: Deadline


#: The moment from which a connection attends that has not been given the member list yet.
NOT_YET: Final = 2**63


class Attendance(NamedTuple):
    """A connection takes part in a presence channel.

    :ivar name: of the channel, as the client knows it.
    :ivar names: all the names by which it wants to take part.
    :ivar user: the name under which its user does, and ``avatar`` with which.
    :ivar since: a number that grows with time; what was told before it was not told to this connection.
    """

    name: str
    since: int
    user: str
    avatar: str | None
    names: tuple[str, ...]


class Connection:
    """One authenticated client.

    :param end: what its protocol does to end it, given the reason.

    :ivar subscriptions: resource → the names the client subscribed by, the first of which is used in deliveries.
    :ivar backlog: requests that wait for the one in progress; ``None`` when none is in progress.
    :ivar presence: the presence channels it takes part in, by resource.
    :ivar typing: the typing announcements of this connection that have not ended, by resource.
    :ivar kind: protocol, transport and role, as it is counted among others.
    :ivar confirmed: what was written before this moment has reached the client, who has answered a heartbeat of then;
        seconds of the monotonic clock, 0.0 for never.
    """

    __slots__ = (
        "__weakref__",
        "_end",
        "active_at",
        "address",
        "backlog",
        "confirmed",
        "encoder",
        "expiry",
        "id",
        "identity",
        "kind",
        "outbox",
        "presence",
        "since",
        "state",
        "subscriptions",
        "typing",
        "words",
    )

    def __init__(
        self,
        ident: str,
        identity: Identity,
        encoder: Encoder,
        outbox: Outbox,
        address: str,
        now: float,
        end: Callable[[Disconnect], None],
    ) -> None:
        self.id = ident
        self.identity = identity
        self.encoder = encoder
        self.outbox = outbox
        self.address = address
        self.since = now
        self.active_at = now
        self._end = end
        self.state = State.ACTIVE
        self.subscriptions: dict[str, tuple[str, ...]] = {}
        self.backlog: deque[Callable[[], None]] | None = None
        self.typing: dict[str, Announced] | None = None
        self.presence: dict[str, Attendance] | None = None
        self.expiry: Deadline | None = None
        self.words = ""
        self.kind: tuple[str, str, str] | None = None
        self.confirmed = 0.0

    def emit(self, event: str, payload: dict[str, Any], delivery: DeliveryClass = DeliveryClass.DURABLE) -> None:
        """Send one event to this connection alone."""
        self.outbox.push(Frame.text(self.encoder.event(event, json.encode(payload)), delivery, event))

    def close(self, reason: Disconnect, words: str = "") -> None:
        """End the connection; the first reason counts.

        :param words: an administrator's, which the client is told in the place of the reason's name.
        """
        if self.state is State.ACTIVE:
            self.state = State.CLOSING
            self.words = words
            self._end(reason)

    def expire(self) -> None:
        """The token has come to its end."""
        self.close(Disconnect.TOKEN_EXPIRED)
