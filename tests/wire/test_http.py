"""Which requests are plain, and that the others are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.wire.http import MAX_HEAD, parse

POST = b"POST /api/x?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


def test_a_plain_post() -> None:
    plain = parse(POST, 10)
    assert plain is not None
    assert plain == (b"POST", b"/api/x", b"a=1", {b"host": b"h", b"content-length": b"2"}, b"{}", True, False)


@pytest.mark.parametrize(
    ("head", "keep", "one_zero"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", True, False),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", False, False),
        (b"GET / HTTP/1.1\r\nhost:h\r\nCONNECTION:\tKeep-Alive \r\n\r\n", True, False),
        (b"GET / HTTP/1.0\r\n\r\n", False, True),
        (b"HEAD / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True, True),
    ],
)
def test_whether_another_may_follow(head: bytes, keep: bool, one_zero: bool) -> None:
    plain = parse(head, 0)
    assert plain is not None
    assert (plain.keep, plain.one_zero) == (keep, one_zero)


@pytest.mark.parametrize(
    "data",
    [
        POST[:-1],
        POST + b"x",
        POST + POST,
        POST.replace(b"2\r\n", b"3\r\n"),
        POST.replace(b"2\r\n", b"+2\r\n"),
        POST.replace(b"2\r\n", b"2, 2\r\n"),
        POST.replace(b"2\r\n", b"0x2\r\n"),
        POST.replace(b"2\r\n", b"2\r\nContent-Length: 2\r\n"),
        POST.replace(b"2\r\n", b"2\r\nTransfer-Encoding: chunked\r\n"),
        POST.replace(b"2\r\n", b"2\r\nTransfer-Encoding : chunked\r\n"),
        POST.replace(b"2\r\n", b"2\r\nX: a\r\n b\r\n"),
        POST.replace(b"2\r\n", b"2\r\nX: a\x00b\r\n"),
        POST.replace(b"2\r\n", b"2\r\nX: a\nY: b\r\n"),
        POST.replace(b"2\r\n", b"2\r\nX: a\rY: b\r\n"),
        POST.replace(b"2\r\n", b"2\r\nExpect: 100-continue\r\n"),
        POST.replace(b"2\r\n", b"2\r\nUpgrade: websocket\r\n"),
        POST.replace(b"2\r\n", b"2\r\nContent-Encoding: gzip\r\n"),
        POST.replace(b"2\r\n", b"2\r\nConnection: keep-alive, close\r\n"),
        POST.replace(b"Host: h", b"Host : h"),
        POST.replace(b"Host: h", b"Host: h\r\nHost: i"),
        POST.replace(b"Host: h\r\n", b""),
        POST.replace(b" HTTP", b"  HTTP"),
        POST.replace(b"/api", b"http://h/api"),
        POST.replace(b"/api/x", b"/api/\xff"),
        POST.replace(b"/api/x", b"/api/x#y"),
        POST.replace(b"1.1", b"1.2"),
        POST.replace(b"POST", b"post"),
        POST.replace(b"POST", b"DELETE"),
        b"\r\n" + POST,
        POST.replace(b"\r\n", b"\n"),
        b"POST / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * MAX_HEAD + b"\r\n\r\n",
    ],
)
def test_what_is_not_plain_is_for_the_full_parser(data: bytes) -> None:
    assert parse(data, 1000) is None


def test_a_body_that_is_too_long_is_for_the_full_parser() -> None:
    assert parse(POST, 1) is None


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    parse(data, 1000)
    parse(POST.replace(b"h\r\n", b"h" + data + b"\r\n"), 1000)


@given(st.binary(max_size=60))
def test_a_value_is_never_two_lines(data: bytes) -> None:
    plain = parse(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + data + b"\r\n\r\n", 0)
    if plain is not None:
        assert not set(b"\r\n\0") & set(b"".join(plain.headers.values()))
