"""What every database that has the site's notifications answers and keeps; see ``database``."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from mechamap_rt.interfaces import INotifications
from mechamap_rt.storage.accounts import Accounts
from mechamap_rt.storage.notifications import Notifications, Outstanding, Reading
from tests.bus.redis_case import coroutine
from tests.contracts.database import DatabaseContract, new_id

#: 2030-06-01 12:00 UTC
NOON = 1_906_545_600.0
EARLIER, LATER = "2030-06-01 11:59:59", "2030-06-01 12:00:01"
COLUMNS = "is_read, read_at, status, updated_at"
#: What makes a notification one that is not unread.
NOT_UNREAD: tuple[dict[str, Any], ...] = (
    {"is_read": 1},
    {"archived_at": EARLIER},
    {"status": "archived"},
    {"expires_at": EARLIER},
    {"expires_at": "2030-06-01 12:00:00"},
)
UNREAD: tuple[dict[str, Any], ...] = ({}, {"status": "delivered"}, {"expires_at": LATER}, {"created_at": LATER})


class NotificationsContract(DatabaseContract):
    async def notifications(self, zone: str = "UTC") -> tuple[Any, Notifications]:
        database = await self.open_database()
        found = Notifications(database, lambda: NOON, ZoneInfo(zone))
        verifyObject(INotifications, found)
        return database, found

    async def note(self, database: Any, user: int, **columns: Any) -> int:
        """A notification of this user."""
        ident = new_id()
        await self.insert(database, "notifications", **{"id": ident, "user_id": user, "type": "test"} | columns)
        return ident

    async def row(self, database: Any, ident: int) -> tuple[str, ...]:
        [row] = await database.query(f"SELECT {COLUMNS} FROM notifications WHERE id = %s", [ident])
        return tuple(str(value) for value in row)

    @coroutine
    async def test_whose_they_are_and_which_are_unread(self) -> None:
        database, notifications = await self.notifications()
        user, other = new_id(), new_id()
        unread = [await self.note(database, user, **columns) for columns in UNREAD]
        not_unread = [await self.note(database, user, **columns) for columns in NOT_UNREAD]
        foreign = await self.note(database, other)
        asked = [(ident, user) for ident in (*unread, *not_unread, foreign, new_id(), 2**63 - 1)]
        expected = {(ident, user): ident in unread for ident in (*unread, *not_unread)}
        assert await notifications.belonging(asked) == expected
        assert await notifications.belonging([(foreign, user), (foreign, other)]) == {(foreign, other): True}

    @coroutine
    async def test_counts_of_many_users(self) -> None:
        database, notifications = await self.notifications()
        users = [new_id() for _ in range(3)]
        for user, number in zip(users, (0, 1, 2), strict=True):
            for _ in range(number):
                for columns in (*UNREAD, *NOT_UNREAD):
                    await self.note(database, user, **columns)
        assert await gatherResults([notifications.unread(user) for user in users]) == [0, len(UNREAD), 2 * len(UNREAD)]
        crowd = [notifications.unread(user) for user in range(users[0] + 100_000, users[0] + 100_500)]
        assert await gatherResults(crowd) == [0] * 500

    @coroutine
    async def test_reading_changes_what_is_unread_and_its_owner_s_only(self) -> None:
        database, notifications = await self.notifications("Asia/Ho_Chi_Minh")
        user, other = new_id(), new_id()
        first, second = [await self.note(database, user) for _ in range(2)]
        foreign = await self.note(database, other)
        archived = await self.note(database, user, status="archived", archived_at="2030-01-01 00:00:00")
        read = await self.note(database, user, is_read=1, read_at="2030-01-01 00:00:00", status="read")
        before = [await self.row(database, ident) for ident in (foreign, archived, read)]
        moments = {(first, user): NOON - 60, (second, user): NOON, (foreign, user): NOON}
        moments |= dict.fromkeys(((archived, user), (read, user)), NOON)
        assert await notifications.read(moments) == 2
        written = "2030-06-01 19:00:00"
        assert await self.row(database, first) == ("1", "2030-06-01 18:59:00", "read", written)
        assert await self.row(database, second) == ("1", written, "read", written)
        assert [await self.row(database, ident) for ident in (foreign, archived, read)] == before
        await notifications.read(dict.fromkeys(moments, NOON + 3600))
        assert (await self.row(database, second))[1] == written, "the first reading counts"

    @coroutine
    async def test_as_many_as_one_batch_has(self) -> None:
        database, notifications = await self.notifications()
        user = new_id()
        ids = [await self.note(database, user) for _ in range(20)]
        pairs = [(ident, user) for ident in (*ids, *range(ids[-1] + 50_000, ids[-1] + 50_480))]
        assert len(pairs) == 500
        assert len(await notifications.belonging(pairs)) == 20
        assert await notifications.read({pair: NOON + at for at, pair in enumerate(pairs)}) == 20
        users = {user: None} | {user + 100_000 + at: NOON + at for at in range(499)}
        assert await notifications.outstanding(users) == {}
        readings = {one: Reading(2**62, until, NOON + one % 7) for one, until in users.items()}
        assert await notifications.read_all(readings) == 0

    @coroutine
    async def test_all_of_several_users_each_up_to_a_moment(self) -> None:
        database, notifications = await self.notifications()
        late, at_once, other = new_id(), new_id(), new_id()
        whens = (None, "2030-06-01 12:00:00", LATER)
        of_late = [await self.note(database, late, created_at=when) for when in whens]
        of_at_once = [await self.note(database, at_once, created_at=when) for when in whens]
        untouched = await self.note(database, other)
        for columns in NOT_UNREAD:
            await self.note(database, late, **columns)
        users = {late: NOON, at_once: None, new_id(): None}
        found = await notifications.outstanding(users)
        assert found == {late: Outstanding(2, of_late[1]), at_once: Outstanding(3, of_at_once[2])}
        unseen = await self.note(database, at_once)
        readings = {user: Reading(one.highest, users[user], NOON - 9) for user, one in found.items()}
        assert await notifications.read_all(readings) == 5
        read = [
            ident for ident in (*of_late, *of_at_once, untouched, unseen) if (await self.row(database, ident))[0] == "1"
        ]
        assert read == [*of_late[:2], *of_at_once]
        assert await self.row(database, of_late[0]) == ("1", "2030-06-01 11:59:51", "read", "2030-06-01 12:00:00")
        assert await gatherResults([notifications.unread(user) for user in (late, at_once, other)]) == [1, 1, 1]

    @coroutine
    async def test_when_users_were_seen_never_goes_back(self) -> None:
        database = await self.open_database()
        accounts = Accounts(database, ZoneInfo("Asia/Ho_Chi_Minh"))
        first, second = await self.user_row(database), await self.user_row(database)
        assert await accounts.seen({first: NOON, second: NOON, new_id(): NOON}) == 2
        assert await accounts.seen({first: NOON + 60, second: NOON - 60}) == 1
        await accounts.seen({first: NOON + 59})
        many = {first: NOON + 61} | {first + 100_000 + at: NOON + at for at in range(499)}
        assert await accounts.seen(many) == 1
        rows = await database.query("SELECT last_seen_at FROM users WHERE id IN (%s, %s) ORDER BY id", [first, second])
        assert [str(row[0]) for row in rows] == ["2030-06-01 19:01:01", "2030-06-01 19:00:00"]
