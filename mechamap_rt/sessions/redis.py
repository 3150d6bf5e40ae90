"""The session store of several hosts: Redis counts, and while it is away each host counts for itself.

Each process tells Redis and its host's store the same, at the same time. What Redis answers holds; when it does not
answer in time, what the host answers. The lease (:mod:`mechamap_rt.sessions.redis_lease`) says when it is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mechamap_rt.core.limits import Quota
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import IReactor, ISessionStore
from mechamap_rt.redis.commands import Commands
from mechamap_rt.redis.link import Link
from mechamap_rt.sessions import redis_scripts as scripts
from mechamap_rt.sessions.redis_counts import Counts
from mechamap_rt.sessions.redis_lease import LEASE, PATIENCE, Lease
from mechamap_rt.settings.backing import Redis

_REASONS: Final = {
    scripts.GRANTED: None,
    scripts.TOTAL_REACHED: Disconnect.GLOBAL_LIMIT,
    scripts.ADDRESS_REACHED: Disconnect.THROTTLED,
    scripts.USER_REACHED: Disconnect.USER_LIMIT,
    scripts.ATTEMPTS_REACHED: Disconnect.THROTTLED,
}


@implementer(ISessionStore)
class RedisStore:
    """Counts over all processes with the same Redis, database and prefix.

    :param host: the store of this host.
    :param quota: the limits there are; those that are 0 are not asked about.
    :param prefix: what the keys begin with.
    :param node: this process's name; unique in the cluster.
    :param life: seconds after which a process that died has nothing any more.
    :param patience: seconds that a client waits for Redis's answer.
    :ivar lease: whether Redis is asked now, and under what name.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        commands: Commands,
        host: ISessionStore,
        quota: Quota,
        prefix: str,
        node: str,
        life: float = LEASE,
        patience: float = PATIENCE,
    ) -> None:
        self._host, self._quota, self._prefix = host, quota, prefix.encode()
        self.lease = Lease(reactor, commands, self._prefix, node, scripts.ALL, life, patience)
        self._counts = Counts(self.lease)
        # Connections of a user that Redis has let in and the host's store has not: it must not count them out.
        self._uncounted: Counter[int] = Counter()

    def start(self) -> None:
        """Ask Redis as soon as it can be had."""
        self.lease.start()

    def stop(self) -> None:
        """Ask it no more; what this process had is nobody's at once."""
        self.lease.stop()

    # transports

    def _entered(self, address: str) -> Sequence[bytes]:
        keys = []
        if self._quota.total:
            keys.append(self._prefix + b"transports")
        if self._quota.per_address:
            keys.append(self._prefix + b"address:" + address.encode())
        return keys

    def enter(self, address: str) -> Deferred[Disconnect | None]:
        host = self._host.enter(address)
        quota, counted = self._quota, self._entered(address)
        if not counted:
            return host
        ready = self.lease.ready()
        self._counts.more(*counted)
        if not ready:
            return host
        keys = (self.lease.key, self._prefix + b"transports", self._prefix + b"address:" + address.encode())
        asked = self.lease.ask(scripts.ENTER.call(keys, *self._counts.head(), quota.total, quota.per_address))
        return asked.addCallback(lambda code: host if code is None else succeed(_REASONS[code]))

    def leave(self, address: str) -> None:
        self._host.leave(address)
        counted = self._entered(address)
        if counted:
            self._counts.less(*counted)

    # connections

    def admit(self, user_id: int) -> Deferred[Disconnect | None]:
        host = self._host.admit(user_id)
        quota = self._quota
        if not (quota.per_user or quota.attempts):
            return host
        if not self.lease.ready():
            return host.addCallback(self._host_decided, user_id)
        keys = (self.lease.key, self._user(user_id), self._prefix + b"bucket:attempts:%d" % user_id)
        asked = self.lease.ask(scripts.ADMIT.call(keys, *self._counts.head(), quota.per_user, quota.attempts))
        return asked.addCallback(self._decided, host, user_id)

    def _user(self, user_id: int) -> bytes:
        return self._prefix + b"user:%d" % user_id

    def _decided(
        self, code: int | None, host: Deferred[Disconnect | None], user_id: int
    ) -> Deferred[Disconnect | None]:
        """Redis has answered, or has not; the host's answer may still be to come."""
        if code is None:
            return host.addCallback(self._host_decided, user_id)
        reason = _REASONS[code]
        if reason is None and self._quota.per_user:
            self._counts.more(self._user(user_id))
        return host.addCallback(self._agree, reason, user_id)

    def _host_decided(self, reason: Disconnect | None, user_id: int) -> Disconnect | None:
        if reason is None and self._quota.per_user:
            self._counts.add(self._user(user_id))
        return reason

    def _agree(self, host: Disconnect | None, reason: Disconnect | None, user_id: int) -> Disconnect | None:
        """Have the host count what Redis has decided."""
        if reason is None and host is not None:
            self._uncounted[user_id] += 1
        elif reason is not None and host is None:
            self._host.dismiss(user_id)
        return reason

    def dismiss(self, user_id: int) -> None:
        if user_id not in self._uncounted:
            self._host.dismiss(user_id)
        else:
            self._uncounted[user_id] -= 1
            if not self._uncounted[user_id]:
                del self._uncounted[user_id]
        if self._quota.per_user:
            self._counts.less(self._user(user_id))

    # rates

    def take(self, limit: str, key: int | str) -> Deferred[float]:
        host = self._host.take(limit, key)
        rate = self._quota.rates.get(limit)
        if not rate or not self.lease.ready():
            return host
        bucket = self._prefix + f"bucket:{limit}:{key}".encode()
        asked = self.lease.ask(scripts.TAKE.call((bucket,), rate))
        return asked.addCallback(lambda wait: host if wait is None else succeed(wait / 1e6))


def joined(
    reactor: IReactor, settings: Redis, commands: Commands | None, host: ISessionStore, quota: Quota, node: str
) -> RedisStore:
    """The store of a process, which begins and ends with the reactor.

    :param commands: of a link that others keep; without it the store keeps one of its own.
    """
    link = None
    if commands is None:
        link = Link(reactor, settings, f"mechamap-{node}")
        commands = Commands(reactor, link, settings.timeout)
        reactor.callWhenRunning(link.start)
    store = RedisStore(reactor, commands, host, quota, settings.prefix, node)
    reactor.callWhenRunning(store.start)
    # the store's farewell first: what was written before the link stops goes out
    reactor.addSystemEventTrigger("before", "shutdown", store.stop)
    if link is not None:
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(link.stop()))
    return store
