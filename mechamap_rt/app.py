"""The composition root: the only place that knows everyone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from socket import AF_UNIX
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater

from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.community import Community
from mechamap_rt.core.batches import Batches
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.http.live import PATH as LIVE
from mechamap_rt.http.live import LiveDoor
from mechamap_rt.http.polling import PollingResource
from mechamap_rt.http.protection import Protection
from mechamap_rt.http.tree import Tree, make_site
from mechamap_rt.interfaces import IReactor
from mechamap_rt.place import HOST_LENGTH, Place, process_name
from mechamap_rt.rights import Rights
from mechamap_rt.settings import Settings
from mechamap_rt.settings.addresses import TrustProxy
from mechamap_rt.system import descriptors, listening
from mechamap_rt.system.names import Resolver
from mechamap_rt.transport.drain import Drain
from mechamap_rt.transport.engineio import EngineDoor
from mechamap_rt.transport.gate import Gate
from mechamap_rt.transport.handover import Handover
from mechamap_rt.transport.handshake import Origins
from mechamap_rt.transport.native import NativeDoor
from mechamap_rt.transport.pending import Pending, own_address
from mechamap_rt.transport.port import Port
from mechamap_rt.transport.tunnel import Tunnels
from mechamap_rt.watching import Watching
from mechamap_rt.web import Web
from mechamap_rt.wire.forwarded import client_address

if TYPE_CHECKING:
    from mechamap_rt.system.tls import Terminal

#: Seconds that clients have to go when the server stops; then they are cut.
STOP_TIMEOUT: Final = 3.0
#: Seconds in which an HTTP client that is silent may still ask, when its process is replaced.
HTTP_PATIENCE: Final = 1.0
#: Seconds of these in which polling clients may still ask for what is left for them.
POLLING_PATIENCE: Final = 1.0


class Realtime:
    """What serves clients, in a process that has its host for itself or shares it.

    :param place: where in the cluster the process is.
    """

    def __init__(self, reactor: IReactor, settings: Settings, place: Place) -> None:
        self._reactor = reactor
        self._settings = settings
        self._place = place
        self._listening: list[IListeningPort] = []
        # one message of the largest size must not cost a client its connection, whatever the limits
        hard = max(settings.limits.outbox_hard_limit, settings.ws.max_http_buffer_size)
        self.turn = Turn(reactor, settings.limits.outbox_soft_limit, hard)
        self.wheel = Wheel(reactor)
        self.node = Node(place.bus, place.name)
        self.batches = self.node.batches = Batches(self.wheel, self.node.hub.deliver, settings.limits.outbox_soft_limit)
        self.census = Census(self.node)
        self.rights = Rights(reactor, settings, place)
        self.community = Community(reactor, place, self.node, self.rights, self.census, self.wheel, self.turn, settings)
        self.lobby = self.community.lobby
        self.gate = _gate(reactor, settings, self.turn, self.wheel)
        self.watching = Watching(reactor, settings, place, self.node, self.turn)
        self.web = Web(reactor, settings, place, self.node, self.census, self.rights, self.community, self.watching)
        self.port = self._port()
        self.watching.more.append(self._measure)
        #: Makes connections secure, with the certificate that it is given; ``None`` without TLS.
        self.terminal = _terminal(reactor) if settings.tls.enabled else None

    # building

    def _port(self) -> Port:
        settings = self._settings
        ws = settings.ws
        origins = Origins(settings.cors.origins, settings.cors.credentials)
        self.engine = EngineDoor(
            self.lobby,
            self.turn,
            origins,
            ping_interval=ws.ping_interval,
            ping_timeout=ws.ping_timeout,
            connect_timeout=settings.limits.connection_timeout or math.inf,
            upgrade_timeout=ws.upgrade_timeout,
            max_payload=ws.max_http_buffer_size,
            transports=ws.transports,
            namespaces=frozenset(("/", *ws.namespaces)),
        )
        heartbeat = settings.limits.heartbeat_interval
        native = NativeDoor(
            self.lobby,
            origins,
            heartbeat=ws.ping_interval if heartbeat is None else heartbeat,
            ping_timeout=ws.ping_timeout,
            connect_timeout=settings.limits.connection_timeout,
        )
        engineio = dict.fromkeys(("/socket.io/", "/socket.io"), self.engine.accept)
        self.gate.routes.update(engineio | {"/ws": native.accept})
        if settings.monitoring.metrics_enabled:
            live = LiveDoor(self._reactor, self.web.keys, origins, self.wheel, self.web.monitoring.live)
            self.gate.routes[LIVE] = live.accept
        self.polling = PollingResource(self.engine, self.gate, partial(_address, settings.server.trust_proxy))
        site = self.site = make_site(
            self._reactor,
            Tree(self.web.pages, self.web.router, self.gate, self.polling),
            self.engine,
            ws.max_http_buffer_size,
            settings.http.compression_enabled,
            Protection(settings.http.helmet_enabled, settings.tls.enabled),
        )
        trust, limits = settings.server.trust_proxy, settings.limits
        pending = Pending(
            limits.max_pending_connections,
            limits.max_pending_connections_per_ip,
            own_address(trust.hops, trust.networks),
        )
        port = Port(site, self.gate, self.wheel, pending, descriptors.ceiling())
        self.tunnels = Tunnels(self._reactor, self.wheel)
        relay, share = self._place.relay, self._place.share
        if share is not None:
            share.count_clients = lambda: len(self.engine.sessions) + len(self.gate.pipes)
        if relay is not None:
            name_of = partial(process_name, self.node.name[:HOST_LENGTH])
            handover = Handover(self._reactor, relay, self.node.name, port, site, self.tunnels, share, name_of)
            port.handover = site.express.handover = self.polling.handover = handover
        return port

    # life

    async def start_up(self) -> None:
        """Be ready to take clients."""
        self._reactor.installNameResolver(Resolver(self._reactor))
        await self.rights.start()
        await self.node.start()
        self.watching.start()
        self.community.start()

    def accept(self) -> None:
        """Take clients."""
        place = self._place
        self.web.monitoring.start()
        self.community.revocation.start()
        if place.share is not None:
            place.share.start()
        secured = self.port if self.terminal is None else self.terminal.factory(self.port)
        self._listening = [
            listening.adopt(
                self._reactor,
                bound,
                # who connects by a unix socket is on this host, a proxy or the site: there is nothing to hide
                self.port if bound.family == AF_UNIX else secured,
                share=place.share,
            )
            for bound in place.sockets
        ]

    async def close(self) -> None:
        """Take no more clients; those who are here stay. What waits in the sockets' queues is for other processes."""
        if self._place.share is not None:
            self._place.share.leave()
        ports, self._listening = self._listening, []
        for port in ports:
            await _finished(port.stopListening())
        for bound in self._place.sockets:
            bound.socket.close()
            bound.unlink()
        self._place.sockets = []

    async def drain(self, seconds: float, arrived: Callable[[], int] | None = None) -> int:
        """Take no more clients, and let those who are here go over ``seconds``.

        :param arrived: how many connections the processes have that take them up.
        :returns: how many were let go.
        """
        until = self._reactor.seconds() + max(seconds, HTTP_PATIENCE)
        await self.close()
        self.site.closing = self.tunnels.closing = self.web.information.closing = True
        self.rights.retire()
        self.site.hurry_forwarded()
        drain = Drain(self._reactor, self.gate, self.engine, self.tunnels, arrived, self.batches.flush)
        await drain.run(seconds)
        # a connection that has a request in this time learns that it is its last; the silent ones are closed
        while self.site.channels and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.05)
        while self.site.close_idle() and self._reactor.seconds() < until + HTTP_PATIENCE:
            await deferLater(self._reactor, 0.05)
        return drain.dismissed

    def figures(self) -> dict[str, Any]:
        """What an operator, and the master, see of it."""
        certificate = {} if self.terminal is None else {"certificate": self.terminal.figures()}
        # the embedded one has one connection, which is all in use whenever it is
        pools = () if self._settings.database.embedded else self.rights.database.figures().get("pools", ())
        return certificate | {
            **self.watching.figures(),
            "tunnels": len(self.tunnels.open),
            "database": self.rights.database.status(),
            "pool": max((100 * pool["inUse"] / pool["size"] for pool in pools if pool.get("size")), default=0.0),
        }

    def _measure(self) -> dict[str, Any]:
        """Figures of what :class:`Watching` does not know."""
        database = self.rights.database.figures()
        return self.figures() | {
            "pools": database.get("pools", ()),
            "limited": self.web.limits.refused,
            "wrongKeys": self.web.keys.failed,
            "requests_by_name": list(self.community.dispatcher.requests.items()),
        }

    async def shut_down(self) -> None:
        """Let nobody in, let every client go so that it comes back by itself, then close what is behind."""
        deadline = self._reactor.seconds() + STOP_TIMEOUT
        self.web.information.closing = self.web.router.draining = self.gate.draining = self.engine.draining = (
            self.lobby.closing
        ) = True
        self.batches.close()
        self.engine.dismiss_all(Disconnect.RESTART)
        self.gate.dismiss_all(Disconnect.RESTART)
        self.turn.flush()
        # a polling client fetches what is left for it with its next request, perhaps over a new connection
        patience = self._reactor.seconds() + POLLING_PATIENCE
        while self.engine.polling() and self._reactor.seconds() < patience:
            await deferLater(self._reactor, 0.02)
        await self.close()
        # over a tunnel, another process takes leave of its own
        while (self.gate.pipes or self.tunnels.open) and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, 0.02)
        self.gate.abort_all()
        self.tunnels.abort_all()
        self.port.abort_all()
        await deferLater(self._reactor, 0)
        await self.watching.stop()
        if self._place.share is not None:
            self._place.share.stop()
        # the user's other devices shall hear of it, and the bus still carries
        await self.community.stop()
        self.wheel.stop()
        await self.node.stop()
        await self.rights.stop()


def _terminal(reactor: IReactor) -> Terminal:
    # what TLS takes is only for those who have it
    from mechamap_rt.system.tls import Terminal

    return Terminal(reactor)


async def _finished(result: Deferred[Any] | None) -> None:
    if result is not None:
        await result


def _gate(reactor: IReactor, settings: Settings, turn: Turn, wheel: Wheel) -> Gate:
    trust = settings.server.trust_proxy

    def address_of(peer: str, headers: Mapping[str, str]) -> str:
        return _address(trust, peer, headers.get("x-forwarded-for"))

    size = settings.ws.max_http_buffer_size
    deflate = settings.ws.permessage_deflate
    return Gate(reactor, turn=turn, wheel=wheel, max_payload=size, address_of=address_of, deflate=deflate)


def _address(trust: TrustProxy, peer: str, forwarded: str | None) -> str:
    """A client's address, as far as proxies are trusted to tell it."""
    return client_address(peer, forwarded, trust.hops, trust.networks)
