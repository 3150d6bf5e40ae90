"""A live port under mutated requests: nothing but documented errors, no growth, and bystanders that do not notice."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.clients.crowd import Member
from tests.server import Server

#: Connections between two looks at the bystander.
ROUND = 40
READ_LIMIT = 0.02


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """One masked client frame (with the zero mask, which every byte survives)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


def upgrade(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def post(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def seeds(token: str) -> list[list[bytes]]:
    """Sound conversations, each a list of what is sent."""
    connect = b'40{"token":"%b"}' % token.encode()
    events = [
        b'42["subscribe",{"channel":"thread.1"}]',
        b'421["ping",{"timestamp":1}]',
        b'42["typing_start",{"thread_id":1}]',
        b'451-["ping",{"timestamp":1,"b":{"_placeholder":true,"num":0}}]',
    ]
    native = [
        b'{"type":"subscribe","id":1,"channel":"thread.1"}',
        b'{"type":"event","id":"x","event":"typing_start","data":{"channel":"thread.1"}}',
        b'{"type":"ping","id":3}',
        b'{"type":"unsubscribe","channel":"thread.1"}',
    ]
    engine = "/socket.io/?EIO=4&transport=websocket"
    polling = "/socket.io/?EIO=4&transport=polling"
    return [
        [upgrade(engine), frame(connect), *map(frame, events), frame(b"\x01\x02", 2)],
        [upgrade("/socket.io/?EIO=3&transport=websocket&token=" + token), *map(frame, events), frame(b"2")],
        [upgrade(f"/ws?token={token}"), *map(frame, native)],
        [upgrade("/ws"), frame(b'{"type":"auth","token":"%b"}' % token.encode()), frame(b"", 9), frame(b"\x03\xe8", 8)],
        [f"GET {polling} HTTP/1.1\r\nHost: x\r\nOrigin: http://a.b\r\n\r\n".encode()] * 2,
        [post(polling + "&sid=AAAAAAAAAAAAAAAAAAAA", connect + b"\x1e" + events[0], "text/plain")],
        [post("/api/laravel-broadcast", b'{"channels":["public.fuzz"],"event":"e","data":{"a":[1,"x"]}}')] * 2,
        [post("/api/broadcast/multi", b'{"broadcasts":[{"channel":"public.fuzz","event":"e","data":{}}]}')],
        [b"GET /api/channels/public.fuzz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n"],
    ]


def mutate(dice: random.Random, data: bytes) -> bytes:
    """One or a few small injuries."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(len(out) + 1)
        match dice.randrange(7):
            case 0 if out:
                out[at % len(out)] ^= 1 << dice.randrange(8)
            case 1:
                out[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 9)))
            case 2:
                del out[at : at + dice.randrange(1, 20)]
            case 3:
                out[at:at] = out[at : at + dice.randrange(1, 60)]
            case 4:
                out[at:at] = dice.choice(
                    (b"\\ud800", b"\xff\xfe", b"\x00", b"\r\n", b"9" * 40, b"[" * 200, b"\x1e", b"-1")
                )
            case 5:
                out[at:at] = b"x" * dice.choice((126, 65536, 200_000))
            case _:
                del out[at:]
    return bytes(out)


def conversations(dice: random.Random, token: str) -> Iterator[list[bytes]]:
    """Mutated conversations, without end; half of them keep their first message, to get past the handshake."""
    sound = seeds(token)
    while True:
        parts = list(dice.choice(sound))
        first = 1 if len(parts) > 1 and dice.random() < 0.7 else 0
        for at in range(first, len(parts)):
            if dice.random() < 0.6:
                parts[at] = mutate(dice, parts[at])
        if dice.random() < 0.2:
            dice.shuffle(parts)
        yield parts


def converse(port: int, parts: list[bytes], dice: random.Random) -> None:
    """Say it, read what comes for a moment, and leave, politely or not."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection, suppress(OSError):
        for part in parts:
            connection.sendall(part)
            if dice.random() < 0.5:
                connection.settimeout(READ_LIMIT)
                with suppress(TimeoutError):
                    connection.recv(65536)
                connection.settimeout(5)
        if dice.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def resident(server: Server) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


def run(server: Server, seconds: float, seed: int) -> dict[str, float]:
    """Fuzz a server of the tests; raises ``AssertionError`` when it is not what it promises.

    :returns: figures for the report.
    """
    dice = random.Random(seed)
    talk = conversations(dice, server.token(7))
    bystander = Member(server.port, server.token(1))
    bystander.subscribe("public.calm")
    begun = time.monotonic()
    rounds, slowest, warm = 0, 0.0, 0
    while time.monotonic() - begun < seconds:
        for _ in range(ROUND):
            converse(server.port, next(talk), dice)
        rounds += 1
        asked = time.monotonic()
        server.publish("public.calm", "still", {"round": f"r{rounds}."})
        bystander.wait_for(f"r{rounds}.".encode(), 5)
        slowest = max(slowest, time.monotonic() - asked)
        if rounds == 20:
            warm = resident(server)
    grown = resident(server) - warm if warm else 0
    bystander.socket.close()
    output = server.output()
    assert "Traceback" not in output and "Unhandled" not in output, output[-5000:]
    assert grown < 40 * 1024 * 1024, f"the server grew by {grown} bytes"
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "connections": rounds * ROUND,
        "slowest_bystander_ms": round(slowest * 1000, 1),
        "grown_kb": grown // 1024,
    }
