"""Rights that are taken away at once, in every process: of users, of tokens, to channels.

A process that cannot be reached at that moment (Redis is away, say) hears of it as soon as it can be: each keeps what
was taken away lately, and they compare when the cluster is whole again.
"""

from __future__ import annotations

import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.bus.node import Node
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import IAuthenticator, IPolicy

_log = Logger()

#: The reason that clients are told when a subscription has been taken away.
REASON: Final = "Revoked"
#: Seconds for which a process that could not be reached may still learn what was taken away, and how many of these.
KEPT: Final = 3600.0
MAX_KEPT: Final = 5000


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """A right that has been taken away: every token of a user, one token, or a resource (of one user, of everybody).

    :ivar ident: unique in the cluster, so that no process takes away twice what somebody may have been given again.
    :ivar at: seconds since the epoch.
    """

    ident: str
    at: float
    user_id: int | None = None
    token_id: int | None = None
    resource: str | None = None


class Revocation:
    """Answers for this process, and asks all of them.

    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        node: Node,
        authenticator: IAuthenticator,
        policy: IPolicy,
        subscriptions: Subscriptions,
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._authenticator = authenticator
        self._policy = policy
        self._subscriptions = subscriptions
        self._clock = clock
        self._kept: OrderedDict[str, Taken] = OrderedDict()
        node.answer("revoke", self._revoke)
        node.answer("revoked", self._revoked)
        node.when_whole(self._compare)

    def start(self) -> None:
        """Learn what was taken away before this process was there: a replica may not know it yet."""
        self._compare()

    @property
    def degraded(self) -> bool:
        """Are there processes that may hear of it later only?"""
        return self._node.degraded

    async def user(self, user_id: int) -> int:
        """Every token of the user; how many connections have ended."""
        return await self._take(Taken(*self._stamp(), user_id=user_id))

    async def token(self, token_id: int) -> int:
        """One Sanctum token; how many connections have ended."""
        return await self._take(Taken(*self._stamp(), token_id=token_id))

    async def channel(self, resource: str, user_id: int | None) -> int:
        """The subscriptions to a resource, of one user or of everybody; how many have ended."""
        return await self._take(Taken(*self._stamp(), user_id=user_id, resource=resource))

    def _stamp(self) -> tuple[str, float]:
        return secrets.token_urlsafe(9), self._clock()

    async def _take(self, taken: Taken) -> int:
        return sum(await self._node.ask("revoke", taken))

    # what processes ask one another

    def _revoke(self, asked: list[Any]) -> int:
        taken = msgspec.convert(asked, Taken)
        return self._apply(taken, math.inf) if self._keep(taken) else 0

    def _revoked(self, asked: list[Any]) -> list[Taken]:
        """Another process says what was taken away lately; it is told what is known here."""
        known = self._lately()
        self._catch_up(asked)
        return known

    def _compare(self) -> None:
        comparing = Deferred.fromCoroutine(self._ask_around())
        comparing.addErrback(lambda reason: _log.failure("Revocations could not be compared", reason))

    async def _ask_around(self) -> None:
        for answer in await self._node.ask("revoked", self._lately()):
            self._catch_up(answer)

    def _catch_up(self, missed: list[Any]) -> None:
        for each in missed:
            taken = msgspec.convert(each, Taken)
            if self._keep(taken):
                # who has come since then has come with what is good now
                self._apply(taken, taken.at)

    # what was taken away

    def _keep(self, taken: Taken) -> bool:
        """Remember it; was it new?"""
        if taken.ident in self._kept:
            return False
        self._kept[taken.ident] = taken
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return True

    def _lately(self) -> list[Taken]:
        since = self._clock() - KEPT
        for ident in [ident for ident, taken in self._kept.items() if taken.at < since]:
            del self._kept[ident]
        return list(self._kept.values())

    def _apply(self, taken: Taken, until: float) -> int:
        """Take it away here.

        :param until: connections that came after that (seconds since the epoch) keep theirs.
        """
        if taken.resource is not None:
            return self._end_subscriptions(taken.resource, taken.user_id, until)
        return self._end_connections(taken.user_id, taken.token_id, until)

    def _end_connections(self, user_id: int | None, token_id: int | None, until: float) -> int:
        self._authenticator.forget(user_id, token_id)
        if user_id is not None:
            self._policy.forget(user_id=user_id)
            found = list(self._node.connections_of(user_id))
        else:
            found = [each for each in self._node.connections() if each.identity.token_id == token_id]
        found = [each for each in found if each.since <= until]
        for connection in found:
            connection.close(Disconnect.REVOKED)
        return len(found)

    def _end_subscriptions(self, resource: str, user_id: int | None, until: float) -> int:
        self._policy.forget(user_id, resource)
        found = [
            connection
            for connection in self._node.hub.subscribers(resource)
            if connection.since <= until and (user_id is None or connection.identity.user_id == user_id)
        ]
        for connection in found:
            self._subscriptions.end(connection, resource, REASON)
        return len(found)
