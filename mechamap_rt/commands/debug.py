"""Debug mode: administrators are shown every few seconds what the server does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.dispatch import Command
from mechamap_rt.commands.outcome import Outcome
from mechamap_rt.core.connection import Connection, State
from mechamap_rt.core.identity import ADMIN
from mechamap_rt.core.outbox import OutboxStats
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import ClientFault, Code
from mechamap_rt.system.meter import descriptors, resident
from mechamap_rt.wire import json

_log = Logger()

#: Seconds between two sets of figures.
INTERVAL: Final = 5.0
#: Connections of one process that may have them at once.
MAX_SHOWN: Final = 32


class Debugging:
    """Sends ``connection_stats``, ``memory_usage`` and ``event_metrics`` to those who have asked for them.

    :param requests: how often clients have asked for what, by name.
    :param outboxes: what all outboxes of the process did.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        node: Node,
        census: Census,
        wheel: Wheel,
        requests: Callable[[], Mapping[str, int]],
        outboxes: OutboxStats,
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._census = census
        self._wheel = wheel
        self._requests = requests
        self._outboxes = outboxes
        self._clock = clock
        self._shown: dict[Connection, None] = {}
        self._ticking = False

    def table(self) -> Mapping[str, Command]:
        return {"debug_mode": Command(self.debug_mode)}

    async def debug_mode(self, connection: Connection, data: Any) -> Outcome:
        """``{enabled}``: for administrators, until they end it, leave, or are none any more."""
        enabled = data.get("enabled") if isinstance(data, dict) else data
        if not isinstance(enabled, bool):
            raise ClientFault(Code.VALIDATION_ERROR, "true or false", field="enabled")
        if connection.identity.rank < ADMIN:
            raise ClientFault(Code.PERMISSION_DENIED, "For administrators only")
        if not enabled:
            self._shown.pop(connection, None)
        elif connection not in self._shown:
            self._clear()
            if len(self._shown) >= MAX_SHOWN:
                raise ClientFault(Code.RATE_LIMITED, f"At most {MAX_SHOWN} connections at once")
            self._shown[connection] = None
            self._begin()
        return Outcome("debug_mode", {"enabled": enabled, "timestamp": json.timestamp(self._clock())})

    def _begin(self) -> None:
        if not self._ticking:
            self._ticking = True
            # after the answer
            self._wheel.after(0.0, self._tick)

    def _tick(self) -> None:
        self._clear()
        if not self._shown:
            self._ticking = False
            return
        self._wheel.after(INTERVAL, self._tick)
        showing = Deferred.fromCoroutine(self._show())
        showing.addErrback(lambda reason: _log.failure("Debugging figures could not be made", reason))

    def _clear(self) -> None:
        """Those who are gone, or no administrators any more, are shown nothing."""
        for connection in tuple(self._shown):
            if connection.state is not State.ACTIVE or connection.identity.rank < ADMIN:
                del self._shown[connection]

    async def _show(self) -> None:
        cluster = await self._census.figures()
        events = {
            "connection_stats": self._connections() | {"cluster": cluster},
            "memory_usage": {"rss": resident(), "descriptors": descriptors()},
            "event_metrics": self._events(),
        }
        self._clear()
        about = {"worker": self._node.name, "timestamp": json.timestamp(self._clock())}
        for event, payload in events.items():
            for connection in self._shown:
                connection.emit(event, payload | about, DeliveryClass.VOLATILE)

    def _connections(self) -> dict[str, Any]:
        node = self._node
        return {
            "connections": node.connection_count(),
            "users": node.user_count(),
            "subscriptions": node.hub.subscriptions,
        }

    def _events(self) -> dict[str, Any]:
        node, outboxes = self._node, self._outboxes
        return {
            "received": dict(self._requests()),
            "published": node.published,
            "delivered": node.hub.delivered,
            "dropped": outboxes.dropped,
            "coalesced": outboxes.coalesced,
            "bytesSent": outboxes.bytes,
        }
