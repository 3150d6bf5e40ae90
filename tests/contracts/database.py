"""What every database promises, and every site's rows. A test case mixes these in and makes its databases."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.task import LoopingCall
from zope.interface.verify import verifyObject

from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import IAccounts, IDatabase, ISite
from mechamap_rt.storage import site as rows
from mechamap_rt.storage.accounts import MAX_PERMISSIONS, USER_TYPE, Accounts, Token, User
from mechamap_rt.storage.site import Forum, Group, Site, Thread
from tests.bus.redis_case import coroutine, until

#: What a statement may be given, and what must come back of it.
TEXTS = (
    "",
    "it's",
    "'; DROP TABLE users; --",
    'a "b" `c`',
    "\\",
    "\\' OR 1=1",
    "100 %s %d %%",
    "?",
    "a\x00b",
    "\r\n\t\x1a",
    "Người dùng",
    "🔩🇻🇳",
    "x" * 100_000,
)
NUMBERS = (0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
SECRET = "s3cret-v4lue"

_ids = itertools.count(7_000_000)


def new_id() -> int:
    """Of no other row of any test."""
    return next(_ids)


class DatabaseContract:
    """Mixed into a :class:`tests.storage.cases.StorageCase`.

    :cvar SLOW: a statement that takes long, until it is interrupted.
    """

    SLOW = ""

    async def open_database(self, **settings: Any) -> Any:
        """A started database; it is stopped after the test."""
        raise AssertionError("a test case says which database it is about")

    async def insert(self, database: Any, table: str, **columns: Any) -> None:
        """Put a row into a table, by whoever may."""
        raise AssertionError("a test case says how rows get in")

    async def token_row(self, database: Any, **columns: Any) -> int:
        """A token, valid for ever, of nobody."""
        ident = new_id()
        row = {"id": ident, "tokenable_type": USER_TYPE, "tokenable_id": ident, "name": "test", "token": f"{ident:064}"}
        await self.insert(database, "personal_access_tokens", **(row | columns))
        return ident

    async def user_row(self, database: Any, **columns: Any) -> int:
        """An active member."""
        ident = new_id()
        row = {"id": ident, "name": "An", "username": f"u{ident}", "email": f"{ident}@example.com", "role": "member"}
        await self.insert(database, "users", **(row | columns))
        return ident

    async def refused(self, waiting: Any) -> str:
        """The reason why something fails."""
        try:
            result = await waiting
        except Unavailable as error:
            return str(error)
        raise AssertionError(f"it should have failed: {result}")

    @coroutine
    async def test_it_is_a_database(self) -> None:
        database = await self.open_database()
        verifyObject(IDatabase, database)
        assert database.status() == "up"
        assert {pool["status"] for pool in database.figures()["pools"]} == {"up"}
        assert database.separate is False

    @coroutine
    async def test_texts_and_numbers_arrive_and_come_back_as_they_are(self) -> None:
        database = await self.open_database()
        for value in (*TEXTS, *NUMBERS, None):
            assert await database.query("SELECT %s", (value,)) == [(value,)]
        many = ", ".join(["%s"] * len(TEXTS))
        assert await database.query(f"SELECT {many}", TEXTS) == [TEXTS]
        assert await database.query("SELECT 1, 'a'", ()) == [(1, "a")]
        assert await database.query("SELECT id FROM users WHERE id = %s OR id = %s ORDER BY id", [2, 1]) == [(1,), (2,)]
        assert await database.query("SELECT id FROM users WHERE id = %s", ["1 OR 1=1"]) in ([], [(1,)])

    @coroutine
    async def test_a_change_answers_how_many_rows_it_has_found_and_not_how_many_it_changed(self) -> None:
        database = await self.open_database()
        first, second = [await self.token_row(database) for _ in range(2)]
        statement = "UPDATE personal_access_tokens SET last_used_at = %s WHERE id IN (%s, %s)"
        for _ in range(2):
            assert await database.execute(statement, ["2026-01-02 03:04:05", first, second]) == 2
        assert await database.execute(statement, ["2026-01-02 03:04:05", first, -1]) == 1
        assert await database.execute(statement, ["2026-01-02 03:04:05", -1, -2]) == 0
        [(text,)] = await database.query("SELECT last_used_at FROM personal_access_tokens WHERE id = %s", [first])
        assert str(text) == "2026-01-02 03:04:05"

    @coroutine
    async def test_an_error_names_no_values_and_hurts_nobody_else(self) -> None:
        database = await self.open_database()
        for _ in range(2):
            reasons = [
                await self.refused(database.query("SELECT FROM x WHERE y = %s", [SECRET])),
                await self.refused(database.query("SELECT * FROM nothing WHERE y = %s", [SECRET])),
                await self.refused(database.query("SELECT nothing FROM users WHERE name = %s", [SECRET])),
                await self.refused(database.execute("UPDATE users SET nothing = %s", [SECRET])),
                await self.refused(database.query("SELECT %s, %s", [SECRET])),
                await self.refused(database.query("SELECT %s", ["\ud800" + SECRET])),
            ]
        assert all(reasons)
        shown = "\n".join([*reasons, *self.logged, str(database.figures())])  # type: ignore[attr-defined]
        assert SECRET not in shown
        assert "query of the database" in shown
        # each kind is told once, for each of the servers that it may be asked of
        servers = len(database.figures()["pools"])
        assert max(Counter(self.logged).values()) <= servers  # type: ignore[attr-defined]
        assert await database.query("SELECT 1", ()) == [(1,)]
        assert database.status() == "up"

    @coroutine
    async def test_many_at_once_get_each_their_own_answer(self) -> None:
        database = await self.open_database()
        asked = [database.query("SELECT %s, %s", [number, f"n{number}"]) for number in range(500)]
        assert await gatherResults(asked) == [[(number, f"n{number}")] for number in range(500)]
        assert all(pool["inUse"] == pool["waiting"] == 0 for pool in database.figures()["pools"])

    @coroutine
    async def test_what_takes_too_long_ends_and_the_reactor_goes_on(self) -> None:
        database = await self.open_database(timeout=0.5)
        beats = [reactor.seconds()]
        heart = LoopingCall(lambda: beats.append(reactor.seconds()))
        heart.start(0.01)
        began = reactor.seconds()
        await self.refused(database.query(self.SLOW, ()))
        heart.stop()
        assert reactor.seconds() - began < 2.5
        assert max(later - earlier for earlier, later in itertools.pairwise(beats)) < 0.25
        await until(lambda: database.status() == "up")
        assert await database.query("SELECT 1", ()) == [(1,)]

    @coroutine
    async def test_stopping_waits_for_nobody(self) -> None:
        database = await self.open_database()
        running = DeferredList([database.query(self.SLOW, ()) for _ in range(20)], consumeErrors=True)
        await until(lambda: any(pool["inUse"] for pool in database.figures()["pools"]))
        began = reactor.seconds()
        await database.stop()
        assert reactor.seconds() - began < 1.0
        results = await running
        assert {(ok, failure.type) for ok, failure in results} == {(False, Unavailable)}
        assert "closed" in await self.refused(database.query("SELECT 1", ()))
        assert "closed" in await self.refused(database.execute("UPDATE users SET last_seen_at = NULL", ()))
        await database.stop()


class QuestionsContract(DatabaseContract):
    """What the site's rows answer, with the demo site's."""

    async def questions(self, zone: str = "UTC") -> tuple[Any, Any, Any]:
        database = await self.open_database()
        accounts, site = Accounts(database, ZoneInfo(zone)), Site(database)
        verifyObject(IAccounts, accounts)
        verifyObject(ISite, site)
        return database, accounts, site

    #: A time that is none, as the database may have it.
    NO_TIME: str

    @coroutine
    async def test_threads(self) -> None:
        database, _, site = await self.questions()
        assert [await site.thread(ident) for ident in range(9)] == [
            None,
            Thread(1, True, False, False),
            Thread(3, True, False, True),
            Thread(2, False, False, False),
            Thread(2, False, False, False),
            Thread(2, False, False, False),
            Thread(2, False, False, False),
            Thread(1, True, True, False),
            None,
        ]
        orphan = new_id()
        await self.insert(database, "threads", id=orphan, forum_id=new_id(), user_id=1, moderation_status="approved")
        assert await site.thread(orphan) == Thread(1, True, False, None)

    @coroutine
    async def test_forums(self) -> None:
        _, _, site = await self.questions()
        assert await gatherResults([site.forum(ident) for ident in (1, 2, 3)]) == [Forum(False), Forum(True), None]

    @coroutine
    async def test_members(self) -> None:
        _, _, site = await self.questions()
        columns = ("conversation_id", "user_id")
        pairs = [(1, 1), (1, 2), (1, 3), (9, 2), (2, 1), (0, 0)]
        asked = [site.member("conversation_participants", columns, "", pair) for pair in pairs]
        assert await gatherResults(asked) == [True, True, False, True, False, False]
        asked = [site.member("group_members", columns, "is_active", (3, user)) for user in range(1, 6)]
        assert await gatherResults(asked) == [True, True, True, False, False]
        # a member that is not active any more is one where nobody asks for that
        assert await site.member("group_members", columns, "", (3, 4)) is True
        crowd = [(3, user) for user in range(1, 1001)]
        assert sum(await gatherResults([site.member("group_members", columns, "is_active", one) for one in crowd])) == 3

    @coroutine
    async def test_groups(self) -> None:
        database, _, site = await self.questions()
        group = await site.group(3)
        assert (group.count, sorted(group.members)) == (3, [1, 2, 3])
        assert await site.group(4711) == Group(0, ())
        small, large = new_id(), new_id()
        for group_id, size in ((small, 2), (large, 9)):
            for user_id in range(1, size + 1):
                active = {"is_active": int(user_id != 2)}
                await self.insert(database, "group_members", conversation_id=group_id, user_id=user_id, **active)
        self.patch(rows, "MAX_MEMBERS", 5)  # type: ignore[attr-defined]
        asked = [site.group(group_id) for group_id in (small, 4711, large, small, 3)]
        found = await gatherResults(asked)
        assert [group.count for group in found] == [1, 0, 8, 1, 3]
        assert [len(group.members) for group in found] == [1, 0, 5, 1, 3]
        assert set(found[2].members) <= {1, *range(3, 10)}

    @coroutine
    async def test_users(self) -> None:
        database, accounts, _ = await self.questions()
        assert await accounts.user(1) == User(1, "Nguyễn Văn An", "an@example.com", "member", (), None, True)
        assert await accounts.user(new_id()) is None
        texts = json.dumps(["a", "b", 1, None, {"c": 1}, "đ"])
        ident = await self.user_row(database, name="", permissions=texts, avatar="x.png", role="")
        user = await accounts.user(ident)
        assert user == User(ident, f"u{ident}", f"{ident}@example.com", "guest", ("a", "b", "đ"), "x.png", True)
        nameless = await self.user_row(database, name="", username="")
        assert (await accounts.user(nameless)).name == f"User {nameless}"
        crowded = await self.user_row(database, permissions=json.dumps([f"p{n}" for n in range(1000)]))
        assert len((await accounts.user(crowded)).permissions) == MAX_PERMISSIONS

    @coroutine
    async def test_who_is_not_active(self) -> None:
        database, accounts, _ = await self.questions()
        for columns, active in [
            ({"status": "active"}, True),
            ({"status": "pending"}, True),
            ({"status": "banned"}, False),
            ({"status": "inactive"}, False),
            ({"is_active": 0}, False),
            ({"banned_at": "2026-01-01 00:00:00"}, False),
        ]:
            ident = await self.user_row(database, **columns)
            assert ((await accounts.user(ident)).active, columns) == (active, columns)

    @coroutine
    async def test_tokens(self) -> None:
        database, accounts, _ = await self.questions()
        ident = await self.token_row(database, tokenable_id=1, token="a" * 64, abilities='["x", 2, "y"]')
        owner = await accounts.user(1)
        assert await accounts.token(ident) == Token(ident, "a" * 64, ("x", "y"), None, owner)
        assert await accounts.token(new_id()) is None
        ownerless = await self.token_row(database)
        assert await accounts.token(ownerless) == Token(ownerless, f"{ownerless:064}", (), None, None)
        of_a_machine = await self.token_row(database, tokenable_id=1, tokenable_type="App\\Models\\Machine")
        assert await accounts.token(of_a_machine) is None
        for abilities in ("", "*", "{}", '"*"', "[[]]", "[" * 5000, None):
            ident = await self.token_row(database, tokenable_id=1, abilities=abilities)
            assert (await accounts.token(ident)).abilities == ()

    @coroutine
    async def test_times_are_in_the_zone_of_the_site(self) -> None:
        database, accounts, _ = await self.questions("Asia/Ho_Chi_Minh")
        utc = Accounts(database)
        ident = await self.token_row(database, expires_at="2030-06-01 12:00:00")
        # 2030-06-01 12:00 UTC
        assert (await utc.token(ident)).expires_at == 1_906_545_600
        assert (await accounts.token(ident)).expires_at == 1_906_545_600 - 7 * 3600
        invalid = await self.token_row(database, expires_at=self.NO_TIME)
        assert (await accounts.token(invalid)).expires_at == 0.0
        assert await accounts.used([ident], 1_906_545_600) == 1
        [(text,)] = await database.query("SELECT last_used_at FROM personal_access_tokens WHERE id = %s", [ident])
        assert str(text) == "2030-06-01 19:00:00"

    @coroutine
    async def test_standing_of_many_at_once(self) -> None:
        database, accounts, _ = await self.questions()
        here = [await self.token_row(database, tokenable_id=1) for _ in range(3)]
        gone = [new_id() for _ in range(2500)]
        tokens, users = await accounts.standing([*here, *gone], [1, 2, *gone])
        assert sorted(tokens) == here
        assert sorted(users) == [1, 2]
        assert {token.user for token in tokens.values()} == {users[1]}
        assert await accounts.standing([], []) == ({}, {})

    @coroutine
    async def test_use_of_tokens_is_written_and_counts_those_that_are_there(self) -> None:
        database, accounts, _ = await self.questions()
        here = [await self.token_row(database) for _ in range(3)]
        for _ in range(2):
            assert await accounts.used([*here, new_id()], 1_906_545_600) == 3
