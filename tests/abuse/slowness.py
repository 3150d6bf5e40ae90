"""Requests that never come to an end: heads and bodies a byte at a time, and heads without an end."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from tests.abuse.attack import Attack, Target, connect, over, pour

HEADS = (
    b"GET /ws?token=x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n",
    b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nX-Slow: ",
)
BODY = b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
PAUSE = 0.25


def trickle(target: Target, beginnings: tuple[bytes, ...]) -> str:
    """Every connection sends a byte a few times a second; those that are closed are opened again."""
    done = over(target)
    texts = [beginnings[number % len(beginnings)] for number in range(target.size)]
    opened: list[tuple[socket.socket, bytes] | None] = [None] * target.size
    closed = 0
    while not done():
        for number, held in enumerate(opened):
            try:
                if held is None:
                    one, text = connect(target, number), texts[number]
                    if text.endswith(b"\r\n\r\n"):
                        one.sendall(text)
                        text = b""
                    one.setblocking(False)
                else:
                    one, text = held
                one.send(text[:1] or b"x")
                with suppress(BlockingIOError):
                    if not one.recv(4096):
                        raise ConnectionResetError
                opened[number] = one, text[1:]
            except OSError:
                closed += 1
                if held is not None:
                    held[0].close()
                opened[number] = None
            if done():
                break
        time.sleep(PAUSE)
    for held in opened:
        if held is not None:
            held[0].close()
    return f"{closed} closed"


def slow_heads(target: Target) -> str:
    return trickle(target, HEADS)


def slow_bodies(target: Target) -> str:
    return trickle(target, (BODY,))


def endless_lines(target: Target) -> str:
    """Headers for ever, each of them sound."""

    def begin(number: int) -> socket.socket:
        one = connect(target, number)
        one.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        return one

    sent, closed = pour(target, begin, b"X-Abc: " + b"d" * 50 + b"\r\n", target.size)
    return f"{sent >> 10} kB, {closed} closed"


def endless_line(target: Target) -> str:
    """One header line for ever."""

    def begin(number: int) -> socket.socket:
        one = connect(target, number)
        one.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Abc: ")
        return one

    sent, closed = pour(target, begin, b"d" * 4096, target.size)
    return f"{sent >> 10} kB, {closed} closed"


ATTACKS = (
    Attack("heads, a byte at a time", slow_heads, (100, 1000), "connections", (1.2, 18.0)),
    Attack("bodies, a byte at a time", slow_bodies, (50, 300), "connections", (1.2, 8.0)),
    Attack("heads of endless lines", endless_lines, (5, 20), "connections"),
    Attack("heads of one endless line", endless_line, (5, 20), "connections"),
)
