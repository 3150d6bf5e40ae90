"""Sections about what the server offers to browsers and to the site: sockets, protocols, limits."""

from __future__ import annotations

from dataclasses import dataclass

from mechamap_rt.settings import addresses, kinds
from mechamap_rt.settings.addresses import TrustProxy
from mechamap_rt.settings.kinds import GIB, KIB, MIB
from mechamap_rt.settings.listeners import Listener, listeners
from mechamap_rt.settings.option import option

_MODE = kinds.choice("development", "production", synonyms={"dev": "development", "prod": "production"})
_NO_PROXY = TrustProxy()
_COUNT = kinds.integer(0, 10**9)
_WORKERS = kinds.integer(1, 32)


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server listens, and in which mode."""

    node_env: str = option(
        "NODE_ENV", _MODE, "development", "The mode; production refuses weak secrets and development switches."
    )
    port: int = option("PORT", addresses.port(any_free=True), 3000, "The TCP port to listen on; 0 takes any free port.")
    host: str = option(
        "HOST", addresses.host, "127.0.0.1", "The address to listen on; 0.0.0.0 or :: for every interface."
    )
    listen: tuple[Listener, ...] = option(
        "LISTEN",
        listeners,
        (),
        "Where to listen, instead of HOST and PORT: comma list of tcp:HOST:PORT (an IPv6 address in brackets), "
        "unix:PATH or unix:PATH:MODE (octal, 660 if not given), systemd (every socket that systemd passes), "
        "systemd:NAME (by FileDescriptorName) or systemd:INDEX (from 0).",
    )
    domain: str = option("DOMAIN", addresses.host, "", "The host name that browsers use.")
    public_url: str = option("PUBLIC_URL", addresses.url, "", "The address that browsers use, when a proxy changes it.")
    trust_proxy: TrustProxy = option(
        "TRUST_PROXY",
        addresses.trust_proxy,
        _NO_PROXY,
        "Proxies whose X-Forwarded-For is believed: true (one), false, their number, or their addresses.",
    )
    demo: bool = option(
        "DEMO_ENABLED",
        kinds.boolean,
        False,
        "Serve the demonstration page (default: in development only); refused in production.",
        development=True,
    )

    @property
    def production(self) -> bool:
        """Whether the mode is production."""
        return self.node_env == "production"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS on the listening port; off when a proxy ends it."""

    enabled: bool = option(
        "SSL_ENABLED", kinds.boolean, False, "Speak TLS on the listening TCP ports; unix sockets stay plain."
    )
    cert_path: str = option(
        "SSL_CERT_PATH",
        kinds.text,
        "",
        "The PEM file with the certificate, followed by its chain; a new one is taken up by itself.",
    )
    key_path: str = option(
        "SSL_KEY_PATH", kinds.text, "", "The PEM file with the certificate's private key, not encrypted."
    )
    expiry_warning: float = option(
        "SSL_EXPIRY_WARNING",
        kinds.duration,
        14 * 86400.0,
        "How long before the certificate expires an alert says so, such as 14d.",
    )


