"""The outbox: one write a turn, bounded, and what is dropped under pressure."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.outbox import SocketOutbox, Turn
from mechamap_rt.core.publication import DeliveryClass
from tests.fakes import Wire, make_outbox

VOLATILE, STATE, DURABLE = DeliveryClass.VOLATILE, DeliveryClass.STATE, DeliveryClass.DURABLE


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def test_frames_of_one_turn_leave_in_one_write(self) -> None:
        wire = Wire()
        outbox, _ = make_outbox(self.clock, wire)
        for part in (b"one ", b"two ", b"three"):
            outbox.push(Frame(part))
        self.assertEqual((wire.sent, wire.calls), (b"", 0))
        self.clock.advance(0)
        self.assertEqual((wire.sent, wire.calls), (b"one two three", 1))
        self.assertEqual(outbox.queued, 0)

    def test_only_the_cut_frame_goes_through_the_transports_buffer(self) -> None:
        wire = Wire(room=5)
        outbox, _ = make_outbox(self.clock, wire)
        for part in (b"abc", b"defg", b"hij"):
            outbox.push(Frame(part))
        self.clock.advance(0)
        self.assertEqual((wire.sent, wire.buffered, outbox.queued), (b"abcde", b"fg", 5))
        outbox.push(Frame(b"klm"))
        self.clock.advance(0)
        wire.drain()
        self.assertEqual((wire.sent, outbox.queued), (b"abcdefghijklm", 0))
        self.assertIsNone(wire.producer)

    def test_a_full_kernel_takes_nothing_and_nothing_is_lost(self) -> None:
        wire = Wire(room=0)
        outbox, _ = make_outbox(self.clock, wire)
        outbox.push(Frame(b"abc"))
        self.clock.advance(0)
        self.assertEqual(wire.buffered, b"abc")
        wire.drain()
        self.assertEqual(wire.sent, b"abc")

    def test_a_reading_client_may_get_any_amount_in_one_turn(self) -> None:
        wire = Wire()
        outbox, overflows = make_outbox(self.clock, wire, soft=100, hard=300)
        for _ in range(50):
            outbox.push(Frame(b"d" * 90, VOLATILE))
        outbox.push(Frame(b"e" * 5000))
        self.clock.advance(0)
        self.assertEqual((len(wire.sent), overflows), (50 * 90 + 5000, []))

    def test_over_the_soft_limit_volatile_is_dropped_and_durable_kept(self) -> None:
        wire = Wire(room=0)
        outbox, _ = make_outbox(self.clock, wire, soft=100, hard=1000)
        outbox.push(Frame(b"d" * 90))
        outbox.push(Frame(b"v" * 20, VOLATILE))
        outbox.push(Frame(b"e" * 20, DURABLE))
        self.clock.advance(0)
        wire.drain()
        self.assertEqual(wire.sent, b"d" * 90 + b"e" * 20)

    def test_over_the_soft_limit_only_the_newest_state_of_a_key_leaves(self) -> None:
        wire = Wire(room=0)
        outbox, overflows = make_outbox(self.clock, wire, soft=100, hard=300)
        outbox.push(Frame(b"<"))
        self.clock.advance(0)
        outbox.push(Frame(b"s0 ", STATE, "likes"))
        outbox.push(Frame(b"d" * 100))
        for number in range(500):
            outbox.push(Frame(b"s%d " % number, STATE, "likes"))
            outbox.push(Frame(b"t%d " % number, STATE, "views"))
        self.clock.advance(0)
        wire.drain()
        self.assertEqual(wire.sent, b"<s499 " + b"d" * 100 + b"t499 ")
        self.assertEqual((overflows, outbox.queued), ([], 0))

    def test_the_last_value_that_leaves_is_the_newest(self) -> None:
        wire = Wire(room=0)
        outbox, _ = make_outbox(self.clock, wire, soft=100, hard=2000)
        outbox.push(Frame(b"<"))
        self.clock.advance(0)
        pushed = [("1", 120), ("d", 30), ("2", 5), ("3", 5), ("d", 90), ("4", 5)]
        for name, size in pushed:
            delivery = DURABLE if name == "d" else STATE
            outbox.push(Frame(name.encode() * size + b" ", delivery, "likes"))
        wire.drain()
        states = [part[:1] for part in wire.sent.split(b" ") if part[:1] in b"1234<" and part]
        self.assertEqual(states[-1], b"4")

    def test_coalescing_goes_on_while_the_peer_does_not_read(self) -> None:
        wire = Wire(room=0)
        outbox, _ = make_outbox(self.clock, wire, soft=100, hard=300)
        outbox.push(Frame(b"d" * 120))
        self.clock.advance(0)
        for number in range(500):
            outbox.push(Frame(b"s%d " % number, STATE, "likes"))
            self.clock.advance(0)
        wire.drain()
        self.assertEqual(wire.sent, b"d" * 120 + b"s499 ")

    def test_over_the_hard_limit_everything_is_dropped_and_said_once(self) -> None:
        wire = Wire(room=0)
        outbox, overflows = make_outbox(self.clock, wire, soft=100, hard=300)
        for _ in range(10):
            outbox.push(Frame(b"d" * 90))
            self.clock.advance(0)
        self.assertEqual((overflows, outbox.queued), (["overflow"], 0))
        self.assertTrue(outbox.shut)
        self.assertLessEqual(len(wire.buffered), 90)

    def test_what_is_queued_is_handed_over_before_a_close(self) -> None:
        wire = Wire(room=2)
        outbox, _ = make_outbox(self.clock, wire)
        outbox.push(Frame(b"abc"))
        outbox.push(Frame(b"def"))
        outbox.close()
        outbox.push(Frame(b"too late"))
        self.clock.advance(0)
        self.assertEqual(wire.sent + wire.buffered, b"abcdef")

    def test_a_broken_socket_is_left_to_the_transport(self) -> None:
        wire = Wire()
        wire.broken = True
        outbox, _ = make_outbox(self.clock, wire)
        outbox.push(Frame(b"abc"))
        self.clock.advance(0)
        self.assertEqual((wire.buffered, outbox.queued), (b"abc", 0))

    def test_an_abandoned_outbox_takes_nothing_and_never_overflows(self) -> None:
        wire = Wire()
        outbox, overflows = make_outbox(self.clock, wire)
        outbox.push(Frame(b"x"))
        outbox.abandon()
        outbox.push(Frame(b"y" * 10_000))
        self.clock.advance(0)
        self.assertEqual((wire.sent, overflows), (b"", []))

    def test_transports_that_must_not_be_bypassed_say_when_to_pause(self) -> None:
        wire = Wire()
        outbox = SocketOutbox(Turn(self.clock), wire, None, lambda: None)
        outbox.push(Frame(b"abc"))
        self.clock.advance(0)
        self.assertEqual((wire.buffered, wire.calls), (b"abc", 0))
        outbox.pauseProducing()
        outbox.push(Frame(b"def"))
        self.clock.advance(0)
        self.assertEqual((wire.buffered, outbox.queued), (b"abc", 3))
        outbox.resumeProducing()
        self.assertEqual(wire.buffered, b"abcdef")

    def test_a_turn_writes_a_slice_so_that_others_get_theirs(self) -> None:
        turn = Turn(self.clock)
        wires = [Wire() for _ in range(Turn.SLICE + 10)]
        for wire in wires:
            SocketOutbox(turn, wire, wire.send, lambda: None).push(Frame(b"x"))
        between: list[int] = []
        self.clock.callLater(0, lambda: between.append(sum(wire.calls for wire in wires)))
        self.clock.advance(0)
        self.assertEqual(between, [Turn.SLICE])
        self.assertEqual(sum(wire.calls for wire in wires), Turn.SLICE + 10)

    def test_flush_writes_everything_at_once(self) -> None:
        turn = Turn(self.clock)
        wires = [Wire() for _ in range(Turn.SLICE * 2 + 1)]
        for wire in wires:
            SocketOutbox(turn, wire, wire.send, lambda: None).push(Frame(b"x"))
        turn.flush()
        self.assertEqual(sum(wire.calls for wire in wires), len(wires))
        self.assertEqual(self.clock.getDelayedCalls(), [])


actions = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 60), st.sampled_from([DURABLE, VOLATILE, STATE])),
        st.tuples(st.just("turn")),
        st.tuples(st.just("drain"), st.integers(0, 200)),
    ),
    max_size=60,
)


@given(actions)
def test_durable_frames_arrive_whole_in_order_or_the_connection_overflows(actions: list[tuple]) -> None:  # type: ignore[type-arg]
    clock = Clock()
    wire = Wire(room=50)
    outbox, overflows = make_outbox(clock, wire, soft=150, hard=400)
    durable: list[bytes] = []
    for number, action in enumerate(actions):
        if action[0] == "push":
            _, size, delivery = action
            letter = b"dvs"[[DURABLE, VOLATILE, STATE].index(delivery)]
            frame = b"<%c%d%s>" % (letter, number, b"." * size)
            if delivery is DURABLE and not outbox.shut:
                durable.append(frame)
            outbox.push(Frame(frame, delivery, "key"))
        elif action[0] == "turn":
            clock.advance(0)
        else:
            wire.drain(action[1])
        assert outbox.queued <= 400
    for _ in range(20):
        clock.advance(0)
        wire.drain(100_000)
    if overflows:
        return
    got = wire.sent.replace(b"><", b">\n<").split(b"\n") if wire.sent else []
    assert [frame for frame in got if frame.startswith(b"<d")] == durable
    assert all(frame.startswith(b"<") and frame.endswith(b">") for frame in got)
