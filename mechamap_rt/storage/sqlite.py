"""SQLite, the embedded database: one file, or one that is memory only."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from mechamap_rt.storage.driver import Fate

MEMORY: Final = ":memory:"


class SQLite:
    """One file, which is made with the demo site's tables and rows when it is not there, or empty.

    :param path: of the file; empty for a database that is memory only, which one connection can have.
    :param timeout: seconds to wait for another process that writes.
    """

    module: Final = "sqlite3"

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path or MEMORY
        self._timeout = timeout
        self.name = f"sqlite:{os.path.basename(path)}" if path else "sqlite"

    @property
    def private(self) -> bool:
        """Has only one connection this database?"""
        return self.path == MEMORY

    @property
    def distant(self) -> bool:
        return False

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, self._timeout, check_same_thread=False, isolation_level=None)
        try:
            if not self.private:
                connection.execute("PRAGMA journal_mode = WAL")
            seed(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def query(self, connection: Any, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = connection.execute(statement.replace("%s", "?"), tuple(arguments)).fetchall()
        return rows

    def execute(self, connection: Any, statement: str, arguments: Sequence[Any]) -> int:
        return int(connection.execute(statement.replace("%s", "?"), tuple(arguments)).rowcount)

    def close(self, connection: Any) -> None:
        connection.close()

    def halt(self) -> None:
        """A file is open at once."""

    def cut(self, connection: Any) -> None:
        connection.interrupt()

    def fate(self, error: Exception) -> Fate:
        if isinstance(error, sqlite3.OperationalError):
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT):
                return Fate(False, False, False, "took too long")
            if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR):
                return Fate(not self.private, False, True, str(error))
        row = isinstance(error, sqlite3.IntegrityError | sqlite3.DataError)
        return Fate(False, False, False, f"{type(error).__name__} ({getattr(error, 'sqlite_errorname', '')})", row)


def script(name: str) -> str:
    """A file of SQL beside this one."""
    return files(__package__).joinpath(name).read_text("utf-8")


def seed(connection: sqlite3.Connection) -> None:
    """Create the schema and the demo rows in an empty file; leave any other as it is."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in statements(script("schema.sqlite.sql") + script("demo.sql")):
                connection.execute(statement)
    finally:
        connection.execute("COMMIT")


def statements(text: str) -> list[str]:
    """The statements of a script whose statements end with ``;`` at the end of a line."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [one.strip() for one in ("\n".join(lines) + "\n").split(";\n") if one.strip()]
