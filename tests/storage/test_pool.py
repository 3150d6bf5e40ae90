"""The connections to a real MariaDB: how many there are, how long one waits, and what becomes of those that break."""

from __future__ import annotations

import resource
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults

from mechamap_rt.errors import Unavailable
from mechamap_rt.storage.accounts import Accounts
from mechamap_rt.storage.database import Database
from mechamap_rt.storage.pool import MAX_WAITING
from tests.bus.redis_case import coroutine, pause, until
from tests.mariadb import MariaDB
from tests.storage.cases import SLEEP, MariaDBCase, kill, running


def pool(database: Database, at: int = -1) -> dict[str, Any]:
    """The figures of one pool: the last one's, which answers reads."""
    found: dict[str, Any] = database.figures()["pools"][at]
    return found


def sleep(database: Database, seconds: float, count: int = 1) -> Any:
    """So many statements that take so long."""
    return DeferredList([database.query(SLEEP, [seconds]) for _ in range(count)], consumeErrors=True)


async def refusal(waiting: Any) -> str:
    try:
        await waiting
    except Unavailable as error:
        return str(error)
    raise AssertionError("it should have failed")


class ConnectionsTests(MariaDBCase):
    @coroutine
    async def test_a_query_is_one_statement_and_nothing_else(self) -> None:
        database = await self.open(self.shared)
        await gatherResults([database.query("SELECT 1", ()) for _ in range(20)])
        counters = ("Com_commit", "Com_rollback", "Com_begin", "Com_set_option", "Connections", "Com_select")
        before = {name: self.shared.count(name) for name in counters}
        for _ in range(100):
            await database.query("SELECT id FROM users WHERE id = %s", [1])
        grown = {name: self.shared.count(name) - before[name] for name in counters}
        # each look at a counter is a connection of the test's own, which sets its autocommit
        assert (grown["Com_commit"], grown["Com_rollback"], grown["Com_begin"]) == (0, 0, 0)
        assert grown["Com_select"] == 100
        assert grown["Connections"] == grown["Com_set_option"] // 2 or grown["Connections"] <= len(counters)

    @coroutine
    async def test_there_are_never_more_connections_than_allowed_and_fewer_after_resize(self) -> None:
        server = self.spare
        database = await self.open(server, connections=6)
        assert len(server.connections()) == 2
        waiting = sleep(database, 0.1, 30)
        most = 0
        while not waiting.called:
            most = max(most, len(server.connections()))
            await pause(0.02)
        assert all(ok for ok, _ in await waiting)
        # a quarter is for writes
        assert most == 6
        assert (pool(database, 0)["size"], pool(database)["size"]) == (1, 5)
        database.resize(3)
        await until(lambda: len(server.connections()) <= 3)
        # also those that are at work leave, when it is done
        database.resize(6)
        waiting = sleep(database, 0.2, 5)
        await until(lambda: len(running(server)) == 5)
        database.resize(2)
        assert all(ok for ok, _ in await waiting)
        await until(lambda: len(server.connections()) <= 2)
        await sleep(database, 0.01, 10)
        assert len(server.connections()) <= 2

    @coroutine
    async def test_the_queue_is_bounded_and_refuses_at_once(self) -> None:
        database = await self.open(self.shared, connections=1)
        busy = sleep(database, 0.5)
        await until(lambda: pool(database)["inUse"] == 1)
        waiting = [database.query("SELECT 1", ()) for _ in range(MAX_WAITING)]
        began = reactor.seconds()
        assert await refusal(database.query("SELECT 1", ())) == "too many queries wait"
        assert reactor.seconds() - began < 0.1
        assert pool(database)["refused"] == 1
        assert await gatherResults(waiting) == [[(1,)]] * MAX_WAITING
        await busy

    @coroutine
    async def test_waiting_for_a_connection_is_bounded(self) -> None:
        database = await self.open(self.shared, connections=1, timeout=2.0)
        # others keep the only connection busy; none of them takes too long
        others = sleep(database, 0.5, 7)
        began = reactor.seconds()
        assert await refusal(database.query("SELECT 1", ())) == "no connection was free in time"
        assert 1.9 < reactor.seconds() - began < 3.4
        await others
        assert database.status() == "up"

    @coroutine
    async def test_a_statement_that_takes_too_long_ends_at_the_server_too(self) -> None:
        database = await self.open(self.shared, timeout=0.5)
        began = reactor.seconds()
        waiting = sleep(database, 10)
        await until(lambda: any("SLEEP(10)" in one for one in running(self.shared)))
        [(ok, _)] = await waiting
        assert not ok
        assert reactor.seconds() - began < 1.0
        await until(lambda: not any("SLEEP(10)" in one for one in running(self.shared)), limit=0.5)
        await until(lambda: database.status() == "up")

    @coroutine
    async def test_one_slow_statement_is_no_outage(self) -> None:
        database = await self.open(self.shared, timeout=2.0)
        slow = sleep(database, 1.5)
        for _ in range(20):
            assert await database.query("SELECT 1", ()) == [(1,)]
            await pause(0.05)
        [(ok, _)] = await slow
        assert ok
        assert self.logged == []


