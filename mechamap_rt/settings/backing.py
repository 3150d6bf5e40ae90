"""Sections about what stands behind the server: the site, its database, Redis, and the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from mechamap_rt.settings import addresses, kinds
from mechamap_rt.settings.addresses import Network
from mechamap_rt.settings.channelrules import ChannelRule, channel_rules
from mechamap_rt.settings.kinds import GIB, KIB, MIB
from mechamap_rt.settings.option import option


@dataclass(frozen=True, slots=True)
class Laravel:
    """The site's own HTTP interface, and its calls to this server."""

    api_url: str = option("LARAVEL_API_URL", addresses.url, "", "The address of the site's HTTP interface.")
    api_key: str = option(
        "LARAVEL_API_KEY",
        kinds.secret,
        "",
        "The key that the site and this server show each other; in production at least 16 characters.",
        secret=True,
        generate=True,
    )
    previous_api_keys: tuple[str, ...] = option(
        "LARAVEL_API_KEY_PREVIOUS",
        kinds.secret_list,
        (),
        "Keys that are still accepted beside LARAVEL_API_KEY while it is replaced: comma list, or one on a line.",
        secret=True,
    )
    timeout: float = option(
        "LARAVEL_TIMEOUT", kinds.milliseconds(0.1, 300), 5.0, "Milliseconds after which the site counts as away."
    )
    ca: str = option(
        "LARAVEL_CA",
        kinds.text,
        "",
        "The file (PEM) of who signed the site's certificate; unset: whom the system trusts.",
    )
    broadcast_allow_from: tuple[Network, ...] = option(
        "LARAVEL_BROADCAST_ALLOW_FROM",
        addresses.networks,
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        "Addresses and networks that may broadcast without a key; none for none.",
    )


@dataclass(frozen=True, slots=True)
class Jwt:
    """JSON Web Tokens of older pages and of ``mechamapctl token``."""

    secret: str = option(
        "JWT_SECRET",
        kinds.secret,
        "",
        "The secret that signs tokens, shared with the site; in production at least 32 characters.",
        secret=True,
        generate=True,
    )
    previous_secrets: tuple[str, ...] = option(
        "JWT_SECRET_PREVIOUS",
        kinds.secret_list,
        (),
        "Secrets that are still accepted beside JWT_SECRET while it is replaced: comma list, or one on a line.",
        secret=True,
    )
    algorithm: str = option(
        "JWT_ALGORITHM", kinds.choice("HS256", "HS384", "HS512"), "HS256", "The only signature that is accepted."
    )
    expires_in: float = option(
        "JWT_EXPIRES_IN", kinds.duration, 86400.0, "How long a token made here is good: 24h, 7d, or seconds."
    )


@dataclass(frozen=True, slots=True)
class Auth:
    """Who decides about users and channels."""

    backend: str = option(
        "AUTH_BACKEND",
        kinds.choice("auto", "database", "laravel"),
        "auto",
        "Who checks tokens: the database, the site (laravel), or auto: the database when there is one.",
    )
    channel_auth: str = option(
        "CHANNEL_AUTH",
        kinds.choice("rules", "laravel"),
        "rules",
        "Who says which channels a user may hear: the rules of this server, or the site (laravel).",
    )
    channel_rules: tuple[ChannelRule, ...] = option(
        "CHANNEL_RULES",
        channel_rules,
        (),
        "More resources: project.<id>=member:project_user(project_id,user_id); kiosk.<rest>=everyone.",
    )
    cache_ttl: float = option(
        "AUTH_CACHE_TTL",
        kinds.milliseconds(0, 86400),
        300.0,
        "Milliseconds for which it is remembered whose a token is; 0: asked anew each time.",
    )
    cache_size: int = option(
        "AUTH_CACHE_SIZE", kinds.integer(1, 10_000_000), 50_000, "Tokens that each worker remembers."
    )
    sweep_interval: float = option(
        "AUTH_SWEEP_INTERVAL",
        kinds.milliseconds(1, 86400),
        60.0,
        "Milliseconds between two looks at whether connected users may still be here, and hear what they hear.",
    )


