"""Requests of clients: their order, their limits, their faults."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.dispatch import MAX_BACKLOG, Dispatcher
from mechamap_rt.commands.outcome import Outcome, rate_limited
from mechamap_rt.commands.table import MAX_SUBSCRIPTIONS, ClientCommands
from mechamap_rt.commands.typing import EXPIRY, MAX_AT_ONCE, Typing
from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import AuthRefused, Code, Unavailable
from mechamap_rt.interfaces import IAuthenticator, IPolicy
from mechamap_rt.presence.presence import Presence
from mechamap_rt.sessions.local import LocalStore
from tests.fakes import Wire, make_connection


@implementer(IPolicy)
class SlowPolicy:
    """Says yes to all but ``user.`` channels; when ``held``, only later."""

    def __init__(self) -> None:
        self.era = 0
        self.held = False
        self.waiting: list[Deferred[bool]] = []

    def may_subscribe(
        self, identity: Identity, channel: Channel, fresh: bool = False, socket: str = ""
    ) -> Deferred[bool]:
        if self.held:
            answer: Deferred[bool] = Deferred()
            self.waiting.append(answer)
            return answer
        if channel.resource == "public.broken":
            return fail(RuntimeError("database on fire"))
        if channel.resource == "public.away":
            return fail(Unavailable("the database is away"))
        return succeed(channel.kind != "user")

    def member(self, identity: Identity, channel: Channel) -> tuple[str, str | None]:
        return identity.name, identity.avatar

    def changes(self, channel: Channel) -> bool:
        return False

    def forget(self, user_id: int | None = None, resource: str | None = None) -> None:
        """Nothing is remembered."""

    def overtaken(self, identity: Identity, era: int) -> bool:
        return False


@implementer(IAuthenticator)
class Tokens:
    era = 0

    def forget(self, user_id: int | None = None, token_id: int | None = None) -> None:
        """Nothing is remembered."""

    def identify(self, token: str | None) -> Deferred[Identity]:
        return self.authenticate(token)

    def authenticate(self, token: str | None) -> Deferred[Identity]:
        if token is None or not token.isdigit():
            return fail(AuthRefused("Invalid token"))
        return succeed(Identity(int(token), "Renewed", "admin", permissions=("receive_notifications",)))


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.node = Node(MemoryBus(), "n")
        self.node.start()
        self.policy = SlowPolicy()
        self.wheel = Wheel(self.clock)
        self.typing = Typing(self.node, self.wheel, self.clock.seconds)
        self.presence = Presence(self.node, self.wheel, self.clock.seconds)
        self.extended: list[Connection] = []
        self.build()

    def build(self, events: int = 0, typing: int = 0, channel: int = 0) -> None:
        seconds = self.clock.seconds
        rates = {"events": events, "typing": typing, "channel": channel}
        store = self.store = LocalStore(Tally(Quota(rates=rates), seconds))
        commands = self.commands = ClientCommands(
            node=self.node,
            policy=self.policy,
            authenticator=Tokens(),
            typing=self.typing,
            presence=self.presence,
            subscriptions=Subscriptions(self.node, self.policy, self.typing.stop, lambda connection: None, seconds),
            store=store,
            clock=seconds,
            extend=self.extended.append,
        )
        self.dispatcher = Dispatcher(commands.table(), store, seconds)

    def connect(self, ident: str = "a", user_id: int = 5) -> tuple[Connection, Wire]:
        connection, wire, _ = make_connection(self.clock, ident, user_id, turn=self.turn)
        self.node.join(connection)
        return connection, wire

    def ask(self, connection: Connection, name: Any, data: Any = None) -> Outcome:
        got: list[Outcome] = []
        self.dispatcher.submit(connection, name, data, got.append)
        self.assertEqual(len(got), 1)
        return got[0]


class DispatchTests(Case):
    def test_all_three_names_subscribe(self) -> None:
        connection, _ = self.connect()
        for name, data in (("subscribe", {"channel": "a.1"}), ("subscribe_request", "b.1"), ("join_channel", "c.1")):
            outcome = self.ask(connection, name, data)
            self.assertEqual((outcome.event, outcome.payload["status"]), ("subscribed", "success"))
        self.assertEqual(set(connection.subscriptions), {"a.1", "b.1", "c.1"})

    def test_what_cannot_be_found_out_now(self) -> None:
        """No fault of the client's: it may ask again, and nothing is logged for each."""
        connection, _ = self.connect()
        outcome = self.ask(connection, "subscribe", "public.away")
        acknowledged = outcome.acknowledgement()
        self.assertEqual((outcome.event, acknowledged["code"]), ("subscription_error", "SERVER_ERROR"))
        self.assertEqual(acknowledged["error"], "Temporarily unavailable")
        self.assertEqual(acknowledged["details"], {"retryAfter": 2.0})
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_what_may_not_be_is_unauthorized(self) -> None:
        connection, _ = self.connect()
        outcome = self.ask(connection, "subscribe", {"channel": "private-user.6"})
        self.assertEqual(
            outcome.payload, {"channel": "private-user.6", "error": "Unauthorized", "code": Code.PERMISSION_DENIED}
        )
        self.assertEqual(outcome.event, "subscription_error")
        self.assertEqual(outcome.acknowledgement()["status"], "error")

    def test_a_channel_is_required_and_must_be_one(self) -> None:
        connection, _ = self.connect()
        for data in (None, {}, {"channel": None}, {"channel": ""}, ""):
            outcome = self.ask(connection, "subscribe", data)
            self.assertEqual((outcome.event, outcome.payload["error"]), ("subscription_error", "Channel is required"))
        for data in ({"channel": 5}, {"channel": ["a"]}, {"channel": "x" * 1_000_000}, 7, [1], {"channel": "ả"}):
            outcome = self.ask(connection, "subscribe", data)
            self.assertEqual(outcome.payload["code"], Code.VALIDATION_ERROR)
            self.assertLess(len(str(outcome.payload)), 1000)

    def test_our_own_faults_show_nothing_and_end_nothing(self) -> None:
        connection, _ = self.connect()
        outcome = self.ask(connection, "subscribe", {"channel": "public.broken"})
        self.assertEqual((outcome.payload["code"], outcome.payload["error"]), (Code.SERVER_ERROR, "Internal error"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.ask(connection, "subscribe", "public.x").event, "subscribed")

    def test_subscriptions_are_bounded(self) -> None:
        connection, _ = self.connect()
        for number in range(MAX_SUBSCRIPTIONS):
            self.assertIsNone(self.ask(connection, "subscribe", f"public.{number}").fault)
        outcome = self.ask(connection, "subscribe", "public.one-more")
        self.assertEqual(outcome.payload["code"], Code.RATE_LIMITED)
        self.assertIsNone(self.ask(connection, "subscribe", "private-public.0").fault)

    def test_requests_are_answered_in_their_order(self) -> None:
        connection, _ = self.connect()
        self.policy.held = True
        got: list[str] = []
        for name in ("public.1", "public.2"):
            self.dispatcher.submit(connection, "subscribe", name, lambda o: got.append(o.payload["channel"]))
        self.dispatcher.submit(connection, "ping", {"timestamp": 1}, lambda o: got.append("pong"))
        self.dispatcher.submit(connection, "typing_start", "public.2", lambda o: got.append(str(o.fault)))
        self.assertEqual(got, [])
        self.policy.waiting.pop().callback(True)
        self.assertEqual(got, ["public.1"])
        self.policy.waiting.pop().callback(True)
        self.assertEqual(got, ["public.1", "public.2", "pong", "None"])
        self.assertIsNone(connection.backlog)

    def test_unanswered_requests_are_bounded(self) -> None:
        connection, _ = self.connect()
        self.policy.held = True
        got: list[Outcome] = []
        for _ in range(MAX_BACKLOG + 3):
            self.dispatcher.submit(connection, "subscribe", "public.1", got.append)
        self.assertEqual([o.payload["code"] for o in got], [Code.RATE_LIMITED] * 2)

    def test_who_left_meanwhile_gets_no_answer_and_no_subscription(self) -> None:
        connection, _ = self.connect()
        self.policy.held = True
        got: list[Outcome] = []
        self.dispatcher.submit(connection, "subscribe", "public.1", got.append)
        self.dispatcher.submit(connection, "ping", None, got.append)
        self.node.leave(connection)
        self.policy.waiting.pop().callback(True)
        self.assertEqual((got, connection.subscriptions), ([], {}))
        self.assertEqual(self.node.hub.count("public.1"), 0)

    def test_the_limit_is_the_users_not_the_connections(self) -> None:
        self.build(events=10)
        first, _ = self.connect("a")
        second, _ = self.connect("b")
        other, _ = self.connect("c", user_id=6)
        for connection in (first, second) * 5:
            self.assertIsNone(self.ask(connection, "ping").fault)
        outcome = self.ask(first, "ping")
        self.assertEqual((outcome.event, outcome.payload["code"]), ("error", Code.RATE_LIMITED))
        self.assertGreater(outcome.payload["details"]["retryAfter"], 0)
        self.assertIsNone(self.ask(other, "ping").fault)
        self.clock.advance(6.1)
        self.assertIsNone(self.ask(second, "ping").fault)

    def test_the_wait_is_never_none(self) -> None:
        for wait, told in ((1e-9, 0.001), (0.0604, 0.061), (0.6, 0.6), (1.0, 1.0)):
            self.assertEqual(rate_limited("events", wait).details, {"retryAfter": told})

    def test_unknown_events_are_ignored_counted_and_limited(self) -> None:
        self.build(events=3)
        connection, _ = self.connect()
        for name in ("nonsense", "__proto__", 7):
            outcome = self.ask(connection, name, {"a": 1})
            self.assertIsNone(outcome.event)
            self.assertEqual(outcome.acknowledgement()["code"], Code.VALIDATION_ERROR)
        self.assertEqual(self.dispatcher.requests, {"other": 3})
        self.assertEqual(self.ask(connection, "nonsense").payload["code"], Code.RATE_LIMITED)

    def test_a_fresh_token_extends_and_another_users_does_not(self) -> None:
        connection, _ = self.connect()
        outcome = self.ask(connection, "authenticate", {"token": "Bearer 5"})
        self.assertEqual(
            outcome.payload,
            {
                "user": {"id": 5, "name": "Renewed", "email": None, "role": "admin"},
                "permissions": ["receive_notifications"],
                "socketId": "a",
            },
        )
        self.assertEqual((connection.identity.role, self.extended), ("admin", [connection]))
        for token in ("6", "bad", None):
            outcome = self.ask(connection, "authenticate", {"token": token})
            self.assertEqual((outcome.event, outcome.payload["code"]), ("authentication_error", Code.AUTH_FAILED))
        self.assertEqual((connection.identity.user_id, len(self.extended)), (5, 1))

    def test_a_lesser_role_loses_what_it_may_not_hear(self) -> None:
        connection, wire = self.connect()
        self.ask(connection, "subscribe", "public.1")
        self.node.subscribe(connection, channels.parse("private-user.7"))
        self.ask(connection, "authenticate", {"token": "5"})
        self.clock.advance(0)
        self.assertEqual(set(connection.subscriptions), {"public.1"})
        self.assertIn(b'42["unsubscribed",{"channel":"private-user.7","reason":"Unauthorized"', wire.sent)

    def test_ping_gives_back_the_clients_time(self) -> None:
        connection, _ = self.connect()
        self.assertEqual(self.ask(connection, "ping", {"timestamp": 123}).payload, {"timestamp": 123})
        self.assertRegex(self.ask(connection, "ping", {"timestamp": {"a": 1}}).payload["timestamp"], "^1970.*Z$")
        self.assertRegex(self.ask(connection, "ping").payload["timestamp"], "^1970.*Z$")

    def test_a_right_that_is_taken_away_while_the_bus_is_waited_for(self) -> None:
        reached: Deferred[None] = Deferred()
        self.patch(self.node._bus, "subscribe", lambda resource: reached)
        mine, _ = self.connect()
        got: list[Outcome] = []
        self.dispatcher.submit(mine, "subscribe", {"channel": "public.x"}, got.append)
        self.policy.era += 1
        self.policy.held = True
        reached.callback(None)
        self.assertEqual(got, [])
        self.policy.waiting.pop().callback(False)
        self.assertEqual(got[0].payload["code"], Code.PERMISSION_DENIED)
        self.assertEqual((mine.subscriptions, self.node.hub.count("public.x")), ({}, 0))

    def test_activity_reaches_the_others_in_presence_channels_only(self) -> None:
        mine, _ = self.connect("a", 5)
        theirs, wire = self.connect("b", 6)
        for connection in (mine, theirs):
            self.ask(connection, "subscribe", "presence-thread.1")
            self.ask(connection, "subscribe", "thread.2")
        self.assertIsNone(self.ask(mine, "user_activity", {"activity": "reading"}).fault)
        self.clock.advance(0)
        self.assertEqual(wire.sent.count(b'"user_activity",{"userId":5,"activity":"reading"'), 1)
        self.assertEqual(
            self.ask(mine, "user_activity", {"activity": "x" * 999}).payload["details"]["field"], "activity"
        )


class TypingTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.mine, self.own_wire = self.connect("a", 5)
        self.theirs, self.wire = self.connect("b", 6)
        for connection in (self.mine, self.theirs):
            for name in ("thread.1", "conversation.2"):
                self.node.subscribe(connection, channels.parse(name))

    def heard(self) -> list[str]:
        self.clock.advance(0)
        sent, self.wire.sent = self.wire.sent, b""
        names = []
        while b'42["' in sent:
            sent = sent[sent.index(b'42["') + 4 :]
            names.append(sent[: sent.index(b'"')].decode())
        return names

    def test_start_and_stop_reach_the_others_only(self) -> None:
        self.ask(self.mine, "typing_start", {"channel": "thread.1"})
        self.assertEqual(self.heard(), ["user_typing"])
        self.ask(self.mine, "typing_stop", {"thread_id": 1})
        self.assertEqual(self.heard(), ["user_stopped_typing"])
        self.ask(self.mine, "typing_stop", {"thread_id": "1"})
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.own_wire.sent, b"")

    def test_a_start_without_a_stop_expires(self) -> None:
        self.ask(self.mine, "typing_start", {"thread_id": 1})
        self.clock.advance(EXPIRY - 1)
        self.ask(self.mine, "typing_start", {"thread_id": 1})
        self.clock.advance(EXPIRY - 1)
        self.assertEqual(self.heard(), ["user_typing", "user_typing"])
        self.clock.advance(1.2)
        self.assertEqual(self.heard(), ["user_stopped_typing"])
        self.clock.advance(60)
        self.assertEqual(self.heard(), [])

    def test_who_leaves_the_channel_or_the_site_types_no_more(self) -> None:
        self.ask(self.mine, "typing_start", "thread.1")
        self.ask(self.mine, "typing_start", "conversation.2")
        self.heard()
        self.ask(self.mine, "unsubscribe", {"channel": "private-thread.1"})
        self.assertEqual(self.heard(), ["user_stopped_typing"])
        self.typing.leave_all(self.mine)
        self.assertEqual(self.heard(), ["user_stopped_typing"])

    def test_only_subscribers_may_type(self) -> None:
        for data in ({"channel": "thread.9"}, {"thread_id": 9}):
            outcome = self.ask(self.mine, "typing_start", data)
            self.assertEqual(outcome.payload["code"], Code.PERMISSION_DENIED)
        self.assertIsNone(self.ask(self.mine, "typing_start", {"channel": None, "thread_id": 1}).fault)
        for data in ({"thread_id": "1.x"}, {"thread_id": -1}, {"thread_id": True}, {"thread_id": []}, None):
            outcome = self.ask(self.mine, "typing_start", data)
            self.assertEqual(outcome.payload["code"], Code.VALIDATION_ERROR)

    def test_channels_typed_in_at_once_are_bounded(self) -> None:
        for number in range(MAX_AT_ONCE + 5):
            self.node.subscribe(self.mine, channels.parse(f"public.{number}"))
            self.ask(self.mine, "typing_start", f"public.{number}")
        self.assertEqual(len(self.mine.typing or {}), MAX_AT_ONCE)

    def test_events_on_one_channel_are_limited_for_all_together(self) -> None:
        self.build(channel=3)
        users = [self.mine, self.theirs, *(self.connect(f"c{user_id}", user_id)[0] for user_id in (7, 8))]
        for user in users:
            self.node.subscribe(user, channels.parse("thread.1"))
        outcomes = [self.ask(user, "typing_start", "thread.1") for user in users]
        self.assertEqual([o.fault is None for o in outcomes], [True, True, True, False])
        self.assertEqual(outcomes[3].payload["code"], Code.RATE_LIMITED)
        self.assertGreater(outcomes[3].payload["details"]["retryAfter"], 0)

    def test_what_others_are_not_told_of_does_not_count(self) -> None:
        self.build(channel=2)
        for _ in range(10):
            self.assertIsNone(self.ask(self.mine, "typing_start", "thread.1").fault)
        self.assertIsNone(self.ask(self.theirs, "typing_start", "thread.1").fault)
