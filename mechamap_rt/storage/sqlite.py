"""The embedded database: SQLite in adbapi's threads, seeded with a small site to try things on."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from mechamap_rt.interfaces import IDatabase

_THREADS: Final = 2


@implementer(IDatabase)
class SQLiteDatabase:
    """One SQLite file, created with the demo site's schema and rows when it is empty.

    :param path: the file; empty means a private temporary file, removed when the database stops.
    """

    def __init__(self, reactor: IReactorThreads, path: str = "") -> None:
        self._reactor = reactor
        self._temporary = not path
        self._path = path
        self._pool: adbapi.ConnectionPool | None = None

    def start(self) -> Deferred[None]:
        if self._temporary:
            descriptor, self._path = tempfile.mkstemp(prefix="mechamap-", suffix=".sqlite")
            os.close(descriptor)
        pool = self._pool = adbapi.ConnectionPool(
            "sqlite3",
            self._path,
            check_same_thread=False,
            cp_reactor=self._reactor,
            cp_min=1,
            cp_max=_THREADS,
            cp_name="sqlite",
        )
        pool.start()
        seeding: Deferred[None] = pool.runWithConnection(_seed)
        return seeding

    def stop(self) -> Deferred[None]:
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        closing = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), pool.close)
        return closing.addCallback(lambda _: self._remove())

    def _remove(self) -> None:
        if self._temporary:
            for suffix in ("", "-wal", "-shm", "-journal"):
                if os.path.exists(self._path + suffix):
                    os.unlink(self._path + suffix)

    def query(self, statement: str, arguments: Sequence[Any]) -> Deferred[list[tuple[Any, ...]]]:
        if self._pool is None:
            raise RuntimeError("the database is not started")
        rows: Deferred[list[tuple[Any, ...]]] = self._pool.runQuery(statement.replace("%s", "?"), tuple(arguments))
        return rows


def _seed(connection: sqlite3.Connection) -> None:
    """Create the schema and the demo rows in an empty file; leave any other as it is."""
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return
    connection.executescript(files(__package__).joinpath("demo.sql").read_text("utf-8"))
