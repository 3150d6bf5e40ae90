"""Where it is found out whose a token is: the claims of a JWT, the site's database, the site's HTTP interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from mechamap_rt.auth import sanctum
from mechamap_rt.auth.jwt import CONNECT, JWTVerifier
from mechamap_rt.core.identity import MAX_ID, Identity
from mechamap_rt.errors import EXPIRED, AuthRefused
from mechamap_rt.interfaces import IAccounts


class Backend(Protocol):
    """Finds out whose token one is."""

    async def resolve(self, token: str) -> Identity:
        """The user.

        :raises AuthRefused: nobody's, or not any more.
        :raises Unavailable: it cannot be found out now.
        """

    def forget(self, user_id: int | None, token_id: int | None) -> None:
        """Rights of this user, or of this token, have been taken away."""


class DatabaseBackend:
    """Asks the site's database, once for each token.

    :param strict: the user of a JWT must be in it too; without that its claims are believed.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self, accounts: IAccounts, verifier: JWTVerifier, *, strict: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._accounts = accounts
        self._verifier = verifier
        self._strict = strict
        self._clock = clock

    def forget(self, user_id: int | None, token_id: int | None) -> None:
        self._accounts.doubt(user_id, token_id)

    async def resolve(self, token: str) -> Identity:
        if "|" in token:
            return await self._sanctum(token)
        claimed = self._verifier.verify(token)
        if not self._strict:
            return claimed
        user = await self._accounts.user(claimed.user_id)
        if user is None or not user.active:
            raise AuthRefused("User account is not active")
        permissions = tuple(dict.fromkeys((*claimed.permissions, *_held(user))))
        return _identity(user, permissions, claimed.expires_at, None)

    async def _sanctum(self, token: str) -> Identity:
        parts = sanctum.parse(token)
        if parts is None:
            raise AuthRefused("Invalid token")
        row = await self._accounts.token(parts.id)
        if not sanctum.is_genuine(parts, None if row is None else row.digest) or row is None:
            raise AuthRefused("Invalid token")
        if row.expires_at is not None and row.expires_at <= self._clock():
            raise AuthRefused(EXPIRED)
        if row.user is None or not row.user.active:
            raise AuthRefused("User account is not active")
        permissions = sanctum.permissions(row.abilities, row.user.permissions, CONNECT)
        identity = _identity(row.user, permissions, row.expires_at, parts.id)
        return replace(identity, digest=sanctum.mark(row.digest))


def _held(user: Any) -> tuple[str, ...]:
    """What a user may do whatever the token says: all but what only a token can give."""
    return tuple(permission for permission in user.permissions if permission not in CONNECT)


def _identity(user: Any, permissions: tuple[str, ...], expires_at: float | None, token_id: int | None) -> Identity:
    return Identity(
        user_id=user.id,
        name=user.name,
        role=user.role,
        email=user.email,
        permissions=permissions,
        avatar=user.avatar,
        expires_at=expires_at,
        token_id=token_id,
    )


class Verifier(Protocol):
    """The site, asked about a token."""

    async def verify(self, token: str) -> dict[str, Any]:
        """The members of ``user`` in its answer.

        :raises AuthRefused: the site refuses it.
        :raises Unavailable: the site does not answer.
        """


class LaravelBackend:
    """Asks the site about Sanctum tokens; it knows no JWT, whose claims are believed."""

    def __init__(self, site: Verifier, verifier: JWTVerifier) -> None:
        self._site = site
        self._verifier = verifier

    def forget(self, user_id: int | None, token_id: int | None) -> None:
        """The site answers from its own database."""

    async def resolve(self, token: str) -> Identity:
        if "|" not in token:
            return self._verifier.verify(token)
        parts = sanctum.parse(token)
        if parts is None:
            raise AuthRefused("Invalid token")
        return described(await self._site.verify(token), parts.id)


def described(user: dict[str, Any], token_id: int | None) -> Identity:
    """The user whom the site describes: ``{id, name, email, role, permissions, avatar, status}``.

    :raises AuthRefused: it is not active, or is no user.
    """
    ident = user.get("id")
    if isinstance(ident, str) and ident.isascii() and ident.isdigit() and len(ident) < 20:
        ident = int(ident)
    if not isinstance(ident, int) or isinstance(ident, bool) or not 1 <= ident <= MAX_ID:
        raise AuthRefused("Invalid token")
    # PHP hands on what MySQL has for a boolean as a number, or as its digit in a string
    inactive = user.get("is_active") in (False, 0, "0", "false") or user.get("banned_at") is not None
    if inactive or user.get("status") in ("banned", "inactive"):
        raise AuthRefused("User account is not active")
    permissions = user.get("permissions")
    held = tuple(p for p in permissions if isinstance(p, str)) if isinstance(permissions, list) else ()
    if not sanctum.RECEIVE.isdisjoint(held):
        # the site has told the token's abilities
        held = (sanctum.PERMISSION, *held)
    return Identity(
        user_id=ident,
        name=_text(user, "name") or f"User {ident}",
        role=_text(user, "role") or "guest",
        email=_text(user, "email"),
        permissions=held,
        avatar=_text(user, "avatar"),
        token_id=token_id,
    )


def _text(user: dict[str, Any], name: str) -> str | None:
    value = user.get(name)
    return value if isinstance(value, str) and len(value) <= 1024 else None
