"""Engine.IO: the server pings, the client answers, and silence ends a session."""

from __future__ import annotations

import asyncio
import time

from tests.conformance.registry import ALL, BOTH, POLLING, over
from tests.conformance.target import check
from tests.conformance.wires import Closed, PollingWire, Wire


async def _ping(wire: Wire) -> None:
    """Wait for a ping; messages are passed over."""
    while (packet := await wire.next()) != "2":
        check(packet == "6" or packet[:1] == "4", f"a ping was expected: {packet!r}")


@over(*ALL)
async def ping_and_pong(wire: Wire) -> None:
    """A ping comes every pingInterval, for as long as pongs come: for three intervals"""
    target = wire.target
    for _ in range(3):
        began = time.monotonic()
        await _ping(wire)
        took = time.monotonic() - began
        check(took < target.ping_interval + target.limit, f"the ping took {took:.3f} s")
        await wire.send("3")
    elapsed = time.monotonic() - wire.began
    check(elapsed > 3 * target.ping_interval * 0.9, f"three pings came within {elapsed:.3f} s")
    await wire.alive()


@over(*ALL)
async def no_pong(wire: Wire) -> None:
    """Without a pong the session is closed after pingTimeout, and not before"""
    target = wire.target
    wire.pongs = False
    patience = target.ping_interval + target.ping_timeout
    took = await wire.closed(patience + target.limit, wire.began)
    check(took > patience * 0.95, f"closed {took:.3f} s after the handshake, with {patience:.3f} s to answer in")


@over(*POLLING)
async def never_polled(wire: PollingWire) -> None:
    """A polling session of which nothing is heard any more is forgotten: POSTs get 400"""
    deadline = wire.began + wire.target.ping_interval + wire.target.ping_timeout
    await _until(deadline)
    late = deadline + wire.target.limit
    while time.monotonic() < late:
        try:
            await wire.send("6")
        except Closed:
            return await wire.gone()
        await _until(time.monotonic() + 0.05)
    check(False, "the session is still there")


@over(*BOTH)
async def unasked_pong(wire: Wire) -> None:
    """A pong that no ping asked for does no harm, and does not count for the next ping"""
    await wire.send("3", "3")
    await wire.alive()
    wire.pongs = False
    patience = wire.target.ping_interval + wire.target.ping_timeout
    await wire.closed(patience + wire.target.ping_interval + wire.target.limit, wire.began)


@over(*BOTH)
async def ping_of_client(wire: Wire) -> None:
    """In revision 4 clients do not ping: one that does is closed"""
    await wire.ends("2")


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
