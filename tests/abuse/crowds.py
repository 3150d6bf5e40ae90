"""Very many connections: some that say nothing, some that said something once, and some that come and go."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from tests.abuse.attack import Attack, Target, connect, over, websocket

ASK = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


def still_open(ones: list[socket.socket]) -> int:
    count = 0
    for one in ones:
        one.setblocking(False)
        with suppress(BlockingIOError, OSError):
            # an answer is no end
            count += bool(one.recv(65536, socket.MSG_PEEK))
            continue
        count += one.fileno() >= 0 and one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and not _gone(one)
    return count


def _gone(one: socket.socket) -> bool:
    try:
        return one.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def hold(target: Target, greeting: bytes) -> str:
    done = over(target)
    opened: list[socket.socket] = []
    failed = 0
    for number in range(target.size):
        try:
            one = connect(target, number, 5.0)
            if greeting:
                one.sendall(greeting)
            opened.append(one)
        except OSError:
            failed += 1
        if number % 100 == 99:
            # as fast as one attacker with a slow line, not as one with a core of the server's own
            time.sleep(0.02)
    while not done():
        time.sleep(0.05)
    left = still_open(opened)
    for one in opened:
        one.close()
        if not one.fileno() % 100:
            time.sleep(0.005)
    return f"{len(opened)} opened, {left} left" + (f", {failed} failed" if failed else "")


def silent(target: Target) -> str:
    return hold(target, b"")


def idle(target: Target) -> str:
    """Each has asked for something, and stays."""
    return hold(target, ASK)


def reconnects(target: Target) -> str:
    """Comes, is let in, and goes: so many times a second."""
    done = over(target)
    began, came, refused = time.monotonic(), 0, 0
    while not done():
        try:
            token = target.tokens[came % len(target.tokens)]
            websocket(target, f"/ws?token={token}", b"\r\n\r\n", came).close()
            came += 1
        except OSError:
            refused += 1
        time.sleep(max(0.0, began + (came + refused) / target.size - time.monotonic()))
    return f"{came} times, {refused} refused"


ATTACKS = (
    Attack("connections that say nothing", silent, (1500, 10_000), "connections", (1.5, 22.0), grows=32),
    Attack("connections that are idle", idle, (1000, 8000), "connections", (1.5, 12.0), grows=64),
    Attack("reconnects", reconnects, (100, 100), "a second"),
)
