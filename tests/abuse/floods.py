"""Asking for very much: subscriptions without end, names without end; and taking nothing of what one is sent."""

from __future__ import annotations

import json
import socket
import time

from tests.abuse.attack import Attack, Target, connect, frame, native, over, pour

CHANNEL = "public.flood"


def subscriptions(target: Target) -> str:
    """So many names, over one connection after another."""
    messages = [
        frame(0x81, json.dumps({"type": "subscribe", "id": n, "channel": f"public.flood-{n}"}).encode())
        for n in range(target.size)
    ]
    data = b"".join(messages)
    sent, closed = pour(target, lambda number: native(target, number), data, 2)
    return f"{sent * target.size // len(data)} requests, {closed} closed"


def forbidden(target: Target) -> str:
    """The same with names that no rule knows, each of which is worth a line in the log."""
    messages = [
        frame(0x81, json.dumps({"type": "subscribe", "id": n, "channel": f"nothing.flood-{n}"}).encode())
        for n in range(target.size)
    ]
    data = b"".join(messages)
    sent, closed = pour(target, lambda number: native(target, number), data, 2)
    return f"{sent * target.size // len(data)} requests, {closed} closed"


def long_names(target: Target) -> str:
    """Names as long as a message may be."""
    name = "public." + "x" * (target.size - 100)
    one = frame(0x81, json.dumps({"type": "subscribe", "id": 1, "channel": name}).encode())
    sent, closed = pour(target, lambda number: native(target, number), one, 2)
    return f"{sent // len(one)} requests, {closed} closed"


def never_reads(target: Target) -> str:
    """Subscribers that read nothing, of a channel to which much is published."""
    done = over(target)
    deaf: list[socket.socket] = []
    for number in range(target.size):
        one = native(target, number)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(frame(0x81, json.dumps({"type": "subscribe", "id": 1, "channel": CHANNEL}).encode()))
        deaf.append(one)
    body = json.dumps({"channel": CHANNEL, "event": "much", "data": {"x": "x" * 20_000}}).encode()
    head = (
        f"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nX-WebSocket-API-Key: {target.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    count = 0
    with connect(target) as backend:
        while not done():
            backend.sendall(head + body)
            backend.recv(65536)
            count += 1
            time.sleep(0.005)
    for one in deaf:
        one.close()
    return f"{count} publications of 20 kB"


ATTACKS = (
    Attack("subscriptions, within the limit on events", subscriptions, (20_000, 100_000), "names"),
    Attack(
        "subscriptions, without a limit on events",
        subscriptions,
        (20_000, 100_000),
        "names",
        settings={"CLIENT_EVENTS_PER_MINUTE": "0"},
    ),
    Attack(
        "subscriptions that are refused",
        forbidden,
        (20_000, 100_000),
        "names",
        settings={"CLIENT_EVENTS_PER_MINUTE": "0"},
    ),
    Attack("names of 1 MB", long_names, (990_000, 990_000), "bytes"),
    Attack("clients that never read", never_reads, (5, 20), "clients", grows=48),
)
