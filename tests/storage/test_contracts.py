"""SQLite, in memory and in a file, and MariaDB keep the same promises; their schemas are the same."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from mechamap_rt.settings.backing import Database as DatabaseSettings
from mechamap_rt.storage.database import Database
from mechamap_rt.storage.sqlite import script, seed, statements
from tests.contracts.database import QuestionsContract
from tests.contracts.notifications import NotificationsContract
from tests.mariadb import DATABASE, MariaDB
from tests.storage.cases import MariaDBCase, StorageCase

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n WHERE x < 0"


class SQLiteQuestions(QuestionsContract, NotificationsContract):
    SLOW = ENDLESS
    NO_TIME = "soon"

    def path(self) -> str:
        return ""

    async def open_database(self, **settings: Any) -> Database:
        return await self.start(DatabaseSettings(sqlite_path=self.path(), **settings))

    async def insert(self, database: Database, table: str, **columns: Any) -> None:
        marks = ", ".join(["%s"] * len(columns))
        await database.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))


class MemoryTests(SQLiteQuestions, StorageCase):
    pass


class FileTests(SQLiteQuestions, StorageCase):
    def path(self) -> str:
        if not hasattr(self, "_file"):
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            self._file = str(Path(folder.name) / "site.sqlite")
        return self._file


class MariaDBTests(QuestionsContract, NotificationsContract, MariaDBCase):
    SLOW = "SELECT SLEEP(30)"
    NO_TIME = "0000-00-00 00:00:00"

    def server(self) -> MariaDB:
        return self.shared

    async def open_database(self, **settings: Any) -> Database:
        return await self.open(self.server(), **settings)

    async def insert(self, database: Database, table: str, **columns: Any) -> None:
        # the servers' account may not; and old rows may have times that no row gets today
        connection = self.server().connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
                marks = ", ".join(["%s"] * len(columns))
                cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))
        finally:
            connection.close()


class SchemaTests(MariaDBCase):
    #: Columns that MySQL's tables must have, and that this server neither reads nor writes.
    ONLY_IN_MYSQL: ClassVar = {
        ("users", "password"),
        ("conversation_participants", "id"),
        ("group_members", "id"),
    }

    def test_both_schemas_name_the_same_tables_and_columns(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        seed(connection)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        ours = {(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
        theirs = self.shared.sql(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s", DATABASE
        )
        assert set(theirs) - ours == self.ONLY_IN_MYSQL
        assert ours - set(theirs) == set()

    def test_the_demo_rows_are_the_same(self) -> None:
        server = self.spare
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        seed(connection)
        demo = statements(script("demo.sql"))
        tables = {match[1] for one in demo if (match := re.match(r"INSERT INTO (\w+)", one))}
        assert len(tables) >= 7
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            question = f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2"
            plain = [tuple(None if each is None else str(each) for each in row) for row in connection.execute(question)]
            assert plain == [
                tuple(None if each is None else str(each) for each in row) for row in server.sql(question)
            ], table
