"""permessage-deflate for messages that many share: compressed once, in a small window, and only where it pays."""

from __future__ import annotations

import random
import zlib
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mechamap_rt.core import frame as frames
from mechamap_rt.core.frame import DEFLATE_FROM, Frame
from mechamap_rt.core.outbox import DeflatingOutbox, SocketOutbox, Turn
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.wire import websocket
from tests.fakes import Wire, make_outbox

LONG = b'{"type":"event","event":"news"}' * 20


def parsed(wire: bytes) -> list[tuple[int, bytes]]:
    """The frames in ``wire``: first byte and payload."""
    frames = []
    while wire:
        size, at = wire[1], 2
        if size == 126:
            size, at = int.from_bytes(wire[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(wire[2:10], "big"), 10
        assert len(wire) >= at + size
        frames.append((wire[0], wire[at : at + size]))
        wire = wire[at + size :]
    return frames


def inflated(payload: bytes, bits: int = websocket.WINDOW_BITS) -> bytes:
    """As a client does it (RFC 7692 section 7.2.2), with nothing known from earlier messages."""
    inflate = zlib.decompressobj(-bits)
    text = inflate.decompress(payload + b"\x00\x00\xff\xff")
    assert not inflate.unused_data
    assert not inflate.eof
    return text


def deflating(wire: Wire, turn: Turn) -> DeflatingOutbox:
    return DeflatingOutbox(turn, wire, wire.send, lambda: None)


def test_a_shared_frame_is_compressed_once() -> None:
    clock = Clock()
    turn = Turn(clock)
    wires = [Wire() for _ in range(100)]
    frame = Frame.text(LONG)
    with mock.patch.object(frames.websocket, "deflated_message", wraps=websocket.deflated_message) as deflate:
        for wire in wires:
            deflating(wire, turn).push(frame)
        clock.advance(0)
    assert deflate.call_count == 1
    assert len({wire.sent for wire in wires}) == 1
    assert frame.deflated() is frame.deflated()
    [(first, payload)] = parsed(wires[0].sent)
    assert (first, inflated(payload)) == (0xC1, LONG)


def test_what_does_not_shrink_is_tried_once_and_sent_as_it_is() -> None:
    frame = Frame.text(LONG)
    with mock.patch.object(frames.websocket, "deflated_message", return_value=b"x" * 1000) as deflate:
        assert [frame.deflated() for _ in range(10)] == [frame] * 10
    assert deflate.call_count == 1


@pytest.mark.parametrize(
    "frame",
    [
        Frame.text(b""),
        Frame.text(b"x"),
        Frame.text(b"x" * (DEFLATE_FROM - 1)),
        Frame.binary(b"\0" * 5000, b"b" + b"A" * 6000),
        Frame(b"\x89\x00"),
        Frame(b"\x88\x02\x03\xe8"),
        Frame(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + b"x" * 1000),
    ],
    ids=["empty", "1 byte", "short", "binary", "ping", "close", "handshake"],
)
def test_what_is_never_compressed(frame: Frame) -> None:
    with mock.patch.object(frames.websocket, "deflated_message") as deflate:
        assert frame.deflated() is frame
    deflate.assert_not_called()


def test_a_compressed_frame_is_worth_the_same() -> None:
    frame = Frame.text(LONG, DeliveryClass.STATE, "likes")
    small = frame.deflated()
    assert (small.delivery, small.key, small.payload) == (DeliveryClass.STATE, "likes", LONG)
    assert small.size == len(small.wire) < frame.size == len(frame.wire)
    # a compressed frame is not compressed again
    assert small.deflated() is small


@pytest.mark.parametrize("bits", [websocket.WINDOW_BITS, 15])
@pytest.mark.parametrize("period", [1, 3, 1500, 2047, 2048, 2049, 3000, 40_000])
def test_the_window_is_as_small_as_promised(bits: int, period: int) -> None:
    """A client whose window is exactly ``server_max_window_bits`` understands it: nothing refers further back."""
    unit = random.Random(period).randbytes(period).hex().encode()[:period]
    text = (unit * (100_000 // period + 1))[:100_000]
    [(first, payload)] = parsed(websocket.deflated_message(text))
    assert (first, inflated(payload, bits)) == (0xC1, text)


@pytest.mark.parametrize("size", [1, 125, 126, 127, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("text", ["x", "Chào bạn, có thông báo mới! ", "🌅🚀 "], ids=["ascii", "vietnamese", "emoji"])
def test_texts_of_all_sizes(text: str, size: int) -> None:
    raw = (text * size)[:size].encode()
    [(first, payload)] = parsed(websocket.deflated_message(raw))
    assert (first, inflated(payload)) == (0xC1, raw)


@given(st.lists(st.one_of(st.text(max_size=2000), st.text("ab", min_size=250, max_size=3000)), max_size=12))
def test_messages_are_independent_and_in_order(texts: list[str]) -> None:
    """Each is inflated without the others, whatever is mixed: that is what "once for all clients" needs."""
    clock = Clock()
    turn = Turn(clock)
    plain, small = Wire(), Wire()
    outbox, other = SocketOutbox(turn, plain, plain.send, lambda: None), deflating(small, turn)
    for text in texts:
        frame = Frame.text(text.encode())
        outbox.push(frame)
        other.push(frame)
    clock.advance(0)
    got = [inflated(payload) if first == 0xC1 else payload for first, payload in parsed(small.sent)]
    assert got == [payload for _, payload in parsed(plain.sent)] == [text.encode() for text in texts]
    assert len(small.sent) <= len(plain.sent)


def test_what_was_queued_before_the_negotiation_goes_first() -> None:
    clock = Clock()
    wire = Wire()
    outbox, overflows = make_outbox(clock, wire)
    outbox.push(Frame(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"))
    other = outbox.deflating()
    other.push(Frame.text(LONG))
    outbox.push(Frame(b"to the abandoned one"))
    clock.advance(0)
    head, _, rest = wire.sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert [inflated(payload) for _, payload in parsed(rest)] == [LONG]
    assert (overflows, other.queued, outbox.queued) == ([], 0, 0)


def test_over_tls_the_producer_is_the_new_outbox() -> None:
    clock = Clock()
    wire = Wire()
    outbox = SocketOutbox(Turn(clock), wire, None, lambda: None)
    other = outbox.deflating()
    assert wire.producer is other
    other.push(Frame.text(LONG))
    clock.advance(0)
    assert inflated(parsed(wire.buffered)[0][1]) == LONG


def test_limits_count_what_is_sent() -> None:
    """Compressed bytes are what waits for a slow client; state is replaced as ever."""
    clock = Clock()
    wire = Wire(room=0)
    outbox = DeflatingOutbox(Turn(clock, 300, 1000), wire, wire.send, lambda: None)
    outbox.push(Frame.text(b"<" * 20))
    clock.advance(0)
    for number in range(200):
        outbox.push(Frame.text(b"%d" % number + b"s" * 1000, DeliveryClass.STATE, "likes"))
        clock.advance(0)
        assert outbox.queued < 400
    wire.drain()
    frames = parsed(wire.sent)
    assert inflated(frames[-1][1]).startswith(b"199s")
    assert len(frames) < 30
    assert not outbox.shut
