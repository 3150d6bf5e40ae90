"""Where Redis is: one server, the nodes of a Redis Cluster in turn, or what the sentinels say; over TCP or TLS."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from mechamap_rt.interfaces import IReactor
from mechamap_rt.redis.errors import NotMaster, RedisAway, in_words
from mechamap_rt.redis.protocols import Connection, ignore
from mechamap_rt.settings.backing import Redis

_log = Logger()

Place = tuple[str, int]

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def written(place: Place) -> str:
    """``host:port``, IPv6 addresses in brackets."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _trust(path: str) -> Any:
    """The authorities in a PEM file; ``None``, the system's, without one."""
    if not path:
        return None
    return ssl.trustRootFromCertificates(
        [ssl.Certificate.loadPEM(pem) for pem in _PEM.findall(Path(path).read_bytes())]
    )


def _client_certificate(settings: Redis) -> ssl.PrivateCertificate | None:
    if not settings.tls_cert:
        return None
    pem = Path(settings.tls_cert).read_bytes() + b"\n" + Path(settings.tls_key).read_bytes()
    certificate: ssl.PrivateCertificate = ssl.PrivateCertificate.loadPEM(pem)
    return certificate


class Places:
    """Finds the Redis to connect to, and connects.

    :param spread: differs between processes, so that they do not all take the same node of a Redis Cluster.
    :ivar open: the connections whose sockets are not closed yet.
    """

    def __init__(self, reactor: IReactor, settings: Redis, spread: int = 0) -> None:
        self._reactor = reactor
        self._settings = settings
        nodes = settings.cluster_nodes or ((settings.host, settings.port),)
        first = spread % len(nodes)
        self._nodes = cycle(nodes[first:] + nodes[:first])
        self._sentinels = list(settings.sentinels)
        self.open: set[Connection] = set()

    async def find(self) -> Place:
        """Where to connect next.

        :raises RedisAway: no sentinel knows.
        """
        if not self._sentinels:
            return next(self._nodes)
        last: BaseException = RedisAway("no sentinel")
        for sentinel in tuple(self._sentinels):
            try:
                place = await Deferred.fromCoroutine(self._ask(sentinel)).addTimeout(
                    self._settings.timeout / 2, self._reactor
                )
            except Exception as error:
                last = error
                continue
            # the one that answered is asked first the next time
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return place
        raise RedisAway(f"no sentinel names a master: {in_words(last, self._settings.sentinel_password)}")

    async def _ask(self, sentinel: Place) -> Place:
        settings = self._settings
        connection = Connection(ignore)
        try:
            await self.connect(sentinel, connection)
            if settings.sentinel_password:
                await connection.auth(settings.sentinel_password)
            found = await connection.execute_command("SENTINEL", "get-master-addr-by-name", settings.sentinel_master)
        finally:
            # not even a cancelled question leaves a socket behind
            connection.leave()
        if not found:
            raise RedisAway(f"{written(sentinel)} knows no master called {settings.sentinel_master}")
        return found[0].decode(), int(found[1])

    async def connect(self, place: Place, connection: Connection) -> None:
        """Connect ``connection``.

        A TLS handshake that fails shows with the first command. A timeout is the caller's.
        """
        host, port = place
        endpoint: Any = HostnameEndpoint(self._reactor, host, port, timeout=self._settings.timeout)
        if self._settings.tls:
            # Read for each connection: certificates are renewed while the server runs.
            options = ssl.optionsForClientTLS(
                host, trustRoot=_trust(self._settings.tls_ca), clientCertificate=_client_certificate(self._settings)
            )
            endpoint = wrapClientTLS(options, endpoint)
        await endpoint.connect(_Quiet(connection))
        self.open.add(connection)
        connection.closed.addCallback(lambda _: self.open.discard(connection))

    async def greet(self, connection: Connection, name: str) -> None:
        """Log in, say who we are, and see whether it is the Redis that was meant.

        :raises ResponseError: it does not let us in.
        :raises NotMaster: the sentinels sent us to a replica.
        """
        settings = self._settings
        if settings.password:
            await connection.auth(settings.password, settings.username or None)
        if settings.db and not settings.cluster_nodes:
            await connection.select(settings.db)
        await connection.execute_command("PING")
        # for the operator's CLIENT LIST; an account that may not is none the worse
        connection.execute_command("CLIENT", "SETNAME", name).addErrback(ignore)
        if settings.sentinels:
            role = await connection.execute_command("ROLE")
            if role[0] != b"master":
                raise NotMaster("the sentinels name a replica; a failover is probably under way")


def secrets_of(settings: Redis) -> Iterable[str]:
    """What no log may show."""
    return settings.password, settings.sentinel_password


class _Quiet(Factory):
    """The factory of one connection; the log does not hear of each attempt."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> Connection:
        return self._connection
