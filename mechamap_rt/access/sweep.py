"""A look, once a minute, at whether those who are connected may still be: their tokens, their accounts, their channels.

What the site changes in its database it does not tell. One query for all tokens of a process, and a few for its
subscriptions, find it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.auth import sanctum
from mechamap_rt.auth.jwt import CONNECT
from mechamap_rt.bus.node import Node
from mechamap_rt.core.connection import Connection, State
from mechamap_rt.core.identity import Identity
from mechamap_rt.errors import Disconnect, Unavailable
from mechamap_rt.interfaces import IAccounts, IAuthenticator, IPolicy

#: How often the rows are asked for while rights are taken away.
MAX_ATTEMPTS: Final = 3

_log = Logger()


class Sweep:
    """Looks in turn.

    :param accounts: asked about tokens and users; ``None`` where there is no database that has them.
    :param strict: must the users of JWTs be in it?
    :param extend: called when a connection's token ends at another time than was known.
    :param interval: seconds between two looks.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        node: Node,
        accounts: IAccounts | None,
        strict: bool,
        authenticator: IAuthenticator,
        policy: IPolicy,
        subscriptions: Subscriptions,
        extend: Callable[[Connection], object],
        interval: float,
    ) -> None:
        self._reactor = reactor
        self._node = node
        self._accounts = accounts
        self._strict = strict
        self._authenticator = authenticator
        self._policy = policy
        self._subscriptions = subscriptions
        self._extend = extend
        self._interval = interval
        self._timer: IDelayedCall | None = None
        self._running = False
        #: Since the start: looks, and connections that were ended by them.
        self.looks = self.ended = 0

    def start(self) -> None:
        # the processes of a cluster start together, and shall not all ask together
        self._arm(self._interval * (0.5 + random() / 2))

    def _arm(self, seconds: float) -> None:
        self._timer = self._reactor.callLater(seconds, self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._running = True
        looking = Deferred.fromCoroutine(self.look())
        looking.addErrback(lambda reason: _log.failure("Connected users could not be looked at", reason))
        looking.addBoth(self._looked)

    def _looked(self, _: object) -> None:
        if self._running:
            self._arm(self._interval)

    def stop(self) -> None:
        self._running = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    async def look(self) -> None:
        """Look once. While the database does not answer, nobody loses anything."""
        self.looks += 1
        try:
            await self._look_at_users()
        except Unavailable:
            return
        await self._subscriptions.sweep(self._node.connections())

    async def _look_at_users(self) -> None:
        if self._accounts is None:
            return
        token_ids: set[int] = set()
        user_ids: set[int] = set()
        for connection in self._node.connections():
            identity = connection.identity
            if identity.token_id is not None:
                token_ids.add(identity.token_id)
            elif self._strict:
                user_ids.add(identity.user_id)
        if not token_ids and not user_ids:
            return
        before = {connection: connection.identity for connection in self._node.connections()}
        for _ in range(MAX_ATTEMPTS):
            era = self._authenticator.era
            tokens, users = await self._accounts.standing(token_ids, user_ids)
            if era == self._authenticator.era:
                break
        for connection, identity in before.items():
            # who is gone, or has another identity since, was looked at meanwhile
            if connection.state is not State.ACTIVE or connection.identity is not identity:
                continue
            if identity.token_id in token_ids:
                token = tokens.get(identity.token_id)
                if token is not None and not isinstance(token, Unavailable) and not _same(identity, token):
                    token = await self._again(identity.token_id)
                # of whom it cannot be found out now stays as they are
                if connection.identity is identity and not isinstance(token, Unavailable):
                    await self._judge_token(connection, token)
            elif identity.token_id is None and identity.user_id in user_ids:
                user = users.get(identity.user_id)
                if isinstance(user, Unavailable):
                    continue
                if user is None or not user.active:
                    self._end(connection, Disconnect.INACTIVE)
                else:
                    await self._update(connection, _as(identity, user))

    async def _again(self, token_id: int | None) -> Any:
        """The token once more, from where it is written: a replica may have the one that had its number before."""
        if token_id is None or self._accounts is None:
            return None
        self._authenticator.forget(token_id=token_id)
        tokens, _ = await self._accounts.standing([token_id], [])
        return tokens.get(token_id)

    async def _judge_token(self, connection: Connection, token: Any) -> None:
        identity = connection.identity
        if token is None or not _same(identity, token):
            return self._end(connection, Disconnect.REVOKED)
        if token.user is None or not token.user.active:
            return self._end(connection, Disconnect.INACTIVE)
        permissions = sanctum.permissions(token.abilities, token.user.permissions, CONNECT)
        if CONNECT.isdisjoint(permissions):
            return self._end(connection, Disconnect.REVOKED)
        now = replace(_as(identity, token.user), permissions=permissions, expires_at=token.expires_at)
        await self._update(connection, now)

    def _end(self, connection: Connection, reason: Disconnect) -> None:
        identity = connection.identity
        self._authenticator.forget(identity.user_id, identity.token_id)
        self._policy.forget(user_id=identity.user_id)
        self.ended += 1
        connection.close(reason)

    async def _update(self, connection: Connection, now: Identity) -> None:
        before = connection.identity
        if now == before:
            return
        connection.identity = now
        self._authenticator.forget(now.user_id, now.token_id)
        if now.expires_at != before.expires_at:
            self._extend(connection)
        if (now.role, now.permissions) != (before.role, before.permissions):
            await self._subscriptions.review(connection)


def _same(identity: Identity, token: Any) -> bool:
    """Is it the one that they came with? With a new secret, or for another user, its number stands for another."""
    return identity.digest == sanctum.mark(token.digest) and (token.user is None or token.user.id == identity.user_id)


def _as(identity: Identity, user: Any) -> Identity:
    """``identity`` with what the user's row says now."""
    return replace(identity, name=user.name, role=user.role, email=user.email, avatar=user.avatar)
