"""The questions that permissions ask of the site's rows; each is one query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mechamap_rt.interfaces import IDatabase, ISite


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as far as permissions need it.

    :ivar visible: approved, and not spam, hidden or archived.
    :ivar forum_private: of its forum; ``None`` where the forum does not exist.
    """

    user_id: int
    visible: bool
    deleted: bool
    forum_private: bool | None


@dataclass(frozen=True, slots=True)
class Forum:
    private: bool


@implementer(ISite)
class Site:
    """Asks an :class:`~mechamap_rt.interfaces.IDatabase`."""

    def __init__(self, database: IDatabase) -> None:
        self._database = database

    async def _row(self, statement: str, *arguments: Any) -> tuple[Any, ...] | None:
        rows = await self._database.query(statement, arguments)
        return rows[0] if rows else None

    def thread(self, thread_id: int) -> Deferred[Thread | None]:
        return Deferred.fromCoroutine(self._thread(thread_id))

    async def _thread(self, thread_id: int) -> Thread | None:
        row = await self._row(
            "SELECT t.user_id, t.moderation_status, t.is_spam, t.hidden_at, t.archived_at, t.deleted_at, f.is_private"
            " FROM threads t LEFT JOIN forums f ON f.id = t.forum_id WHERE t.id = %s",
            thread_id,
        )
        if row is None:
            return None
        user_id, status, spam, hidden, archived, deleted, private = row
        visible = status == "approved" and not spam and hidden is None and archived is None
        return Thread(user_id, visible, deleted is not None, None if private is None else bool(private))

    def forum(self, forum_id: int) -> Deferred[Forum | None]:
        return Deferred.fromCoroutine(self._forum(forum_id))

    async def _forum(self, forum_id: int) -> Forum | None:
        row = await self._row("SELECT is_private FROM forums WHERE id = %s", forum_id)
        return None if row is None else Forum(bool(row[0]))

    def participates(self, conversation_id: int, user_id: int) -> Deferred[bool]:
        return Deferred.fromCoroutine(
            self._exists(
                "SELECT 1 FROM conversation_participants WHERE conversation_id = %s AND user_id = %s",
                conversation_id,
                user_id,
            )
        )

    def belongs(self, group_id: int, user_id: int) -> Deferred[bool]:
        return Deferred.fromCoroutine(
            self._exists(
                "SELECT 1 FROM group_members WHERE conversation_id = %s AND user_id = %s AND is_active = 1",
                group_id,
                user_id,
            )
        )

    async def _exists(self, statement: str, *arguments: Any) -> bool:
        return await self._row(statement, *arguments) is not None

    def seller(self, seller_id: int) -> Deferred[int | None]:
        return Deferred.fromCoroutine(self._seller(seller_id))

    async def _seller(self, seller_id: int) -> int | None:
        row = await self._row("SELECT user_id FROM marketplace_sellers WHERE id = %s", seller_id)
        return None if row is None else int(row[0])
