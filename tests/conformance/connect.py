"""Socket.IO: joining namespaces."""

from __future__ import annotations

import time

from tests.conformance.registry import ALL, BOTH, over
from tests.conformance.target import Skip, Target, Violation, check
from tests.conformance.wires import Wire, head


@over(*ALL, joined=False)
async def root(wire: Wire) -> None:
    """A connect to / is answered with a connect that has a sid, which is not the Engine.IO one, before anything else"""
    await wire.send("40" + wire.target.auth())
    first = await wire.receive()
    check(isinstance(first, str) and first.startswith('40{"sid":"'), f"a connect was expected: {first!r}")
    check(wire.sid not in str(first), "the Engine.IO sid is a secret of its session")
    await wire.alive()


@over(*BOTH, joined=False)
async def second_alone(wire: Wire) -> None:
    """Another namespace may be joined without /"""
    namespace = wire.target.second
    await wire.connect(namespace)
    await wire.alive(namespace)


@over(*BOTH, joined=False)
async def both(wire: Wire) -> None:
    """Both namespaces may be joined, with ids that differ"""
    namespace = wire.target.second
    check(await wire.connect() != await wire.connect(namespace), "the sids of two sockets are the same")
    await wire.alive()
    await wire.alive(namespace)


@over("polling", joined=False)
async def both_in_one_payload(wire: Wire) -> None:
    """Both namespaces may be joined by one payload"""
    target = wire.target
    await wire.send(head("0") + target.auth(), head("0", target.second) + target.auth())
    await wire.expect(0)
    await wire.alive()
    await wire.alive(target.second)


@over(*BOTH, joined=False)
async def unknown_namespace(wire: Wire) -> None:
    """A connect to a namespace that does not exist is answered with a connect error: Invalid namespace"""
    for name in ("/random", "/", "/constructor"):
        if name == "/":
            await wire.connect()
            continue
        await wire.send(head("0", name) + wire.target.auth())
        packet = await wire.expect(4, name)
        check(packet.data == {"message": "Invalid namespace"}, f"Invalid namespace was expected: {packet.data!r}")
    await wire.alive()


@over(*BOTH, joined=False)
async def bad_token(wire: Wire) -> None:
    """A refused connect is answered with a connect error whose payload has a message; the next try may succeed"""
    if wire.target.token is None:
        raise Skip("the server lets everybody in")
    for payload in (wire.target.auth("not.a.token"), "", "{}"):
        await wire.send("40" + payload)
        packet = await wire.expect(4)
        good = isinstance(packet.data, dict) and isinstance(packet.data.get("message"), str) and packet.data["message"]
        check(good, f"an object with a message was expected: {packet.data!r}")
    await wire.connect()
    await wire.alive()


@over(*BOTH, joined=False)
async def bad_token_elsewhere(wire: Wire) -> None:
    """A refusal in one namespace leaves another as it is"""
    if wire.target.token is None:
        raise Skip("the server lets everybody in")
    await wire.connect()
    await wire.send(head("0", wire.target.second) + wire.target.auth("not.a.token"))
    await wire.expect(4, wire.target.second)
    await wire.alive()


@over(*ALL)
async def twice(wire: Wire) -> None:
    """A second connect to a namespace that is joined ends the session"""
    await wire.ends("40" + wire.target.auth())


@over(*BOTH)
async def event_elsewhere(wire: Wire) -> None:
    """An event to a namespace that is not joined ends the session"""
    await wire.ends(wire.event(1, wire.target.second))


@over(*BOTH)
async def event_to_unknown(wire: Wire) -> None:
    """An event to a namespace that does not exist ends the session"""
    await wire.ends(wire.event(1, "/random"))


async def _immediately(wire: Wire, *packets: str) -> None:
    """The session must end at these packets, not at the connect time-out."""
    target: Target = wire.target
    began = time.monotonic()
    await wire.ends(*packets)
    took = time.monotonic() - began
    if took >= target.connect_timeout * 0.9:
        raise Violation(f"it took {took:.3f} s, as long as the connect time-out, to close the session")


@over(*ALL, joined=False)
async def event_first(wire: Wire) -> None:
    """If the first packet is no connect the session is closed at once"""
    await _immediately(wire, wire.event(1))


@over(*BOTH, joined=False)
async def acknowledgement_first(wire: Wire) -> None:
    """An acknowledgement is no first packet either"""
    await _immediately(wire, "430[]")


@over(*BOTH, joined=False)
async def disconnect_first(wire: Wire) -> None:
    """A disconnect is no first packet either"""
    await _immediately(wire, "41")


@over(*ALL, joined=False)
async def never(wire: Wire) -> None:
    """A session that joins no namespace within the connect time-out is closed, though it answers pings"""
    target = wire.target
    longest = target.connect_timeout + target.ping_interval + target.ping_timeout + target.limit
    took = await wire.closed(longest, wire.began)
    check(took > target.connect_timeout * 0.95, f"closed after {took:.3f} s, too early")
