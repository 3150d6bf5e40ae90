"""Bodies of the API: taken field by field, so that every wrong field is named at once.

The ``data`` of a publication is never decoded: its bytes are checked and passed through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel, InvalidChannel
from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.core.publication import DeliveryClass, Priority
from mechamap_rt.http.replies import Error, HTTPFault
from mechamap_rt.wire import json
from mechamap_rt.wire.socketio import RESERVED

MAX_CHANNELS: Final = 1000
MAX_BROADCASTS: Final = 1000
MAX_EVENT: Final = 255
MAX_KEY: Final = 255
MAX_TIMESTAMP: Final = 64
MAX_SOCKET: Final = 64

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_EMPTY_LIST = re.compile(rb"\[\s*\]")
_ID = re.compile(r"[1-9][0-9]{0,18}")
_CLASSES: Final = {kind.name.lower(): kind for kind in DeliveryClass if kind is not DeliveryClass.INTERNAL}
_PRIORITIES: Final = {priority.name.lower(): priority for priority in Priority}


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One event for one or more channels, as the backend asked for it.

    :ivar data: the event's data, one JSON object.
    :ivar sender: the connection that must not get it, or ``""``.
    """

    channels: tuple[Channel, ...]
    event: str
    data: bytes
    timestamp: str | float | None = None
    delivery: DeliveryClass | None = None
    key: str | None = None
    sender: str = ""
    priority: Priority = Priority.HIGH


class Fields:
    """The members of one JSON object; collects what is wrong with them.

    :param prefix: put before the names in :attr:`faults`, for objects inside lists.
    :raises HTTPFault: it is no JSON object (400).
    """

    def __init__(self, raw: bytes, prefix: str = "") -> None:
        self.faults: list[tuple[str, str]] = []
        self._prefix = prefix
        self._members = _members(raw, prefix.rstrip(".") or "body")

    def fault(self, name: str, why: str) -> None:
        """Something is wrong with the member ``name``; the first reason counts."""
        full = self._prefix + name
        if all(full != known for known, _ in self.faults):
            self.faults.append((full, why))

    def merge(self, other: Fields) -> None:
        self.faults.extend(other.faults)

    def check(self) -> None:
        """:raises HTTPFault: anything was wrong, naming all of it."""
        if self.faults:
            raise HTTPFault(Error.VALIDATION, "The request is not valid", self.faults)

    def names(self) -> list[str]:
        """The names of all members."""
        return list(self._members)

    def has(self, name: str) -> bool:
        return name in self._members and bytes(self._members[name]) != b"null"

    def value(self, name: str) -> Any:
        """The decoded member, or ``None``; for small values."""
        raw = self._members.get(name)
        try:
            return None if raw is None else json.decode(bytes(raw))
        except json.BadJSON as error:
            self.fault(name, str(error))
            return None

    def text(self, name: str, limit: int, *, required: bool = True) -> str | None:
        value = self.value(name)
        if value is None or value == "":
            if required:
                self.fault(name, "required")
            return None
        if not isinstance(value, str) or len(value) > limit:
            self.fault(name, f"a string of at most {limit} characters")
            return None
        return value

    def event(self, name: str = "event") -> str:
        """An event's name; those that Socket.IO keeps for itself would end the connection of every subscriber."""
        event = self.text(name, MAX_EVENT) or ""
        if event in RESERVED:
            self.fault(name, "a name that Socket.IO reserves: " + ", ".join(sorted(RESERVED)))
        return event

    def ident(self, name: str) -> int:
        """A database id: a positive integer, or its decimal digits in a string."""
        value = self.value(name)
        if isinstance(value, str) and _ID.fullmatch(value):
            value = int(value)
        found = number_of(value)
        if found is None:
            self.fault(name, "a positive integer is required")
            return 0
        return found

    def channel(self, name: str) -> Channel | None:
        value = self.value(name)
        if value is None:
            self.fault(name, "required")
            return None
        return self.named(name, value)

    def named(self, name: str, value: Any) -> Channel | None:
        """The channel of a string or of ``{"name": …}``, which is how PHP serialises its channel objects."""
        if isinstance(value, dict):
            value = value.get("name")
        try:
            if not isinstance(value, str):
                raise InvalidChannel("a channel's name, or an object with its name, is required")
            return channels.parse(value)
        except InvalidChannel as error:
            self.fault(name, str(error))
            return None

    def channels(self) -> tuple[Channel, ...]:
        value = self.value("channels")
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_CHANNELS:
            self.fault("channels", f"a list of 1 to {MAX_CHANNELS} channels is required")
            return ()
        found = [self.named(f"channels[{at}]", item) for at, item in enumerate(value)]
        return tuple(channel for channel in found if channel is not None)

    def data(self) -> bytes:
        """The event's data as it came; nothing, ``null`` and PHP's empty array are the empty object."""
        raw = self._members.get("data")
        body = b"{}" if raw is None else bytes(raw)
        if body == b"null" or _EMPTY_LIST.fullmatch(body):
            return b"{}"
        if not body.startswith(b"{"):
            self.fault("data", "an object is required")
        elif json.too_deep(body):
            self.fault("data", f"nested deeper than {json.MAX_DEPTH} levels")
        return body

    def timestamp(self) -> str | float | None:
        value = self.value("timestamp")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or number or (isinstance(value, str) and 0 < len(value) <= MAX_TIMESTAMP):
            return value  # type: ignore[no-any-return]
        self.fault("timestamp", f"a number, or a string of at most {MAX_TIMESTAMP} characters")
        return None

    def delivery(self) -> DeliveryClass | None:
        value = self.value("class")
        if value is None:
            return None
        kind = _CLASSES.get(value) if isinstance(value, str) else None
        if kind is None:
            self.fault("class", "one of " + ", ".join(_CLASSES))
        return kind

    def priority(self) -> Priority:
        value = self.value("priority")
        if value is None:
            return Priority.HIGH
        priority = _PRIORITIES.get(value) if isinstance(value, str) else None
        if priority is None:
            self.fault("priority", "one of " + ", ".join(_PRIORITIES))
            return Priority.HIGH
        return priority

    def objects(self, name: str, limit: int) -> list[Fields]:
        """A list of objects."""
        raw = self._members.get(name)
        try:
            items = _LIST.decode(raw) if raw is not None else []
        except msgspec.ValidationError:
            items = []
        if not 1 <= len(items) <= limit:
            self.fault(name, f"a list of 1 to {limit} objects is required")
            return []
        found = []
        for at, item in enumerate(items):
            try:
                found.append(Fields(bytes(item), f"{self._prefix}{name}[{at}]."))
            except HTTPFault as fault:
                self.faults.extend(fault.details)
        return found