@dataclass(frozen=True, slots=True)
class Database:
    """The site's MySQL or MariaDB; without ``host``, an embedded SQLite."""

    host: str = option(
        "DB_HOST", addresses.server, "", "The database server: host, host:port or a socket; unset: an embedded SQLite."
    )
    port: int = option("DB_PORT", addresses.port(), 3306, "The port of the database servers named without one.")
    name: str = option("DB_NAME", kinds.text, "", "The name of the site's database.")
    user: str = option("DB_USER", kinds.text, "", "The database account.")
    password: str = option("DB_PASSWORD", kinds.secret, "", "The database account's password.", secret=True)
    connection_limit: int = option(
        "DB_CONNECTION_LIMIT",
        kinds.integer(1, 100_000),
        20,
        "The most database connections of the whole cluster; its workers share them.",
    )
    timeout: float = option(
        "DB_TIMEOUT",
        kinds.milliseconds(0.05, 3600),
        30.0,
        "Milliseconds that a query may wait for a connection, and then for its answer.",
    )
    read_host: tuple[str, ...] = option(
        "DB_READ_HOST", kinds.comma_list(addresses.server), (), "Replicas that answer reads; unset: the writer does."
    )
    write_host: str = option(
        "DB_WRITE_HOST", addresses.server, "", "The server that takes writes; unset: DB_HOST does."
    )
    timezone: str = option(
        "DB_TIMEZONE",
        kinds.timezone,
        "UTC",
        "The time zone in which the site writes times (its app.timezone), such as Asia/Ho_Chi_Minh.",
    )
    tls: bool = option("DB_TLS", kinds.boolean, False, "Speak TLS with the database, and verify its certificate.")
    tls_ca: str = option(
        "DB_TLS_CA",
        kinds.text,
        "",
        "The file (PEM) of who signed the database's certificate; unset: who the system trusts.",
    )
    tls_cert: str = option("DB_TLS_CERT", kinds.text, "", "The file (PEM) of this server's certificate for it.")
    tls_key: str = option("DB_TLS_KEY", kinds.text, "", "The file (PEM) of the private key to DB_TLS_CERT.")
    sqlite_path: str = option(
        "DB_SQLITE_PATH", kinds.text, "", "The embedded database's file; unset: a private temporary one."
    )

    @property
    def embedded(self) -> bool:
        """Whether the embedded SQLite is used."""
        return not self.host

    @property
    def writer(self) -> str:
        """The server that takes writes."""
        return self.write_host or self.host

    @property
    def connections_needed(self) -> int:
        """The fewest connections of one worker: one to each server."""
        return len({self.writer, *self.readers})

    @property
    def readers(self) -> tuple[str, ...]:
        """The servers that answer reads."""
        return self.read_host or (self.writer,)


@dataclass(frozen=True, slots=True)
class Redis:
    """The Redis that joins several hosts; without ``host``, ``sentinels`` or ``cluster_nodes``, none."""

    host: str = option("REDIS_HOST", addresses.host, "", "The Redis server; unset: no Redis.")
    port: int = option("REDIS_PORT", addresses.port(), 6379, "The port of the Redis server.")
    username: str = option("REDIS_USERNAME", kinds.text, "", "The account of Redis; unset: its default one.")
    password: str = option("REDIS_PASSWORD", kinds.secret, "", "The password of Redis.", secret=True)
    db: int = option("REDIS_DB", kinds.integer(0, 65535), 0, "The number of the Redis database.")
    prefix: str = option("REDIS_PREFIX", kinds.text, "mechamap:", "What every key and channel begins with.")
    session_store: bool = option(
        "REDIS_SESSION_STORE",
        kinds.boolean,
        False,
        "Limits hold over all hosts, counted in Redis; off: each host counts its own. Not with REDIS_CLUSTER_NODES.",
    )
    adapter_enabled: bool = option(
        "REDIS_ADAPTER_ENABLED", kinds.boolean, True, "Join this host with others through Redis."
    )
    cluster_nodes: tuple[tuple[str, int], ...] = option(
        "REDIS_CLUSTER_NODES",
        addresses.nodes,
        (),
        "Nodes of a Redis Cluster, host:port,host:port; takes the place of REDIS_HOST.",
    )
    sentinels: tuple[tuple[str, int], ...] = option(
        "REDIS_SENTINELS",
        addresses.nodes,
        (),
        "Redis Sentinels, host:port,host:port, that know where Redis is; takes the place of REDIS_HOST.",
    )
    sentinel_master: str = option(
        "REDIS_SENTINEL_MASTER", kinds.text, "mymaster", "What the sentinels call the master."
    )
    sentinel_password: str = option(
        "REDIS_SENTINEL_PASSWORD", kinds.secret, "", "The password of the sentinels themselves.", secret=True
    )
    tls: bool = option("REDIS_TLS", kinds.boolean, False, "Speak TLS with Redis and its sentinels.")
    tls_ca: str = option(
        "REDIS_TLS_CA",
        kinds.text,
        "",
        "The file (PEM) of who signed Redis's certificate; unset: who the system trusts.",
    )
    tls_cert: str = option("REDIS_TLS_CERT", kinds.text, "", "The file (PEM) of this server's certificate, for Redis.")
    tls_key: str = option("REDIS_TLS_KEY", kinds.text, "", "The file (PEM) of the private key to REDIS_TLS_CERT.")
    timeout: float = option(
        "REDIS_TIMEOUT",
        kinds.milliseconds(0.1, 60),
        2.0,
        "Milliseconds after which a Redis that does not answer counts as away.",
    )
    buffer_size: int = option(
        "REDIS_BUFFER_SIZE",
        kinds.size(64 * KIB, GIB),
        16 * MIB,
        "How much is kept for other hosts while Redis is away; beyond it the oldest is lost.",
    )

    @property
    def configured(self) -> bool:
        """Whether there is a Redis at all."""
        return bool(self.host or self.cluster_nodes or self.sentinels)
