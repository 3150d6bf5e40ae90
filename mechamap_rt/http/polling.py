"""Engine.IO long polling over HTTP (https://socket.io/docs/v4/engine-io-protocol/#http-long-polling)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.request import RealtimeRequest
from mechamap_rt.transport.engineio import EngineDoor
from mechamap_rt.transport.enginesession import EngineSession
from mechamap_rt.transport.gate import Gate
from mechamap_rt.transport.handover import Errand, Forwarded, Handover
from mechamap_rt.transport.handshake import Denied, Handshake
from mechamap_rt.transport.port import hand_over, may_upgrade
from mechamap_rt.wire import engineio
from mechamap_rt.wire.engineio import Refusal

#: What belongs to one connection, or is written anew.
_HOP_BY_HOP: Final = (
    b"connection",
    b"content-length",
    b"expect",
    b"keep-alive",
    b"transfer-encoding",
    b"te",
    b"upgrade",
)
_TEXT: Final = "text/plain; charset=UTF-8"


class PollingResource(Resource):
    """``/socket.io/``: handshakes, GETs that wait, POSTs; and WebSocket handshakes on kept-alive connections.

    :param address_of: the client's address, from the peer's and ``X-Forwarded-For``, as far as proxies are trusted.
    :ivar handover: reaches the sessions of other processes of the host.
    """

    isLeaf = True

    def __init__(self, door: EngineDoor, gate: Gate, address_of: Callable[[str, str | None], str]) -> None:
        super().__init__()
        self.handover: Handover | None = None
        self._door = door
        self._gate = gate
        self._address_of = address_of

    def render(self, request: RealtimeRequest) -> Any:
        if may_upgrade(request):
            hand_over(request, self._gate, self.handover)
            return NOT_DONE_YET
        try:
            self._answer(request)
        except Denied as denied:
            headers = dict(denied.headers) | self._cors(request)
            request.answer(Reply(denied.body, denied.status, headers))
        return NOT_DONE_YET

    def _answer(self, request: RealtimeRequest) -> None:
        if request.method == b"OPTIONS":
            asked = request.header("access-control-request-headers")
            headers = self._door.origins.preflight(request.header("origin"), asked)
            return request.answer(Reply(b"", 204, headers, _TEXT))
        handshake = self._handshake(request)
        refusal = self._door.refusal(handshake, "polling")
        if refusal is not None:
            raise denial(refusal)
        sid = handshake.query.get("sid")
        if sid is None:
            return self._open(request, handshake)
        session = self._door.sessions.get(sid)
        if session is None:
            owner = None if self.handover is None else self.handover.owner(sid)
            if owner is None or self.handover is None or request.method not in (b"GET", b"POST"):
                raise denial(engineio.UNKNOWN_SID)
            return self._forward(request, self.handover.forward(owner, written_out(request), peer_of(request)))
        if request.method == b"GET":
            return self._poll(request, session)
        if request.method != b"POST":
            raise denial(engineio.BAD_REQUEST)
        return self._post(request, session)

    def _open(self, request: RealtimeRequest, handshake: Handshake) -> None:
        if request.method != b"GET":
            raise denial(engineio.BAD_METHOD)
        # a request that another process has sent here stays
        if self.handover is not None and not isinstance(request.channel.transport, Errand):
            host = self.handover.host()
            forwarded = None if host is None else self.handover.open_at(host, written_out(request), peer_of(request))
            if forwarded is not None:
                return self._forward(request, forwarded)
        _, payload = self._door.open_polling(handshake)
        if self.handover is not None:
            self.handover.opened()
        request.answer(Reply(payload, 200, self._cors(request), _TEXT))

    def _poll(self, request: RealtimeRequest, session: EngineSession) -> None:
        poll = RequestPoll(request, self._cors(request))
        request.notifyFinish().addErrback(_dropped, session, poll)
        session.poll(poll)

    def _post(self, request: RealtimeRequest, session: EngineSession) -> None:
        if request.requestHeaders.hasHeader(b"Content-Encoding"):
            reply = HTTPFault(Error.MEDIA_TYPE, "Content-Encoding is not understood here").reply()
            return request.answer(replace(reply, headers=self._cors(request)))
        octets = (request.header("content-type") or "").startswith("application/octet-stream")
        body = b"" if request.content is None else request.content.read()
        if not session.payload(body, octets):
            raise denial(engineio.BAD_REQUEST)
        request.answer(Reply(b"ok", 200, self._cors(request), "text/html"))

    def _forward(self, request: RealtimeRequest, forwarded: Forwarded) -> None:
        """Let the session's own process answer."""
        gone = Reply(engineio.UNKNOWN_SID.body(), engineio.UNKNOWN_SID.status, self._cors(request))
        request.notifyFinish().addErrback(lambda _: forwarded.drop())
        forwarded.answer.addCallbacks(request.answer_whole, lambda _: request.answer(gone))

    def _handshake(self, request: RealtimeRequest) -> Handshake:
        query = {name.decode("latin-1"): values[0].decode("latin-1") for name, values in request.args.items()}
        headers = {name: value for name in ("origin", "host", "authorization") if (value := request.header(name))}
        return Handshake(
            self._address_of(peer_of(request), request.joined("x-forwarded-for")), "/socket.io/", query, headers
        )

    def _cors(self, request: RealtimeRequest) -> dict[str, str]:
        return {"Cache-Control": "no-store"} | self._door.origins.headers(request.header("origin"))


class RequestPoll:
    """A GET that waits in Twisted Web."""

    __slots__ = ("_headers", "_request")

    def __init__(self, request: RealtimeRequest, headers: dict[str, str]) -> None:
        self._request = request
        self._headers = headers

    def respond(self, payload: bytes) -> None:
        self._request.answer(Reply(payload, 200, self._headers, _TEXT))

    def refuse(self, refusal: Refusal) -> None:
        self._request.answer(Reply(refusal.body(), refusal.status, self._headers))


def denial(refusal: Refusal) -> Denied:
    return Denied(refusal.status, refusal.body())


def peer_of(request: RealtimeRequest) -> str:
    """The address at the other end of the connection; empty for a unix socket."""
    host: str = getattr(request.getClientAddress(), "host", "")
    return host


def written_out(request: RealtimeRequest) -> bytes:
    """The request as bytes again, its body in one piece."""
    lines = [request.method + b" " + request.uri + b" HTTP/1.1"]
    for name, values in request.requestHeaders.getAllRawHeaders():
        if name.lower() not in _HOP_BY_HOP:
            lines += [name + b": " + value for value in values]
    # only a POST has a body here: without a length that of another would be read as the next request
    body = b""
    if request.method == b"POST":
        body = b"" if request.content is None else request.content.read()
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _dropped(reason: Failure, session: EngineSession, poll: RequestPoll) -> None:
    """The client went away while its GET waited."""
    session.poll_lost(poll)
