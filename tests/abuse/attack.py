"""What an attack is: a function that does harm for a while, in a process of its own, and how much it may do."""

from __future__ import annotations

import os
import socket
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

#: Attackers come from other addresses than everybody else: a limit on one address must not be what protects them.
FIRST_ADDRESS = 2
#: Connections that one address opens.
OF_ADDRESS = 100
LIMIT = 10.0


class Target(NamedTuple):
    """Whom to attack, with what, and for how long.

    :ivar tokens: of users whom nobody else is.
    :ivar key: the backend's.
    :ivar size: how much of it; what of, each attack says.
    """

    port: int
    tokens: list[str]
    key: str
    size: int
    seconds: float


@dataclass(frozen=True)
class Attack:
    """One attack.

    :ivar run: does it, for :attr:`Target.seconds`; returns what it saw, in a few words.
    :ivar sizes: of the slice that ``make test`` runs, and of the whole.
    :ivar seconds: the same.
    :ivar grows: megabytes that the server may take more while it lasts.
    :ivar settings: other than an operator has who has set nothing.
    """

    name: str
    run: Callable[[Target], str]
    sizes: tuple[int, int]
    unit: str
    seconds: tuple[float, float] = (1.2, 8.0)
    grows: int = 16
    settings: dict[str, str] = field(default_factory=dict)


def address(number: int) -> str:
    """The address that the attacker's connection of this number comes from."""
    block, last = divmod(FIRST_ADDRESS + number // OF_ADDRESS, 250)
    return f"127.0.{block}.{last + 1}"


def connect(target: Target, number: int = 0, limit: float = LIMIT) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", target.port), limit, source_address=(address(number), 0))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def handshake(path: str, *lines: str) -> bytes:
    key = b64encode(os.urandom(16)).decode()
    head = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
    head += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def native(target: Target, user: int, *lines: str) -> socket.socket:
    """A WebSocket of the native protocol that has been let in."""
    token = target.tokens[user % len(target.tokens)]
    return websocket(target, f"/ws?token={token}", b'"type":"connected"', user, *lines)


def websocket(target: Target, path: str, until: bytes, number: int, *lines: str) -> socket.socket:
    one = connect(target, number)
    one.sendall(handshake(path, *lines))
    got = b""
    while until not in got:
        data = one.recv(65536)
        if not data:
            raise OSError(f"closed after {got[:200]!r}")
        got += data
    return one


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame; ``first`` is its first byte."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([first]) + length + b"\0\0\0\0" + payload


def over(target: Target) -> Callable[[], bool]:
    """Asks whether the time is over."""
    until = time.monotonic() + target.seconds
    return lambda: time.monotonic() >= until


def pour(target: Target, open_one: Callable[[int], socket.socket], data: bytes, count: int = 1) -> tuple[int, int]:
    """Send ``data`` again and again over some connections, as fast as they take it, and read what comes.

    :param open_one: opens the connection of that number, again when the server has closed it.
    :returns: bytes sent, and how often the server has closed one.
    """
    done = over(target)
    sent, closed = 0, 0
    opened: list[socket.socket | None] = [None] * count
    ahead = [0] * count
    while not done():
        busy = False
        for number in range(count):
            one = opened[number]
            try:
                if one is None:
                    one = opened[number] = open_one(number)
                    one.setblocking(False)
                    ahead[number] = 0
                with suppress(BlockingIOError):
                    at = ahead[number]
                    went = one.send(data[at:])
                    sent += went
                    ahead[number] = (at + went) % len(data)
                    busy = True
                with suppress(BlockingIOError):
                    if not one.recv(262_144):
                        raise ConnectionResetError
            except OSError:
                closed += 1
                if one is not None:
                    one.close()
                opened[number] = None
        if not busy:
            time.sleep(0.002)
    for one in opened:
        if one is not None:
            one.close()
    return sent, closed
