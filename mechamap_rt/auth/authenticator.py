"""Authenticators: who stands behind a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.auth.backends import Backend
from mechamap_rt.auth.cache import TokenCache, key_of
from mechamap_rt.auth.jwt import MAX_LENGTH, require_connect
from mechamap_rt.core.identity import Identity
from mechamap_rt.errors import EXPIRED, AuthRefused, Unavailable
from mechamap_rt.interfaces import IAuthenticator

#: How often a token is asked about while it, or its user, is revoked again and again.
MAX_ATTEMPTS: Final = 3


@implementer(IAuthenticator)
class Authenticator:
    """Asks a backend about each token once, however many ask at the same moment, and remembers the answer.

    :param clock: seconds since the epoch.
    :param used: told of the number of each Sanctum token that somebody has come with.
    :param keep: have identities carry their token: the site is asked about channels with it.
    """

    def __init__(
        self,
        backend: Backend,
        cache: TokenCache,
        clock: Callable[[], float],
        used: Callable[[int], None] | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self._backend = backend
        self.cache = cache
        self._clock = clock
        self._used = used
        self._keep = keep
        self._flights: dict[bytes, list[Deferred[Identity]]] = {}

    def authenticate(self, token: str | None) -> Deferred[Identity]:
        return self.identify(token).addCallback(self._admit)

    def _admit(self, identity: Identity) -> Identity:
        require_connect(identity)
        if self._used is not None and identity.token_id is not None:
            self._used(identity.token_id)
        return identity

    def identify(self, token: str | None) -> Deferred[Identity]:
        if token is None:
            return fail(AuthRefused("No token provided"))
        if len(token) > MAX_LENGTH or not token.isascii() or not token.isprintable():
            return fail(AuthRefused("Invalid token"))
        key = key_of(token)
        known = self.cache.known(key)
        if known is not None:
            return self._current(known)
        refused = self.cache.refusal(key)
        if refused is not None:
            return fail(AuthRefused(refused))
        return self._fly(token, key)

    def _current(self, identity: Identity) -> Deferred[Identity]:
        if identity.expires_at is not None and identity.expires_at <= self._clock():
            return fail(AuthRefused(EXPIRED))
        return succeed(identity)

    def _fly(self, token: str, key: bytes) -> Deferred[Identity]:
        """Ask, once for all who want to know."""
        answer: Deferred[Identity] = Deferred()
        waiting = self._flights.get(key)
        if waiting is not None:
            waiting.append(answer)
            return answer
        self._flights[key] = [answer]
        flight = Deferred.fromCoroutine(self._resolve(token, key))
        flight.addCallbacks(self._landed, self._crashed, callbackArgs=(key,), errbackArgs=(key,))
        return answer

    async def _resolve(self, token: str, key: bytes) -> Identity:
        for _ in range(MAX_ATTEMPTS):
            era = self.cache.era
            try:
                identity = await self._backend.resolve(token)
            except AuthRefused as refused:
                self.cache.refuse(key, refused.reason)
                raise
            # when rights of this one were taken away meanwhile, what was found may be older
            if not self.cache.overtaken(identity, era):
                if self._keep:
                    identity = replace(identity, bearer=token)
                self.cache.remember(key, identity, era)
                return identity
        raise Unavailable("the user's rights are taken away again and again")

    def _landed(self, identity: Identity, key: bytes) -> None:
        for answer in self._flights.pop(key):
            answer.callback(identity)

    def _crashed(self, reason: Failure, key: bytes) -> None:
        for answer in self._flights.pop(key):
            answer.errback(reason)

    @property
    def era(self) -> int:
        return self.cache.era

    def overtaken(self, identity: Identity, era: int) -> bool:
        """Have rights of this one been taken away since ``era``?"""
        return self.cache.overtaken(identity, era)

    def forget(self, user_id: int | None = None, token_id: int | None = None) -> None:
        """What was found out about this user's tokens, or about this token, does not count any more."""
        self.cache.forget(user_id, token_id)
        self._backend.forget(user_id, token_id)


@implementer(IAuthenticator)
class OpenAuthenticator:
    """Development only (``DISABLE_AUTH``): who brings no token is the configured user; a token is checked as ever."""

    def __init__(self, inner: IAuthenticator, user_id: int, role: str) -> None:
        self._inner = inner
        self._nobody = Identity(user_id, f"User {user_id}", role, permissions=("receive_notifications",))

    def authenticate(self, token: str | None) -> Deferred[Identity]:
        return succeed(self._nobody) if token is None else self._inner.authenticate(token)

    def identify(self, token: str | None) -> Deferred[Identity]:
        return self._inner.identify(token)

    @property
    def era(self) -> int:
        return self._inner.era

    def overtaken(self, identity: Identity, era: int) -> bool:
        return self._inner.overtaken(identity, era)

    def forget(self, user_id: int | None = None, token_id: int | None = None) -> None:
        self._inner.forget(user_id, token_id)
