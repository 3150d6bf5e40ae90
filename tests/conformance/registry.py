"""The list of cases; the modules with cases add to it with the decorators of this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.conformance.target import Target
from tests.conformance.wires import PollingWire, WebSocketWire, Wire

Run = Callable[[Target], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One thing that a server must do.

    :ivar name: ``group.case`` or ``group.case[transport]``.
    :ivar rule: the rule in words, for the report.
    """

    name: str
    rule: str
    run: Run


CASES: dict[str, Case] = {}


async def upgraded(target: Target) -> Wire:
    polling = PollingWire(target)
    try:
        await polling.open()
        return await polling.upgraded()
    finally:
        await polling.close()


async def over_polling(target: Target) -> Wire:
    wire = PollingWire(target)
    await wire.open()
    return wire


async def over_websocket(target: Target) -> Wire:
    wire = WebSocketWire(target)
    await wire.open()
    return wire


_OPENERS = {"polling": over_polling, "websocket": over_websocket, "upgraded": upgraded}
POLLING = ("polling",)
WEBSOCKET = ("websocket",)
BOTH = ("polling", "websocket")
ALL = ("polling", "websocket", "upgraded")


def case(function: Run) -> Run:
    """A case that gets the target and does everything itself."""
    _add(function, "", function)
    return function


def over(*transports: str, joined: bool = True) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., object]]:
    """A case for each of these transports, which gets an open session.

    :param joined: is it to be connected to the namespace ``/`` already?
    """

    def register(function: Callable[..., Awaitable[None]]) -> Callable[..., object]:
        for transport in transports:
            _add(function, f"[{transport}]", _with_wire(function, transport, joined))
        return function

    return register


def malformed(transports: tuple[str, ...], rule: str, **packets: tuple[str | bytes, ...] | str) -> None:
    """Cases, by their names, of packets that must end a session.

    It has joined every namespace, so that none of them being left could be what ends it.
    """
    for name, sent in packets.items():

        async def ends(wire: Wire, sent: tuple[str | bytes, ...] | str = sent) -> None:
            for namespace in wire.target.namespaces[1:]:
                await wire.connect(namespace)
            await wire.ends(*((sent,) if isinstance(sent, str) else sent))

        ends.__name__ = name
        ends.__module__ = "tests.conformance.malformed"
        ends.__doc__ = f"{rule}: {sent!r:.60}"
        over(*transports)(ends)


def _with_wire(function: Callable[..., Awaitable[None]], transport: str, joined: bool) -> Run:
    async def run(target: Target) -> None:
        wire = await _OPENERS[transport](target)
        try:
            if joined:
                await wire.connect()
            await function(wire)
        finally:
            await wire.close()

    return run


def _add(function: Callable[..., object], suffix: str, run: Run) -> None:
    group = function.__module__.rpartition(".")[2]
    name = f"{group}.{function.__name__}{suffix}"
    assert name not in CASES, name
    CASES[name] = Case(name, (function.__doc__ or "").partition("\n")[0], run)
