"""The composition root: the only place that knows everyone."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from mechamap_rt import demo
from mechamap_rt.auth.authenticator import ClaimsAuthenticator, OpenAuthenticator
from mechamap_rt.auth.jwt import JWTVerifier
from mechamap_rt.auth.policy import Policy
from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.dispatch import Dispatcher
from mechamap_rt.commands.table import ClientCommands
from mechamap_rt.commands.typing import Typing
from mechamap_rt.core.limits import Admission, Buckets
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.publication import base36
from mechamap_rt.core.rules import RuleTable
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.http.information import Information
from mechamap_rt.http.keys import Keys
from mechamap_rt.http.pages import pages
from mechamap_rt.http.polling import PollingResource
from mechamap_rt.http.publishing import Publishing
from mechamap_rt.http.routing import Router
from mechamap_rt.http.tree import Tree, make_site
from mechamap_rt.interfaces import IAuthenticator, IReactor
from mechamap_rt.settings import Settings
from mechamap_rt.storage.site import Site
from mechamap_rt.storage.sqlite import SQLiteDatabase
from mechamap_rt.transport.engineio import EngineDoor
from mechamap_rt.transport.gate import Gate
from mechamap_rt.transport.handshake import Origins
from mechamap_rt.transport.lobby import Lobby
from mechamap_rt.transport.native import NativeDoor
from mechamap_rt.transport.port import Port
from mechamap_rt.wire.forwarded import client_address

_log = Logger()

#: Seconds that clients have to go when the server stops; then they are cut.
STOP_TIMEOUT: Final = 3.0
#: Seconds of these in which polling clients may still ask for what is left for them.
POLLING_PATIENCE: Final = 1.0


class Realtime(Service):
    """One process of the server, whole.

    :param say: prints what a person at a terminal should see; ``None`` for a daemon.
    :param give_up: called when the start has failed; the process must then end with a status that says so.
    """

    name = "mechamap"

    def __init__(
        self,
        reactor: IReactor,
        settings: Settings,
        say: Callable[[str], object] | None = None,
        give_up: Callable[[], object] | None = None,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._say = say
        self._give_up = give_up
        self._listening: IListeningPort | None = None
        # one message of the largest size must not cost a client its connection, whatever the limits
        hard = max(settings.limits.outbox_hard_limit, settings.ws.max_http_buffer_size)
        self.turn = Turn(reactor, settings.limits.outbox_soft_limit, hard)
        self.wheel = Wheel(reactor)
        self.database = SQLiteDatabase(reactor, settings.database.sqlite_path)
        self.node = Node(MemoryBus(), base36(int(time.time() * 1000) % 36**5))
        self.authenticator = _authenticator(settings)
        self.gate = _gate(reactor, settings, self.turn, self.wheel)
        self.port = self._port()

    # building

    def _port(self) -> Port:
        lobby = self.lobby = self._lobby()
        settings = self._settings
        ws = settings.ws
        origins = Origins(settings.cors.origins, settings.cors.credentials)
        self.engine = EngineDoor(
            lobby,
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
            lobby,
            origins,
            heartbeat=ws.ping_interval if heartbeat is None else heartbeat,
            ping_timeout=ws.ping_timeout,
            connect_timeout=settings.limits.connection_timeout,
        )
        engineio = dict.fromkeys(("/socket.io/", "/socket.io"), self.engine.accept)
        self.gate.routes.update(engineio | {"/ws": native.accept})
        site = make_site(
            self._reactor, self._tree(), self.engine, ws.max_http_buffer_size, settings.http.compression_enabled
        )
        return Port(site, self.gate, self.wheel)

    def _lobby(self) -> Lobby:
        limits = self._settings.limits
        seconds = time.monotonic
        typing = Typing(self.node, self.wheel, time.time)
        admission = Admission(
            total=limits.max_connections,
            per_address=limits.max_connections_per_ip,
            per_user=limits.max_connections_per_user,
            attempts=limits.connection_attempts_per_minute,
            clock=seconds,
        )
        commands = ClientCommands(
            node=self.node,
            policy=Policy(Site(self.database), RuleTable()),
            authenticator=self.authenticator,
            typing=typing,
            channel_limit=Buckets(limits.channel_publications_per_minute, seconds),
            clock=time.time,
            extend=lambda connection: lobby.extend(connection),
        )
        buckets = {
            "events": Buckets(limits.client_events_per_minute, seconds),
            "typing": Buckets(limits.typing_events_per_minute, seconds),
        }
        lobby = Lobby(
            node=self.node,
            dispatcher=Dispatcher(commands.table(), buckets, time.time),
            authenticator=self.authenticator,
            admission=admission,
            typing=typing,
            wheel=self.wheel,
            clock=time.time,
        )
        return lobby

    def _tree(self) -> Tree:
        settings = self._settings
        trust = settings.server.trust_proxy
        keys = Keys(
            api_key=settings.laravel.api_key,
            admin_key=settings.admin.key,
            authenticator=self.authenticator,
            allow_from=settings.laravel.broadcast_allow_from,
            hops=trust.hops,
            networks=trust.networks,
        )
        bundle = pages("socket.io")
        served: dict[str, IResource] = {f"/socket.io/{name}": page for name, page in bundle.items()}
        routes = [
            *Publishing(self.node, keys, time.time).routes(),
            *Information(self.node, keys, time.time, features(settings), settings.server.node_env).routes(),
        ]
        if settings.server.demo:
            console = pages("console")
            served |= {f"/console/{name}": page for name, page in console.items()}
            served |= {"/console": console["index.html"], "/console/": console["index.html"]}
            routes.append(demo.console_route(settings, time.time, bool(bundle)))
        self.router = Router(routes)
        return Tree(served, self.router, self.gate, PollingResource(self.engine, self.gate, keys.address))

    # life

    def startService(self) -> None:
        super().startService()
        starting = Deferred.fromCoroutine(self._start())
        starting.addErrback(self._fail)

    async def _start(self) -> None:
        await self.database.start()
        await self.node.start()
        if not self.running:
            return
        server = self._settings.server
        # a big backlog: when many clients come back at once, nobody should be refused
        self._listening = self._reactor.listenTCP(server.port, self.port, 4096, server.host)
        self._announce()

    def _announce(self) -> None:
        settings = self._settings
        if self._listening is None:
            return
        address: Any = self._listening.getHost()
        host = f"[{address.host}]" if ":" in address.host else address.host
        url = f"http://{host}:{address.port}"
        for caution in cautions(settings):
            _log.warn("Warning: {caution}", caution=caution)
        _log.info("Listening on {url}", url=url)
        if self._say is not None:
            self._say(f"Listening on {url}")
            if settings.server.demo:
                self._say(demo.banner(settings, url, time.time()))

    def _fail(self, reason: Failure) -> None:
        """The start failed: say why in one line, and stop."""
        _log.critical("The server cannot start: {reason}", reason=reason.getErrorMessage())
        if self._say is not None:
            self._say(f"The server cannot start: {reason.getErrorMessage()}")
        if self._give_up is not None:
            self._give_up()
        self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Let nobody in, let every client go so that it comes back by itself, then close what is behind."""
        deadline = self._reactor.seconds() + STOP_TIMEOUT
        self.router.draining = self.gate.draining = self.engine.draining = self.lobby.closing = True
        self.engine.dismiss_all(Disconnect.RESTART)
        self.gate.dismiss_all(Disconnect.RESTART)
        self.turn.flush()
        # a polling client fetches what is left for it with its next request, perhaps over a new connection
        patience = self._reactor.seconds() + POLLING_PATIENCE
        while self.engine.polling() and self._reactor.seconds() < patience:
            await self._pause(0.02)
        listening, self._listening = self._listening, None
        if listening is not None:
            await _finished(listening.stopListening())
        while self.gate.pipes and self._reactor.seconds() < deadline:
            await self._pause(0.02)
        self.gate.abort_all()
        self.port.abort_all()
        await self._pause(0)
        self.wheel.stop()
        await self.node.stop()
        await self.database.stop()

    def _pause(self, seconds: float) -> Deferred[None]:
        pause: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, pause.callback, None)
        return pause


