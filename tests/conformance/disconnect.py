"""Socket.IO: leaving namespaces."""

from __future__ import annotations

import asyncio

from tests.conformance.registry import ALL, BOTH, over
from tests.conformance.target import ARRIVAL, check
from tests.conformance.wires import Wire, head


@over(*BOTH)
async def one_of_two(wire: Wire) -> None:
    """A disconnect from one namespace leaves the other as it is; it may be joined again, with a new id"""
    namespace = wire.target.second
    first = await wire.connect(namespace)
    await wire.send(head("1", namespace))
    await wire.alive()
    check(await wire.connect(namespace) != first, "the same sid again")
    await wire.alive(namespace)
    await wire.alive()


@over(*BOTH)
async def without_comma(wire: Wire) -> None:
    """A disconnect may leave out the comma behind its namespace, as there is no payload"""
    namespace = wire.target.second
    await wire.connect(namespace)
    await wire.send(f"41{namespace}")
    await wire.alive()
    await wire.connect(namespace)


@over(*ALL)
async def then_event(wire: Wire) -> None:
    """An event to a namespace that was left ends the session"""
    namespace = wire.target.second
    await wire.connect(namespace)
    await wire.send("41")
    await wire.alive(namespace)
    await wire.ends(wire.event(1))


@over(*BOTH)
async def then_connect(wire: Wire) -> None:
    """After the last disconnect the session stays for a while: the namespace may be joined again"""
    await wire.send("41")
    await asyncio.sleep(ARRIVAL)
    await wire.connect()
    await wire.alive()


@over(*BOTH)
async def not_answered(wire: Wire) -> None:
    """A disconnect is not answered"""
    namespace = wire.target.second
    await wire.connect(namespace)
    await wire.alive()
    await wire.send(head("1", namespace))
    await asyncio.sleep(ARRIVAL)
    await wire.send(wire.event(5))
    async with asyncio.timeout(wire.target.limit):
        while not str(packet := await wire.receive()).startswith("435["):
            check(not str(packet).startswith("41"), f"the disconnect was answered: {packet!r}")
