"""Requests of the site: bounded bodies, JSON errors, no word about the software behind."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from zope.interface import implementer

from mechamap_rt.http.replies import Error, HTTPFault, Reply

_log = Logger()

#: Seconds in which what a refused client goes on sending is read and dropped, so that it can read the answer.
LINGER: Final = 3.0


class RealtimeRequest(server.Request):
    """One request.

    :ivar max_body: bytes of a body; a longer one is answered with 413 before it is read.
    :ivar variables: what the path has in the places of its route's variables.
    """

    channel: RealtimeChannel
    max_body = 1_000_000
    variables: Mapping[str, str] = MappingProxyType({})
    _received = 0

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > self.max_body:
            self.channel.refuse(_too_large(self.max_body))
            return
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.max_body:
            self.channel.refuse(_too_large(self.max_body))
            return
        super().handleContentChunk(data)

    def process(self) -> None:
        """Find the resource and render it, as the base class does, without its ``Server`` header."""
        self.site = self.channel.site
        self.setHeader(b"Date", http.datetimeToString())
        self.prepath = []
        self.postpath = [unquote_to_bytes(part) for part in self.path[1:].split(b"/")]
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        _log.failure("A request failed unexpectedly: {method} {path}", reason, method=self.method, path=self.path)
        if not self.startedWriting:
            self.answer(HTTPFault(Error.SERVER, "Internal error").reply())
        elif not self.finished:
            self.channel.loseConnection()
        return reason

    def answer(self, reply: Reply) -> None:
        """Write the whole answer; a client that is gone needs none."""
        if self._disconnected:
            return
        self.setResponseCode(reply.status)
        headers = self.responseHeaders
        headers.setRawHeaders(b"Content-Type", [reply.content_type.encode()])
        headers.setRawHeaders(b"Content-Length", [b"%d" % len(reply.body)])
        for name, value in reply.headers.items():
            headers.setRawHeaders(name.encode(), [value.encode()])
        if self.method != b"HEAD":
            self.write(reply.body)
        self.finish()


def _too_large(limit: int) -> Reply:
    return HTTPFault(Error.TOO_LARGE, f"A body has at most {limit} bytes").reply()


@implementer(IHalfCloseableProtocol)
class RealtimeChannel(http.HTTPChannel):
    """One HTTP connection."""

    site: Any
    transport: Any
    _networkProducer: Any
    _refused = False

    def dataReceived(self, data: bytes) -> None:
        if not self._refused:
            super().dataReceived(data)

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
        head = (
            f"HTTP/1.1 {reply.status} {phrase}\r\nContent-Type: {reply.content_type}\r\n"
            f"Content-Length: {len(reply.body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + reply.body)
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

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(HTTPFault(Error.HEADERS_TOO_LARGE, "A header line is too long").reply())

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(HTTPFault(Error.VALIDATION, "Malformed HTTP request").reply())