@dataclass(frozen=True, slots=True)
class Cluster:
    """The worker processes of this host."""

    enabled: bool = option("CLUSTER_ENABLED", kinds.boolean, False, "Run several worker processes.")
    workers: int | None = option(
        "CLUSTER_WORKERS",
        kinds.optional(_WORKERS, "auto"),
        None,
        "How many workers to start; auto for one for each core.",
    )
    workers_min: int | None = option(
        "CLUSTER_WORKERS_MIN",
        kinds.optional(_WORKERS),
        None,
        "The fewest workers that automatic scaling keeps; unset: never fewer than at the start.",
    )
    workers_max: int | None = option(
        "CLUSTER_WORKERS_MAX",
        kinds.optional(_WORKERS),
        None,
        "The most workers that automatic scaling starts; unset: never more than at the start.",
    )
    memory_limit: int = option(
        "MEMORY_LIMIT",
        kinds.megabytes(64 * MIB, 1024 * GIB, zero=True),
        2048 * MIB,
        "The memory in MB above which a worker is replaced; 0 for no limit.",
    )
    gc_interval: float = option(
        "GC_INTERVAL",
        kinds.milliseconds(0),
        600.0,
        "Milliseconds between full garbage collections; 0 leaves them to the interpreter.",
    )
    host_id: str = option(
        "HOST_ID",
        kinds.matching(r"[a-z0-9]{3}", "must be three letters a-z or digits"),
        "",
        "Three letters or digits that name this host in session ids, different on every host; "
        "unset: made up at the start.",
    )
    drain_time: float = option(
        "CLUSTER_DRAIN_TIME",
        kinds.milliseconds(0),
        10.0,
        "Milliseconds over which a worker that is replaced lets its clients go; 0 for all at once.",
    )
    scale_cpu: int = option(
        "CLUSTER_SCALE_CPU",
        kinds.integer(1, 100),
        90,
        "Per cent of a core that workers use on average, sustained, above which one more is started.",
    )
    scale_lag: float = option(
        "CLUSTER_SCALE_LAG",
        kinds.milliseconds(),
        0.1,
        "Milliseconds that the workers' event loops are late on average, sustained, above which one more is started.",
    )

    scale_sustain: float = option(
        "CLUSTER_SCALE_SUSTAIN",
        kinds.milliseconds(),
        30.0,
        "Milliseconds for which CPU or lag must be too high before a worker is added; ten times as long for one less.",
    )
    scale_cooldown: float = option(
        "CLUSTER_SCALE_COOLDOWN", kinds.milliseconds(0), 120.0, "Milliseconds between two changes by automatic scaling."
    )

    def worker_range(self, cores: int) -> tuple[int, int, int]:
        """How many workers at least, at the start, and at most, on a host with ``cores`` cores."""
        if not self.enabled:
            return 1, 1, 1
        start = max(1, cores if self.workers is None else self.workers)
        if self.workers_max is not None:
            start = min(start, self.workers_max)
        if self.workers_min is not None:
            start = max(start, self.workers_min)
        return self.workers_min or start, start, self.workers_max or start


@dataclass(frozen=True, slots=True)
class Http:
    """How HTTP answers are dressed."""

    helmet_enabled: bool = option(
        "HELMET_ENABLED", kinds.boolean, True, "Send security headers with every HTTP answer."
    )
    compression_enabled: bool = option(
        "COMPRESSION_ENABLED", kinds.boolean, True, "Compress HTTP answers for clients that accept it."
    )


