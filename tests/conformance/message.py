"""Socket.IO: events and acknowledgements."""

from __future__ import annotations

import asyncio

from tests.conformance.registry import ALL, BOTH, over
from tests.conformance.target import check
from tests.conformance.wires import Wire, parse


@over(*ALL)
async def without_acknowledgement(wire: Wire) -> None:
    """An event without an id is not acknowledged"""
    await wire.send(wire.event(timestamp=11), wire.event(5, timestamp=12))
    answers = []
    async with asyncio.timeout(wire.target.limit):
        while not str(packet := await wire.receive()).startswith("435["):
            answers.append(packet)
    check(not any(str(packet).startswith("43") for packet in answers), f"acknowledged: {answers!r}")
    check(any(str(packet).startswith(f'42["{wire.target.answer}"') for packet in answers), f"no answer: {answers!r}")


@over(*ALL)
async def answered(wire: Wire) -> None:
    """An event of the server comes in the namespace, with its payload"""
    await wire.send(wire.event(timestamp=4711))
    packet = await wire.expect(2, name=wire.target.answer)
    check(packet.data[1].get("timestamp") == 4711, f"timestamp 4711 was expected: {packet.data!r}")


@over(*BOTH)
async def namespaces(wire: Wire) -> None:
    """Events and acknowledgements come in the namespace of their event"""
    namespace = wire.target.second
    await wire.connect(namespace)
    await wire.send(wire.event(6, namespace, timestamp=6))
    packet = await wire.expect(2, namespace, name=wire.target.answer)
    check(packet.data[1].get("timestamp") == 6, f"{packet.data!r}")
    await wire.acknowledged(6, namespace, 6)
    await wire.send(wire.event(7, "/", timestamp=8), wire.event(7, namespace, timestamp=9))
    await wire.acknowledged(7, "/", 8)
    await wire.acknowledged(7, namespace, 9)


@over(*BOTH)
async def explicit_root(wire: Wire) -> None:
    """The namespace / may be written out"""
    await wire.send("42/," + wire.event(3)[2:])
    await wire.acknowledged(3)


@over(*ALL)
async def identifiers(wire: Wire) -> None:
    """Acknowledgement ids up to 2^53 come back as they are"""
    for ident in (0, 1, 10, 2**31, 2**32, 2**53 - 1, 2**53):
        await wire.send(wire.event(ident, timestamp=ident % 1000))
        await wire.acknowledged(ident, timestamp=ident % 1000)


@over(*BOTH)
async def once_each(wire: Wire) -> None:
    """Every event is acknowledged once, in the order of events that are answered at once; ids may be used again"""
    idents = [*range(30), 4, 4]
    await wire.send(*(wire.event(ident, timestamp=1) for ident in idents))
    await wire.send(wire.event(99))
    seen: list[int] = []
    async with asyncio.timeout(wire.target.limit):
        while 99 not in seen:
            packet = parse(str(await wire.receive()))
            if packet.kind == 3 and packet.id is not None:
                seen.append(packet.id)
    check(seen == [*idents, 99], f"not once each, in order: {seen}")


@over(*BOTH)
async def unknown_acknowledgement(wire: Wire) -> None:
    """An acknowledgement that nobody waits for is ignored"""
    await wire.send("43999[]", '431["x",{"a":1}]')
    await wire.alive()


@over(*BOTH)
async def several_arguments(wire: Wire) -> None:
    """An event may have any number of arguments, null and nested ones among them"""
    name = wire.target.event
    await wire.send(f'42["{name}"]', f'428["{name}",{{"timestamp":8}},null,[[]],{{"a":{{"b":[1.5e3,true]}}}},"x"]')
    await wire.acknowledged(8, timestamp=8)


@over(*BOTH)
async def unknown_event(wire: Wire) -> None:
    """An event that the application does not know does no harm; a number is a name, too"""
    await wire.send('42["no_such_event",{}]', '42["",{}]', "42[17]", '42["__proto__",1]')
    await wire.alive()


@over(*ALL)
async def unicode(wire: Wire) -> None:
    """Text is UTF-8 in both directions"""
    text = "chào 世界 🎉 \u2028 é"
    await wire.send(wire.event(2, timestamp=text))
    await wire.acknowledged(2, timestamp=text)


@over(*BOTH)
async def white_space(wire: Wire) -> None:
    """JSON may have white space"""
    await wire.send(f'423[ "{wire.target.event}" ,\n {{ "timestamp" : 3 }} ]')
    await wire.acknowledged(3, timestamp=3)


@over(*BOTH)
async def escapes(wire: Wire) -> None:
    """JSON strings may have escapes, slashes and control characters among them"""
    await wire.send(f'424["{wire.target.event}",{{"timestamp":"a\\/b\\u0000\\ud83c\\udf89\\u001e"}}]')
    await wire.acknowledged(4, timestamp="a/b\0🎉\x1e")
