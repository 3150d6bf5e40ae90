"""What must hold between settings, once each can be read by itself."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mechamap_rt.settings import secret_checks, shell_keys
from mechamap_rt.settings.backing import Database, Redis
from mechamap_rt.settings.draft import Draft
from mechamap_rt.settings.faults import Fault
from mechamap_rt.settings.listeners import SystemdListener

_WORKERS = ("CLUSTER_WORKERS", "CLUSTER_WORKERS_MIN", "CLUSTER_WORKERS_MAX")


def _production_switches(draft: Draft) -> Iterator[Fault]:
    development = draft.settings.development
    switches = {
        "DEMO_ENABLED": draft.settings.server.demo,
        "DISABLE_AUTH": development.disable_auth,
        "MOCK_USER_ID": development.mock_user_id is not None,
        "MOCK_USER_ROLE": development.mock_user_role != "",
        "MOCK_LARAVEL_API": development.mock_laravel_api,
    }
    if draft.production:
        for name, on in switches.items():
            if on:
                yield Fault(name, "is for development only: must be off or unset in production")


def _file(draft: Draft, switch: str, name: str, path: str) -> Iterator[Fault]:
    if not draft.sound(switch, name):
        return
    if not path:
        yield Fault(name, f"must be set when {switch} is on")
    elif not os.path.isfile(path):
        yield Fault(name, "must be the path of a file that exists")
    elif not os.access(path, os.R_OK):
        yield Fault(name, "must be the path of a file that this account may read")


def _authority(draft: Draft, switch: str, name: str, path: str) -> Iterator[Fault]:
    """A file of certificates of those who sign others."""
    found = list(_file(draft, switch, name, path))
    if not found:
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ValueError):
            found.append(Fault(name, "must be the path of a file with certificates in PEM"))
    yield from found


def _manhole(draft: Draft) -> Iterator[Fault]:
    """The keys that open the shell, and its own, if it has one yet."""
    manhole = draft.settings.manhole
    if not manhole.enabled or not draft.sound("MANHOLE_ENABLED"):
        return
    name, path = "MANHOLE_AUTHORIZED_KEYS", manhole.authorized_keys
    if not path:
        yield Fault(name, "must be set when MANHOLE_ENABLED is on")
    else:
        yield from _usable(name, lambda: shell_keys.authorized(path))
    if manhole.host_key:
        yield from _usable("MANHOLE_HOST_KEY", lambda: shell_keys.private_key(Path(manhole.host_key)))


def _usable(name: str, read: Callable[[], object]) -> Iterator[Fault]:
    try:
        read()
    except shell_keys.UnusableKeysError as error:
        yield Fault(name, str(error))


def _certificate(draft: Draft) -> Iterator[Fault]:
    """The server's own certificate and key. That it has expired is no fault: it is better than none."""
    tls = draft.settings.tls
    if not tls.enabled or not draft.sound("SSL_ENABLED"):
        return
    # what it takes to read them is for those who have TLS
    from mechamap_rt.settings.credentials import CERTIFICATE, KEY, CredentialsError, read

    paths = {CERTIFICATE: tls.cert_path, KEY: tls.key_path}
    named = {fault.name: fault for name, path in paths.items() for fault in _file(draft, "SSL_ENABLED", name, path)}
    try:
        read(tls.cert_path, tls.key_path)
    except CredentialsError as error:
        named = {fault.name: fault for fault in error.faults if draft.sound(fault.name)} | named
    yield from named.values()


def _log_file(draft: Draft) -> Iterator[Fault]:
    path = draft.settings.log.file
    if not path or not draft.sound("LOG_FILE"):
        return
    folder = os.path.dirname(os.path.abspath(path))
    audit = draft.settings.audit
    if not audit.off and audit.file and os.path.abspath(audit.file) == os.path.abspath(path):
        yield Fault("LOG_FILE", "must not be AUDIT_LOG_FILE")
    elif os.path.lexists(path):
        # what LineFile opens: no link, no pipe, no directory
        if os.path.islink(path) or not os.path.isfile(path):
            yield Fault("LOG_FILE", "must be the path of a file, and not of a link or a directory")
        elif not os.access(path, os.W_OK):
            yield Fault("LOG_FILE", "must be the path of a file that this account may write")
    elif not os.path.isdir(folder):
        yield Fault("LOG_FILE", "must be the path of a file in a directory that exists")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Fault("LOG_FILE", "must be the path of a file in a directory that this account may write to")