def number_of(value: Any) -> int | None:
    """The database id that a decoded number is: ``5``, and ``5.0``, which is the same number in JSON."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_ID:
        return None
    return value


def _members(raw: bytes, name: str) -> dict[str, msgspec.Raw]:
    try:
        # msgspec checks everything of an undecoded member but its UTF-8
        raw.decode()
        return _OBJECT.decode(raw)
    except msgspec.ValidationError:
        why = "a JSON object is required"
    except (ValueError, RecursionError):
        why = _why(raw)
    raise HTTPFault(Error.VALIDATION, "The request is not valid", [(name, why)])


def _why(raw: bytes) -> str:
    try:
        json.decode(raw)
    except json.BadJSON as error:
        return str(error)
    return "not valid JSON"


def laravel_broadcast(raw: bytes) -> Broadcast:
    """``{channels, event, data?, timestamp?, socket?}``, as Laravel's broadcaster sends it."""
    fields = Fields(raw)
    broadcast = Broadcast(
        channels=fields.channels(),
        event=fields.event(),
        data=fields.data(),
        timestamp=fields.timestamp(),
        delivery=fields.delivery(),
        key=fields.text("key", MAX_KEY, required=False),
        sender=fields.text("socket", MAX_SOCKET, required=False) or "",
        priority=fields.priority(),
    )
    fields.check()
    return broadcast


def broadcast(raw: bytes) -> Broadcast:
    """``{channel, event, data}``, or with ``to`` and ``user_id`` or ``thread_id`` in the place of ``channel``."""
    fields = Fields(raw)
    found = _broadcast(fields, _target(fields))
    fields.check()
    return found


def _target(fields: Fields) -> Channel | None:
    if not fields.has("to"):
        return fields.channel("channel")
    to = fields.value("to")
    if to == "user":
        return user_channel(fields.ident("user_id"))
    if to == "thread":
        return channels.parse(f"thread.{fields.ident('thread_id')}")
    fields.fault("to", "one of user, thread")
    return None


def user_channel(user_id: int) -> Channel:
    return channels.parse(f"private-user.{user_id}")


def _broadcast(fields: Fields, channel: Channel | None) -> Broadcast:
    return Broadcast(
        channels=() if channel is None else (channel,),
        event=fields.event(),
        data=fields.data(),
        delivery=fields.delivery(),
        key=fields.text("key", MAX_KEY, required=False),
        priority=fields.priority(),
    )


def broadcasts(raw: bytes) -> list[Broadcast]:
    """``{broadcasts: [{channel, event, data}]}``"""
    fields = Fields(raw)
    found = []
    for item in fields.objects("broadcasts", MAX_BROADCASTS):
        found.append(_broadcast(item, item.channel("channel")))
        fields.merge(item)
    fields.check()
    return found


def user_event(raw: bytes, user_id: int) -> Broadcast:
    """``{event, data}`` for the user in the path."""
    fields = Fields(raw)
    found = _broadcast(fields, user_channel(user_id))
    fields.check()
    return found


def notify(raw: bytes) -> Broadcast:
    """``{action: "send_to_user", user_id, data}`` or ``{action: "broadcast_to_channel", channel, data}``.

    A ``data.priority`` is the site's own and means nothing here.
    """
    fields = Fields(raw)
    action = fields.value("action")
    channel: Channel | None = None
    event = "notification"
    data = fields.data()
    if action == "send_to_user":
        channel = user_channel(fields.ident("user_id"))
    elif action == "broadcast_to_channel":
        channel = fields.channel("channel")
        event = _type_of(fields, data)
    else:
        fields.fault("action", "one of send_to_user, broadcast_to_channel")
    delivery, priority = fields.delivery(), fields.priority()
    key = fields.text("key", MAX_KEY, required=False)
    fields.check()
    found = () if channel is None else (channel,)
    return Broadcast(found, event, data, delivery=delivery, key=key, priority=priority)


def _type_of(fields: Fields, data: bytes) -> str:
    """A channel's notification is named by ``data.type``."""
    if fields.faults and fields.faults[-1][0] == "data":
        return ""
    inner = Fields(data, "data.")
    name = inner.event("type")
    fields.merge(inner)
    return name
