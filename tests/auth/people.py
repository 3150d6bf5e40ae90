"""Users in a MariaDB that several modules share: each test has people of its own. And a database that is watched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mechamap_rt.interfaces import IDatabase
from mechamap_rt.settings import load
from mechamap_rt.storage.database import Database
from mechamap_rt.storage.opening import open_database
from tests.mariadb import MariaDB

_numbers = itertools.count(4_100_000)


def number() -> int:
    """An id that no other row of this session has."""
    return next(_numbers)


def person(mariadb: MariaDB, role: str = "member", **columns: Any) -> int:
    """A new user."""
    return mariadb.user(number(), role, **columns)


def opened(mariadb: MariaDB | None, connections: int = 2) -> Database:
    """The real database as a server opens it, not started; without ``mariadb`` the embedded one."""
    environ = {} if mariadb is None else mariadb.settings()
    return open_database(reactor, load(environ, None).settings.database, connections)  # type: ignore[arg-type]


@implementer(IDatabase)
class Watched:
    """A real database whose questions are counted, and whose answers can be held back on their way.

    :ivar asked: how many questions there have been.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: list[Deferred[None]] | None = None
        self.asked = 0

    def start(self) -> Deferred[None]:
        return self._database.start()

    def stop(self) -> Deferred[None]:
        return self._database.stop()

    @property
    def separate(self) -> bool:
        return self._database.separate

    def query(
        self, statement: str, arguments: Sequence[Any], *, fresh: bool = False
    ) -> Deferred[list[tuple[Any, ...]]]:
        self.asked += 1
        return self._database.query(statement, arguments, fresh=fresh).addCallback(self._arrive)

    def _arrive(self, rows: list[tuple[Any, ...]]) -> Any:
        if self._held is None:
            return rows
        gate: Deferred[None] = Deferred()
        self._held.append(gate)
        return gate.addCallback(lambda _: rows)

    def hold(self) -> None:
        """From now on the answers do not arrive."""
        self._held = []

    @property
    def held(self) -> int:
        """How many answers are held back."""
        return len(self._held or ())

    def release(self) -> None:
        """They arrive, and so do those to come."""
        held, self._held = self._held, None
        for gate in held or ():
            gate.callback(None)

    def execute(self, statement: str, arguments: Sequence[Any]) -> Deferred[int]:
        return self._database.execute(statement, arguments)

    def status(self) -> str:
        return self._database.status()

    def figures(self) -> dict[str, Any]:
        return self._database.figures()

    def rest(self) -> None:
        self._database.rest()

    def resize(self, connections: int) -> None:
        self._database.resize(connections)


def turn(seconds: float = 0.01) -> Deferred[None]:
    """Let the reactor go on for a moment."""
    from twisted.internet.task import deferLater

    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]
