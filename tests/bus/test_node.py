"""The node and the hub: who is subscribed to what, and who gets what, once."""

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.publication import DeliveryClass, classify, provenance, splice
from mechamap_rt.errors import Disconnect
from mechamap_rt.wire import native, socketio
from tests.fakes import Wire, make_connection

SOCKETIO = socketio.EventEncoder()
NATIVE = native.EventEncoder()


class NodeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.node = Node(MemoryBus(), "n")
        self.node.start()

    def connect(self, ident: str, user_id: int = 5, encoder: object = SOCKETIO) -> tuple[Connection, Wire]:
        connection, wire, _ = make_connection(self.clock, ident, user_id, turn=self.turn, encoder=encoder)
        self.node.join(connection)
        return connection, wire

    def publish(self, name: str, event: str = "e", data: bytes = b"{}", **options: object) -> int:
        _, count = self.node.publish(channels.parse(name), event, data, **options)  # type: ignore[arg-type]
        self.clock.advance(0)
        return self.successResultOf(count)

    def test_any_of_the_three_names_reaches_all_of_them(self) -> None:
        wires = []
        for ident, name in (("a", "thread.7"), ("b", "private-thread.7"), ("c", "presence-thread.7")):
            connection, wire = self.connect(ident)
            self.node.subscribe(connection, channels.parse(name))
            wires.append(wire)
        for name in ("thread.7", "private-thread.7", "presence-thread.7"):
            self.assertEqual(self.publish(name), 3)
        self.assertEqual([wire.sent.count(b'42["e",{}]') for wire in wires], [3, 3, 3])

    def test_a_native_client_sees_the_name_it_subscribed_by(self) -> None:
        connection, wire = self.connect("a", encoder=NATIVE)
        self.node.subscribe(connection, channels.parse("conversation.9"))
        self.publish("private-conversation.9", data=b'{"a":1}')
        message = json.loads(wire.sent[2:])
        self.assertEqual((message["channel"], message["data"]), ("conversation.9", {"a": 1}))
        self.assertRegex(message["publication"], "^n-")

    def test_two_names_of_one_resource_are_one_subscription(self) -> None:
        connection, _ = self.connect("a")
        self.node.subscribe(connection, channels.parse("private-user.5"))
        self.node.subscribe(connection, channels.parse("user.5"))
        self.assertEqual(self.publish("user.5"), 1)
        self.assertTrue(self.node.unsubscribe(connection, channels.parse("user.5")))
        self.assertEqual(self.publish("user.5"), 1)
        self.assertTrue(self.node.unsubscribe(connection, channels.parse("private-user.5")))
        self.assertEqual(self.publish("user.5"), 0)
        self.assertFalse(self.node.unsubscribe(connection, channels.parse("user.5")))

    def test_the_first_of_two_names_may_be_given_up_first(self) -> None:
        connection, wire = self.connect("a", encoder=NATIVE)
        self.node.subscribe(connection, channels.parse("private-user.5"))
        self.node.subscribe(connection, channels.parse("user.5"))
        self.node.unsubscribe(connection, channels.parse("private-user.5"))
        self.assertEqual(self.publish("private-user.5"), 1)
        self.assertIn(b'"channel":"user.5"', wire.sent)

    def test_a_name_never_used_gives_up_the_resource(self) -> None:
        connection, _ = self.connect("a")
        self.node.subscribe(connection, channels.parse("private-thread.7"))
        self.assertTrue(self.node.unsubscribe(connection, channels.parse("thread.7")))
        self.assertEqual(self.publish("thread.7"), 0)

    def test_the_sender_does_not_hear_itself(self) -> None:
        first, mine = self.connect("a")
        second, theirs = self.connect("b")
        for connection in (first, second):
            self.node.subscribe(connection, channels.parse("thread.7"))
        self.node.announce(channels.parse("thread.7"), "user_typing", {}, sender="a")
        self.clock.advance(0)
        self.assertEqual((mine.sent.count(b"user_typing"), theirs.sent.count(b"user_typing")), (0, 1))

    def test_the_same_bytes_go_to_everybody(self) -> None:
        connections = [self.connect(ident)[0] for ident in "abc"]
        for connection in connections:
            self.node.subscribe(connection, channels.parse("thread.7"))
        self.node.publish(channels.parse("thread.7"), "e", b"{}")
        frames = [connection.outbox._pending[-1] for connection in connections]
        self.assertEqual(len({id(frame) for frame in frames}), 1)

    def test_who_has_left_gets_nothing_and_counts_for_nothing(self) -> None:
        connection, wire = self.connect("a")
        self.node.subscribe(connection, channels.parse("thread.7"))
        self.node.leave(connection)
        self.node.leave(connection)
        self.node.subscribe(connection, channels.parse("thread.8"))
        self.assertEqual((self.publish("thread.7"), self.publish("thread.8"), wire.sent), (0, 0, b""))
        self.assertEqual((self.node.connection_count(), self.node.user_count()), (0, 0))
        self.assertEqual(dict(self.node.hub.sizes()), {})

    def test_connections_of_a_user(self) -> None:
        first, _ = self.connect("a", 5)
        second, _ = self.connect("b", 5)
        self.connect("c", 6)
        self.assertEqual(self.node.connections_of(5), (first, second))
        self.node.leave(first)
        self.assertEqual(self.node.connections_of(5), (second,))
        self.assertEqual(self.node.connections_of(7), ())

    def test_disconnect_all_gives_each_its_reason_once(self) -> None:
        connection, _, ended = make_connection(self.clock)
        self.node.join(connection)
        self.node.disconnect_all(Disconnect.RESTART)
        connection.close(Disconnect.FORCED)
        self.assertEqual(ended, [Disconnect.RESTART])


