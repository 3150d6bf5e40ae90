"""Engine.IO: how a session ends, and what a payload is."""

from __future__ import annotations

import asyncio

from tests.conformance.rawhttp import Connection
from tests.conformance.registry import BOTH, POLLING, WEBSOCKET, over
from tests.conformance.target import ARRIVAL, check, refused
from tests.conformance.wires import Closed, PollingWire, WebSocketWire, Wire, decode


async def _drained(wire: PollingWire) -> None:
    """Take what waits, so that the next GET will wait."""
    await wire.alive()


@over(*POLLING)
async def close_packet_polling(wire: PollingWire) -> None:
    """A close packet ends the session: the GET that waits gets a noop, the next one 400"""
    await _drained(wire)
    waiting = asyncio.create_task(wire.payload())
    await asyncio.sleep(ARRIVAL)
    await wire.send("1")
    packets = [packet for packet in await waiting if packet != "2"]
    check(packets == ["6"], f"a noop was expected: {packets!r}")
    await wire.gone()


@over(*POLLING)
async def close_packet_without_get(wire: PollingWire) -> None:
    """A close packet ends the session when no GET waits, too"""
    await wire.send("1")
    await wire.gone()


@over(*POLLING)
async def close_within_payload(wire: PollingWire) -> None:
    """What stands before a close packet in a payload is taken, and the session ends"""
    await wire.send(wire.event(), "1")
    await wire.gone()


@over(*WEBSOCKET)
async def close_packet_websocket(wire: WebSocketWire) -> None:
    """A client that says close and closes the WebSocket is gone"""
    await wire.send("1")
    await wire.socket.close()
    await wire.gone()


@over(*WEBSOCKET)
async def close_frame(wire: WebSocketWire) -> None:
    """Closing the WebSocket ends the session; the close frame is answered"""
    async with asyncio.timeout(wire.target.limit):
        await wire.socket.close(1000)
    check(wire.close_code == 1000, f"close code 1000 was to be echoed: {wire.close_code}")
    await wire.gone()


@over(*WEBSOCKET)
async def cut(wire: WebSocketWire) -> None:
    """A WebSocket that is cut ends the session"""
    wire.socket.transport.abort()
    await wire.gone()


@over(*POLLING)
async def duplicate_get(wire: PollingWire) -> None:
    """A second GET while one waits gets 400 (500 from early servers) and ends the session; the first gets close"""
    await _drained(wire)
    waiting = asyncio.create_task(wire.get())
    await asyncio.sleep(ARRIVAL)
    async with Connection(wire.target.url, wire.target.limit) as connection:
        second = await connection.request("GET", wire.target.query(sid=wire.sid))
    check(second is not None and second.status in (400, 500), f"HTTP 400 was expected: {second}")
    first = await waiting
    if first is not None and first.status == 200:
        check("1" in decode(first.body), f"a close packet was expected: {first}")
    await wire.gone()


@over(*POLLING)
async def overlapping_posts(wire: PollingWire) -> None:
    """A second POST while one is being sent gets 400 and ends the session"""
    where = wire.target.query(sid=wire.sid)
    async with Connection(wire.target.url, wire.target.limit) as first:
        await first.send("POST", where, b"4", length=40)
        await asyncio.sleep(ARRIVAL)
        refused(await wire.post(wire.event().encode()))
        await wire.gone()


@over(*POLLING)
async def cancelled_get(wire: PollingWire) -> None:
    """A GET that the client drops ends the session"""
    await _drained(wire)
    async with Connection(wire.target.url, wire.target.limit) as connection:
        await connection.send("GET", wire.target.query(sid=wire.sid))
        await asyncio.sleep(ARRIVAL)
    await wire.gone()


@over(*POLLING)
async def payload_to_server(wire: PollingWire) -> None:
    """A payload of several packets is taken in order"""
    await wire.send(*(wire.event(ident, timestamp=ident) for ident in range(10)))
    for ident in range(10):
        await wire.acknowledged(ident, timestamp=ident)


@over(*POLLING)
async def payload_to_client(wire: PollingWire) -> None:
    """Packets that wait for a GET come in one payload, separated by 0x1e, in order"""
    await _drained(wire)
    for attempt in range(5):
        idents = range(10 * attempt, 10 * attempt + 5)
        await wire.send(*(wire.event(ident, timestamp=ident) for ident in idents))
        await asyncio.sleep(ARRIVAL)
        packets = [packet for packet in await wire.payload() if packet != "2"]
        acks = [packet for packet in packets if isinstance(packet, str) and packet.startswith("43")]
        if len(acks) == 5:
            expected = [f"43{ident}[" for ident in idents]
            return check([ack[: ack.index("[") + 1] for ack in acks] == expected, f"not in order: {acks!r}")
        await wire.alive()
    check(False, "five answers that waited never came together")


