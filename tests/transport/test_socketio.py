"""The server's side of a Socket.IO client, without sockets: acknowledgements it waits for, and the two revisions."""

from __future__ import annotations

import json
import time

from twisted.internet.error import ConnectionLost, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.auth.authenticator import Authenticator
from mechamap_rt.auth.backends import LaravelBackend
from mechamap_rt.auth.cache import TokenCache
from mechamap_rt.auth.jwt import JWTVerifier, mint
from mechamap_rt.auth.mock import MockSite
from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.dispatch import Dispatcher
from mechamap_rt.commands.typing import Typing
from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.core.outbox import SocketOutbox, Turn
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.presence.presence import Presence
from mechamap_rt.sessions.local import LocalStore
from mechamap_rt.transport.handshake import Credentials
from mechamap_rt.transport.lobby import Lobby
from mechamap_rt.transport.socketio import MAX_AWAITED, MAX_REFUSALS, SocketIOClient
from mechamap_rt.wire.engineio import Revision
from mechamap_rt.wire.socketio import SocketIOError
from tests.fakes import Wire

SECRET = "0123456789abcdef0123456789abcdef"


def token(user_id: int = 5, expires_in: float = 3600) -> str:
    claims = {"userId": user_id, "role": "member", "permissions": ["receive_notifications"]}
    return mint(SECRET, "HS256", claims, time.time(), expires_in)


class FakeEngine:
    """An Engine.IO session that remembers what it was told to send."""

    sid = "engine-sid"

    def __init__(self, clock: Clock, revision: Revision) -> None:
        self.revision = revision
        self.wire = Wire()
        self.outbox = SocketOutbox(Turn(clock), self.wire, self.wire.send, lambda: None)
        self.sent: list[bytes] = []
        self.parts: list[bytes] = []
        self.finished: list[Disconnect] = []

    def send(self, packet: bytes) -> None:
        self.sent.append(packet)

    def send_binary(self, part: bytes) -> None:
        self.parts.append(part)

    def finish(self, reason: Disconnect) -> None:
        self.finished.append(reason)


class Case(SynchronousTestCase):
    revision = Revision.V4

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(time.time())
        self.node = Node(MemoryBus(), "n")
        self.node.start()
        wheel = Wheel(self.clock)
        self.tally = Tally(Quota(per_user=2), self.clock.seconds)
        store = LocalStore(self.tally)
        backend = LaravelBackend(MockSite(1, "member"), JWTVerifier(SECRET, "HS256"))
        self.lobby = Lobby(
            node=self.node,
            dispatcher=Dispatcher({}, store, self.clock.seconds),
            authenticator=Authenticator(backend, TokenCache(300, 100, time.time), time.time),
            store=store,
            typing=Typing(self.node, wheel, self.clock.seconds),
            presence=Presence(self.node, wheel, self.clock.seconds),
            wheel=wheel,
            clock=self.clock.seconds,
        )
        self.engine, self.client = self.make()

    def make(self, query: str | None = None) -> tuple[FakeEngine, SocketIOClient]:
        engine = FakeEngine(self.clock, self.revision)
        client = SocketIOClient(
            self.lobby,
            engine,
            self.lobby.enter("127.0.0.1"),
            Credentials(None, query),
            frozenset(("/", "/admin")),
            1000,
        )
        return engine, client

    def connect(self, namespace: str = "") -> None:
        self.client.receive(f"0{namespace}{json.dumps({'token': token()})}".encode())