class BrokenTests(MariaDBCase):
    @coroutine
    async def test_killed_idle_connections_fail_no_query(self) -> None:
        database = await self.open(self.shared, connections=6)
        await sleep(database, 0.05, 5)
        assert kill(self.shared) >= 5
        for _ in range(50):
            assert await database.query("SELECT 1", ()) == [(1,)]
        kill(self.shared)
        assert await gatherResults([database.query("SELECT 1", ()) for _ in range(50)]) == [[(1,)]] * 50
        kill(self.shared)
        assert await database.execute("UPDATE users SET last_seen_at = NULL WHERE id = %s", [1]) == 1
        assert database.status() == "up"
        assert sum(each["failures"] for each in database.figures()["pools"]) == 0
        assert self.logged == []

    @coroutine
    async def test_connections_killed_all_the_time_fail_hardly_any_query(self) -> None:
        database = await self.open(self.shared, connections=6)
        failed = 0
        for round in range(20):
            asked = [database.query("SELECT %s", [number]) for number in range(20)]
            if round % 2:
                kill(self.shared)
            failed += sum(not ok for ok, _ in await DeferredList(asked, consumeErrors=True))
        print(f"{failed} of 400 failed")
        assert failed == 0
        assert database.status() == "up"

    @coroutine
    async def test_a_killed_query_is_run_once_more(self) -> None:
        server = self.spare
        database = await self.open(server)
        waiting = sleep(database, 0.5)
        await until(lambda: len(running(server)) == 1)
        before = pool(database)["connects"]
        kill(server)
        [(ok, rows)] = await waiting
        assert (ok, rows) == (True, [(0,)])
        assert pool(database)["connects"] - before == 1
        # and when it is killed again and again, its connections are to blame, and it ends
        waiting = sleep(database, 5)
        for _ in range(3):
            await until(lambda: len(running(server)) == 1)
            kill(server)
        [(ok, failure)] = await waiting
        assert not ok
        assert "connection lost" in str(failure.value)
        assert database.status() == "up"

    def fill(self, server: MariaDB, left: int) -> None:
        """Let root take all connections that the server has, but some."""
        server.sql("SET GLOBAL max_connections = 10")
        self.addCleanup(server.sql, "SET GLOBAL max_connections = DEFAULT")
        for _ in range(10 - left):
            self.addCleanup(server.connect().close)

    @coroutine
    async def test_a_full_server_is_shared_by_the_connections_there_are(self) -> None:
        server = self.spare
        await until(lambda: server.connections() == [])
        self.fill(server, 3)
        before = server.count("Connections")
        database = await self.open(server, connections=6)
        most = 0
        began, used = reactor.seconds(), resource.getrusage(resource.RUSAGE_SELF)
        results = await DeferredList([database.query(SLEEP, [0.05]) for _ in range(20)], consumeErrors=True)
        assert all(ok for ok, _ in results), [str(found.value) for ok, found in results if not ok]
        assert database.status() == "up"
        # those that are killed now are replaced, as many as the server gives
        for _ in range(3):
            waiting = DeferredList([database.query(SLEEP, [0.05]) for _ in range(20)], consumeErrors=True)
            await until(lambda: len(running(server)) == 2)
            most = max(most, kill(server))
            results = await waiting
            assert all(ok for ok, _ in results), [str(found.value) for ok, found in results if not ok]
        assert reactor.seconds() - began < 6
        assert pool(database)["failures"] == 0
        now = resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        # those of the test itself among them, which looks for what runs
        attempts = server.count("Connections") - before
        print(f"{cpu:.2f} s of CPU, {attempts} connections asked for")
        assert most <= 3
        assert attempts < 200

    @coroutine
    async def test_being_asked_for_more_than_can_be_does_not_end_modesty(self) -> None:
        server = self.spare
        await until(lambda: server.connections() == [])
        self.fill(server, 3)
        before = server.count("Connections")
        database = await self.open(server, connections=20)
        connections = database.servers[0].pool
        while connections._allowed == 20:
            # until the server has refused one
            await sleep(database, 0.1, 10)
        for _ in range(5):
            await sleep(database, 0.02, 10)
            database.resize(20)
        # two for the test's own looks, three that are had; the rest was refused: each time again it would be 30
        assert server.count("Connections") - before <= 15


