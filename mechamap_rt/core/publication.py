"""A publication: one event on one channel, on its way to everybody subscribed."""

from __future__ import annotations

from enum import IntEnum
from itertools import count
from time import monotonic
from typing import Final

from mechamap_rt.core.channels import Channel
from mechamap_rt.wire import json


class DeliveryClass(IntEnum):
    """What may happen to an event when a client cannot keep up."""

    #: Worthless a moment later (typing): dropped first.
    VOLATILE = 0
    #: Only the newest value of a key matters (counters): older ones are replaced.
    STATE = 1
    #: Must arrive: when it cannot, the connection is closed so that the client knows.
    DURABLE = 2
    #: For processes, not for their clients; what was missed is asked for.
    INTERNAL = 3


#: Not kept for processes that cannot be reached now.
WORTHLESS_LATER: Final = frozenset((DeliveryClass.VOLATILE, DeliveryClass.INTERNAL))


class Priority(IntEnum):
    """How long an event may be held back, to leave together with others of its channel (``core/batches``)."""

    #: Leaves at once; false, so that this is asked with one test.
    HIGH = 0
    #: Leaves within 2 s.
    MEDIUM = 1
    #: Leaves within 10 s.
    LOW = 2


_VOLATILE: Final = frozenset(
    (
        "user_typing",
        "user_stopped_typing",
        "user_activity",
        "group_typing_start",
        "group_typing_stop",
    )
)
#: Events that carry the whole current value of the one thing their channel is about.
_STATE: Final = frozenset(
    (
        ("thread", "thread.like.updated"),
        ("thread", "thread.stats.updated"),
        ("user", "notification.unread_count"),
    )
)


class Publication:
    """One event on one channel.

    :ivar id: unique in the cluster, given back to the publisher.
    :ivar data: the event's data as JSON, passed through to every subscriber as it is.
    :ivar key: two ``STATE`` publications with the same key replace each other.
    :ivar sender: id of the connection that must not get it back, or ``""``.
    :ivar born: when it was accepted; seconds of this host's monotonic clock. Of another host's: when it came here.
    """

    __slots__ = ("born", "channel", "data", "delivery", "event", "id", "key", "priority", "sender")

    def __init__(
        self,
        ident: str,
        channel: Channel,
        event: str,
        data: bytes,
        *,
        delivery: DeliveryClass | None = None,
        key: str | None = None,
        sender: str = "",
        priority: Priority = Priority.HIGH,
    ) -> None:
        self.id = ident
        self.channel = channel
        self.event = event
        self.data = data
        self.delivery = classify(channel, event, key) if delivery is None else delivery
        self.key = f"{channel.resource} {event} {key or ''}"
        self.sender = sender
        self.priority = priority
        self.born = monotonic()

    @classmethod
    def restored(
        cls,
        ident: str,
        channel: Channel,
        event: str,
        data: bytes,
        delivery: DeliveryClass,
        key: str,
        sender: str,
        priority: Priority,
        born: float = 0.0,
    ) -> Publication:
        """A publication that another process made, attribute for attribute."""
        self = cls.__new__(cls)
        self.id, self.channel, self.event, self.data = ident, channel, event, data
        self.delivery, self.key, self.sender, self.priority = delivery, key, sender, priority
        self.born = born or monotonic()
        return self


def classify(channel: Channel, event: str, key: str | None = None) -> DeliveryClass:
    """The class of an event whose publisher did not name one; a key alone makes it ``STATE``."""
    if event in _VOLATILE:
        return DeliveryClass.VOLATILE
    if key is not None or (channel.kind, event) in _STATE:
        return DeliveryClass.STATE
    return DeliveryClass.DURABLE


_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    """``number`` (not negative) in as few characters as URLs, logs and people like."""
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if not number:
            return text


class PublicationIds:
    """Gives out publication ids: ``<node>-<serial>``, both base 36; the serials count up from ``first``."""

    __slots__ = ("_node", "_serial")

    def __init__(self, node: str, first: int = 1) -> None:
        self._node = node
        self._serial = count(first)

    def __call__(self) -> str:
        return f"{self._node}-{base36(next(self._serial))}"


def splice(data: bytes, extra: bytes, *, wins: bool = True) -> bytes:
    """Add the members ``extra`` (JSON ``"name":value`` pairs, not empty) to the JSON object ``data``, undecoded.

    A member that ``data`` has already is then there twice; JSON parsers take the last.

    :param data: one JSON object without surrounding white space; anything else is the caller's fault.
    :param wins: ``extra`` comes last, as in the object spread of the service this one replaces.
    """
    body = data[1:-1].strip()
    if not body:
        return b"{%b}" % extra
    return b"{%b,%b}" % ((body, extra) if wins else (extra, body))


def provenance(timestamp: str | float, source: str) -> bytes:
    """The members that every publication of the backend gets: when, and from where."""
    return b'"timestamp":%b,"source":%b' % (json.encode(timestamp), json.string(source))
