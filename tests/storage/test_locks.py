"""A statement that waits for a row that somebody has locked: the server is there, and others have it answer."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from mechamap_rt.errors import Unavailable
from tests.bus.redis_case import coroutine, pause, until
from tests.mariadb import MariaDB
from tests.storage.cases import SLEEP, MariaDBCase, running

UPDATE = "UPDATE users SET last_seen_at = NULL WHERE id = %s"


class LockTests(MariaDBCase):
    def lock(self, server: MariaDB) -> Any:
        """A transaction that keeps user 1's row, as a long one of the site's does."""
        holder = server.connect()
        self.addCleanup(holder.close)
        holder.begin()
        with holder.cursor() as cursor:
            cursor.execute("SELECT id FROM users WHERE id = 1 FOR UPDATE")
        return holder

    @coroutine
    async def test_it_takes_nobody_s_turn_and_no_server_for_away(self) -> None:
        """Of the only connection that writes, others have the use while it is tried again and again."""
        holder = self.lock(self.shared)
        database = await self.open(self.shared, connections=4)
        began = reactor.seconds()
        refused: list[str] = []
        while reactor.seconds() - began < 5.0:
            waiting = database.execute(UPDATE, [1])
            asked = reactor.seconds()
            assert await database.query("SELECT 1", (), fresh=True) == [(1,)]
            assert reactor.seconds() - asked < 3.0
            try:
                await waiting
            except Unavailable as error:
                refused.append(str(error))
            assert database.status() == "up"
        assert len(refused) >= 2
        assert set(refused) == {"took too long (1205)"}
        holder.rollback()
        assert await database.execute(UPDATE, [1]) == 1
        assert not any("is away" in line for line in self.logged), self.logged

    @coroutine
    async def test_one_slow_statement_on_the_only_connection_is_no_outage(self) -> None:
        """Nothing else is asked meanwhile, so that nothing else shows that the server is there."""
        server = self.spare
        database = await self.open(server, connections=1)
        slow = database.query(SLEEP, [4.5])
        most = 0
        while not slow.called:
            assert database.status() == "up"
            most = max(most, len(server.connections()))
            await pause(0.05)
        assert await slow == [(0,)]
        assert most <= 2
        await until(lambda: len(server.connections()) == 1)
        assert self.logged == []

    @coroutine
    async def test_a_frozen_server_is_found_out_all_the_same(self) -> None:
        server = self.spare
        database = await self.open(server, connections=1)
        slow = database.query(SLEEP, [30])
        await until(lambda: len(running(server)) == 1)
        server.freeze()
        try:
            began = reactor.seconds()
            await until(lambda: database.status() == "down", limit=6.0)
            assert reactor.seconds() - began < 5.5
            with self.assertRaises(Unavailable):
                await slow
        finally:
            server.thaw()
        await until(lambda: database.status() == "up", limit=5.0)
