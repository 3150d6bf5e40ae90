"""Engine.IO: how a session begins."""

from __future__ import annotations

import json

from tests.conformance import rawhttp
from tests.conformance.registry import BOTH, POLLING, case, over
from tests.conformance.target import Target, check, refused, request
from tests.conformance.wires import PollingWire, WebSocketWire, Wire, turned_away


@over(*BOTH, joined=False)
async def open_packet(wire: Wire) -> None:
    """The open packet has sid, upgrades, pingInterval, pingTimeout and maxPayload, of their types"""
    target, hello = wire.target, wire.hello
    check(isinstance(hello.get("sid"), str) and hello["sid"], f"sid is a string: {hello}")
    expected = ["websocket"] if isinstance(wire, PollingWire) else []
    check(hello.get("upgrades") == expected, f"upgrades are {expected}: {hello}")
    for name, value in (
        ("pingInterval", round(target.ping_interval * 1000)),
        ("pingTimeout", round(target.ping_timeout * 1000)),
        ("maxPayload", target.max_payload),
    ):
        found = hello.get(name)
        check(isinstance(found, int) and not isinstance(found, bool), f"{name} is an integer: {hello}")
        check(found == value, f"{name} is {value}: {hello}")


@case
async def polling_answer(target: Target) -> None:
    """A polling handshake is answered with 200, text/plain in UTF-8, and a payload that is not to be cached"""
    answer = await request(target, "GET")
    assert answer is not None
    check(answer.status == 200, f"HTTP 200 was expected: {answer}")
    kind = answer.headers.get("content-type", "").lower().replace(" ", "")
    check(kind == "text/plain;charset=utf-8", f"Content-Type is text/plain; charset=UTF-8: {kind!r}")
    check("no-store" in answer.headers.get("cache-control", ""), f"not to be cached: {answer.headers}")
    check(answer.body.startswith(b"0{") and b"\x1e" not in answer.body, f"one open packet: {answer}")
    json.loads(answer.body[1:])


@case
async def sids_differ(target: Target) -> None:
    """Every session has a sid of its own"""
    sids = set()
    for _ in range(8):
        wire = PollingWire(target)
        await wire.open()
        sids.add(wire.sid)
        await wire.send("1")
        await wire.close()
    check(len(sids) == 8, f"a sid came twice: {sids}")


@case
async def unknown_query_parameters(target: Target) -> None:
    """Query parameters of the application, and the t against caches, are no concern of the handshake"""
    answer = await request(target, "GET", t="Pabc123", colour="blue", b64="1")
    check(answer is not None and answer.status == 200, f"HTTP 200 was expected: {answer}")


@over(*POLLING)
async def kept_alive(wire: PollingWire) -> None:
    """A session can be used over one kept-alive connection, GET and POST in turn"""
    async with rawhttp.Connection(wire.target.url, wire.target.limit) as connection:
        where = wire.target.query(sid=wire.sid)
        for ident in (1, 2, 3):
            answer = await connection.request("POST", where, wire.event(ident).encode())
            check(answer is not None and answer.status == 200, f"{answer}")
            answer = await connection.request("GET", where)
            check(answer is not None and answer.status == 200, f"{answer}")


@case
async def missing_transport(target: Target) -> None:
    """A request without transport is refused with 400"""
    refused(await request(target, "GET", transport=None), 0)


@case
async def unknown_transport(target: Target) -> None:
    """A request with an unknown transport is refused with 400, code 0"""
    refused(await request(target, "GET", transport="abc"), 0)


@case
async def missing_revision(target: Target) -> None:
    """A handshake without EIO is refused with 400, code 5"""
    refused(await request(target, "GET", EIO=None), 5)


@case
async def unknown_revision(target: Target) -> None:
    """A handshake with an EIO that is not served is refused with 400, code 5"""
    for revision in {"abc", "", "2", "5", "44", "3"} - target.revisions:
        refused(await request(target, "GET", EIO=revision), 5)


@over(*POLLING)
async def other_revision(wire: PollingWire) -> None:
    """A session belongs to the revision it began with: requests with another are refused with 400"""
    for revision in ("3", "abc", None):
        refused(await request(wire.target, "POST", b"4hello", sid=wire.sid, EIO=revision))
        refused(await request(wire.target, "GET", sid=wire.sid, EIO=revision))
    await wire.alive()


@case
async def post_without_sid(target: Target) -> None:
    """A handshake is a GET: POST without sid is refused with 400, code 2"""
    refused(await request(target, "POST", b"40"), 2)


@case
async def other_methods_without_sid(target: Target) -> None:
    """PUT, DELETE and PATCH without sid are refused with 400, code 2"""
    for method in ("PUT", "DELETE", "PATCH"):
        refused(await request(target, method), 2)


@over(*POLLING)
async def other_methods(wire: PollingWire) -> None:
    """PUT and DELETE of a session are errors that leave it as it was (the reference server answers 500)"""
    for method in ("PUT", "DELETE"):
        answer = await request(wire.target, method, sid=wire.sid)
        check(answer is not None and 400 <= answer.status <= 501, f"an HTTP error was expected: {answer}")
    await wire.alive()


@case
async def unknown_sid(target: Target) -> None:
    """A sid that is not known is refused with 400, code 1, for GET and POST"""
    for sid in ("zzzzzzzzzzzzzzzzzzzz", "x", "constructor", "../..", "é" * 300):
        refused(await request(target, "GET", sid=sid), 1)
        refused(await request(target, "POST", b"40", sid=sid), 1)


@case
async def websocket_without_upgrade(target: Target) -> None:
    """A plain GET with transport=websocket is refused with 400, code 3"""
    refused(await request(target, "GET", transport="websocket"), 3)


@over(*POLLING)
async def websocket_without_upgrade_of_session(wire: PollingWire) -> None:
    """Plain requests with transport=websocket for a polling session are refused with 400, code 3; it goes on"""
    refused(await request(wire.target, "GET", sid=wire.sid, transport="websocket"), 3)
    refused(await request(wire.target, "POST", b"4hello", sid=wire.sid, transport="websocket"), 3)
    await wire.alive()


@over("websocket")
async def polling_of_websocket_session(wire: WebSocketWire) -> None:
    """Polling requests for a session that began over WebSocket are refused with 400, code 3; it goes on"""
    refused(await request(wire.target, "GET", sid=wire.sid), 3)
    refused(await request(wire.target, "POST", b"4hello", sid=wire.sid), 3)
    await wire.alive()


@case
async def websocket_missing_revision(target: Target) -> None:
    """A WebSocket without EIO is closed"""
    await turned_away(target, EIO=None)


@case
async def websocket_unknown_revision(target: Target) -> None:
    """A WebSocket with an EIO that is not served is closed"""
    for revision in {"abc", "5"} - target.revisions:
        await turned_away(target, EIO=revision)


@case
async def websocket_transport(target: Target) -> None:
    """A WebSocket without transport, or with an unknown one, is closed"""
    for transport in (None, "abc", "polling"):
        await turned_away(target, transport=transport)


@case
async def websocket_unknown_sid(target: Target) -> None:
    """A WebSocket for a session that is not known is closed"""
    await turned_away(target, sid="zzzzzzzzzzzzzzzzzzzz")
    await turned_away(target, sid="constructor")