class AwayTests(MariaDBCase):
    def back(self, database: Database) -> Any:
        return until(lambda: database.status() == "up", "the database is back", 2.0)

    @coroutine
    async def test_stopped_and_started_again(self) -> None:
        server = self.spare
        database = await self.open(server)
        server.stop()
        assert await refusal(database.query("SELECT 1", ())) in ("cannot connect (2003)", "connection lost (2013)")
        assert database.status() == "down"
        began = reactor.seconds()
        for _ in range(1000):
            await refusal(database.query("SELECT 1", ()))
        assert reactor.seconds() - began < 0.5
        server.start()
        await self.back(database)
        assert await database.query("SELECT 1", ()) == [(1,)]
        assert len([line for line in self.logged if "is away" in line]) <= 2
        assert len([line for line in self.logged if "answers again" in line]) == 2

    @coroutine
    async def test_frozen_for_longer_than_a_query_may_take(self) -> None:
        server = self.spare
        database = await self.open(server, timeout=0.8)
        server.freeze()
        self.addCleanup(server.thaw)
        began = reactor.seconds()
        await refusal(database.query("SELECT 1", ()))
        print(f"found in {reactor.seconds() - began:.2f} s: {database.figures()['pools'][-1]['reason']}")
        assert reactor.seconds() - began < 2.5
        assert database.status() == "down"
        server.thaw()
        await self.back(database)
        assert await database.query("SELECT 1", ()) == [(1,)]

    @coroutine
    async def test_a_server_that_says_nothing_delays_neither_start_nor_stop(self) -> None:
        server = self.spare
        server.freeze()
        self.addCleanup(server.thaw)
        began = reactor.seconds()
        database = await self.open(server, timeout=30.0)
        started = reactor.seconds() - began
        assert database.status() == "down"
        asked = DeferredList([database.query("SELECT 1", ()) for _ in range(10)], consumeErrors=True)
        began = reactor.seconds()
        await database.stop()
        stopped = reactor.seconds() - began
        assert not any(ok for ok, _ in await asked)
        print(f"started in {started:.2f} s, stopped in {stopped:.2f} s")
        assert started < 3
        assert stopped < 2

    @coroutine
    async def test_a_short_freeze_fails_nothing(self) -> None:
        server = self.spare
        database = await self.open(server, timeout=5.0)
        server.freeze()
        asked = gatherResults([database.query("SELECT %s", [n]) for n in range(50)])
        await pause(0.5)
        server.thaw()
        assert await asked == [[(n,)] for n in range(50)]

    @coroutine
    async def test_modes_of_quoting(self) -> None:
        server: MariaDB = self.spare
        self.addCleanup(server.sql, "SET GLOBAL sql_mode = DEFAULT")
        for mode in ("NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"):
            server.sql("SET GLOBAL sql_mode = %s", mode)
            database = await self.open(server)
            for text in ("\\", "\\' OR 1=1 -- ", "it's", 'a "b"', "\\\\'"):
                assert await database.query("SELECT %s, 1", [text]) == [(text, 1)]
            assert (await Accounts(database).user(1)).id == 1
