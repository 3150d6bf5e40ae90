"""What MariaDB makes of the statements about notifications: with the servers' account, and by the primary key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from mechamap_rt.storage.accounts import Accounts
from mechamap_rt.storage.notifications import Notifications, Reading
from tests.auth.people import Watched, number
from tests.bus.redis_case import coroutine
from tests.mariadb import MariaDB
from tests.storage.cases import MariaDBCase

NOON = 1_906_545_600.0
#: Rows of the table, and how many of them are one user's.
ROWS, OWN = 4000, 400


class Overheard(Watched):
    """Keeps the statements that would change something, and has them change nothing."""

    def __init__(self, database: Any) -> None:
        super().__init__(database)
        self.statements: list[tuple[str, Sequence[Any]]] = []

    def execute(self, statement: str, arguments: Sequence[Any]) -> Deferred[int]:
        self.statements.append((statement, arguments))
        return succeed(0)


def fill(mariadb: MariaDB, first: int, user: int) -> None:
    values = ", ".join(
        f"({first + at}, {user if at % (ROWS // OWN) == 0 else first + at % 50}, 'x')" for at in range(ROWS)
    )
    mariadb.sql(f"INSERT INTO notifications (id, user_id, type) VALUES {values}")
    people = ", ".join(f"({first + at}, 'x', '{first + at}', '{first + at}')" for at in range(1000))
    mariadb.sql(f"INSERT INTO users (id, name, username, email) VALUES {people}")
    mariadb.sql("ANALYZE TABLE notifications, users")


class PlanTests(MariaDBCase):
    @coroutine
    async def test_statements_look_at_no_more_rows_than_they_are_about(self) -> None:
        first, user = number() * 10_000, number()
        fill(self.shared, first, user)
        database = Overheard(await self.open(self.shared))
        notifications = Notifications(database, lambda: NOON)
        pairs = [(first + at * (ROWS // OWN), user) for at in range(50)]
        await notifications.read(dict.fromkeys(pairs, NOON))
        await notifications.read_all({user: Reading(first + ROWS, None, NOON)})
        await Accounts(database).seen(dict.fromkeys(range(first, first + 40), NOON))
        plans = [self.plan(statement, arguments) for statement, arguments in database.statements]
        assert [(kind, key) for kind, key, _ in plans] == [
            ("range", "PRIMARY"),
            ("range", "notifications_user"),
            ("range", "PRIMARY"),
        ]
        assert plans[0][2] <= 2 * len(pairs)

    def plan(self, statement: str, arguments: Sequence[Any]) -> tuple[str, str, int]:
        """How MariaDB would do it: the kind of search, the key, and how many rows."""
        [(_, _, _, kind, _, key, _, _, rows, _)] = self.shared.sql(f"EXPLAIN {statement}", *arguments)
        return kind, key, int(rows)