def _workers(draft: Draft) -> Iterator[Fault]:
    cluster = draft.settings.cluster
    low, start, high = cluster.workers_min, cluster.workers, cluster.workers_max
    if not draft.sound(*_WORKERS):
        return
    if low is not None and high is not None and low > high:
        yield Fault("CLUSTER_WORKERS_MIN", f"must not be more than CLUSTER_WORKERS_MAX ({low} > {high})")
    elif start is not None and not (low or start) <= start <= (high or start):
        yield Fault("CLUSTER_WORKERS", "must lie between CLUSTER_WORKERS_MIN and CLUSTER_WORKERS_MAX")


def _listen(draft: Draft) -> Iterator[Fault]:
    inherited = [one for one in draft.settings.server.listen if isinstance(one, SystemdListener)]
    if len(inherited) > 1 and SystemdListener() in inherited:
        yield Fault("LISTEN", "must not name sockets of systemd besides systemd alone, which means all of them")


def _outbox(draft: Draft) -> Iterator[Fault]:
    limits = draft.settings.limits
    if draft.sound("OUTBOX_SOFT_LIMIT", "OUTBOX_HARD_LIMIT") and (limits.outbox_soft_limit >= limits.outbox_hard_limit):
        yield Fault("OUTBOX_HARD_LIMIT", "must be more than OUTBOX_SOFT_LIMIT")


def _database(draft: Draft) -> Iterator[Fault]:
    database = draft.settings.database
    if not draft.sound("DB_HOST"):
        return
    if database.host:
        for name, text in (("DB_NAME", database.name), ("DB_USER", database.user)):
            if draft.sound(name) and not text:
                yield Fault(name, "must be set when DB_HOST is")
        if database.tls:
            yield from _tls(draft, "DB", database)
        needed = database.connections_needed * draft.settings.cluster.worker_range(os.cpu_count() or 1)[2]
        involved = ("DB_CONNECTION_LIMIT", "DB_READ_HOST", "DB_WRITE_HOST", *_WORKERS)
        if draft.sound(*involved) and database.connection_limit < needed:
            yield Fault("DB_CONNECTION_LIMIT", f"must be at least {needed}: one for each server and worker")
    else:
        for name, on in (("DB_READ_HOST", database.read_host), ("DB_WRITE_HOST", database.write_host)):
            if draft.sound(name) and on:
                yield Fault(name, "needs DB_HOST, without which the embedded database is used")


def _redis(draft: Draft) -> Iterator[Fault]:
    redis = draft.settings.redis
    if redis.username and not redis.password and draft.sound("REDIS_PASSWORD"):
        yield Fault("REDIS_PASSWORD", "must be set when REDIS_USERNAME is")
    if redis.cluster_nodes and redis.sentinels:
        yield Fault("REDIS_SENTINELS", "must not be set together with REDIS_CLUSTER_NODES")
    if redis.tls:
        yield from _tls(draft, "REDIS", redis)


def _tls(draft: Draft, prefix: str, section: Database | Redis) -> Iterator[Fault]:
    switch, ca, cert, key = (f"{prefix}_TLS{part}" for part in ("", "_CA", "_CERT", "_KEY"))
    if section.tls_ca:
        yield from _authority(draft, switch, ca, section.tls_ca)
    for name, path, other in ((cert, section.tls_cert, section.tls_key), (key, section.tls_key, section.tls_cert)):
        if path:
            yield from _file(draft, switch, name, path)
        elif other and draft.sound(name):
            yield Fault(name, f"must be set: {cert} and {key} belong together")
    if all(os.path.isfile(path) and os.access(path, os.R_OK) for path in (section.tls_cert, section.tls_key)):
        try:
            ssl.create_default_context().load_cert_chain(section.tls_cert, section.tls_key)
        except (OSError, ValueError):
            yield Fault(cert, f"must be the path of a certificate in PEM to which the key in {key} belongs")


