"""What the runner asks of the load generator, and what it answers: one JSON document each way."""

from __future__ import annotations

import ipaddress
from typing import Literal

import msgspec

LoadName = Literal[
    "flat", "paced", "idle", "connect", "post", "spread", "notify", "reload", "memory", "arrive", "rush", "identify",
    "decide", "batched", "come-and-go", "stay", "ask-online", "health", "visits",
]  # fmt: skip
DialectName = Literal["socketio", "native", "polling", "bare"]
#: ``inside`` is what the server is made of, without the server: authenticator and policy. ``pool`` is its connections
#: to the database alone, ``adbapi`` those of Twisted as it comes.
ServerName = Literal["mechamap", "npm", "sendloop", "inside", "pool", "adbapi"]
#: What clients come with: a JWT, or a Sanctum token, which is new to the server or known to it.
Credential = Literal["jwt", "sanctum", "known"]

#: The application message of the fan-out loads, in bytes (the WebSocket payload).
MESSAGE_SIZE = 200


class BenchError(Exception):
    """A measurement that could not be made; the text says why."""


def require_loopback(host: str) -> None:
    """Refuse to load another machine.

    :raises BenchError: if ``host`` is not a loopback address or ``localhost``.
    """
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BenchError(f"{host} is not a loopback address: the load generator loads only its own machine")


class Site(msgspec.Struct, frozen=True):
    """The site's MariaDB.

    :ivar socket: its own, for root.
    """

    pid: int
    port: int
    socket: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one server.

    :ivar load: the shape of the load.
    :ivar dialect: the wire the clients speak.
    :ivar pid: the server's process (its descendants are counted with it); 0 when not to be measured.
    :ivar others: further processes that belong to it: another host, Redis.
    :ivar workers: processes of the host that accept; kept connections are spread evenly over them.
    :ivar subscriber_port: where the subscribers of ``notify`` connect; 0 for ``port``.
    :ivar control: the operator's socket of the server; needed by ``reload``.
    :ivar connections: subscribers of a fan-out, connections of ``idle``, ``connect``, ``arrive`` and
        ``rush``.
    :ivar operations: publications of ``flat``, ``paced``, ``spread``, ``notify`` and ``batched``, requests of ``post``,
        ``health`` and ``visits``, answers of ``identify`` and ``decide``.
    :ivar warmup: operations (``idle`` and ``connect``: connections) before the measured ones.
    :ivar in_flight: publications, or connection attempts, under way at once.
    :ivar rate: publications a second (``paced``, ``notify``, ``batched``), probes a second (``reload``).
    :ivar drain: seconds over which old workers let their clients go (``reload``).
    :ivar sample: one client in so many measures latency.
    :ivar settle: seconds of quiet before memory is read.
    :ivar timeout: seconds within which the whole job must end.
    :ivar server: what is measured.
    :ivar site: the database that it asks, if it asks one.
    :ivar credential: what clients come with.
    :ivar channel: what they subscribe to; ``{user}`` is the client's user. Empty for the load's own.
    :ivar priority: of what is published; empty for none.
    :ivar watchers: of those who come and go (``come-and-go``), and the ``crowd`` that is online elsewhere.
    """

    load: LoadName
    dialect: DialectName
    host: str
    port: int
    pid: int
    jwt_secret: str
    api_key: str
    others: tuple[int, ...] = ()
    workers: int = 1
    subscriber_port: int = 0
    control: str = ""
    connections: int
    operations: int
    warmup: int
    in_flight: int = 4
    rate: float = 20.0
    sample: int = 20
    settle: float = 3.0
    drain: float = 10.0
    timeout: float = 120.0
    server: ServerName = "mechamap"
    site: Site | None = None
    credential: Credential = "jwt"
    channel: str = ""
    priority: str = ""
    watchers: int = 0
    crowd: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one job measured.

    :ivar units: deliveries, connections or requests that were measured.
    :ivar lost: expected deliveries that never came, and connections that were lost.
    :ivar message_size: bytes of the application message as received; 0 when none was.
    :ivar server_cpu_us: CPU microseconds of the server in the measured window.
    :ivar value: the row's figure: server CPU µs a unit, kB a connection for ``idle``, seconds for ``reload`` and
        ``rush``, MiB for ``memory``.
    :ivar p50_ms: median latency, publish → receive (``connect``: connect → ready); 0 without samples.
    :ivar generator_share: the generator's own CPU time over wall time (1.0 is a whole core).
    :ivar figures: what else a load measured, by name.
    :ivar faults: what went wrong in it, once each, when that is a figure and no failure.
    """

    units: int
    lost: int
    message_size: int
    wall_s: float
    server_cpu_us: float
    value: float
    p50_ms: float
    p99_ms: float
    generator_share: float
    figures: dict[str, float] = {}
    faults: list[str] = []