async def _finished(result: Deferred[Any] | None) -> None:
    if result is not None:
        await result


def _authenticator(settings: Settings) -> IAuthenticator:
    claims = ClaimsAuthenticator(JWTVerifier(settings.jwt.secret, settings.jwt.algorithm))
    development = settings.development
    if development.disable_auth:
        return OpenAuthenticator(claims, development.mock_user_id or 1, development.mock_user_role or "member")
    return claims


def _gate(reactor: IReactor, settings: Settings, turn: Turn, wheel: Wheel) -> Gate:
    trust = settings.server.trust_proxy
    networks = trust.networks

    def address_of(peer: str, headers: Mapping[str, str]) -> str:
        return client_address(peer, headers.get("x-forwarded-for"), trust.hops, networks)

    size = settings.ws.max_http_buffer_size
    deflate = settings.ws.permessage_deflate
    return Gate(reactor, turn=turn, wheel=wheel, max_payload=size, address_of=address_of, deflate=deflate)


def features(settings: Settings) -> dict[str, Any]:
    """What is in effect, for ``/api/status``; a setting of a later version is not, whatever it says."""
    return {
        "socketio": True,
        "websocket": True,
        "transports": list(settings.ws.transports),
        "cluster": False,
        "redis": False,
        "database": "embedded",
        "tls": False,
        "compression": settings.http.compression_enabled,
        "metrics": False,
        "demo": settings.server.demo,
    }


def cautions(settings: Settings) -> list[str]:
    """What an operator could believe of these settings, and should not."""
    later = {
        "SSL_ENABLED (this port speaks plain HTTP: end TLS in nginx)": settings.tls.enabled,
        "DB_HOST": bool(settings.database.host),
        "REDIS_HOST": settings.redis.configured,
        "CLUSTER_ENABLED": settings.cluster.enabled,
    }
    lines = [f"{name} has no effect in this version" for name, given in later.items() if given]
    if settings.server.production:
        lines.append("threads, forums, conversations and groups are decided by built-in demo rows, not by the site's")
    if settings.development.disable_auth:
        lines.append("DISABLE_AUTH is on: who brings no token is let in")
    return lines


def say(text: str) -> None:
    """Print to the terminal itself: twistd turns ``sys.stdout`` into log lines."""
    stdout = sys.__stdout__
    if stdout is not None:
        stdout.write(text + "\n")
        stdout.flush()
