"""The site's users and their Sanctum tokens."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mechamap_rt.core.doubts import Doubts
from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.core.loader import Loader
from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import IAccounts, IDatabase
from mechamap_rt.storage.statements import chosen, marks, text
from mechamap_rt.wire import json

#: Ids of one query of :meth:`Accounts.standing`, and of one :meth:`Accounts.used`.
MANY: Final = 1_000
MAX_PERMISSIONS: Final = 256
#: Whose tokens the site's users' are, in Laravel's words.
USER_TYPE: Final = "App\\Models\\User"

_USER: Final = "u.id, u.name, u.username, u.email, u.role, u.permissions, u.status, u.avatar, u.is_active, u.banned_at"
_TOKEN: Final = "t.id, t.tokenable_type, t.token, t.abilities, t.expires_at"


@dataclass(frozen=True, slots=True)
class User:
    """A row of ``users``.

    :ivar active: neither banned, nor inactive.
    """

    id: int
    name: str
    email: str | None
    role: str
    permissions: tuple[str, ...]
    avatar: str | None
    active: bool


@dataclass(frozen=True, slots=True)
class Token:
    """A row of ``personal_access_tokens``.

    :ivar digest: SHA-256 of its secret part, in hexadecimal digits.
    :ivar expires_at: seconds since the epoch, or ``None``.
    :ivar user: whose it is; ``None`` when there is no such user.
    """

    id: int
    digest: str
    abilities: tuple[str, ...]
    expires_at: float | None
    user: User | None


R = TypeVar("R", Token, User)


@implementer(IAccounts)
class Accounts:
    """Asks an :class:`~mechamap_rt.interfaces.IDatabase`.

    Most questions go to replicas, where there are any. Of tokens and users of whom something has been taken away these
    are not believed: a replica that lags behind would let them in again.

    :param zone: in which the site writes times.
    :param clock: seconds, monotonic.
    """

    def __init__(self, database: IDatabase, zone: tzinfo = UTC, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._zone = zone
        self._doubts = Doubts(clock)
        self._tokens: Loader[int, Token] = Loader(self._fetch_tokens)
        self._users: Loader[int, User] = Loader(self._fetch_users)

    def token(self, token_id: int) -> Deferred[Token | None]:
        return self._tokens.load(token_id)

    def user(self, user_id: int) -> Deferred[User | None]:
        return self._users.load(user_id)

    def doubt(self, user_id: int | None = None, token_id: int | None = None) -> None:
        for kind, ident in (("user", user_id), ("token", token_id)):
            if ident is not None:
                self._doubts.note((kind, ident))

    async def _fetch_tokens(self, ids: Sequence[int]) -> dict[int, Token | Unavailable]:
        return await self._fetch(ids, self._select_tokens, self._doubts_token)

    def _doubts_token(self, ident: int, token: Token | None) -> bool:
        user = None if token is None else token.user
        return self._doubts.covers(("token", ident), None if user is None else ("user", user.id))

    async def _fetch(
        self,
        ids: Sequence[int],
        select: Callable[[Sequence[int], bool], Awaitable[dict[int, R]]],
        doubted: Callable[[int, R | None], bool],
    ) -> dict[int, R | Unavailable]:
        """Rows by id, each from a server that is believed about it."""
        if not self._database.separate:
            return {**await select(ids, False)}
        general = self._doubts.general
        plain = [] if general else [ident for ident in ids if not doubted(ident, None)]
        found: dict[int, R | Unavailable] = {}
        if plain:
            found |= {ident: row for ident, row in (await select(plain, False)).items() if not doubted(ident, row)}
        # what has just been made is on the writer, and soon on the replicas
        rest = [ident for ident in ids if ident not in found]
        if not rest:
            return found
        try:
            return found | await select(rest, True)
        except Unavailable as away:
            found |= dict.fromkeys(rest, away)
        if general:
            # better than nobody
            found |= {ident: row for ident, row in (await select(rest, False)).items() if not doubted(ident, row)}
        return found

    async def _select_tokens(self, ids: Sequence[int], fresh: bool) -> dict[int, Token]:
        rows = await self._database.query(
            f"SELECT {_TOKEN}, {_USER} FROM personal_access_tokens t LEFT JOIN users u ON u.id = t.tokenable_id"
            f" WHERE t.id IN ({marks(len(ids))})",
            ids,
            fresh=fresh,
        )
        return {row[0]: self._token(row) for row in rows if row[1] == USER_TYPE}

    async def _fetch_users(self, ids: Sequence[int]) -> dict[int, User | Unavailable]:
        return await self._fetch(ids, self._select_users, lambda ident, _: self._doubts.covers(("user", ident)))

    async def _select_users(self, ids: Sequence[int], fresh: bool) -> dict[int, User]:
        statement = f"SELECT {_USER} FROM users u WHERE u.id IN ({marks(len(ids))})"
        return {row[0]: _user(row) for row in await self._database.query(statement, ids, fresh=fresh)}

    def standing(
        self, token_ids: Iterable[int], user_ids: Iterable[int]
    ) -> Deferred[tuple[dict[int, Token | Unavailable], dict[int, User | Unavailable]]]:
        return Deferred.fromCoroutine(self._standing(list(token_ids), list(user_ids)))

    async def _standing(
        self, token_ids: list[int], user_ids: list[int]
    ) -> tuple[dict[int, Token | Unavailable], dict[int, User | Unavailable]]:
        tokens: dict[int, Token | Unavailable] = {}
        users: dict[int, User | Unavailable] = {}
        for at in range(0, len(token_ids), MANY):
            tokens |= await self._fetch_tokens(token_ids[at : at + MANY])
        for at in range(0, len(user_ids), MANY):
            users |= await self._fetch_users(user_ids[at : at + MANY])
        return tokens, users

    def used(self, token_ids: Sequence[int], moment: float) -> Deferred[int]:
        return self._database.execute(
            f"UPDATE personal_access_tokens SET last_used_at = %s WHERE id IN ({marks(len(token_ids))})",
            [text(moment, self._zone), *token_ids],
        )

    def seen(self, moments: Mapping[int, float]) -> Deferred[int]:
        texts = {user: text(moment, self._zone) for user, moment in moments.items()}
        seen_at, arguments = chosen("id", texts)
        earlier = " OR ".join(["(id = %s AND (last_seen_at IS NULL OR last_seen_at < %s))"] * len(texts))
        return self._database.execute(
            f"UPDATE users SET last_seen_at = {seen_at} WHERE id IN ({marks(len(texts))}) AND ({earlier})",
            [*arguments, *texts, *(part for pair in texts.items() for part in pair)],
        )

    def _token(self, row: Sequence[Any]) -> Token:
        ident, _, digest, abilities, expires_at = row[:5]
        user = None if row[5] is None else _user(row[5:])
        return Token(ident, str(digest), _texts(abilities), self._moment(expires_at), user)

    def _moment(self, value: Any) -> float | None:
        """Seconds since the epoch of what the database has for a time; one that is none has passed."""
        if value is None:
            return None
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).timestamp()
        except (ValueError, OverflowError):
            return 0.0


def _user(row: Sequence[Any]) -> User:
    ident, name, username, email, role, permissions, status, avatar, is_active, banned_at = row
    active = status not in ("banned", "inactive") and bool(is_active) and banned_at is None
    shown = name or username or f"User {ident}"
    return User(ident, shown, email, role or "guest", _texts(permissions), avatar, active and 1 <= ident <= MAX_ID)


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a JSON list; anything else is none."""
    if not isinstance(value, str | bytes):
        return ()
    try:
        found = json.decode(value if isinstance(value, bytes) else value.encode())
    except (json.BadJSON, UnicodeEncodeError):
        return ()
    if not isinstance(found, list):
        return ()
    return tuple(one for one in found if isinstance(one, str))[:MAX_PERMISSIONS]
