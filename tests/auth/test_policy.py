"""Every rule of the contract's table, decided by the rows of the embedded database and by those of a real MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mechamap_rt.auth.decisions import NO, YES, Decisions
from mechamap_rt.auth.policy import Policy
from mechamap_rt.core import channels
from mechamap_rt.core.identity import RANKS, Identity
from mechamap_rt.core.rules import RESOURCES, Members, Resource, Rule, RuleTable
from mechamap_rt.interfaces import IDatabase, IPolicy, ISite
from mechamap_rt.storage.site import Site
from tests.auth.people import Watched, number, opened, turn
from tests.mariadb import MariaDB

AN = Identity(1, "An", "member")
BINH = Identity(2, "Bình", "member")
CHI = Identity(3, "Chi", "moderator")
STRANGER = Identity(8, "Stranger", "member")
GUEST = Identity(9, "Guest", "guest")
ADMIN = Identity(10, "Admin", "admin")
UNKNOWN_ROLE = Identity(11, "?", "wizard")
#: The author of thread 2, in a private forum, after the end of her time as a moderator.
CHI_ONCE = Identity(3, "Chi", "senior")
#: The author of what a guest may not read.
AN_GUEST = Identity(1, "An", "guest")

EVERYBODY = [AN, BINH, CHI, STRANGER, GUEST, ADMIN, UNKNOWN_ROLE, CHI_ONCE, AN_GUEST]
READERS = [AN, BINH, CHI, STRANGER, ADMIN, CHI_ONCE]

TABLE: list[tuple[str, list[Identity]]] = [
    ("public.news", EVERYBODY),
    ("public.a.b.c", EVERYBODY),
    ("notifications", EVERYBODY),
    ("marketplace.global", EVERYBODY),
    ("product.1", EVERYBODY),
    ("showcase.999", EVERYBODY),
    ("user.1", [AN, AN_GUEST]),
    ("user.1.notifications", [AN, AN_GUEST]),
    ("user.1.a.b", [AN, AN_GUEST]),
    ("following.2", [BINH]),
    ("marketplace.orders.2", [BINH]),
    ("thread.1", READERS),
    ("thread.2", [CHI, ADMIN]),
    ("thread.3", [BINH, CHI, ADMIN]),
    ("thread.4", [BINH, CHI, ADMIN]),
    ("thread.5", [BINH, CHI, ADMIN]),
    ("thread.6", [BINH, CHI, ADMIN]),
    ("thread.7", []),
    ("thread.999999", []),
    ("forum.1", READERS),
    ("forum.2", [CHI, ADMIN]),
    ("forum.999999", []),
    ("conversation.1", [AN, BINH, AN_GUEST]),
    ("conversation.999999", []),
    ("group.3", [AN, BINH, CHI, CHI_ONCE, AN_GUEST]),
    ("group.999999", []),
    ("seller.1", [BINH, ADMIN]),
    ("marketplace.seller.1", [BINH, ADMIN]),
    ("seller.999999", [ADMIN]),
    ("notifications.role.moderator", [CHI, ADMIN]),
    ("notifications.role.member", [AN, BINH, STRANGER, ADMIN]),
    ("notifications.role.wizard", [UNKNOWN_ROLE, ADMIN]),
    ("moderator.queue", [CHI, ADMIN]),
    ("admin.alerts", [ADMIN]),
    # names that are almost right
    ("nonsense.1", []),
    ("public", []),
    ("user.0", []),
    ("user.01", []),
    ("user.-1", []),
    ("user.1.", []),
    ("user.", []),
    ("thread.1.", []),
    ("thread.1.typing", []),
    (f"user.{2**63}", []),
    ("admin", []),
    ("Admin.alerts", []),
    ("notifications.role.admin.x", []),
    ("private-user.1", [AN, AN_GUEST]),
]

OWN = Members("group_members", "conversation_id", "user_id", "is_active")
MORE = (Resource("crew.<id>", Rule.MEMBER, OWN), Resource("lounge.<rest>", Rule.RANK, rank=RANKS["senior"]))


def asynchronous(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Deferred[None]]:
    """Have trial wait for a coroutine."""

    @wraps(test)
    def run(case: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(test(case))

    return run


class Cells:
    """The suite, for whatever database."""

    mariadb: MariaDB | None = None

    def setUp(self) -> Any:
        self.clock = Clock()
        self.database = Watched(opened(self.mariadb))
        self.decisions = Decisions(self.clock.seconds)
        self.policy = Policy(Site(self.database), RuleTable(MORE), self.decisions)
        self.addCleanup(self.database.stop)  # type: ignore[attr-defined]
        return self.database.start()

    async def change(self, statement: str, *arguments: Any) -> None:
        """As the site changes it."""
        if self.mariadb is None:
            await self.database.execute(statement, arguments)
        else:
            self.mariadb.sql(statement, *arguments)

    async def may(self, user: Identity, name: str, fresh: bool = False) -> bool:
        asked = self.database.asked
        answer: bool = await self.policy.may_subscribe(user, channels.parse(name), fresh)
        assert self.database.asked - asked <= 1, f"{self.database.asked - asked} queries for {name}"
        return answer

    @asynchronous
    async def test_every_cell_of_the_table(self) -> None:
        prefixes = ("", "private-", "presence-")
        for resource, allowed in TABLE:
            for name in [resource] if resource.startswith("private-") else [prefix + resource for prefix in prefixes]:
                for user in EVERYBODY:
                    assert await self.may(user, name) is (user in allowed), f"{user.name} {user.role} {name}"

    @asynchronous
    async def test_what_depends_on_no_row_asks_nothing(self) -> None:
        for name in (
            "public.x",
            "product.1",
            "user.1",
            "following.2",
            "notifications.role.member",
            "moderator.x",
            "x.1",
        ):
            await self.may(AN, name)
        assert self.database.asked == 0

    @asynchronous
    async def test_every_role_has_its_rank(self) -> None:
        for role, rank in {**RANKS, "wizard": 0, "": 0, "Admin": 0, "ADMIN": 0, "admin ": 0}.items():
            user = Identity(12, "?", role)
            assert await self.may(user, "moderator.queue") is (rank >= 5), role
            assert await self.may(user, "admin.alerts") is (rank >= 6), role
            assert await self.may(user, "forum.1", fresh=True) is (rank >= 2), role
            assert await self.may(user, "forum.2", fresh=True) is (rank >= 5), role
            assert await self.may(user, "thread.3", fresh=True) is (rank >= 5), role
            assert await self.may(user, "seller.1", fresh=True) is (rank >= 6), role
            assert await self.may(user, "lounge.blue") is (rank >= 3), role
            assert await self.may(user, "notifications.role.supplier") is (rank >= 6 or role == "supplier"), role

    @asynchronous
    async def test_threads_of_every_state(self) -> None:
        """One thing at a time makes a thread invisible; a forum that is gone hides it from everybody."""
        forum, author = number(), Identity(number(), "Author", "member")
        await self.change("INSERT INTO forums (id, is_private) VALUES (%s, 0)", forum)
        states = [
            ("moderation_status", "pending"),
            ("moderation_status", "rejected"),
            ("moderation_status", "flagged"),
            ("is_spam", 1),
            ("hidden_at", "2026-01-01 00:00:00"),
            ("archived_at", "2037-01-01 00:00:00"),
        ]
        for column, value in states:
            thread = number()
            await self.change(
                f"INSERT INTO threads (id, forum_id, user_id, {column}) VALUES (%s, %s, %s, %s)",
                thread, forum, author.user_id, value,
            )  # fmt: skip
            for user in (author, CHI, ADMIN):
                assert await self.may(user, f"thread.{thread}"), (column, value, user)
            assert not await self.may(STRANGER, f"thread.{thread}"), (column, value)
            assert not await self.may(replace(author, role="guest"), f"thread.{thread}"), (column, value)
        orphan = number()
        await self.change(
            "INSERT INTO threads (id, forum_id, user_id) VALUES (%s, %s, %s)", orphan, number(), author.user_id
        )
        for user in (author, CHI, ADMIN):
            assert not await self.may(user, f"thread.{orphan}")

    @asynchronous
    async def test_an_inactive_member_of_a_group_is_none(self) -> None:
        dung = Identity(4, "Dung", "member")
        assert not await self.may(dung, "group.3")
        assert not await self.may(dung, "crew.3")
        assert await self.may(AN, "crew.3")
        assert not await self.may(ADMIN, "crew.3"), "a rule of the operator's knows no admin who is no member"

    @asynchronous
    async def test_a_decision_costs_a_query_once(self) -> None:
        for _ in range(5):
            assert await self.may(AN, "conversation.1")
            assert await self.may(AN, "private-conversation.1")
        assert self.database.asked == 1, "three names of one resource are one decision"
        assert await self.may(AN, "conversation.1", fresh=True)
        assert self.database.asked == 2
        assert not await self.may(STRANGER, "conversation.1")
        assert self.database.asked == 3, "of one user"

    @asynchronous
    async def test_a_yes_counts_for_a_while_and_a_no_hardly(self) -> None:
        await self.may(AN, "conversation.1")
        await self.may(STRANGER, "conversation.1")
        assert self.database.asked == 2
        self.clock.advance(NO - 0.01)
        await self.may(STRANGER, "conversation.1")
        assert self.database.asked == 2
        self.clock.advance(0.02)
        await self.may(STRANGER, "conversation.1")
        assert self.database.asked == 3, "who has just become a member asks again after two seconds"
        self.clock.advance(YES - NO - 0.02)
        await self.may(AN, "conversation.1")
        assert self.database.asked == 3
        self.clock.advance(0.02)
        await self.may(AN, "conversation.1")
        assert self.database.asked == 4

    @asynchronous
    async def test_who_has_just_joined_gets_in_after_two_seconds(self) -> None:
        group, user = number(), Identity(number(), "New", "member")
        assert not await self.may(user, f"group.{group}")
        await self.change("INSERT INTO group_members (conversation_id, user_id) VALUES (%s, %s)", group, user.user_id)
        assert not await self.may(user, f"group.{group}")
        self.clock.advance(2.0)
        assert await self.may(user, f"group.{group}")

    @asynchronous
    async def test_what_is_forgotten_is_asked_again(self) -> None:
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({"user_id": 1}, {"An 1", "An 9"}),
            ({"resource": "conversation.1"}, {"An 1", "Bình 1"}),
            ({"user_id": 1, "resource": "conversation.1"}, {"An 1"}),
            ({"user_id": 77}, set()),
            ({"resource": "conversation.77"}, set()),
        ]
        asks = [(AN, 1), (AN, 9), (BINH, 1), (BINH, 9)]
        for what, expected in cases:
            for user, ident in asks:
                await self.may(user, f"conversation.{ident}")
            self.policy.forget(**what)
            again = set()
            for user, ident in asks:
                before = self.database.asked
                await self.may(user, f"conversation.{ident}")
                if self.database.asked > before:
                    again.add(f"{user.name} {ident}")
            assert again == expected, what

    @asynchronous
    async def test_a_role_that_changes_is_decided_anew(self) -> None:
        assert await self.may(CHI, "thread.2")
        assert not await self.may(replace(CHI, role="member"), "thread.2")
        assert await self.may(CHI, "thread.2")
        assert not await self.may(CHI_ONCE, "forum.2")
        assert await self.may(replace(CHI_ONCE, role="admin"), "forum.2")

    @asynchronous
    async def test_a_removed_member_is_not_remembered_by_a_question_on_its_way(self) -> None:
        """The answer was found before the row was deleted, and lands after the revocation: it does not count."""
        group, user = number(), Identity(number(), "Gone", "member")
        await self.change("INSERT INTO group_members (conversation_id, user_id) VALUES (%s, %s)", group, user.user_id)
        self.database.hold()
        answer = self.policy.may_subscribe(user, channels.parse(f"group.{group}"))
        while not self.database.held:
            await turn()
        await self.change("DELETE FROM group_members WHERE user_id = %s", user.user_id)
        self.policy.forget(user.user_id, f"group.{group}")
        self.database.release()
        assert await answer is False, "who is told yes now would be subscribed after the revocation"
        assert not await self.may(user, f"group.{group}")

    @asynchronous
    async def test_many_who_ask_at_once_share_queries(self) -> None:
        users = [Identity(user, "?", "member") for user in range(1, 301)]
        asked = [self.policy.may_subscribe(user, channels.parse("conversation.1")) for user in users]
        answers = [await each for each in asked]
        assert [user.user_id for user, yes in zip(users, answers, strict=True) if yes] == [1, 2]
        assert self.database.asked <= 5

    def test_unknown_resources_are_counted(self) -> None:
        self.policy.may_subscribe(AN, channels.parse("nonsense.1"))
        self.policy.may_subscribe(AN, channels.parse("public.1"))
        assert self.policy.unknown == 1

    def test_only_what_is_in_rows_changes_by_itself(self) -> None:
        by_rows = {"thread", "forum", "conversation", "group", "seller", "marketplace", "crew"}
        for resource in (*RESOURCES, *MORE):
            name = resource.pattern.replace("<id>", "1").replace("<rest>", "x").replace("<role>", "member")
            changing = self.policy.changes(channels.parse(name))
            assert changing is (
                name.split(".")[0] in by_rows and name not in ("marketplace.global", "marketplace.orders.1")
            )

    def test_interfaces(self) -> None:
        verifyObject(IPolicy, self.policy)
        verifyObject(IDatabase, self.database)
        verifyObject(ISite, Site(self.database))


class SQLiteTests(Cells, TestCase):
    """The embedded database, with the rows of the demo site."""


class MariaDBTests(Cells, TestCase):
    """The site's own."""

    @pytest.fixture(autouse=True)
    def _running(self, mariadb: MariaDB) -> None:
        self.mariadb = mariadb


class BoundTests(TestCase):
    """What is remembered has an end."""

    def test_the_oldest_go_first(self) -> None:
        decisions = Decisions(Clock().seconds, bound=3)
        for ident in range(1, 6):
            decisions.remember(AN, f"thread.{ident}", True, decisions.era)
        assert len(decisions) == 3
        assert [decisions.known(AN, f"thread.{ident}") for ident in range(1, 6)] == [None, None, True, True, True]
