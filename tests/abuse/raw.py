"""Requests byte for byte, and everything that comes back: how many answers, which, and whether the connection ended."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass

LIMIT = 5.0
#: Seconds after which nothing more is expected.
QUIET = 0.15


@dataclass(frozen=True)
class Answered:
    """What came: the statuses of the answers (1xx left out), their heads and bodies, and whether the end came."""

    statuses: list[int]
    heads: list[bytes]
    bodies: list[bytes]
    ended: bool
    rest: bytes


def exchange(port: int, *parts: bytes, tls: ssl.SSLContext | None = None, quiet: float = QUIET) -> Answered:
    """Send the parts, and read until the end or until nothing comes any more."""
    raw: socket.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
    one = raw if tls is None else tls.wrap_socket(raw, server_hostname="localhost")
    with one:
        got, ended = b"", False
        for number, part in enumerate(parts, 1):
            try:
                one.sendall(part)
            except OSError:
                break
            more, ended = _read(one, quiet if number == len(parts) else 0.001)
            got += more
            if ended:
                break
    return split(got, ended)


def _read(one: socket.socket, quiet: float) -> tuple[bytes, bool]:
    got = b""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        # an answer in whole may be followed by another, but not by a long silence
        one.settimeout(quiet if _whole(got) else LIMIT / 5)
        try:
            data = one.recv(65536)
        except TimeoutError:
            return got, False
        except OSError:
            return got, True
        if not data:
            return got, True
        got += data
    return got, False


def _whole(got: bytes) -> bool:
    answered = split(got, False)
    return bool(answered.statuses) and not answered.rest


def split(got: bytes, ended: bool) -> Answered:
    """The answers in a stream of them."""
    statuses, heads, bodies = [], [], []
    while got.startswith(b"HTTP/1.1 "):
        head, found, rest = got.partition(b"\r\n\r\n")
        if not found:
            break
        status = int(head[9:12])
        if status == 101:
            return Answered([*statuses, 101], [*heads, head], bodies, ended, rest)
        size = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                size = int(line[15:])
            if line == b"transfer-encoding: chunked":
                end = rest.find(b"0\r\n\r\n")
                size = len(rest) + 1 if end < 0 else end + 5
        if len(rest) < size:
            break
        if status >= 200:
            statuses.append(status)
            heads.append(head)
            bodies.append(rest[:size])
        got = rest[size:]
    return Answered(statuses, heads, bodies, ended, got)
