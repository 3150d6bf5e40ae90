"""Socket.IO: packets with binary attachments."""

from __future__ import annotations

from tests.conformance.registry import ALL, BOTH, POLLING, over
from tests.conformance.target import check
from tests.conformance.wires import PollingWire, Raw, Wire, head


def _event(wire: Wire, count: int, ident: int | None = None, namespace: str = "/") -> str:
    """An event that announces ``count`` attachments, in an array."""
    places = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(count))
    body = f'["{wire.target.event}",{{"timestamp":{count},"parts":[{places}]}}]'
    return head(f"5{count}-", namespace, ident) + body


@over(*ALL)
async def attachments(wire: Wire) -> None:
    """An event with 1, 2 and 10 attachments is taken and acknowledged"""
    for count in (1, 2, 10):
        parts: list[Raw] = [bytes(range(number + 1)) for number in range(count)]
        await wire.send(_event(wire, count, count), *parts)
        await wire.acknowledged(count, timestamp=count)


@over(*BOTH)
async def without_acknowledgement(wire: Wire) -> None:
    """A binary event without an id is answered, and not acknowledged"""
    await wire.send(_event(wire, 1), b"\x01\x02\x03\x04")
    packet = await wire.expect(2, name=wire.target.answer)
    check(packet.data[1].get("timestamp") == 1, f"{packet.data!r}")


@over(*BOTH)
async def namespace(wire: Wire) -> None:
    """A binary event is acknowledged in its namespace"""
    second = wire.target.second
    await wire.connect(second)
    await wire.send(_event(wire, 2, 77, second), b"\x01\x02", b"\x03\x04")
    await wire.acknowledged(77, second, 2)


@over(*BOTH)
async def empty_and_large(wire: Wire) -> None:
    """Attachments may be empty, and large"""
    await wire.send(_event(wire, 2, 5), b"", bytes(wire.target.max_payload // 4))
    await wire.acknowledged(5, timestamp=2)


@over(*POLLING)
async def several_posts(wire: PollingWire) -> None:
    """The attachments of one event may come in several POSTs"""
    for packet in (_event(wire, 2, 6), b"\xff", b"\xfe"):
        await wire.send(packet)
    await wire.acknowledged(6, timestamp=2)


@over(*POLLING)
async def base64_and_text(wire: PollingWire) -> None:
    """A payload may hold text packets and base64 binary ones"""
    await wire.send(wire.event(1), _event(wire, 1, 2), b"\x1e\x00\xff", wire.event(3))
    for ident in (1, 2, 3):
        await wire.acknowledged(ident)


@over(*BOTH)
async def heartbeat_between(wire: Wire) -> None:
    """A pong or a noop between the attachments of an event does no harm"""
    await wire.send(_event(wire, 2, 8), b"1", "3", "6", b"2")
    await wire.acknowledged(8, timestamp=2)


@over(*BOTH)
async def out_of_order(wire: Wire) -> None:
    """Placeholders may stand in any order"""
    first, second = '{"_placeholder":true,"num":0}', '{"_placeholder":true,"num":1}'
    await wire.send(f'452-9["{wire.target.event}",{{"timestamp":9,"b":{second}}},{first}]', b"a", b"b")
    await wire.acknowledged(9, timestamp=9)


@over(*BOTH)
async def acknowledgement(wire: Wire) -> None:
    """A binary acknowledgement that nobody waits for is taken whole, and ignored"""
    await wire.send('461-999[{"_placeholder":true,"num":0}]', b"\x01")
    await wire.alive()


@over(*BOTH)
async def placeholder_in_text(wire: Wire) -> None:
    """In an event that is not binary a placeholder is an object like any other"""
    await wire.send(wire.event(3, extra={"_placeholder": True, "num": 0}))
    await wire.acknowledged(3)


@over(*BOTH)
async def no_text_between(wire: Wire) -> None:
    """A text packet where an attachment was announced ends the session"""
    await wire.ends(_event(wire, 2, 1), b"a", wire.event(2))


@over(*BOTH)
async def connect_between(wire: Wire) -> None:
    """A packet of another namespace where an attachment was announced ends the session, too"""
    await wire.ends(_event(wire, 1, 1), head("0", wire.target.second) + wire.target.auth())


@over(*BOTH)
async def unexpected(wire: Wire) -> None:
    """A binary message that no packet announced ends the session"""
    await wire.ends(b"\x01\x02\x03\x04")


@over(*BOTH)
async def one_too_many(wire: Wire) -> None:
    """One attachment more than was announced ends the session"""
    await wire.ends(_event(wire, 1, 1), b"a", b"b")


@over(*BOTH)
async def bad_numbers(wire: Wire) -> None:
    """A placeholder whose num is beyond the attachments ends the session"""
    await wire.ends('451-["x",{"_placeholder":true,"num":1}]', b"a")


@over(*BOTH)
async def negative_number(wire: Wire) -> None:
    """A placeholder whose num is negative ends the session"""
    await wire.ends('451-["x",{"_placeholder":true,"num":-1}]', b"a")


@over(*BOTH)
async def text_number(wire: Wire) -> None:
    """A placeholder whose num is a string ends the session"""
    await wire.ends('451-["x",{"_placeholder":true,"num":"0"}]', b"a")


@over(*BOTH)
async def no_number(wire: Wire) -> None:
    """A placeholder without num ends the session"""
    await wire.ends('451-["x",{"_placeholder":true}]', b"a")


@over(*BOTH)
async def bad_number_of_acknowledgement(wire: Wire) -> None:
    """The placeholders of a binary acknowledgement are checked, too"""
    await wire.ends('461-1[{"_placeholder":true,"num":7}]', b"a")
