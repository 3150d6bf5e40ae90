"""WebSocket frames that cost much to read: tiny ones, torn ones, compressed ones, and control frames without end."""

from __future__ import annotations

import json
import socket
import zlib

from tests.abuse.attack import Attack, Target, connect, frame, native, over, pour, websocket

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
COMPRESSED = 0xC1
EXPANDED = 64 << 20


def bytewise(target: Target) -> str:
    """Sound messages, each byte in a segment of its own."""
    done = over(target)
    ones = [native(target, number) for number in range(target.size)]
    text = frame(0x81, b'{"type":"ping","id":1}' + b" " * 500)
    sent = 0
    for one in ones:
        one.setblocking(False)
    while not done():
        for at in range(len(text)):
            for one in ones:
                try:
                    one.send(text[at : at + 1])
                    sent += 1
                    if not at % 64:
                        one.recv(65536)
                except OSError:
                    continue
            if done():
                break
    for one in ones:
        one.close()
    return f"{sent} bytes"


def fragments(target: Target) -> str:
    """Messages of very many fragments with a byte each."""
    whole = frame(0x01, b"x") + frame(0x00, b"y") * 20_000
    sent, closed = pour(target, lambda number: native(target, number), whole, target.size)
    return f"{sent // 7} frames, {closed} closed"


def empty_fragments(target: Target) -> str:
    whole = frame(0x01, b"") + frame(0x00, b"") * 20_000
    sent, closed = pour(target, lambda number: native(target, number), whole, target.size)
    return f"{sent // 6} frames, {closed} closed"


def bombs(target: Target) -> str:
    """64 MB of nothing, compressed to 64 kB."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = deflater.compress(b" " * EXPANDED) + deflater.flush(zlib.Z_SYNC_FLUSH)
    bomb = frame(COMPRESSED, small[:-4])
    sent, closed = pour(target, lambda number: native(target, number, DEFLATE), bomb, target.size)
    return f"{sent // len(bomb)} bombs of {len(bomb) >> 10} kB, {closed} closed"


def small_bombs(target: Target) -> str:
    """Each within the limit: 900 kB in 900 bytes."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = json.dumps({"type": "ping", "id": 1}).encode().ljust(900_000)
    bomb = frame(COMPRESSED, (deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4])
    sent, closed = pour(target, lambda number: native(target, number, DEFLATE), bomb, target.size)
    return f"{sent // len(bomb)} bombs of {len(bomb)} bytes, {closed} closed"


def gzip_bodies(target: Target) -> str:
    """10 MB in 10 kB, as a body that says so: 415 each time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = packer.compress(b" " * (10 << 20)) + packer.flush()
    head = (
        f"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nX-WebSocket-API-Key: {target.key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    done = over(target)
    statuses: set[bytes] = set()
    count = 0
    while not done():
        with connect(target, count) as one:
            one.sendall(head + body)
            statuses.add(one.recv(65536)[9:12])
        count += 1
    assert statuses == {b"415"}, statuses
    return f"{count} bodies, 415"


def pings(target: Target) -> str:
    sent, closed = pour(
        target, lambda number: native(target, number), frame(0x89, b"") * 5000 + frame(0x8A, b"") * 5000, target.size
    )
    return f"{sent // 6} frames, {closed} closed"


def engine_pings(target: Target) -> str:
    """Of the third revision, whose clients ping."""

    def begin(number: int) -> socket.socket:
        token = target.tokens[number % len(target.tokens)]
        return websocket(target, f"/socket.io/?EIO=3&transport=websocket&token={token}", b'"connected"', number)

    sent, closed = pour(target, begin, frame(0x81, b"2") * 9000, target.size)
    return f"{sent // 7} packets, {closed} closed"


def application_pings(target: Target) -> str:
    ping = frame(0x81, b'{"type":"ping","id":1}')
    sent, closed = pour(target, lambda number: native(target, number), ping * 2000, target.size)
    return f"{sent // len(ping)} messages, {closed} closed"


DEFLATING = {"WS_PERMESSAGE_DEFLATE": "true"}
ATTACKS = (
    Attack("messages, a byte at a time", bytewise, (10, 20), "connections"),
    Attack("messages of one-byte fragments", fragments, (3, 10), "connections"),
    Attack("messages of empty fragments", empty_fragments, (3, 10), "connections"),
    Attack("compression bombs", bombs, (3, 10), "connections", settings=DEFLATING),
    # each connection may have a message of 1 MB in the making, as bytes and as text
    Attack("compression bombs within the limit", small_bombs, (3, 10), "connections", grows=24, settings=DEFLATING),
    Attack("gzip bodies", gzip_bodies, (1, 1), "connection at a time"),
    Attack("pings and pongs of WebSocket", pings, (3, 10), "connections"),
    Attack("pings of Engine.IO", engine_pings, (3, 10), "connections"),
    Attack("pings of the application", application_pings, (3, 10), "connections"),
)
