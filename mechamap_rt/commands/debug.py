"""Debug mode: administrators are shown every few seconds what the server does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.dispatch import Command
from mechamap_rt.commands.outcome import Outcome, rate_limited
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
                raise rate_limited(f"connections in debug mode: {MAX_SHOWN} at once", INTERVAL)
            self._shown[connection] = None
            # the first figures come at once, but after the answer
            self._wheel.after(0.0, lambda: self._begin_show((connection,)))
            if not self._ticking:
                self._ticking = True
                self._wheel.after(INTERVAL, self._tick)
        return Outcome("debug_mode", {"enabled": enabled, "timestamp": json.timestamp(self._clock())})

    def _tick(self) -> None:
        self._clear()
        if not self._shown:
            self._ticking = False
            return
        self._wheel.after(INTERVAL, self._tick)
        self._begin_show(tuple(self._shown))

    def _begin_show(self, connections: Iterable[Connection]) -> None:
        showing = Deferred.fromCoroutine(self._show(connections))
        showing.addErrback(lambda reason: _log.failure("Debugging figures could not be made", reason))

    def _clear(self) -> None:
        """Those who are gone, or no administrators any more, are shown nothing."""
        for connection in tuple(self._shown):
            if connection.state is not State.ACTIVE or connection.identity.rank < ADMIN:
                del self._shown[connection]

    async def _show(self, connections: Iterable[Connection]) -> None:
        cluster = await self._census.figures()
        events = {
            "connection_stats": self._connections() | {"cluster": cluster},
            "memory_usage": {"rss": resident(), "descriptors": descriptors()},
            "event_metrics": self._events(),
        }
        self._clear()
        about = {"worker": self._node.name, "timestamp": json.timestamp(self._clock())}
        for connection in connections:
            # it may have ended it meanwhile
            for event, payload in events.items() if connection in self._shown else ():
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
