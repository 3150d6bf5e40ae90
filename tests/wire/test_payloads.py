"""Long-polling payloads of both revisions, and binary attachments, held against the python reference."""

from __future__ import annotations

from typing import Any

import engineio as reference
import pytest
import socketio as reference_socketio
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.wire import engineio, json, socketio
from mechamap_rt.wire.attachments import Assembly, detach
from mechamap_rt.wire.engineio import EngineIOError, PacketType, Revision
from mechamap_rt.wire.socketio import SocketIOError

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x1e"), max_size=30)
packets = st.lists(st.one_of(texts, st.binary(max_size=30)), min_size=1, max_size=8)


def plain(found: list[engineio.Packet]) -> list[str | bytes]:
    return [packet.data if packet.binary else packet.data.decode() for packet in found]


@given(packets)
def test_payloads_of_the_reference_are_read(data: list[Any]) -> None:
    made = reference.payload.Payload([reference.packet.Packet(reference.packet.MESSAGE, part) for part in data])
    found = engineio.decode_payload(made.encode().encode(), Revision.V4)
    assert plain(found) == data
    assert all(packet.type is PacketType.MESSAGE for packet in found)


@given(st.lists(texts, min_size=1, max_size=8))
def test_payloads_written_are_read_by_the_reference(data: list[str]) -> None:
    raw = engineio.encode_payload([b"4" + text.encode() for text in data], Revision.V4)
    decoded = reference.payload.Payload(encoded_payload=raw.decode())
    # the reference reads a message that looks like JSON as JSON: compare what it was encoded from
    assert [packet.encode() for packet in decoded.packets if isinstance(packet.data, str)] == [
        "4" + text for text, packet in zip(data, decoded.packets, strict=True) if isinstance(packet.data, str)
    ]


@given(st.lists(texts, min_size=1, max_size=8))
def test_revision_3_counts_as_javascript_does(data: list[str]) -> None:
    raw = engineio.encode_payload([b"4" + text.encode() for text in data], Revision.V3)
    assert plain(engineio.decode_payload(raw, Revision.V3)) == data
    length = len(("4" + data[0]).encode("utf-16-le")) // 2
    assert raw.startswith(b"%d:4" % length)


def test_revision_3_reads_what_clients_send() -> None:
    assert plain(engineio.decode_payload("2:4é3:4😀6:b4AQI=".encode(), Revision.V3)) == ["é", "😀", b"\x01\x02"]
    octets = b"\x00\x03\xff4hi\x01\x03\xff\x04\x01\x02"
    assert plain(engineio.decode_payload(octets, Revision.V3, octets=True)) == ["hi", b"\x01\x02"]


@given(st.binary(max_size=80) | st.text('0123456789:b4"\x1e é😀', max_size=40).map(str.encode), st.booleans())
def test_garbage_is_a_protocol_error_and_nothing_else(raw: bytes, octets: bool) -> None:
    for revision in Revision:
        try:
            found = engineio.decode_payload(raw, revision, octets=octets)
        except EngineIOError:
            continue
        assert 1 <= len(found) <= engineio.MAX_PACKETS


@pytest.mark.parametrize(
    ("raw", "revision", "octets"),
    [
        (b"", Revision.V4, False),
        (b"\x1e", Revision.V4, False),
        (b"4a\x1e", Revision.V4, False),
        (b"abc", Revision.V4, False),
        (b"b!!!", Revision.V4, False),
        (b"bAQI", Revision.V4, False),
        (b"4\xff", Revision.V4, False),
        (b"4a", Revision.V4, True),
        (b"4\x1e" * 1100 + b"4", Revision.V4, False),
        (b"", Revision.V3, False),
        (b"4hello", Revision.V3, False),
        (b"99:4hello", Revision.V3, False),
        (b"-1:4", Revision.V3, False),
        (b"0:", Revision.V3, False),
        ("٣:4ab".encode(), Revision.V3, False),
        ("2:4😀".encode(), Revision.V3, False),
        (b"2:bA", Revision.V3, False),
        (b"\x02\x01\xff4", Revision.V3, True),
        (b"\x00\x09\xff4", Revision.V3, True),
        (b"\x00\xff4", Revision.V3, True),
        (b"\x01\x02\xff\x05a", Revision.V3, True),
        (b"1:4" * 1100, Revision.V3, False),
    ],
)
def test_what_is_no_payload(raw: bytes, revision: Revision, octets: bool) -> None:
    with pytest.raises(EngineIOError):
        engineio.decode_payload(raw, revision, octets=octets)


def test_binary_messages_over_websocket() -> None:
    assert engineio.decode_binary(b"\x01", Revision.V4).data == b"\x01"
    assert engineio.decode_binary(b"\x04\x01", Revision.V3).data == b"\x01"
    for raw in (b"", b"\x02x"):
        with pytest.raises(EngineIOError):
            engineio.decode_binary(raw, Revision.V3)


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 100) | texts | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_attachments_of_the_reference_are_put_together(value: Any) -> None:
    packet = reference_socketio.packet.Packet(packet_type=2, data=["e", value])
    encoded = packet.encode()
    head, parts = (encoded[0], encoded[1:]) if isinstance(encoded, list) else (encoded, [])
    found = socketio.decode(head.encode())
    if parts:
        assembly = Assembly(found, 10_000)
        results = [assembly.add(part) for part in parts]
        assert results[:-1] == [None] * (len(parts) - 1)
        assert results[-1] is not None
        found = results[-1]
    assert found.data == ["e", value]


@given(values)
def test_attachments_written_are_read_by_the_reference(value: Any) -> None:
    parts: list[bytes] = []
    plain_value = detach(["e", value], parts)
    if not parts:
        assert plain_value == ["e", value]
        return

    raw = socketio.encode_binary(socketio.PacketType.BINARY_EVENT, len(parts), "/", json.encode(plain_value))
    packet = reference_socketio.packet.Packet(encoded_packet=raw.decode())
    for part in parts:
        packet.add_attachment(part)
    assert packet.data == ["e", value]


@pytest.mark.parametrize(
    "raw",
    [
        b'51-["a",{"_placeholder":true,"num":1}]',
        b'51-["a",{"_placeholder":true,"num":-1}]',
        b'51-["a",{"_placeholder":true,"num":"0"}]',
        b'51-["a",{"_placeholder":true,"num":true}]',
        b'51-["a",{"_placeholder":true}]',
        b'51-["a"]',
    ],
)
def test_placeholders_that_do_not_fit(raw: bytes) -> None:
    with pytest.raises(SocketIOError):
        Assembly(socketio.decode(raw), 100).add(b"x")


def test_attachments_are_bounded_together() -> None:
    raw = b'52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
    assembly = Assembly(socketio.decode(raw), 100)
    assert assembly.add(b"x" * 60) is None
    with pytest.raises(SocketIOError):
        assembly.add(b"x" * 60)
