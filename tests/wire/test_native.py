"""The native codec and the framing below it."""

import contextlib
import json as stdlib
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.wire import native, websocket
from mechamap_rt.wire.forwarded import client_address, strict_client_address

idents = (
    st.none() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(exclude_categories=("Cs",)), max_size=64)
)


@given(idents, st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_a_request_is_read_with_its_id(ident: Any, channel: str) -> None:
    body = {"type": "subscribe", "channel": channel} | ({} if ident is None else {"id": ident})
    request = native.decode(stdlib.dumps(body).encode())
    assert (request.type, request.id, request.body) == ("subscribe", ident, body)


@given(st.binary(max_size=100))
def test_garbage_is_a_native_error_and_nothing_else(raw: bytes) -> None:
    with contextlib.suppress(native.NativeError):
        native.decode(raw)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b'"ping"', None),
        (b"{}", "type"),
        (b'{"type":"nonsense"}', "type"),
        (b'{"type":["ping"]}', "type"),
        (b'{"type":"ping","id":{}}', "id"),
        (b'{"type":"ping","id":true}', "id"),
        (b'{"type":"ping","id":1.5}', "id"),
        (b'{"type":"ping","id":9007199254740993}', "id"),
        (b'{"type":"auth"}', "token"),
        (b'{"type":"auth","token":5}', "token"),
        (b'{"type":"event","event":7}', "event"),
    ],
)
def test_the_wrong_member_is_named(raw: bytes, field: str | None) -> None:
    with pytest.raises(native.NativeError) as caught:
        native.decode(raw)
    assert caught.value.field == field


def test_the_id_of_a_request_that_is_otherwise_wrong_is_kept() -> None:
    with pytest.raises(native.NativeError) as caught:
        native.decode(b'{"type":"event","id":7}')
    assert caught.value.id == 7


def test_events_are_spliced_and_name_what_there_is_to_name() -> None:
    encoder = native.EventEncoder()
    assert stdlib.loads(encoder.event("e", b'{"a":1}', "thread.7", "n-1")) == {
        "type": "event",
        "channel": "thread.7",
        "event": "e",
        "publication": "n-1",
        "data": {"a": 1},
    }
    assert stdlib.loads(encoder.event('"', b"{}")) == {"type": "event", "event": '"', "data": {}}


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_frames_use_the_shortest_length(size: int) -> None:
    frame = websocket.text_message(b"x" * size)
    head = 2 if size < 126 else 4 if size < 65536 else 10
    assert frame[0] == 0x81 and len(frame) == head + size


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        (None, 1, "10.0.0.1"),
        ("203.0.113.9", 0, "10.0.0.1"),
        ("203.0.113.9", 1, "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", 1, "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", 2, "198.51.100.1"),
        ("203.0.113.9", 5, "203.0.113.9"),
        ("<script>", 1, "10.0.0.1"),
        ("2001:DB8::1", 1, "2001:db8::1"),
        ("203.0.113.9:4711", 1, "203.0.113.9"),
        ("[2001:db8::1]:99", 1, "2001:db8::1"),
        ("::ffff:203.0.113.9", 1, "203.0.113.9"),
        ("unknown", 1, "10.0.0.1"),
        ("", 1, "10.0.0.1"),
    ],
)
def test_forwarded_addresses_count_only_as_far_as_trusted(forwarded: str | None, hops: int, expected: str) -> None:
    assert client_address("10.0.0.1", forwarded, hops) == expected


def test_networks_of_proxies_are_skipped_from_the_end() -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8"))
    assert client_address("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.2.2.2", 0, networks) == "203.0.113.9"
    assert client_address("::ffff:127.0.0.1", "203.0.113.9", 0, networks) == "203.0.113.9"
    assert client_address("192.0.2.1", "203.0.113.9", 0, networks) == "192.0.2.1"


def test_what_grants_a_right_takes_no_header_that_makes_no_sense() -> None:
    assert strict_client_address("127.0.0.1", "unknown", 1) is None
    assert strict_client_address("127.0.0.1", "", 1) is None
    assert strict_client_address("127.0.0.1", None, 1) == "127.0.0.1"
    assert strict_client_address("::ffff:127.0.0.1", None, 0) == "127.0.0.1"
