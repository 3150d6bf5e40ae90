"""Reading notifications, with a real SQLite and a clock under control: answers, outages, who is told what, the pace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.notifications import NotificationCommands
from mechamap_rt.core import channels
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.core.writing import GAP, Pace
from mechamap_rt.errors import ClientFault, Code, Unavailable
from mechamap_rt.notifications.counts import EVENT
from mechamap_rt.notifications.inbox import Inbox
from mechamap_rt.settings.backing import Database as DatabaseSettings
from mechamap_rt.storage.notifications import Notifications
from mechamap_rt.storage.opening import open_database
from tests.auth.people import Watched
from tests.bus.redis_case import coroutine, until
from tests.fakes import Wire, make_connection

NOON = 1_906_545_600.0
AN, BINH = 1, 2


class Faulty(Watched):
    """A real database that can be away.

    :ivar moments: of the clock, when something was changed.
    """

    def __init__(self, database: Any, clock: Clock) -> None:
        super().__init__(database)
        self.clock = clock
        self.away = self.loses_answers = False
        self.moments: list[float] = []

    def query(self, statement: str, arguments: Sequence[Any], *, fresh: bool = False) -> Any:
        if self.away:
            return fail(Unavailable("away"))
        return super().query(statement, arguments, fresh=fresh)

    def execute(self, statement: str, arguments: Sequence[Any]) -> Deferred[int]:
        if self.away:
            return fail(Unavailable("away"))
        self.moments.append(self.clock.seconds())
        done = super().execute(statement, arguments)
        if self.loses_answers:
            self.loses_answers, self.away = False, True
            return done.addCallback(lambda _: fail(Unavailable("the answer was lost")))
        return done


class ReadingTests(TestCase):
    timeout = 30

    async def begin(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        real = open_database(reactor, DatabaseSettings(), 1)  # type: ignore[arg-type]
        self.addCleanup(real.stop)
        await real.start()
        self.real = real
        self.database = Faulty(real, self.clock)
        self.node = Node(MemoryBus(), "aaa001")
        await self.node.start()
        self.turn = Turn(self.clock)
        notifications = Notifications(self.database, self.now)
        wheel = Wheel(self.clock)
        self.inbox = Inbox(self.clock, self.node, notifications, Pace(self.clock), wheel, self.now)
        self.inbox.start()
        self.addCleanup(self.inbox.counts.stop)
        self.commands = NotificationCommands(self.inbox.marks, self.now)

    def now(self) -> float:
        return NOON + self.clock.seconds() - 1000

    async def connect(self, ident: str, user: int = AN) -> tuple[Connection, Wire]:
        connection, wire, _ = make_connection(self.clock, ident, user, turn=self.turn)
        self.node.join(connection)
        await self.node.subscribe(connection, channels.parse(f"private-user.{user}"))
        return connection, wire

    async def notify(self, *idents: int, user: int = AN, **columns: Any) -> None:
        for ident in idents:
            row = {"id": ident, "user_id": user, "type": "x"} | columns
            names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            await self.real.execute(f"INSERT INTO notifications ({names}) VALUES ({marks})", list(row.values()))

    async def read_ones(self) -> list[int]:
        rows = await self.real.query(
            "SELECT id FROM notifications WHERE is_read = 1 AND status = 'read' ORDER BY id", ()
        )
        return [row[0] for row in rows]

    def ask(self, event: str, connection: Connection, data: Any = None) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.commands.table()[event].run(connection, data))

    async def answer(self, asking: Deferred[Any]) -> dict[str, Any]:
        await self.move(lambda: asking.called)
        outcome = await asking
        assert outcome.event is None
        payload: dict[str, Any] = outcome.payload
        return payload

    async def move(self, holds: Any, step: float = 0.01) -> None:
        """Let time pass until something holds."""

        def passed() -> bool:
            self.clock.advance(step)
            return bool(holds())

        await until(passed)

    def heard(self, wire: Wire) -> list[tuple[str, dict[str, Any]]]:
        self.turn.flush()
        self.clock.advance(0)
        events = [json.loads(part[part.index(b"[") :]) for part in _messages(wire.sent)]
        return [(name, data) for name, data in events]

    def names(self, wire: Wire) -> list[str]:
        return [name for name, _ in self.heard(wire)]

    # -- one ---------------------------------------------------------------------------------------

    @coroutine
    async def test_the_answer_and_who_is_told_what(self) -> None:
        await self.begin()
        (an, first), (_, second), (_, third) = [
            await self.connect(name, user) for name, user in (("a1", AN), ("a2", AN), ("b1", BINH))
        ]
        await self.notify(11, 12)
        told = await self.answer(self.ask("notification_read", an, {"notificationId": 11}))
        assert told == {"notificationId": 11, "state": "stored", "unreadCount": 1, "timestamp": told["timestamp"]}
        assert await self.read_ones() == [11]
        assert self.names(first) == ["notification.read", EVENT]
        assert self.names(second) == ["notification_read", "notification.read", EVENT]
        assert self.names(third) == []
        by_name = dict(self.heard(second))
        assert (by_name["notification_read"]["notificationId"], by_name["notification_read"]["readBy"]) == (11, AN)
        assert (by_name[EVENT]["userId"], by_name[EVENT]["unreadCount"]) == (AN, 1)
        for data in ("12", {"notification_id": "12"}, {"notification_id": 12}, {"notificationId": 12}):
            again = await self.answer(self.ask("notification_read", an, data))
            assert (again["state"], again["unreadCount"], again["notificationId"]) == ("stored", 0, 12)
        assert self.names(second).count("notification_read") == 2, "what is read already is told nobody again"
        assert self.names(first).count(EVENT) == 2

    @coroutine
    async def test_foreign_and_unknown_ones_cannot_be_told_apart(self) -> None:
        await self.begin()
        an, wire = await self.connect("a1")
        await self.notify(21, user=BINH)
        faults = []
        for ident in (21, 22, 2**63 - 1):
            asking = self.ask("notification_read", an, {"notificationId": ident})
            await self.move(lambda asking=asking: asking.called)
            fault = (await self.assertFailure(asking, ClientFault)) and self.last
            faults.append((fault.code, fault.message, fault.field, fault.details))
        assert len(set(map(str, faults))) == 1
        assert faults[0][0] == Code.PERMISSION_DENIED
        assert await self.read_ones() == []
        assert self.names(wire) == []

    def assertFailure(self, asking: Deferred[Any], kind: type[Exception]) -> Any:
        def keep(error: Exception) -> bool:
            self.last: Any = error
            return True

        return super().assertFailure(asking, kind).addCallback(keep)

    @coroutine
    async def test_what_is_malformed(self) -> None:
        await self.begin()
        an, _ = await self.connect("a1")
        wrong = (None, {}, [], True, 0, -1, 1.0, 2**63, 10**400, "", "01", "1.0", "x", "9" * 19, "1" * 5000, "１")
        for data in (*wrong, *({"notificationId": value} for value in wrong), {"notificationId": {}}):
            await self.assertFailure(self.ask("notification_read", an, data), ClientFault)
            assert (self.last.code, self.last.field) == (Code.VALIDATION_ERROR, "notificationId"), data
        assert self.database.asked == 0

    @coroutine
    async def test_without_the_site_s_database(self) -> None:
        await self.begin()
        an, _ = await self.connect("a1")
        self.commands = NotificationCommands(None, self.now)
        for event in ("notification_read", "notifications_read_all"):
            await self.assertFailure(self.ask(event, an, {"notificationId": 1}), ClientFault)
            assert (self.last.code, "site's database" in self.last.message) == (Code.SERVER_ERROR, True)

    # -- all ---------------------------------------------------------------------------------------

    @coroutine
    async def test_all_at_once(self) -> None:
        await self.begin()
        (an, first), (_, second) = await self.connect("a1"), await self.connect("a2")
        await self.notify(31, 32, 33, created_at="2031-01-01 00:00:00")
        await self.notify(34, user=BINH)
        told = await self.answer(self.ask("notifications_read_all", an, {"any": "thing"}))
        assert told == {"state": "stored", "unreadCount": 0, "count": 3, "timestamp": told["timestamp"]}
        assert await self.read_ones() == [31, 32, 33]
        assert self.names(first) == [EVENT]
        assert self.names(second) == ["notifications_read_all", EVENT]
        again = await self.answer(self.ask("notifications_read_all", an))
        assert (again["count"], again["unreadCount"]) == (0, 0)
        assert self.names(second) == ["notifications_read_all", EVENT]

    # -- the pace ----------------------------------------------------------------------------------

    @coroutine
    async def test_many_are_few_statements(self) -> None:
        await self.begin()
        an, wire = await self.connect("a1")
        await self.notify(*range(100, 400))
        asking = []
        for ident in range(100, 400):
            asking.append(self.ask("notification_read", an, ident))
            if ident % 20 == 0:
                await self.move(lambda: True)
        asking.append(self.ask("notifications_read_all", an))
        await self.move(lambda: all(one.called for one in asking))
        gaps = [
            later - earlier for earlier, later in zip(self.database.moments, self.database.moments[1:], strict=False)
        ]
        assert min(gaps, default=GAP) >= GAP - 1e-9, gaps
        assert len(self.database.moments) < 40
        assert await self.read_ones() == [*range(100, 400)]
        counts = [data["unreadCount"] for name, data in self.heard(wire) if name == EVENT]
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] == 0

    # -- outages -----------------------------------------------------------------------------------

    @coroutine
    async def test_an_outage_of_a_minute(self) -> None:
        await self.begin()
        (an, first), (other, second) = await self.connect("a1"), await self.connect("a2")
        binh, third = await self.connect("b1", BINH)
        await self.notify(41, 42, 43)
        await self.notify(44, user=BINH)
        await self.notify(45, user=BINH, created_at="2030-06-01 12:00:01")
        self.database.away = True
        for ident in (41, 42, 44, 49):
            asking = self.ask("notification_read", an, ident)
            assert asking.called, "nobody waits for a database that is away"
            answer = await self.answer(asking)
            assert answer["state"] == "accepted"
            assert "unreadCount" not in answer
        assert (await self.answer(self.ask("notification_read", other, 41)))["state"] == "accepted"
        self.clock.pump([0.5] * 20)
        assert (await self.answer(self.ask("notifications_read_all", binh)))["state"] == "accepted"
        self.clock.pump([0.5] * 100)
        assert self.now() - NOON >= 60
        await self.notify(46, user=BINH, created_at="2030-06-01 12:00:50")
        assert self.names(first) == self.names(second) == self.names(third) == []
        self.database.away = False
        await self.move(lambda: len(self.names(first)) >= 5 and len(self.names(third)) >= 1)
        assert await self.read_ones() == [41, 42, 44, 45]
        [(read_at,)] = await self.real.query("SELECT read_at FROM notifications WHERE id = 41", ())
        assert str(read_at)[:16] == "2030-06-01 12:00", "when it was read, not when that was written"
        errors = [data for name, data in self.heard(first) if name == "error"]
        assert [(data["code"], data["details"]["notificationId"]) for data in errors] == [
            (Code.PERMISSION_DENIED, 44),
            (Code.PERMISSION_DENIED, 49),
        ]
        assert sorted(self.names(first)) == ["error"] * 2 + ["notification.read"] * 2 + [EVENT]
        assert self.names(second).count("notification_read") == 2
        assert [data["unreadCount"] for name, data in self.heard(third) if name == EVENT] == [1], "46 came later"

    @coroutine
    async def test_an_answer_that_was_lost(self) -> None:
        await self.begin()
        (an, _), (_, second) = await self.connect("a1"), await self.connect("a2")
        await self.notify(51)
        self.database.loses_answers = True
        assert (await self.answer(self.ask("notification_read", an, 51)))["state"] == "accepted"
        assert await self.read_ones() == [51]
        self.database.away = False
        await self.move(lambda: self.names(second))
        assert self.names(second) == ["notification_read", "notification.read", EVENT]

    @coroutine
    async def test_a_database_that_does_not_answer_is_waited_for_a_second(self) -> None:
        await self.begin()
        an, wire = await self.connect("a1")
        await self.notify(61)
        self.database.hold()
        asking = self.ask("notification_read", an, 61)
        self.clock.pump([0.1] * 9)
        assert not asking.called
        self.clock.pump([0.1] * 3)
        assert (await self.answer(asking))["state"] == "accepted"
        await until(lambda: self.database.held)
        self.database.release()
        await self.move(lambda: EVENT in self.names(wire))
        assert await self.read_ones() == [61]

    @coroutine
    async def test_what_is_left_is_written_at_the_end(self) -> None:
        await self.begin()
        an, _ = await self.connect("a1")
        await self.notify(71, 72, 73)
        for ident in (71, 72, 73):
            self.ask("notification_read", an, ident)
        await self.inbox.stop()
        assert await self.read_ones() == [71, 72, 73]

    # -- who comes ---------------------------------------------------------------------------------

    @coroutine
    async def test_who_comes_is_told_the_count(self) -> None:
        await self.begin()
        await self.notify(81, 82)
        wires = []
        for number in range(300):
            connection, wire = await self.connect(f"c{number}", AN if number % 2 else 1000 + number)
            self.inbox.welcome(connection)
            wires.append(wire)
        await self.move(lambda: all(self.names(wire) for wire in wires))
        assert self.database.asked <= 4, "those who come at once are few queries"
        assert [self.heard(wire)[0][1]["unreadCount"] for wire in wires[:4]] == [0, 2, 0, 2]
        assert all(self.names(wire) == [EVENT] for wire in wires)

    @coroutine
    async def test_who_comes_during_an_outage_is_told_afterwards(self) -> None:
        await self.begin()
        await self.notify(83)
        self.database.away = True
        an, wire = await self.connect("a1")
        gone, gone_wire = await self.connect("a2")
        binh, other = await self.connect("b1", BINH)
        for connection in (an, gone, binh):
            self.inbox.welcome(connection)
        self.node.leave(gone)
        self.inbox.forget(gone)
        self.clock.pump([0.5] * 120)
        assert self.names(wire) == []
        self.database.away = False
        await self.move(lambda: self.names(wire) and self.names(other), 0.1)
        assert [self.heard(one)[0][1]["unreadCount"] for one in (wire, other)] == [1, 0]
        assert self.names(gone_wire) == []

    @coroutine
    async def test_a_count_that_was_asked_before_a_newer_one_was_told_is_not_told(self) -> None:
        await self.begin()
        await self.notify(84)
        an, wire = await self.connect("a1")
        self.database.hold()
        self.inbox.welcome(an)
        await until(lambda: self.database.held)
        newer = json.dumps({"userId": AN, "unreadCount": 7}).encode()
        self.node.publish(channels.parse(f"user.{AN}"), EVENT, newer)
        self.database.release()
        self.clock.pump([0.1] * 10)
        assert [data["unreadCount"] for _, data in self.heard(wire)] == [7]


def _messages(sent: bytes) -> Iterator[bytes]:
    """The texts of a server's WebSocket frames."""
    at = 0
    while at < len(sent):
        size, at = sent[at + 1], at + 2
        if size == 126:
            size, at = int.from_bytes(sent[at : at + 2], "big"), at + 2
        yield sent[at : at + size]
        at += size
