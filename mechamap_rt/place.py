"""The place of a process in the cluster: its name, and by what it is joined with the others."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.relay import RelayBus
from mechamap_rt.core.ledger import Ledger
from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.core.publication import base36
from mechamap_rt.interfaces import IArchive, IBus, IHelm, ILedger, ISessionStore
from mechamap_rt.sessions.local import LocalLedger, LocalStore
from mechamap_rt.settings import Settings
from mechamap_rt.system.audit import AuditLog, audit_file
from mechamap_rt.system.listening import Bound
from mechamap_rt.system.rates import RateTable
from mechamap_rt.system.scoreboard import FairShare

#: Characters of a host's name, and of a worker's number behind it.
HOST_LENGTH: Final = 3
NUMBER_LENGTH: Final = 3


def host_name(settings: Settings) -> str:
    """The configured name of this host, or one made up."""
    return settings.cluster.host_id or base36(36**HOST_LENGTH + secrets.randbelow(36**HOST_LENGTH))[1:]


def process_name(host: str, number: int) -> str:
    """The name of the worker ``number``: the first characters of the ids of its sessions."""
    return host + base36(36**NUMBER_LENGTH + number % 36**NUMBER_LENGTH)[1:]


def process_number(name: str) -> int:
    """The number in the name of a worker."""
    return int(name[HOST_LENGTH:], 36)


def quota(settings: Settings) -> Quota:
    """The limits on people."""
    limits = settings.limits
    return Quota(
        total=limits.max_connections,
        per_address=limits.max_connections_per_ip,
        per_user=limits.max_connections_per_user,
        attempts=limits.connection_attempts_per_minute,
        rates={
            "events": limits.client_events_per_minute,
            "typing": limits.typing_events_per_minute,
            "channel": limits.channel_publications_per_minute,
        },
    )


@dataclass(slots=True)
class Place:
    """Where in the cluster a process is.

    :ivar name: distinguishes it from every other process of every host; 6 characters, the first 3 are the host's.
    :ivar rates: what the processes of the host have counted lately.
    :ivar ledger: what has been done already.
    :ivar audit: where acts of administration are noted.
    :ivar helm: the process that looks after this one.
    :ivar relay: the streams to the other processes of the host, if there can be any.
    :ivar sockets: listening sockets, bound.
    :ivar share: keeps the processes of the host from accepting more than their share.
    """

    name: str
    bus: IBus
    store: ISessionStore
    ledger: ILedger
    rates: RateTable
    audit: AuditLog
    helm: IHelm
    relay: RelayBus | None = None
    sockets: list[Bound] = field(default_factory=list)
    share: FairShare | None = None


def joined(reactor: Any, settings: Settings, local: IBus, name: str) -> IBus:
    """The bus of a host, joined with other hosts where there is a Redis."""
    if not (settings.redis.configured and settings.redis.adapter_enabled):
        return local
    # the master needs this module and never Redis
    from mechamap_rt.bus.redis import RedisBus

    bus: IBus = RedisBus(reactor, local, settings.redis, name[:HOST_LENGTH], name)
    return bus


def stored(reactor: Any, settings: Settings, host: ISessionStore, bus: IBus, name: str) -> ISessionStore:
    """The session store of a host, or of several where Redis counts for them; it begins and ends with the reactor."""
    redis = settings.redis
    # a Redis Cluster has what belongs together in different places
    if not (redis.configured and redis.session_store) or redis.cluster_nodes:
        return host
    from mechamap_rt.bus.redis import RedisBus
    from mechamap_rt.sessions import redis as sessions

    commands = bus.commands if isinstance(bus, RedisBus) else None
    store: ISessionStore = sessions.joined(reactor, redis, commands, host, quota(settings), name)
    return store


def remembered(settings: Settings, host: ILedger, bus: IBus) -> ILedger:
    """The ledger of a host, or of several that are joined by Redis."""
    if not (settings.redis.configured and settings.redis.adapter_enabled):
        return host
    from mechamap_rt.bus.redis import RedisBus
    from mechamap_rt.sessions.redis_ledger import RedisLedger

    ledger: ILedger = RedisLedger(host, bus.commands, settings.redis.prefix) if isinstance(bus, RedisBus) else host
    return ledger


def archive(reactor: Any, settings: Settings, bus: IBus, name: str) -> IArchive | None:
    """Where what became of publications is kept longer than a process lives, if there is such a place."""
    redis, tracing = settings.redis, settings.monitoring
    if not (redis.configured and redis.adapter_enabled) or redis.cluster_nodes or not tracing.trace_publications:
        return None
    from mechamap_rt.bus.redis import RedisBus
    from mechamap_rt.bus.redis_archive import RedisArchive

    if not isinstance(bus, RedisBus):
        return None
    kept, first = tracing.trace_hours * 3600, int(time.time() * 1000)
    found: IArchive = RedisArchive(reactor, bus.commands, name, redis.prefix, tracing.trace_publications, kept, first)
    return found


def alone(reactor: Any, settings: Settings, helm: IHelm) -> Place:
    """The place of a process that has its host for itself."""
    name = process_name(host_name(settings), 1)
    bus = joined(reactor, settings, MemoryBus(), name)
    store = LocalStore(Tally(quota(settings), reactor.seconds))
    ledger = remembered(settings, LocalLedger(Ledger(reactor.seconds)), bus)
    audit = audit_log(reactor, settings, name)
    return Place(name, bus, stored(reactor, settings, store, bus, name), ledger, RateTable.create(), audit, helm)


def audit_log(reactor: Any, settings: Settings, name: str) -> AuditLog:
    """The audit log, as the process ``name`` writes it; it is to be started."""
    return AuditLog(reactor, audit_file(settings, os.environ), name, time.time)
