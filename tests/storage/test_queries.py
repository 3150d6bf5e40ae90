"""How many queries the questions of many users are, on a real MariaDB."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults

from mechamap_rt.auth.usage import LastSeen
from mechamap_rt.core import loader
from mechamap_rt.core.loader import BATCH
from mechamap_rt.errors import Unavailable
from mechamap_rt.storage.accounts import Accounts
from tests.bus.redis_case import coroutine
from tests.storage.cases import MariaDBCase


class QueriesTests(MariaDBCase):
    @coroutine
    async def test_a_thousand_users_are_few_queries(self) -> None:
        accounts = Accounts(await self.open(self.shared))
        before = self.shared.count("Com_select")
        users = await gatherResults([accounts.user(1 + n % 3) for n in range(1000)])
        assert [user.id for user in users] == [1 + n % 3 for n in range(1000)]
        same = self.shared.count("Com_select") - before
        await gatherResults([accounts.user(n) for n in range(1000)])
        different = self.shared.count("Com_select") - before - same
        print(f"{same} queries for 3 users, {different} for 1000")
        assert same <= 3
        assert different <= 2 + loader.PARALLEL + 1000 // BATCH

    @coroutine
    async def test_one_row_that_is_refused_is_the_only_one(self) -> None:
        """A trigger of the site's refuses one user; the others are written, and nothing waits."""
        self.shared.sql(
            "CREATE TRIGGER refuses BEFORE UPDATE ON users FOR EACH ROW "
            "IF NEW.id = 2 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF"
        )
        self.addCleanup(self.shared.sql, "DROP TRIGGER refuses")
        accounts = Accounts(await self.open(self.shared))
        seen = LastSeen(reactor, accounts, lambda: 2_000_000_000.0)
        for user in (1, 2, 3):
            seen.note(user)
        await seen.stop()
        rows = self.shared.sql("SELECT id FROM users WHERE last_seen_at > '2033-01-01' ORDER BY id")
        self.addCleanup(self.shared.sql, "UPDATE users SET last_seen_at = NULL WHERE id IN (1, 3)")
        assert [row[0] for row in rows] == [1, 3]
        assert seen.written == 2

    @coroutine
    async def test_all_who_wait_for_a_server_that_goes_are_told(self) -> None:
        server = self.spare
        accounts = Accounts(await self.open(server))
        await accounts.user(1)
        server.freeze()
        self.addCleanup(server.thaw)
        loads = [accounts.user(n) for n in range(5000)]
        server.kill()
        self.addCleanup(server.start)
        results = await DeferredList(loads, consumeErrors=True)
        assert {(ok, failure.type) for ok, failure in results} == {(False, Unavailable)}
