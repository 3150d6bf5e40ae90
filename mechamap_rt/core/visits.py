"""Who has been connected, to what, and until when: what has to be known to say why somebody did not get a message."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from mechamap_rt.core.connection import Connection

#: Connections that have ended, and changes of subscriptions, that are remembered.
MAX_ENDED: Final = 10_000
MAX_CHANGES: Final = 30_000
#: Subscriptions of an ended connection that are, and characters of their names.
MAX_HELD: Final = 64
MAX_NAMES: Final = 2_000


class Visit(NamedTuple):
    """A connection, as it is or was.

    :ivar until: when it ended; 0.0 while it lasts. Moments are seconds since the epoch.
    :ivar reason: why it ended.
    :ivar confirmed: what was written before has reached the client; 0.0 when nothing is known.
    :ivar held: the resources that it is subscribed to, or was when it ended.
    """

    connection: str
    user: int
    protocol: str
    transport: str
    since: float
    until: float
    reason: str
    confirmed: float
    held: frozenset[str]


class _Change(NamedTuple):
    connection: str
    resource: str
    moment: float
    came: bool


class Visits:
    """The history of the connections of one process."""

    def __init__(self) -> None:
        self._ended: deque[Visit] = deque(maxlen=MAX_ENDED)
        self._changes: deque[_Change] = deque(maxlen=MAX_CHANGES)

    def changed(self, connection: Connection, resource: str, came: bool) -> None:
        """A connection has been subscribed to a resource, or is not any more."""
        self._changes.append(_Change(connection.id, resource, time.time(), came))

    def ended(self, connection: Connection, reason: str) -> None:
        """A connection ends; its subscriptions are still there."""
        self._ended.append(visit(connection, time.time(), reason))

    def of(self, user: int) -> Iterator[Visit]:
        """The connections of a user that have ended, as far as they are remembered."""
        return (each for each in self._ended if each.user == user)

    def subscribed(self, visited: Visit, resource: str, moment: float) -> bool | None:
        """Was it subscribed at that moment? ``None``: that is not remembered any more."""
        later: bool | None = None
        for change in reversed(self._changes):
            if change.connection == visited.connection and change.resource == resource:
                if change.moment <= moment:
                    return change.came
                later = change.came
        if later is not None:
            # the first change that is remembered came afterwards, and changed what was before
            return not later if self._remembers(visited.since) else None
        if resource in visited.held:
            return True
        return False if self._remembers(visited.since) else None

    def _remembers(self, moment: float) -> bool:
        """Is every change since ``moment`` still there?"""
        full = len(self._changes) == self._changes.maxlen
        return not full or self._changes[0].moment <= moment


def visit(connection: Connection, until: float = 0.0, reason: str = "") -> Visit:
    """A connection as it is now."""
    confirmed = connection.confirmed
    return Visit(
        connection.id,
        connection.identity.user_id,
        connection.encoder.protocol,
        connection.outbox.transport_name,
        connection.since,
        until,
        reason,
        confirmed + time.time() - time.monotonic() if confirmed else 0.0,
        _held(connection),
    )


def _held(connection: Connection) -> frozenset[str]:
    """What it is subscribed to, or a part of it."""
    found: list[str] = []
    length = 0
    for resource in islice(connection.subscriptions, MAX_HELD):
        length += len(resource)
        if length > MAX_NAMES:
            break
        found.append(resource)
    return frozenset(found)


def described(each: Visit) -> dict[str, Any]:
    """For people; ``until`` is ``None`` while it lasts."""
    return {
        "connection": each.connection,
        "protocol": each.protocol,
        "transport": each.transport,
        "since": each.since,
        "until": each.until or None,
        "reason": each.reason,
    }