@over(*POLLING)
async def post_answer(wire: PollingWire) -> None:
    """A POST is answered with 200 and ok, also without a Content-Type or with a charset"""
    for kind in ("text/plain", "text/plain;charset=UTF-8", "text/plain; charset=utf-8", ""):
        answer = await wire.post(wire.event().encode(), **{"Content-Type": kind})
        check(answer is not None and (answer.status, answer.body) == (200, b"ok"), f"{kind!r}: {answer}")


@over(*POLLING)
async def waits(wire: PollingWire) -> None:
    """A GET with nothing to answer waits for the next packet"""
    await _drained(wire)
    waiting = asyncio.create_task(wire.payload())
    await asyncio.sleep(ARRIVAL)
    check(not waiting.done() or "2" in waiting.result(), f"answered at once: {waiting}")
    await wire.send(wire.event(5))
    await waiting


@over(*POLLING)
async def post_of_exactly_max_payload(wire: PollingWire) -> None:
    """A POST of maxPayload bytes is taken"""
    await wire.send(_padded(wire, wire.target.max_payload))
    await wire.acknowledged(1)


@over(*POLLING)
async def oversize_post(wire: PollingWire) -> None:
    """A POST of more than maxPayload bytes is answered with 413, or cut"""
    answer = await wire.post(_padded(wire, wire.target.max_payload + 1).encode())
    check(answer is None or answer.status == 413, f"HTTP 413 was expected: {answer}")


@over(*WEBSOCKET)
async def message_of_exactly_max_payload(wire: WebSocketWire) -> None:
    """A WebSocket message of maxPayload bytes is taken"""
    await wire.send(_padded(wire, wire.target.max_payload))
    await wire.acknowledged(1)


@over(*WEBSOCKET)
async def oversize_message(wire: WebSocketWire) -> None:
    """A WebSocket message of more than maxPayload bytes is closed with 1009"""
    await wire.ends(_padded(wire, wire.target.max_payload + 1))
    check(wire.close_code == 1009, f"close code 1009 was expected: {wire.close_code}")


@over(*WEBSOCKET)
async def oversize_fragments(wire: WebSocketWire) -> None:
    """A WebSocket message of several frames over maxPayload in all is closed with 1009"""
    text = _padded(wire, wire.target.max_payload + 10)
    size = len(text) // 4
    try:
        await wire.socket.send([text[at : at + size] for at in range(0, len(text), size)])
    except Exception as error:
        check("1009" in str(error), f"close code 1009 was expected: {error}")
    await wire.closed()
    check(wire.close_code == 1009, f"close code 1009 was expected: {wire.close_code}")


def _padded(wire: Wire, size: int) -> str:
    """An event of ``size`` bytes that asks for acknowledgement 1."""
    return wire.event(1, pad="x" * (size - len(wire.event(1, pad=""))))


@over(*WEBSOCKET)
async def not_utf8(wire: WebSocketWire) -> None:
    """A WebSocket text message that is not UTF-8 is closed with 1007"""
    await wire.socket.send(b'42["ping",{"timestamp":"\xff"}]', text=True)
    await wire.closed()
    check(wire.close_code == 1007, f"close code 1007 was expected: {wire.close_code}")


@over(*WEBSOCKET)
async def fragments(wire: WebSocketWire) -> None:
    """A WebSocket message of several frames is one packet"""
    text = wire.event(1, pad="y" * 64)
    await wire.socket.send([text[:2], text[2:30], "", text[30:]])
    await wire.acknowledged(1)


@over(*WEBSOCKET)
async def ping_frame(wire: WebSocketWire) -> None:
    """A WebSocket ping frame is answered with a pong frame"""
    try:
        async with asyncio.timeout(wire.target.limit):
            await (await wire.socket.ping(b"are you there"))
    except TimeoutError:
        check(False, "no pong frame came")
    await wire.alive()


@over(*BOTH)
async def noop(wire: Wire) -> None:
    """A noop packet does no harm"""
    await wire.send("6", "6")
    await wire.alive()


@over(*BOTH)
async def after_close_nothing(wire: Wire) -> None:
    """What comes after an invalid packet is not taken"""
    try:
        await wire.send("abc", wire.event(77))
        while True:
            packet = await wire.receive()
            check(not (isinstance(packet, str) and packet.startswith("4377")), "the event was answered")
    except Closed:
        await wire.gone()
