"""Authenticators: who stands behind a token."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mechamap_rt.auth.jwt import JWTVerifier, require_connect
from mechamap_rt.core.identity import Identity
from mechamap_rt.errors import AuthRefused
from mechamap_rt.interfaces import IAuthenticator


@implementer(IAuthenticator)
class ClaimsAuthenticator:
    """Believes the claims of a valid JWT: for a server without the site's database."""

    def __init__(self, verifier: JWTVerifier) -> None:
        self._verifier = verifier

    def authenticate(self, token: str | None) -> Deferred[Identity]:
        return self.identify(token).addCallback(require_connect)

    def identify(self, token: str | None) -> Deferred[Identity]:
        if token is None:
            return fail(AuthRefused("No token provided"))
        try:
            return succeed(self._verifier.verify(token))
        except AuthRefused as refused:
            return fail(refused)


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
