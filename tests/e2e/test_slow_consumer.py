"""One client among 1,000 that really stops reading: the others do not notice, and the server does not grow."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.clients.crowd import Crowd, Member
from tests.conftest import StartServer
from tests.server import Server

CROWD = 1000
MEBIBYTE = 1024 * 1024


def resident(server: Server) -> int:
    """Bytes of memory that the server holds."""
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


def round_trip(server: Server, crowd: Crowd, mark: str) -> float:
    server.publish("public.small", "tick", {"mark": mark})
    return crowd.gather(mark.encode())


def test_a_stalled_client_hurts_nobody_and_is_told_why(start_server: StartServer) -> None:
    server = start_server()
    stalled = Member(server.port, server.token(1))
    stalled.subscribe("public.big")
    with Crowd([Member(server.port, server.token(user)) for user in range(2, CROWD + 1)]) as crowd:
        for member in crowd.members:
            member.subscribe("public.small")
        before = [round_trip(server, crowd, f"before-{number}.") for number in range(10)]
        held = resident(server)
        during = []
        for number in range(160):
            # 100 kB each: 16 MB in all, far more than the kernel's buffers and the outbox together
            server.publish("public.big", "flood", {"number": number, "text": "x" * 100_000})
            if number % 8 == 0:
                during.append(round_trip(server, crowd, f"during-{number}."))
        grown = resident(server) - held
        assert stalled.drain_to_close() == (4200, "slow_consumer")
        assert round_trip(server, crowd, "after.") < 5
    stalled.socket.close()
    assert grown < 12 * MEBIBYTE, f"the server grew by {grown} bytes"
    # a stall that was waited for would cost seconds; noise of a shared machine costs milliseconds
    assert statistics.median(during) < 10 * statistics.median(before) + 0.2, (before, during)
    server.stop()


def test_under_pressure_volatile_is_dropped_and_state_coalesced(start_server: StartServer) -> None:
    """Neither closes the connection, and the newest state arrives."""
    server = start_server(OUTBOX_SOFT_LIMIT="10k", OUTBOX_HARD_LIMIT="60k")
    stalled = Member(server.port, server.token(1))
    stalled.subscribe("public.big")
    body = {"channel": "public.big", "event": "flood", "data": {"text": "x" * 50_000}, "class": "volatile"}
    for _ in range(300):
        assert server.post("/api/broadcast", body).status_code == 200
    for number in range(1000):
        body = {"channel": "public.big", "event": "likes", "data": {"likes": number}, "key": "post-7"}
        assert server.post("/api/broadcast", body).status_code == 200
    stalled.wait_for(b'"likes": 999')
    assert stalled.closed is None
    stalled.socket.close()
    server.stop()
