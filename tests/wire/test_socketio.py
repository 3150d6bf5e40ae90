"""The Socket.IO and Engine.IO codecs, with python-socketio as the oracle where it is right."""

import json as stdlib
from typing import Any

import pytest
import socketio as reference
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.wire import engineio, socketio
from mechamap_rt.wire.socketio import PacketType, SocketIOError

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(
    lambda name: name not in socketio.RESERVED
)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
)
arguments = st.lists(plain | st.dictionaries(st.text("abc", max_size=3), plain, max_size=3), max_size=3)
namespaces = st.sampled_from(("/", "/admin", "/a/b"))
idents = st.none() | st.integers(0, 10**15)


def oracle(kind: int, data: Any, namespace: str, ident: int | None) -> bytes:
    encoded = reference.packet.Packet(packet_type=kind, data=data, namespace=namespace, id=ident).encode()
    assert isinstance(encoded, str)
    return encoded.encode()


@given(names, arguments, namespaces, idents)
def test_events_of_the_reference_are_read(name: str, args: list[Any], namespace: str, ident: int | None) -> None:
    packet = socketio.decode(oracle(2, [name, *args], namespace, ident))
    assert packet == (PacketType.EVENT, namespace, [name, *args], ident, 0, None)


@given(names, plain, namespaces)
def test_events_written_are_read_by_the_reference(name: str, data: Any, namespace: str) -> None:
    raw = socketio.EventEncoder(namespace).event(name, stdlib.dumps(data).encode())
    assert raw[:1] == b"4"
    packet = reference.packet.Packet(encoded_packet=raw[1:].decode())
    assert (packet.packet_type, packet.namespace or "/", packet.data) == (2, namespace, [name, data])


@given(arguments, namespaces, st.integers(0, 10**6))
def test_acknowledgements_both_ways(args: list[Any], namespace: str, ident: int) -> None:
    packet = socketio.decode(oracle(3, args, namespace, ident))
    assert (packet.type, packet.data, packet.id) == (PacketType.ACK, args, ident)
    raw = socketio.encode(PacketType.ACK, namespace, stdlib.dumps(args).encode(), ident)
    assert reference.packet.Packet(encoded_packet=raw.decode()).data == args


@given(st.binary(max_size=100) | st.text('0123456789-,/[]{}"ab\\', max_size=60).map(str.encode))
def test_garbage_is_a_protocol_error_and_nothing_else(raw: bytes) -> None:
    try:
        packet = socketio.decode(raw)
    except SocketIOError:
        return
    if packet.type is PacketType.EVENT and packet.fault is None:
        assert isinstance(packet.data, list) and packet.data
    assert len(packet.namespace) <= socketio.MAX_NAMESPACE


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"7",
        b"9[]",
        b"2",
        b"2{}",
        b"2[]",
        b"2[true]",
        b"2[null]",
        b'2["connect"]',
        b'2["disconnect",1]',
        b'2["newListener"]',
        b'2["a"',
        b'2["a"]x',
        b"2/admin",
        b'2/admin["a"]',
        b'2,["a"]',
        b'5["a"]',
        b'21-["a"]',
        b"3[]",
        b'31{"a":1}',
        b"0[]",
        b'0"a"',
        b"1{}",
        b"4",
        b"4[]",
        b'565-["a"]',
        b"0/" + b"a" * 200 + b",",
        b"0/\xff,",
        b'212345678901234567890["a"]',
    ],
)
def test_what_the_protocol_does_not_allow(raw: bytes) -> None:
    with pytest.raises(SocketIOError):
        socketio.decode(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"0", (PacketType.CONNECT, "/", None, None)),
        (b'0{"token":"x"}', (PacketType.CONNECT, "/", {"token": "x"}, None)),
        (b"0/admin", (PacketType.CONNECT, "/admin", None, None)),
        (b"0/admin,", (PacketType.CONNECT, "/admin", None, None)),
        (b'0/admin?x=1,{"a":1}', (PacketType.CONNECT, "/admin", {"a": 1}, None)),
        (b"1", (PacketType.DISCONNECT, "/", None, None)),
        (b"1/admin,", (PacketType.DISCONNECT, "/admin", None, None)),
        (b'2["a",1]', (PacketType.EVENT, "/", ["a", 1], None)),
        (b'212["a"]', (PacketType.EVENT, "/", ["a"], 12)),
        (b'2/x,7["a"]', (PacketType.EVENT, "/x", ["a"], 7)),
        (b"2[5]", (PacketType.EVENT, "/", [5], None)),
        (b'4{"message":"no"}', (PacketType.CONNECT_ERROR, "/", {"message": "no"}, None)),
    ],
)
def test_every_form_of_a_packet(raw: bytes, expected: tuple[Any, ...]) -> None:
    assert socketio.decode(raw)[:4] == expected


def test_an_unpaired_surrogate_is_the_senders_fault_not_the_sessions_end() -> None:
    packet = socketio.decode(b'23["group_message",{"message":"\\ud83d"}]')
    assert packet.fault is not None and packet.id == 3


def test_binary_packets_say_how_many_attachments_follow() -> None:
    packet = socketio.decode(b'51-["a",{"_placeholder":true,"num":0}]')
    assert (packet.type, packet.attachments) == (PacketType.BINARY_EVENT, 1)


@given(st.binary(max_size=50))
def test_engineio_packets_round_trip_or_are_refused(raw: bytes) -> None:
    try:
        packet = engineio.decode(raw)
    except engineio.EngineIOError:
        assert not raw or not 0x30 <= raw[0] <= 0x36
        return
    assert engineio.encode(packet.type, packet.data) == raw


def test_the_open_packet_speaks_milliseconds() -> None:
    raw = engineio.open_packet("abc", upgrades=(), interval=25.0, timeout=20.0, max_payload=1000)
    assert raw[:1] == b"0"
    assert stdlib.loads(raw[1:]) == {
        "sid": "abc",
        "upgrades": [],
        "pingInterval": 25000,
        "pingTimeout": 20000,
        "maxPayload": 1000,
    }
