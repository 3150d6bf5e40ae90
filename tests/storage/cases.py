"""What the tests of databases share: databases that are stopped afterwards, MariaDB servers, what was logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from mechamap_rt.settings.backing import Database as DatabaseSettings
from mechamap_rt.storage.database import Database
from mechamap_rt.storage.opening import open_database
from tests.conftest import NewMariaDB
from tests.mariadb import ACCOUNT, DATABASE, PASSWORD, MariaDB

#: What keeps a connection busy.
SLEEP = "SELECT SLEEP(%s)"


class StorageCase(TestCase):
    """A test with its own databases."""

    timeout = 40

    def setUp(self) -> None:
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: Any) -> None:
        if str(event.get("log_namespace", "")).startswith("mechamap_rt"):
            self.logged.append(event["log_format"].format(**event))

    async def start(self, settings: DatabaseSettings, connections: int = 5) -> Database:
        """A started database; it is stopped after the test."""
        database = open_database(reactor, settings, connections)
        self.addCleanup(database.stop)
        await database.start()
        return database


class MariaDBCase(StorageCase):
    """With the MariaDB of all tests (``shared``), one to break and mend (``spare``), and others (``new()``)."""

    @pytest.fixture(autouse=True)
    def _servers(self, mariadb: MariaDB, spare: MariaDB, new_mariadb: NewMariaDB, tmp_path: Path) -> None:
        self.shared = mariadb
        self.spare = spare
        self.new = new_mariadb
        self.folder = tmp_path

    async def open(self, server: MariaDB, connections: int = 5, timeout: float = 5.0, **more: Any) -> Database:
        settings = {"host": f"127.0.0.1:{server.port}", "name": DATABASE, "user": ACCOUNT, "password": PASSWORD}
        return await self.start(DatabaseSettings(**settings | {"timeout": timeout} | more), connections)


def running(server: MariaDB) -> list[str]:
    """The statements that the servers' account has running."""
    rows = server.sql(
        "SELECT info FROM information_schema.processlist WHERE user = %s AND command = 'Query' AND info IS NOT NULL",
        ACCOUNT,
    )
    return [str(row[0]) for row in rows]


def kill(server: MariaDB) -> int:
    """End every connection of the servers' account, as an operator does; how many they were."""
    found = server.connections()
    for ident in found:
        # one that has ended by itself meanwhile
        try:
            server.sql(f"KILL {ident}")
        except Exception as error:
            if "Unknown thread" not in str(error):
                raise
    return len(found)