@dataclass(frozen=True, slots=True)
class Ws:
    """The WebSocket and Engine.IO transports."""

    ping_timeout: float = option(
        "WS_PING_TIMEOUT",
        kinds.milliseconds(),
        20.0,
        "Milliseconds after a ping in which the client must answer before it counts as gone.",
    )
    ping_interval: float = option(
        "WS_PING_INTERVAL", kinds.milliseconds(), 25.0, "Milliseconds between two pings of a connection."
    )
    upgrade_timeout: float = option(
        "WS_UPGRADE_TIMEOUT",
        kinds.milliseconds(),
        10.0,
        "Milliseconds in which an upgrade from polling to WebSocket must be complete.",
    )
    max_http_buffer_size: int = option(
        "WS_MAX_HTTP_BUFFER_SIZE",
        kinds.size(KIB, GIB),
        1_000_000,
        "The largest request body or frame that is accepted, in bytes.",
    )
    transports: tuple[str, ...] = option(
        "WS_TRANSPORTS",
        kinds.comma_list(kinds.choice("websocket", "polling")),
        ("websocket", "polling"),
        "The transports that clients may use.",
    )
    permessage_deflate: bool = option(
        "WS_PERMESSAGE_DEFLATE",
        kinds.boolean,
        False,
        "Compress WebSocket messages for clients that offer it (each message once for all of them).",
    )
    namespaces: tuple[str, ...] = option(
        "WS_NAMESPACES",
        kinds.comma_list(kinds.matching(r"/[A-Za-z0-9_./-]{0,127}", "must be a path such as /admin")),
        ("/",),
        "The Socket.IO namespaces that exist; / always does.",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one user, address or connection may take; a count of 0 is no limit."""

    max_connections: int = option("MAX_CONNECTIONS", _COUNT, 0, "The most connections at once; 0 for no limit.")
    max_connections_per_user: int = option(
        "MAX_CONNECTIONS_PER_USER", _COUNT, 5, "The most connections of one user; 0 for no limit."
    )
    max_connections_per_ip: int = option(
        "MAX_CONNECTIONS_PER_IP", _COUNT, 100, "The most connections of one address; 0 for no limit."
    )
    max_pending_connections: int = option(
        "MAX_PENDING_CONNECTIONS",
        _COUNT,
        4096,
        "TCP connections of a process that have not sent a whole request yet, and as many that are idle after one; "
        "the oldest are closed; 0 for no limit.",
    )
    max_pending_connections_per_ip: int = option(
        "MAX_PENDING_CONNECTIONS_PER_IP",
        _COUNT,
        256,
        "TCP connections of one address to a process that have not sent a whole request yet; the oldest are closed; "
        "not for proxies of TRUST_PROXY; 0 for no limit.",
    )
    connection_attempts_per_minute: int = option(
        "CONNECTION_ATTEMPTS_PER_MINUTE", _COUNT, 30, "Connections a user may try to open a minute; 0 for no limit."
    )
    connection_timeout: float = option(
        "CONNECTION_TIMEOUT",
        kinds.milliseconds(0),
        45.0,
        "Milliseconds in which a new connection must authenticate; 0 for no limit.",
    )
    heartbeat_interval: float | None = option(
        "HEARTBEAT_INTERVAL",
        kinds.optional(kinds.milliseconds(0)),
        None,
        "Milliseconds between heartbeats of the native protocol; 0 for none, unset: as WS_PING_INTERVAL.",
    )
    client_events_per_minute: int = option(
        "CLIENT_EVENTS_PER_MINUTE", _COUNT, 100, "Events a user may send a minute; 0 for no limit."
    )
    typing_events_per_minute: int = option(
        "TYPING_EVENTS_PER_MINUTE", _COUNT, 120, "Typing events a user may send a minute; 0 for no limit."
    )
    channel_publications_per_minute: int = option(
        "CHANNEL_PUBLICATIONS_PER_MINUTE",
        _COUNT,
        1000,
        "Client events that a channel takes a minute; 0 for no limit.",
    )
    presence_grace: float = option(
        "PRESENCE_GRACE",
        kinds.milliseconds(0, 15),
        12.0,
        "Milliseconds for which a user is online still whose last connection has ended.",
    )
    outbox_soft_limit: int = option(
        "OUTBOX_SOFT_LIMIT",
        kinds.size(KIB, GIB),
        256 * KIB,
        "Bytes waiting for a connection above which typing events are dropped and counters merged.",
    )
    outbox_hard_limit: int = option(
        "OUTBOX_HARD_LIMIT",
        kinds.size(KIB, GIB),
        MIB,
        "Bytes waiting for a connection above which it is closed as too slow; more than OUTBOX_SOFT_LIMIT.",
    )


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The limits on HTTP requests of one key or address."""

    window: float = option(
        "RATE_LIMIT_WINDOW_MS", kinds.milliseconds(), 60.0, "Milliseconds over which HTTP requests are counted."
    )
    max_requests: int = option(
        "RATE_LIMIT_MAX_REQUESTS", _COUNT, 300, "HTTP requests of one key or address in a window; 0 for no limit."
    )
    skip_successful_requests: bool = option(
        "RATE_LIMIT_SKIP_SUCCESSFUL_REQUESTS", kinds.boolean, False, "Count only requests that failed."
    )
    dry_run: bool = option(
        "RATE_LIMIT_DRY_RUN",
        kinds.boolean,
        False,
        "Count, and say in headers and figures what is over; refuse nothing.",
    )
    auth_failures: int = option(
        "AUTH_FAILURES_PER_MINUTE",
        _COUNT,
        20,
        "Wrong keys and tokens of one address a minute over HTTP, after which it is refused unread; 0 for no limit.",
    )


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may use the server."""

    origins: tuple[str, ...] = option(
        "CORS_ORIGIN",
        addresses.origins,
        (),
        "Origins of the pages that may connect, or * (the default in development; in production: none).",
        development=("*",),
        aliases=("ALLOWED_ORIGINS",),
    )
    credentials: bool = option(
        "CORS_CREDENTIALS", kinds.boolean, False, "Let pages of those origins send cookies; not with * in production."
    )

    @property
    def any_origin(self) -> bool:
        """Whether pages of every origin may connect."""
        return "*" in self.origins
