"""The questions that permissions ask of the site's rows. Those asked at the same moment become one query."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mechamap_rt.core.loader import Loader
from mechamap_rt.interfaces import IDatabase, ISite
from mechamap_rt.storage.statements import marks


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


@dataclass(frozen=True, slots=True)
class Group:
    """The active members of a group.

    :ivar count: how many.
    :ivar members: their ids, of at most :data:`MAX_MEMBERS`.
    """

    count: int
    members: tuple[int, ...]


#: Members who are listed, of all groups that are asked about at the same moment; more are counted.
MAX_MEMBERS: Final = 10_000
#: Tables that may be asked who belongs to what, each with a loader of its own.
MAX_TABLES: Final = 100


@implementer(ISite)
class Site:
    """Asks an :class:`~mechamap_rt.interfaces.IDatabase`.

    :param fresh: ask where it is written, not where it may arrive later.
    """

    def __init__(self, database: IDatabase, *, fresh: bool = False) -> None:
        self._database = database
        self._fresh = fresh
        self._threads: Loader[int, Thread] = Loader(self._fetch_threads)
        self._forums: Loader[int, Forum] = Loader(self._fetch_forums)
        self._groups: Loader[int, Group] = Loader(self._fetch_groups)
        self._members: dict[tuple[str, str, str, str], Loader[tuple[int, int], bool]] = {}

    def thread(self, thread_id: int) -> Deferred[Thread | None]:
        return self._threads.load(thread_id)

    async def _fetch_threads(self, ids: list[int]) -> dict[int, Thread]:
        rows = await self._database.query(
            "SELECT t.id, t.user_id, t.moderation_status, t.is_spam, t.hidden_at, t.archived_at, t.deleted_at,"
            " f.is_private FROM threads t LEFT JOIN forums f ON f.id = t.forum_id"
            f" WHERE t.id IN ({marks(len(ids))})",
            ids,
            fresh=self._fresh,
        )
        found = {}
        for ident, user_id, status, spam, hidden, archived, deleted, private in rows:
            visible = status == "approved" and not spam and hidden is None and archived is None
            found[ident] = Thread(user_id, visible, deleted is not None, None if private is None else bool(private))
        return found

    def forum(self, forum_id: int) -> Deferred[Forum | None]:
        return self._forums.load(forum_id)

    async def _fetch_forums(self, ids: list[int]) -> dict[int, Forum]:
        statement = f"SELECT id, is_private FROM forums WHERE id IN ({marks(len(ids))})"
        rows = await self._database.query(statement, ids, fresh=self._fresh)
        return {ident: Forum(bool(private)) for ident, private in rows}

    def group(self, group_id: int) -> Deferred[Group]:
        return self._groups.load(group_id).addCallback(lambda group: group or Group(0, ()))

    async def _fetch_groups(self, ids: list[int]) -> dict[int, Group]:
        rows = await self._database.query(
            f"SELECT conversation_id, user_id FROM group_members WHERE conversation_id IN ({marks(len(ids))})"
            " AND is_active = 1 LIMIT %s",
            [*ids, MAX_MEMBERS],
            fresh=self._fresh,
        )
        if len(rows) >= MAX_MEMBERS:
            return await self._fetch_large(ids, rows)
        members: dict[int, list[int]] = {}
        for group_id, user_id in rows:
            members.setdefault(int(group_id), []).append(int(user_id))
        return {group_id: Group(len(found), tuple(found)) for group_id, found in members.items()}

    async def _fetch_large(self, ids: list[int], rows: list[tuple[Any, ...]]) -> dict[int, Group]:
        """Not all rows have come, so that each group is asked about alone, and counted where it is the large one."""
        if len(ids) > 1:
            found: dict[int, Group] = {}
            for each in ids:
                found |= await self._fetch_groups([each])
            return found
        [(count,)] = await self._database.query(
            "SELECT COUNT(*) FROM group_members WHERE conversation_id = %s AND is_active = 1", ids, fresh=self._fresh
        )
        return {ids[0]: Group(int(count), tuple(int(user_id) for _, user_id in rows))}

    def member(self, table: str, columns: tuple[str, str], active: str, pair: tuple[int, int]) -> Deferred[bool]:
        key = (table, *columns, active)
        loader = self._members.get(key)
        if loader is None:
            if len(self._members) >= MAX_TABLES:
                raise ValueError("too many tables of members")
            loader = self._members[key] = Loader(partial(self._fetch_members, table, columns, active))
        return loader.load(pair).addCallback(bool)

    async def _fetch_members(
        self, table: str, columns: tuple[str, str], active: str, pairs: list[tuple[int, int]]
    ) -> dict[tuple[int, int], bool]:
        of, user = (f"`{column}`" for column in columns)
        # a list of pairs (a, b) IN (…) would not be looked up in the index by every version of MariaDB
        wanted = " OR ".join([f"({of} = %s AND {user} = %s)"] * len(pairs))
        only = f" AND `{active}` = 1" if active else ""
        rows = await self._database.query(
            f"SELECT {of}, {user} FROM `{table}` WHERE ({wanted}){only}",
            [part for pair in pairs for part in pair],
            fresh=self._fresh,
        )
        return {(int(of_id), int(user_id)): True for of_id, user_id in rows}