class ConnectTests(Case):
    def test_each_namespace_is_a_connection_of_its_own(self) -> None:
        self.connect()
        self.connect("/admin,")
        first, second = self.node.connections_of(5)
        self.assertEqual(self.engine.sent[0], b'0{"sid":"%b"}' % first.id.encode())
        self.assertEqual(self.engine.sent[1], b'0/admin,{"sid":"%b"}' % second.id.encode())
        self.client.receive(b"1/admin,")
        self.assertEqual(self.node.connections_of(5), (first,))
        self.client.leave(Disconnect.GOING_AWAY)
        self.assertEqual((self.node.connection_count(), self.tally.connections(5)), (0, 0))

    def test_an_unknown_namespace_is_refused_and_the_others_live(self) -> None:
        self.client.receive(b'0/nope,{"token":"x"}')
        self.assertEqual(self.engine.sent, [b'4/nope,{"message":"Invalid namespace"}'])
        self.connect()
        self.assertEqual(self.node.connection_count(), 1)

    def test_refusals_are_bounded(self) -> None:
        for _ in range(MAX_REFUSALS):
            self.assertEqual(self.engine.finished, [])
            self.client.receive(b'0{"token":"bad"}')
        self.assertEqual(self.engine.finished, [Disconnect.AUTH_FAILED])

    def test_who_is_over_a_limit_is_told_and_sent_away(self) -> None:
        self.tally.change(Quota(total=1))
        self.engine, self.client = self.make()
        self.connect()
        sid = json.loads(self.engine.sent[0][1:])["sid"]
        self.assertTrue(sid)
        self.assertIn(b'2["connection_rejected",{"reason":"global_limit_reached"', self.engine.sent[1])
        self.assertEqual(self.engine.sent[2], b"1")
        self.assertEqual(self.engine.finished, [Disconnect.GLOBAL_LIMIT])
        self.assertEqual(self.node.connection_count(), 0)

    def test_the_token_of_the_connect_packet_comes_first(self) -> None:
        self.engine, self.client = self.make(query=token(7))
        self.client.receive(b"0")
        self.assertEqual([c.identity.user_id for c in self.node.connections()], [7])
        self.engine, self.client = self.make(query=token(7))
        self.connect()
        self.assertEqual(len(self.node.connections_of(5)), 1)

    def test_states_in_which_a_packet_ends_the_session(self) -> None:
        for raw in (b'2["ping"]', b"1", b"31[]"):
            with self.assertRaises(SocketIOError):
                self.client.receive(raw)
        self.connect()
        for raw in (b'0{"token":"x"}', b'4{"message":"x"}', b'2/admin,["ping"]'):
            with self.assertRaises(SocketIOError):
                self.client.receive(raw)

    def test_an_end_that_forbids_coming_back_is_a_disconnect_packet(self) -> None:
        self.connect()
        self.node.disconnect_all(Disconnect.FORCED)
        self.assertIn(b'2["force_disconnect",{"reason":"disconnected"', self.engine.sent[-2])
        self.assertEqual((self.engine.sent[-1], self.engine.finished), (b"1", [Disconnect.FORCED]))

    def test_an_end_that_allows_coming_back_closes_the_transport_only(self) -> None:
        self.connect()
        self.node.disconnect_all(Disconnect.RESTART)
        self.assertEqual((len(self.engine.sent), self.engine.finished), (1, [Disconnect.RESTART]))

    def test_a_token_that_ends_ends_the_connection(self) -> None:
        self.client.receive(b'0{"token":"%b"}' % token(5, expires_in=30).encode())
        self.clock.advance(29)
        self.assertEqual(self.engine.finished, [])
        self.clock.advance(3)
        self.assertIn(b'"token_expired"', self.engine.sent[-2])
        self.assertEqual(self.engine.finished, [Disconnect.TOKEN_EXPIRED])


class AcknowledgementTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.connect()
        self.engine.sent.clear()

    def test_the_client_acknowledges(self) -> None:
        answer = self.client.request("/", "question", {"a": 1}, 5)
        self.assertEqual(self.engine.sent, [b'20["question",{"a":1}]'])
        self.client.receive(b'30["yes",2]')
        self.assertEqual(self.successResultOf(answer), ["yes", 2])
        self.client.receive(b'30["again"]')

    def test_binary_both_ways(self) -> None:
        answer = self.client.request("/", "question", {"a": b"\x01"}, 5)
        self.assertEqual(self.engine.sent, [b'51-0["question",{"a":{"_placeholder":true,"num":0}}]'])
        self.assertEqual(self.engine.parts, [b"\x01"])
        self.client.receive(b'61-0[{"_placeholder":true,"num":0}]')
        self.client.receive_binary(b"\x02")
        self.assertEqual(self.successResultOf(answer), [b"\x02"])

    def test_no_acknowledgement_in_time(self) -> None:
        answer = self.client.request("/", "question", {}, 5)
        self.clock.advance(5.2)
        self.failureResultOf(answer, TimeoutError)
        self.client.receive(b"30[]")

    def test_the_client_goes_away(self) -> None:
        answer = self.client.request("/", "question", {}, 5)
        self.client.leave(Disconnect.GOING_AWAY)
        self.failureResultOf(answer, ConnectionLost)

    def test_what_is_awaited_is_bounded(self) -> None:
        answers = [self.client.request("/", "question", {}, 5) for _ in range(MAX_AWAITED + 1)]
        self.failureResultOf(answers[0], TimeoutError)
        self.assertNoResult(answers[1])
        self.client.leave(Disconnect.GOING_AWAY)
        for answer in answers[1:]:
            self.failureResultOf(answer, ConnectionLost)

    def test_an_attachment_must_come_when_it_was_announced(self) -> None:
        self.client.receive(b'51-["ping",{"_placeholder":true,"num":0}]')
        with self.assertRaises(SocketIOError):
            self.client.receive(b'2["ping"]')

    def test_an_attachment_that_nobody_announced(self) -> None:
        with self.assertRaises(SocketIOError):
            self.client.receive_binary(b"x")


class OldRevisionTests(Case):
    revision = Revision.V3

    def test_the_root_is_connected_unasked_with_the_token_of_the_query(self) -> None:
        engine, client = self.make(query=token(7))
        client.connect_root()
        (connection,) = self.node.connections()
        self.assertEqual((engine.sent, connection.id), ([b"0"], engine.sid))

    def test_a_refusal_is_an_error_packet_with_a_string(self) -> None:
        self.client.connect_root()
        self.assertEqual(self.engine.sent, [b'4"Authentication failed: No token provided"'])
