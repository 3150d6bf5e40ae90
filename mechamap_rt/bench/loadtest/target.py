"""Where a load goes: one address, that of this machine unless the operator says that another one is theirs."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mechamap_rt.bench.job import BenchError, require_loopback

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE: Final = ("https", "wss")
_PROBE_TIMEOUT: Final = 5.0
OVERRIDE: Final = "--i-own-this-host"


@dataclass(frozen=True, slots=True)
class Target:
    """A server, looked up once, so that no later answer of a name server sends the load elsewhere.

    :ivar host: as the operator wrote it; of the ``Host`` header and the certificate.
    :ivar address: the IP address that all connections go to.
    :ivar path: of the URL, with its query; ``/`` when it has none.
    :ivar tls: ``None`` for plain TCP.
    :ivar loopback: is the address this machine's own?
    """

    host: str
    address: str
    port: int
    path: str
    tls: ssl.SSLContext | None
    loopback: bool

    @property
    def authority(self) -> str:
        """Host and port, as in the ``Host`` header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.tls else 80) else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """For people."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"

    def websocket(self, path: str) -> str:
        """The ``ws:`` URL of a path, by address."""
        name = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'wss' if self.tls else 'ws'}://{name}:{self.port}{self.prefix}{path}"

    @property
    def prefix(self) -> str:
        """What stands before the server's own paths, where a proxy has it below another site."""
        return self.path.partition("?")[0].rstrip("/")


async def aim(url: str, *, own: bool, cacert: Path | None, insecure: bool) -> Target:
    """The server at ``url``, to which somebody listens.

    :param own: the operator says that the host is theirs, whichever it is.
    :param cacert: PEM: the certificates that are believed instead of the system's.
    :param insecure: believe any certificate.
    :raises BenchError: the URL is none, its host is not this machine, or nobody listens.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BenchError(f"{url} is no URL") from None
    if parts.scheme not in _PORTS or not host or parts.username is not None or parts.fragment:
        raise BenchError(f"{url} is no URL of a server, such as http://127.0.0.1:3000")
    if not parts.path.isascii() or not parts.query.isascii() or not url.isprintable() or " " in url:
        raise BenchError("the URL must be ASCII, with everything else percent-encoded")
    port = port or _PORTS[parts.scheme]
    addresses = await _look_up(host, port)
    if not own:
        _require_this_machine(host, addresses)
    tls = _context(cacert, insecure) if parts.scheme in _SECURE else None
    address = await _listening(host, port, addresses)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, address, port, path, tls, _is_loopback(address))


async def _look_up(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BenchError(f"{host} has no address: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _require_this_machine(host: str, addresses: list[str]) -> None:
    """:raises BenchError: some address of the host is not a loopback address."""
    for address in addresses:
        try:
            require_loopback(address)
        except BenchError:
            named = host if host == address else f"{host} ({address})"
            raise BenchError(
                f"{named} is not a loopback address. A load test can put a server out of service: "
                f"give {OVERRIDE} if it is yours, and nobody else's traffic goes through it"
            ) from None


async def _listening(host: str, port: int, addresses: list[str]) -> str:
    """The first address that takes a connection.

    :raises BenchError: if none does.
    """
    fault: Exception = OSError("no address")
    for address in addresses:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                _, writer = await asyncio.open_connection(address, port)
        except (OSError, TimeoutError) as error:
            fault = error
            continue
        writer.transport.abort()
        return address
    words = fault.strerror if isinstance(fault, OSError) and fault.strerror else "no answer"
    raise BenchError(f"nobody takes connections at {host}:{port}: {words}") from fault


def _context(cacert: Path | None, insecure: bool) -> ssl.SSLContext:
    """:raises BenchError: the file has no certificates."""
    try:
        context = ssl.create_default_context(cafile=cacert)
    except (OSError, ssl.SSLError) as error:
        raise BenchError(f"{cacert} has no certificates that can be used: {error}") from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