def test_data_is_spliced_undecoded() -> None:
    extra = provenance("2026-11-23T10:30:00.000Z", "laravel")
    assert splice(b"{}", extra) == b'{"timestamp":"2026-11-23T10:30:00.000Z","source":"laravel"}'
    assert splice(b"{ }", extra) == splice(b"{}", extra)
    assert splice(b'{"a": [1]}', b'"b":2') == b'{"a": [1],"b":2}'
    assert json.loads(splice(b'{"timestamp":1}', extra))["timestamp"] == "2026-11-23T10:30:00.000Z"


def test_classes_of_known_events() -> None:
    thread = channels.parse("thread.7")
    assert classify(thread, "user_typing") is DeliveryClass.VOLATILE
    assert classify(thread, "thread.like.updated") is DeliveryClass.STATE
    assert classify(channels.parse("public.all"), "thread.like.updated") is DeliveryClass.DURABLE
    assert classify(thread, "comment.created") is DeliveryClass.DURABLE
    assert classify(thread, "comment.created", "12") is DeliveryClass.STATE


class Membership(RuleBasedStateMachine):
    """Random joins, subscriptions and leaves against a plain model of who should hear what."""

    connections = Bundle("connections")
    names = st.sampled_from(
        [prefix + resource for resource in ("thread.1", "thread.2") for prefix in ("", "private-", "presence-")]
    )

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.node = Node(MemoryBus(), "n")
        self.node.start()
        self.turn = Turn(self.clock)
        self.model: dict[str, dict[str, list[str]]] = {}
        self.wires: dict[str, Wire] = {}

    @rule(target=connections, is_native=st.booleans())
    def join(self, is_native: bool) -> Connection:
        ident = f"c{len(self.wires)}"
        encoder = NATIVE if is_native else SOCKETIO
        connection, wire, _ = make_connection(self.clock, ident, turn=self.turn, encoder=encoder)
        self.node.join(connection)
        self.model[ident] = {}
        self.wires[ident] = wire
        return connection

    @rule(connection=connections, name=names)
    def subscribe(self, connection: Connection, name: str) -> None:
        self.node.subscribe(connection, channels.parse(name))
        held = self.model[connection.id].setdefault(channels.parse(name).resource, [])
        if name not in held:
            held.append(name)

    @rule(connection=connections, name=names)
    def unsubscribe(self, connection: Connection, name: str) -> None:
        self.node.unsubscribe(connection, channels.parse(name))
        resource = channels.parse(name).resource
        held = self.model[connection.id].get(resource, [])
        rest = [other for other in held if other != name] if name in held else []
        if rest:
            self.model[connection.id][resource] = rest
        else:
            self.model[connection.id].pop(resource, None)

    @rule(connection=consumes(connections))
    def leave(self, connection: Connection) -> None:
        self.node.leave(connection)
        del self.model[connection.id]

    @rule(name=names)
    def publish(self, name: str) -> None:
        before = {ident: wire.calls for ident, wire in self.wires.items()}
        _, count = self.node.publish(channels.parse(name), "e", b"{}")
        self.clock.advance(0)
        resource = channels.parse(name).resource
        expected = {ident for ident, held in self.model.items() if resource in held}
        heard = {ident for ident, wire in self.wires.items() if wire.calls > before[ident]}
        assert heard == expected
        assert all(self.wires[ident].calls == before[ident] + 1 for ident in heard)
        result: list[int] = []
        count.addCallback(result.append)
        assert result == [len(expected)]

    @invariant()
    def the_hub_knows_no_more_than_the_model(self) -> None:
        sizes: dict[str, int] = {}
        for held in self.model.values():
            for resource in held:
                sizes[resource] = sizes.get(resource, 0) + 1
        assert dict(self.node.hub.sizes()) == sizes
        assert self.node.hub.subscriptions == sum(sizes.values())


MembershipTest = Membership.TestCase
MembershipTest.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
