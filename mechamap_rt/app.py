"""The composition root: the only place that knows everyone."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from socket import AF_UNIX
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.web.resource import IResource

from mechamap_rt import demo
from mechamap_rt.announcement import features
from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.community import Community
from mechamap_rt.core.batches import Batches
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.http.administration import Administration
from mechamap_rt.http.audit import Acts
from mechamap_rt.http.call import Call
from mechamap_rt.http.description import description_route
from mechamap_rt.http.idempotency import Idempotency
from mechamap_rt.http.information import Information
from mechamap_rt.http.keys import Keys
from mechamap_rt.http.limits import RateLimits
from mechamap_rt.http.monitoring import Monitoring
from mechamap_rt.http.pages import pages
from mechamap_rt.http.polling import PollingResource
from mechamap_rt.http.presence import Attendance
from mechamap_rt.http.protection import Protection
from mechamap_rt.http.publishing import Publishing
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.revoking import Revoking
from mechamap_rt.http.routing import Route, Router
from mechamap_rt.http.traffic import Traffic
from mechamap_rt.http.tree import Tree, make_site
from mechamap_rt.interfaces import IReactor
from mechamap_rt.place import HOST_LENGTH, Place, process_name
from mechamap_rt.rights import Rights
from mechamap_rt.settings import Settings
from mechamap_rt.settings.addresses import TrustProxy
from mechamap_rt.system import descriptors, listening
from mechamap_rt.system.collector import Collector
from mechamap_rt.system.meter import Meter, Sample
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
from mechamap_rt.wire.forwarded import client_address

if TYPE_CHECKING:
    from mechamap_rt.system.tls import Terminal

#: Seconds that clients have to go when the server stops; then they are cut.
STOP_TIMEOUT: Final = 3.0
#: Seconds in which an HTTP client that is silent may still ask, when its process is replaced.
HTTP_PATIENCE: Final = 1.0
#: Seconds between two readings of the meter.
MEASURED_EVERY: Final = 1.0
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
        self.traffic = Traffic()
        self.port = self._port()
        self.meter = Meter(reactor, reactor.seconds)
        self._sample = self.meter.sample()
        self._measuring = LoopingCall(self._measure)
        self._began = time.monotonic()
        #: Makes connections secure, with the certificate that it is given; ``None`` without TLS.
        self.terminal = _terminal(reactor) if settings.tls.enabled else None
        self._collector = Collector(reactor, settings.cluster.gc_interval)

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
        tree = self._tree()
        site = self.site = make_site(
            self._reactor,
            tree,
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

    def _tree(self) -> Tree:
        settings = self._settings
        trust = settings.server.trust_proxy
        keys = self.keys = Keys(
            api_keys=(settings.laravel.api_key, *settings.laravel.previous_api_keys),
            admin_keys=(settings.admin.key, *settings.admin.previous_keys),
            authenticator=self.rights.authenticator,
            allow_from=settings.laravel.broadcast_allow_from,
            hops=trust.hops,
            networks=trust.networks,
            rates=self._place.rates,
            failures=settings.rate_limit.auth_failures,
        )
        acts = Acts(self._place.audit, keys)
        bundle = pages("socket.io")
        served: dict[str, IResource] = {f"/socket.io/{name}": page for name, page in bundle.items()}
        self.monitoring = Monitoring(
            self.node,
            keys,
            acts,
            time.time,
            self.measure,
            self.traffic,
            features(settings),
            enabled=settings.monitoring.metrics_enabled,
            prometheus=settings.monitoring.prometheus_metrics,
        )
        routes = [
            *Publishing(self.node, keys, time.time, Idempotency(self._reactor, self._place.ledger)).routes(),
            *Attendance(self.community.presence, keys, time.time).routes(),
            *Administration(self.census, keys, acts, time.time).routes(),
            *self.monitoring.routes(),
            *Revoking(self.community.revocation, self.rights.authenticator, keys, acts, time.time).routes(),
            *Information(
                self.node,
                self.census,
                keys,
                time.time,
                features(settings),
                settings.server.node_env,
                lambda: self.router.draining or self.site.closing,
                self.rights.database.status,
                self.rights.figures,
            ).routes(),
        ]
        if settings.demo:
            console = pages("console")
            served |= {f"/console/{name}": page for name, page in console.items()}
            served |= {"/console": console["index.html"], "/console/": console["index.html"]}
            routes.append(_console_route(settings, bool(bundle)))
        docs = pages("docs")
        served |= {f"/docs/{name}": page for name, page in docs.items()}
        served |= {"/docs": docs["index.html"], "/docs/": docs["index.html"]}
        routes.append(description_route(routes, settings.ws.max_http_buffer_size))
        self.limits = RateLimits(self._place.rates, settings.rate_limit, keys.account)
        self.router = Router(routes, self.traffic, self.limits)
        self.polling = PollingResource(self.engine, self.gate, partial(_address, trust))
        return Tree(served, self.router, self.gate, self.polling)

    # life

    async def start_up(self) -> None:
        """Be ready to take clients."""
        self._reactor.installNameResolver(Resolver(self._reactor))
        await self.rights.start()
        await self.node.start()
        self.meter.start()
        self._measuring.clock = self._reactor
        self._measuring.start(MEASURED_EVERY)
        self.community.start()
        self._collector.start()

    def accept(self) -> None:
        """Take clients."""
        place = self._place
        self.monitoring.start()
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
        self.site.closing = self.tunnels.closing = True
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
        """What an operator sees of it."""
        node = self.node
        certificate = {} if self.terminal is None else {"certificate": self.terminal.figures()}
        return certificate | {
            "tunnels": len(self.tunnels.open),
            "degraded": node.degraded,
            "connections": node.connection_count(),
            "users": node.user_count(),
            "subscriptions": node.hub.subscriptions,
            "published": node.published,
            "delivered": node.hub.delivered,
        }

    def _measure(self) -> None:
        self._sample = self.meter.sample()

    @property
    def sample(self) -> Sample:
        """What the process used in the last second or so."""
        return self._sample

    def measure(self) -> dict[str, Any]:
        """The figures of this process for :class:`~mechamap_rt.http.monitoring.Monitoring`; times in seconds."""
        outboxes = self.turn.stats
        database = self.rights.database.figures()
        pools = [100 * pool["inUse"] / pool["size"] for pool in database.get("pools", ()) if pool.get("size")]
        return {
            "worker": self.node.name,
            "uptime": time.monotonic() - self._began,
            **self.figures(),
            **self._sample,
            "cpuSeconds": time.process_time(),
            "dropped": outboxes.dropped,
            "coalesced": outboxes.coalesced,
            "bytes": outboxes.bytes,
            **self.traffic.figures(),
            "answers": [(route, status, count) for (route, status), count in self.traffic.answers.items()],
            "limited": self.limits.refused,
            "wrongKeys": self.keys.failed,
            "database": database["status"],
            "pool": max(pools, default=0.0),
        }

    async def shut_down(self) -> None:
        """Let nobody in, let every client go so that it comes back by itself, then close what is behind."""
        deadline = self._reactor.seconds() + STOP_TIMEOUT
        self.router.draining = self.gate.draining = self.engine.draining = self.lobby.closing = True
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
        self._collector.stop()
        self.meter.stop()
        if self._measuring.running:
            self._measuring.stop()
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


def _by_address(host: str, domain: str) -> bool:
    """Is the server called by an address, or a name that is its own?

    A page of a stranger's name that is made to mean this host (DNS rebinding) is of one origin with it.
    """
    name = re.sub(r":[0-9]*$", "", host).strip("[]").lower()
    try:
        ip_address(name)
    except ValueError:
        return name in ("localhost", domain.lower() or "localhost")
    return True


def _address(trust: TrustProxy, peer: str, forwarded: str | None) -> str:
    """A client's address, as far as proxies are trusted to tell it."""
    return client_address(peer, forwarded, trust.hops, trust.networks)


def _console_route(settings: Settings, socketio: bool) -> Route:
    async def answer(call: Call) -> Reply:
        if not _by_address(call.header(b"host") or "", settings.server.domain):
            raise HTTPFault(Error.FORBIDDEN, "Open the console by this host's address, not by a name")
        return Reply.of(demo.console_config(settings, time.time(), socketio))

    return Route("/console/config.json", {"GET": answer})
