"""Requests of the site: bounded bodies, JSON errors, no word about the software behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from zope.interface import implementer

from mechamap_rt.errors import Disconnect
from mechamap_rt.http.answering import Answers, compressed
from mechamap_rt.http.call import Call, ident_of
from mechamap_rt.http.deadlines import Deadlines
from mechamap_rt.http.express import COMPRESS_FROM
from mechamap_rt.http.protection import Protection
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.strict import StrictHead
from mechamap_rt.system.direct import write
from mechamap_rt.transport.enginesession import EngineSession
from mechamap_rt.transport.handshake import Origins
from mechamap_rt.wire import engineio

_log = Logger()

#: Seconds in which what a refused client goes on sending is read and dropped, so that it can read the answer.
LINGER: Final = 3.0


class RealtimeRequest(server.Request):
    """One request.

    :ivar max_body: bytes of a body; a longer one is answered with 413 before it is read.
    :ivar compress: gzip answers of over :data:`COMPRESS_FROM` bytes for clients that accept it.
    :ivar protection: the headers of every answer, by its kind.
    :ivar answers: writes the answers of the API.
    """

    channel: RealtimeChannel
    max_body = 1_000_000
    compress = False
    protection = Protection()
    answers: Answers
    origins: Origins | None = None
    _received = 0

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > self.max_body:
            self.channel.refuse(self.too_large())
            return
        # Twisted would keep a longer body in a temporary file: here bodies are bounded, and files block
        self.content = BytesIO()
        session = self.channel.session_of_post()
        if session is not None:
            self._begin_post(session)

    def _begin_post(self, session: EngineSession) -> None:
        """The head of a polling POST is here; a second one at once ends the session, as the protocol has it."""
        if session.posting is not None:
            session.finish(Disconnect.BAD_MESSAGE)
            self.channel.refuse(Reply(engineio.BAD_REQUEST.body(), 400))
            return
        session.posting = self
        self.notifyFinish().addBoth(lambda _: self._end_post(session))

    def _end_post(self, session: EngineSession) -> None:
        if session.posting is self:
            session.posting = None

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.max_body:
            self.channel.refuse(self.too_large())
            return
        super().handleContentChunk(data)

    def too_large(self) -> Reply:
        reply = HTTPFault(Error.TOO_LARGE, f"A body has at most {self.max_body} bytes").reply()
        # the path is not parsed yet; only long polling is for pages of other origins
        if self.origins is None or not self.channel._path.startswith(b"/socket.io/?"):
            return reply
        return replace(reply, headers=self.origins.headers(self.header("origin")))

    def process(self) -> None:
        """Find the resource and render it, as the base class does, without its ``Server`` header."""
        self.site = self.channel.site
        self.setHeader(b"Date", http.datetimeToString())
        self.prepath = []
        self.postpath = [unquote_to_bytes(part) for part in self.path[1:].split(b"/")]
        if self.clientproto == b"HTTP/1.1" and not self.requestHeaders.hasHeader(b"Host"):
            fault = HTTPFault(Error.VALIDATION, "A request names its host", [("Host", "required")])
            return self.answer(fault.reply(), self.protection.data)
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        _log.failure(
            "A request failed unexpectedly: {method} {path} (request {request})",
            reason,
            method=self.method.decode("latin-1"),
            path=self.path.decode("latin-1"),
            request=self.ident,
        )
        if not self.startedWriting:
            self.answer(HTTPFault(Error.SERVER, "Internal error").reply(), self.protection.data)
        elif not self.finished:
            self.channel.loseConnection()
        return reason

    def header(self, name: str) -> str | None:
        """The first value of a request header, any bytes of it."""
        values = self.requestHeaders.getRawHeaders(name.encode())
        return None if not values else values[0].decode("latin-1")

    @property
    def ident(self) -> str:
        """The request's id: the client's own or a new one, the same each time."""
        if not self._ident:
            values = self.requestHeaders.getRawHeaders(b"X-Request-ID", [])
            self._ident = ident_of(values[0].strip() if len(values) == 1 else None)
        return self._ident

    _ident = ""

    def joined(self, name: str) -> str | None:
        """All values of a request header, joined by commas."""
        values = self.requestHeaders.getRawHeaders(name.encode())
        return None if values is None else b",".join(values).decode("latin-1")

    def call(self) -> Call:
        """This request, as the API takes it."""
        headers: dict[bytes, list[bytes]] = {}
        for name, values in self.requestHeaders.getAllRawHeaders():
            headers[name.lower()] = list(values)
        body = b"" if self.content is None else self.content.read()
        peer = getattr(self.getClientAddress(), "host", "")
        return Call(self.method, self.path, self.uri.partition(b"?")[2], headers, body, peer)

    def answer_call(self, call: Call, reply: Reply) -> None:
        """Write the answer of the API."""
        for line in self.answers.lines(call).splitlines():
            name, _, value = line.partition(b": ")
            self.responseHeaders.setRawHeaders(name, [value])
        self.answer(reply, self.protection.data)

    def answer(self, reply: Reply, always: Mapping[str, str] | None = None) -> None:
        """Write the whole answer, compressed where that pays; a client that is gone needs none.

        :param always: the headers of every answer of its kind; those of long polling where nothing is said.
        """
        if self._disconnected:
            return
        if self.compress and len(reply.body) >= COMPRESS_FROM:
            reply = compressed(reply, self.joined("accept-encoding") or "")
        if always is None:
            always = self.protection.poll
        elif not self.responseHeaders.hasHeader(b"X-Request-ID"):
            self.responseHeaders.setRawHeaders(b"X-Request-ID", [self.ident.encode()])
        for name, value in always.items():
            self.responseHeaders.setRawHeaders(name.encode(), [value.encode()])
        self.setResponseCode(reply.status, HTTPStatus(reply.status).phrase.encode())
        headers = self.responseHeaders
        headers.setRawHeaders(b"Content-Type", [reply.content_type.encode()])
        if reply.status not in http.NO_BODY_CODES:
            headers.setRawHeaders(b"Content-Length", [b"%d" % len(reply.body)])
        for name, value in reply.headers.items():
            headers.setRawHeaders(name.encode(), [value.encode("latin-1")])
        if self.method != b"HEAD":
            self.write(reply.body)
        self.finish()

    def answer_whole(self, response: bytes) -> None:
        """Write an answer that another process has made, head and all."""
        if self._disconnected:
            return
        if not response:
            self.channel.loseConnection()
            return
        self.startedWriting = 1
        self.channel._send(response)
        self.finish()


@implementer(IHalfCloseableProtocol)
class RealtimeChannel(Deadlines, StrictHead, http.HTTPChannel):
    """One HTTP connection."""

    site: Any
    transport: Any
    _networkProducer: Any
    _refused = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels[self] = None

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """While this process lets its clients go, each answer is the last of its connection."""
        if self.one_request:
            return False
        if self.site.closing:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        return bool(super().checkPersistence(request, version))

    def hurry(self) -> None:
        """Have the GET that waits in the express lane answered now."""
        if self._polling is not None:
            self._polling.hurry()

    @property
    def idle(self) -> bool:
        """Is there no request on it?"""
        return not self.requests and self._polling is None

    def session_of_post(self) -> EngineSession | None:
        session: EngineSession | None = self.site.express.session_of(self._command, self._path)
        return session

    #: Whatever follows the first request is not read (an errand's connection, which its client knows nothing of).
    one_request = False
    _head = b""
    _host: Any = None
    _peer: Any = None

    def getHost(self) -> Any:
        """Asked for with every request, which would be a system call each."""
        if self._host is None:
            self._host = self.transport.getHost()
        return self._host

    def getPeer(self) -> Any:
        if self._peer is None:
            self._peer = self.transport.getPeer()
        return self._peer

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Keep the head until the body comes, so that both leave in one write."""
        lines = [b"%b %b %b\r\n" % (version, code, reason)]
        lines += [b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self._head = b"".join(lines) + b"\r\n"

    def write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self._send(head + data)

    def requestDone(self, request: Any) -> None:
        if self._head:
            self.write(b"")
        super().requestDone(request)

    #: Bytes that may come on a connection whose GET waits in the express lane.
    max_held: Final = 64 * 1024
    #: What the express lane made of the last request's headers.
    express_head: Any = None
    _polling: Any = None
    _held = b""

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if self._polling is not None:
            self._held += data
            if len(self._held) > self.max_held:
                self.transport.abortConnection()
            return
        if not self.requests and not self._buffer and not self._dataBuffer:
            poll = self.site.express.take(self, data)
            if poll is not None:
                self.setTimeout(None)
                return self._wait(poll)
            plain = self.site.plain.take(self, data)
            if plain is not None:
                return self._wait(plain)
        super().dataReceived(data)

    def _wait(self, poll: Any) -> None:
        self._polling = poll
        poll.begin()

    def express_done(self, poll: Any, response: bytes, keep: bool = True) -> None:
        """The answer to a request that was not parsed in full.

        :param keep: may another one follow? That it may not the answer says already.
        """
        if self._polling is not poll:
            return
        self._polling = None
        if not keep:
            self._send(response)
            self.loseConnection()
            return
        self.setTimeout(self.timeOut)
        if self.site.closing:
            self._send(response.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            self.loseConnection()
            return
        self._send(response)
        if self._held:
            held, self._held = self._held, b""
            self.callLater(0, lambda: self.dataReceived(held))

    def _send(self, response: bytes) -> None:
        write(self.transport, response)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        poll, self._polling = self._polling, None
        if poll is not None:
            poll.lost()
        self.site.channels.pop(self, None)
        super().connectionLost(reason)

    def lineReceived(self, line: bytes) -> None:
        if not self._refused:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self._refused:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if not self._refused:
            super().allContentReceived()

    def refuse(self, reply: Reply) -> None:
        """Answer at once and end the connection; what the client still sends is read and dropped for a while."""
        if self._refused:
            return
        self._refused = True
        phrase = HTTPStatus(reply.status).phrase
        always = dict(self.site.protection.data) | {"X-Request-ID": ident_of(None)}
        extra = "".join(f"{name}: {value}\r\n" for name, value in (always | dict(reply.headers)).items())
        head = (
            f"HTTP/1.1 {reply.status} {phrase}\r\nContent-Type: {reply.content_type}\r\n"
            f"Content-Length: {len(reply.body)}\r\nConnection: close\r\n{extra}\r\n"
        )
        self.transport.write(head.encode("latin-1") + reply.body)
        self.setTimeout(None)
        self._abortingCall = self.callLater(LINGER, self.forceAbortClient)
        self._networkProducer.unregisterProducer()
        if hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The answer to a refused request is out."""

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            # a Content-Length of thousands of digits is no number to Python
            self._respondToBadRequestAndDisconnect()
            return False

    def _send100Continue(self) -> None:
        if not self._refused:
            super()._send100Continue()

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(HTTPFault(Error.HEADERS_TOO_LARGE, "A header line is too long").reply())

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(HTTPFault(Error.VALIDATION, "Malformed HTTP request").reply())
