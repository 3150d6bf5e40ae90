"""Engine.IO: from long polling to WebSocket, with nothing lost."""

from __future__ import annotations

import asyncio
import time

from tests.conformance.registry import POLLING, over
from tests.conformance.target import ARRIVAL, check, refused, request
from tests.conformance.wires import Closed, PollingWire, WebSocketWire, turned_away


@over(*POLLING)
async def completes(wire: PollingWire) -> None:
    """After 2probe, 3probe and 5 the session goes on over the WebSocket"""
    moved = await wire.upgraded()
    await moved.alive()
    await moved.close()


@over(*POLLING, joined=False)
async def before_connect(wire: PollingWire) -> None:
    """A session may be upgraded before any namespace is joined"""
    moved = await wire.upgraded()
    await moved.connect()
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def releases_get(wire: PollingWire) -> None:
    """The GET that waits gets a noop when the probe comes, before the upgrade is complete"""
    await wire.alive()
    waiting = asyncio.create_task(wire.payload())
    await asyncio.sleep(ARRIVAL)
    moved = await wire.probing()
    packets = await waiting
    check("6" in packets or "2" in packets, f"a noop was expected: {packets!r}")
    if packets == ["2"]:
        await wire.send("3")
        packets = await wire.payload()
        check("6" in packets, f"a noop was expected: {packets!r}")
    await moved.send("5")
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def get_while_probing(wire: PollingWire) -> None:
    """A GET that comes between probe and upgrade gets a noop, so that the client can stop"""
    await wire.alive()
    moved = await wire.probing()
    packets = await wire.payload()
    check("6" in packets or "2" in packets, f"a noop was expected: {packets!r}")
    await moved.send("5")
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def nothing_lost(wire: PollingWire) -> None:
    """What waits for a GET when the upgrade comes is sent over the WebSocket, in order and once"""
    await wire.alive()
    await wire.send(*(wire.event(ident, timestamp=ident) for ident in range(20)))
    moved = await wire.probing()
    await wire.send(*(wire.event(ident, timestamp=ident) for ident in range(20, 30)))
    await moved.send("5")
    await moved.send(*(moved.event(ident, timestamp=ident) for ident in range(30, 40)))
    seen = []
    async with asyncio.timeout(wire.target.limit):
        while len(seen) < 40:
            packet = await moved.receive()
            if isinstance(packet, str) and packet.startswith("43"):
                seen.append(int(packet[2 : packet.index("[")]))
    check(seen == list(range(40)), f"lost, doubled or out of order: {seen}")
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def polling_refused_after(wire: PollingWire) -> None:
    """After the upgrade GET and POST with this sid get 400, code 3, and the session goes on"""
    moved = await wire.upgraded()
    await moved.alive()
    refused(await request(wire.target, "GET", sid=wire.sid), 3)
    refused(await request(wire.target, "POST", b"1", sid=wire.sid), 3)
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def second_websocket_after(wire: PollingWire) -> None:
    """After the upgrade a second WebSocket with this sid is closed, and the session goes on"""
    moved = await wire.upgraded()
    await moved.alive()
    await turned_away(wire.target, sid=wire.sid)
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def second_websocket_while_probing(wire: PollingWire) -> None:
    """While one WebSocket probes, a second one is closed, and the first may complete"""
    moved = await wire.probing()
    await turned_away(wire.target, sid=wire.sid)
    await moved.send("5")
    await moved.alive()
    await moved.close()


@over("websocket")
async def second_websocket(wire: WebSocketWire) -> None:
    """A session that began over WebSocket has one: a second with its sid is closed"""
    socket = WebSocketWire(wire.target)
    socket.hello = wire.hello
    try:
        await socket.attach(sid=wire.sid)
        async with asyncio.timeout(wire.target.limit):
            await socket.send("2probe")
            packet = await socket.next()
    except (Closed, AssertionError):
        pass
    else:
        # the reference server lets it probe, and would let it take over
        check(packet == "3probe", f"closing or 3probe was expected: {packet!r}")
    finally:
        await socket.close()
    await wire.alive()


async def _ended(probe: WebSocketWire, within: float) -> float:
    """The WebSocket must be closed; the seconds that took."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(within):
            while True:
                await probe.next()
    except Closed:
        return time.monotonic() - began
    except TimeoutError:
        check(False, "the WebSocket is still open")
    raise AssertionError


@over(*POLLING)
async def never_completed(wire: PollingWire) -> None:
    """A probe that is not completed in time is closed, and polling goes on"""
    probe = await wire.probing()
    ended = asyncio.create_task(_ended(probe, wire.target.upgrade_timeout + wire.target.limit))
    while not ended.done():
        packet = await wire.next()
        if packet == "2":
            await wire.send("3")
    await ended
    await wire.alive()


@over(*POLLING)
async def never_probed(wire: PollingWire) -> None:
    """A WebSocket that says nothing is closed in time, and polling goes on"""
    beside = await wire.beside()
    ended = asyncio.create_task(_ended(beside, wire.target.upgrade_timeout + wire.target.limit))
    while not ended.done():
        packet = await wire.next()
        if packet == "2":
            await wire.send("3")
    await ended
    await wire.alive()


@over(*POLLING)
async def not_a_probe(wire: PollingWire) -> None:
    """A WebSocket that says something else than the probe is closed, and polling goes on"""
    for packet in ("4hello", "2", "3probe", "abc"):
        beside = await wire.beside()
        await beside.send(packet)
        await _ended(beside, wire.target.limit)
    await wire.alive()
    moved = await wire.upgraded()
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def dropped_probe(wire: PollingWire) -> None:
    """A WebSocket that is cut after its probe leaves polling as it was; another may try again"""
    for _ in range(2):
        probe = await wire.probing()
        await probe.close()
        await wire.alive()
    late = time.monotonic() + wire.target.limit
    while True:
        try:
            moved = await wire.upgraded()
            break
        except (Closed, AssertionError):
            if time.monotonic() > late:
                raise
    await moved.alive()
    await moved.close()


@over(*POLLING)
async def session_ends_while_probing(wire: PollingWire) -> None:
    """A close packet over polling ends the WebSocket that probes, too"""
    probe = await wire.probing()
    await wire.send("1")
    await _ended(probe, wire.target.limit)
    await wire.gone()