def _site(draft: Draft) -> Iterator[Fault]:
    auth = draft.settings.auth
    if draft.sound("LARAVEL_API_URL") and not draft.settings.laravel.api_url:
        for name, choice in (("AUTH_BACKEND", auth.backend), ("CHANNEL_AUTH", auth.channel_auth)):
            if choice == "laravel" and not draft.settings.development.mock_laravel_api:
                yield Fault(name, "needs LARAVEL_API_URL when it is laravel")
    if draft.settings.laravel.ca:
        yield from _authority(draft, "LARAVEL_CA", "LARAVEL_CA", draft.settings.laravel.ca)


def _cors(draft: Draft) -> Iterator[Fault]:
    cors = draft.settings.cors
    if draft.production and cors.any_origin and cors.credentials:
        yield Fault("CORS_ORIGIN", "must not be * together with CORS_CREDENTIALS in production")


_CHECKS: tuple[Callable[[Draft], Iterator[Fault]], ...] = (
    secret_checks.production,
    _production_switches,
    _manhole,
    _certificate,
    _log_file,
    _workers,
    _listen,
    _outbox,
    _database,
    _redis,
    _site,
    _cors,
)

#: About files that the process opens that operators start, and no other.
_OF_THE_FIRST: Final = (_certificate, _log_file, _manhole)


def faults(draft: Draft, first: bool = True) -> Iterator[Fault]:
    """Everything between settings that stops the start.

    :param first: look at the files of the server's first process too: its certificate, its log, the manhole's keys?
    """
    for check in _CHECKS:
        if first or check not in _OF_THE_FIRST:
            yield from check(draft)


def remarks(draft: Draft) -> Iterator[str]:
    """What is legal, and probably not what the operator wants."""
    settings = draft.settings
    if not settings.cluster.enabled and "CLUSTER_WORKERS" in draft.given:
        yield "CLUSTER_WORKERS has no effect unless CLUSTER_ENABLED is on"
    if settings.server.listen and draft.given & {"HOST", "PORT"}:
        yield "HOST and PORT have no effect with LISTEN"
    if not settings.redis.configured and draft.given & {"REDIS_ADAPTER_ENABLED", "REDIS_SESSION_STORE"}:
        yield "REDIS_ADAPTER_ENABLED and REDIS_SESSION_STORE have no effect without REDIS_HOST"
    if settings.redis.cluster_nodes and settings.redis.session_store:
        yield "REDIS_SESSION_STORE has no effect with REDIS_CLUSTER_NODES: each host counts for itself"
    if settings.redis.cluster_nodes and settings.redis.db:
        yield "REDIS_DB has no effect with REDIS_CLUSTER_NODES: a Redis Cluster has one database, 0"
    if draft.sound("REDIS_TLS") and not settings.redis.tls:
        for name in sorted(draft.given & {"REDIS_TLS_CA", "REDIS_TLS_CERT", "REDIS_TLS_KEY"}):
            yield f"{name} has no effect unless REDIS_TLS is on"
    if draft.sound("DB_TLS") and not settings.database.tls:
        for name in sorted(draft.given & {"DB_TLS_CA", "DB_TLS_CERT", "DB_TLS_KEY"}):
            yield f"{name} has no effect unless DB_TLS is on"
    if settings.auth.channel_auth == "laravel" and settings.auth.channel_rules:
        yield "CHANNEL_RULES has no effect with CHANNEL_AUTH=laravel: the site decides"
    if not settings.redis.sentinels:
        for name in sorted(draft.given & {"REDIS_SENTINEL_MASTER", "REDIS_SENTINEL_PASSWORD"}):
            yield f"{name} has no effect without REDIS_SENTINELS"
    if draft.sound("SSL_ENABLED") and not settings.tls.enabled:
        for name in sorted(draft.given & {"SSL_CERT_PATH", "SSL_KEY_PATH", "SSL_EXPIRY_WARNING"}):
            yield f"{name} has no effect unless SSL_ENABLED is on"
    if any(network.prefixlen == 0 for network in settings.laravel.broadcast_allow_from):
        yield "LARAVEL_BROADCAST_ALLOW_FROM lets everyone broadcast without a key"
    if draft.production and draft.sound("CORS_ORIGIN") and not settings.cors.origins:
        yield "CORS_ORIGIN is not set: pages of other origins, the site's own too, cannot connect"
    if not draft.production and settings.cors.any_origin and settings.cors.credentials:
        yield "CORS_ORIGIN is * together with CORS_CREDENTIALS, which production refuses"
    yield from secret_checks.remarks(draft)
