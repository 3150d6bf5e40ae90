"""Who people are and what they may see, put together from the settings: database, site, authenticator, policy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from mechamap_rt.access.revocation import Revocation
from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.access.sweep import Sweep
from mechamap_rt.auth.authenticator import Authenticator, OpenAuthenticator
from mechamap_rt.auth.backends import Backend, DatabaseBackend, LaravelBackend
from mechamap_rt.auth.cache import TokenCache
from mechamap_rt.auth.decisions import Decisions, by_token
from mechamap_rt.auth.jwt import JWTVerifier
from mechamap_rt.auth.mock import MockSite
from mechamap_rt.auth.policy import Policy
from mechamap_rt.auth.usage import LastSeen, Usage
from mechamap_rt.bus.node import Node
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.rules import Members, Resource, Rule, RuleTable
from mechamap_rt.core.writing import Pace
from mechamap_rt.interfaces import IAuthenticator, IPolicy, IReactor
from mechamap_rt.place import Place
from mechamap_rt.settings import Settings
from mechamap_rt.settings.channelrules import ChannelRule
from mechamap_rt.settings.roles import RANKS
from mechamap_rt.storage.accounts import Accounts
from mechamap_rt.storage.notifications import Notifications
from mechamap_rt.storage.opening import open_database
from mechamap_rt.storage.site import Site

if TYPE_CHECKING:
    from mechamap_rt.auth.laravel import LaravelSite

#: Seconds between two looks at how many processes share the connections to the database.
SHARING: Final = 1.0


class Rights:
    """What one process needs to know who people are.

    :ivar database: the site's, or the embedded one.
    :ivar pace: of all that is written to it.
    :ivar rows: the site's, as far as permissions and groups need them.
    :ivar last_seen: takes the users who come and go; ``None`` where the site says who they are.
    :ivar notifications: the site's; ``None`` where there is no database that has them.
    """

    authenticator: IAuthenticator
    policy: IPolicy

    def __init__(self, reactor: IReactor, settings: Settings, place: Place) -> None:
        self._reactor = reactor
        self._settings = settings
        self._place = place
        self.database = open_database(reactor, settings.database, self._connections())
        zone = ZoneInfo(settings.database.timezone)
        self._accounts = Accounts(self.database, zone, reactor.seconds)
        self.pace = Pace(reactor)
        self.rows = Site(self.database)
        self.usage: Usage | None = None
        self.last_seen: LastSeen | None = None
        self._by_site = asks_site(settings)
        self.notifications: Notifications | None = None
        if not self._by_site and self.truthful:
            self.notifications = Notifications(self.database, time.time, zone)
        self._decided_by_site = settings.auth.channel_auth == "laravel"
        self.site: LaravelSite | MockSite | None = None
        if self._by_site or self._decided_by_site:
            self.site = self._open_site()
        self.authenticator = self._authenticator()
        self.policy = self._policy()
        self.sweep: Sweep | None = None
        self._sharing = LoopingCall(self._share)
        self._sharing.clock = reactor

    def _connections(self) -> int:
        """How many connections to the database are this process's: those of the cluster, shared by its workers."""
        share, database = self._place.share, self._settings.database
        workers = self._settings.cluster.worker_range(os.cpu_count() or 1)[2] if self._place.relay is not None else 1
        if share is not None:
            workers = max(workers, share.processes())
        return max(database.connections_needed, database.connection_limit // workers)

    def _share(self) -> None:
        self.database.resize(self._connections())

    def _open_site(self) -> LaravelSite | MockSite:
        development, laravel = self._settings.development, self._settings.laravel
        if development.mock_laravel_api:
            return MockSite(development.mock_user_id or 1, development.mock_user_role or "member")
        # what is needed for this is large, and most servers do without
        from mechamap_rt.auth.laravel import LaravelSite
        from mechamap_rt.auth.trust import trusting

        policy = trusting(laravel.ca) if laravel.ca else None
        return LaravelSite(self._reactor, laravel.api_url, laravel.api_key, laravel.timeout, policy)

    def _authenticator(self) -> IAuthenticator:
        settings = self._settings
        verifier = JWTVerifier(settings.jwt.secret, settings.jwt.algorithm, settings.jwt.previous_secrets)
        backend: Backend
        if self._by_site and self.site is not None:
            backend = LaravelBackend(self.site, verifier)
        else:
            backend = DatabaseBackend(self._accounts, verifier, strict=self.strict)
            self.usage = Usage(self._reactor, self._accounts, time.time, self.pace)
            self.last_seen = LastSeen(self._reactor, self._accounts, time.time, self.pace)
        cache = TokenCache(settings.auth.cache_ttl, settings.auth.cache_size, time.time)
        used = None if self.usage is None else self.usage.note
        authenticator = Authenticator(backend, cache, time.time, used, keep=self._decided_by_site)
        development = settings.development
        if development.disable_auth:
            return OpenAuthenticator(
                authenticator, development.mock_user_id or 1, development.mock_user_role or "member"
            )
        return authenticator

    def _policy(self) -> IPolicy:
        if self._decided_by_site and self.site is not None:
            from mechamap_rt.auth.laravel import LaravelPolicy

            return LaravelPolicy(self.site, Decisions(self._reactor.seconds, which=by_token))
        table = RuleTable([resource_of(rule) for rule in self._settings.auth.channel_rules])
        written = Site(self.database, fresh=True) if self.database.separate else None
        return Policy(self.rows, table, Decisions(self._reactor.seconds), written)

    @property
    def truthful(self) -> bool:
        """Is what the database has the site's, or the demo's, and not just empty?"""
        return self._settings.demo or not self._settings.database.embedded

    @property
    def strict(self) -> bool:
        """Must the user of a JWT be in the database?"""
        return not self._settings.database.embedded or self._settings.auth.backend == "database"

    def watch(
        self,
        node: Node,
        before: Callable[[Connection, str], object],
        changed: Callable[[Connection], object],
        extend: Callable[[Connection], object],
    ) -> tuple[Subscriptions, Revocation]:
        """Have rights that end while people are connected end their connections and subscriptions.

        :param before: called with the connection and the resource before a subscription ends.
        :param changed: called with a connection whose user's rights have changed.
        :param extend: called with a connection whose token lasts longer now.
        """
        subscriptions = Subscriptions(node, self.policy, before, changed, time.time)
        revocation = Revocation(node, self.authenticator, self.policy, subscriptions, time.time)
        self.sweep = Sweep(
            self._reactor,
            node=node,
            accounts=None if self._by_site else self._accounts,
            # the mock user need not be in the database
            strict=self.strict and not self._settings.development.disable_auth,
            authenticator=self.authenticator,
            policy=self.policy,
            subscriptions=subscriptions,
            extend=extend,
            interval=self._settings.auth.sweep_interval,
        )
        return subscriptions, revocation

    # life

    async def start(self) -> None:
        await self.database.start()
        for written in (self.usage, self.last_seen):
            if written is not None:
                written.start()
        if self.sweep is not None:
            self.sweep.start()
        self._sharing.start(SHARING, now=False)

    def retire(self) -> None:
        """Another process takes over: leave the connections to the database to it."""
        if self._sharing.running:
            self._sharing.stop()
        self.database.rest()

    async def stop(self) -> None:
        if self._sharing.running:
            self._sharing.stop()
        if self.sweep is not None:
            self.sweep.stop()
        writing = [Deferred.fromCoroutine(one.stop()) for one in (self.usage, self.last_seen) if one is not None]
        for one in writing:
            await one
        if self.site is not None:
            await self.site.close()
        await self.database.stop()

    def figures(self) -> dict[str, Any]:
        """For health: what stands behind this process, and does it answer?"""
        found: dict[str, Any] = {"database": self.database.figures()}
        if self.site is not None and not isinstance(self.site, MockSite):
            found["site"] = {"status": self.site.breaker.state.value, "requests": self.site.requests}
        return found


def asks_site(settings: Settings) -> bool:
    """Does the site say whose a token is, and not the database?"""
    if settings.auth.backend != "auto":
        return settings.auth.backend == "laravel"
    known = bool(settings.laravel.api_url) or settings.development.mock_laravel_api
    return settings.database.embedded and known


def resource_of(rule: ChannelRule) -> Resource:
    """The row of the table that an operator's rule is."""
    if rule.kind == "member":
        return Resource(rule.pattern, Rule.MEMBER, Members(rule.table, *rule.columns, rule.active))
    if rule.kind == "role":
        return Resource(rule.pattern, Rule.RANK, rank=RANKS[rule.role])
    return Resource(rule.pattern, Rule.OWNER if rule.kind == "owner" else Rule.EVERYONE)
