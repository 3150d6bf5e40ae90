"""The express lane: the GETs of long polling, answered without Twisted Web.

A polling client asks again after every answer, so that a published event costs one HTTP request for each. Parsing a
request in full costs some 100 µs; a GET of a known session needs four things of it, which are found here with a few
searches. Anything that is not plainly such a GET is left to the full parser.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from twisted.python.failure import Failure

from mechamap_rt.transport.engineio import EngineDoor
from mechamap_rt.transport.enginesession import EngineSession
from mechamap_rt.transport.handover import Forwarded, Handover
from mechamap_rt.wire import engineio
from mechamap_rt.wire.engineio import Refusal

#: Bytes from which an answer is compressed, for clients that accept it.
COMPRESS_FROM: Final = 1024

#: Bytes of headers that are looked at here.
MAX_HEAD: Final = 8192

_BEGIN: Final = b"GET /socket.io/?"
_SID = re.compile(rb"[?&]sid=([A-Za-z0-9_-]{20})[& ]")
_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]+)\r\n", re.IGNORECASE)
_ORIGIN = re.compile(rb"\r\norigin:[ \t]*([^\r\n]+)\r\n", re.IGNORECASE)
_ENCODING = re.compile(rb"\r\naccept-encoding:([^\r\n]*)", re.IGNORECASE)
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)
#: What follows the target in a request that every reader reads in the same way (RFC 9112 section 5).
_TAIL = re.compile(rb"HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_LINE = re.compile(rb"GET [!-~]+ ")
_JSONP = re.compile(rb"[?&]j=")
#: What makes a request one for the full parser.
_UNUSUAL = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|upgrade|expect|connection:[ \t]*close)|\r\n[ \t]|[\x00]", re.IGNORECASE
)


def accepts_gzip(header: str) -> bool:
    """Does ``Accept-Encoding`` name gzip, with a weight that is not 0 (RFC 9110 section 12.5.3)?"""
    match = _GZIP.search(header)
    return match is not None and (match[1] is None or match[1].strip("0.") != "")


class Head(NamedTuple):
    """The headers of a GET, and what they come to.

    :ivar tail: the request from its ``HTTP/1.1`` on.
    :ivar headers: the CORS headers of the answer.
    :ivar compress: does the client accept gzip?
    """

    tail: bytes
    headers: bytes
    compress: bool


class Express:
    """Takes the GETs of long polling off the channels of a site.

    :param compress: gzip answers of over :data:`COMPRESS_FROM` bytes.
    :param always: headers of every answer.
    """

    def __init__(self, door: EngineDoor, compress: bool, always: Mapping[str, str]) -> None:
        self._door = door
        self._compress = compress
        self._always = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in always.items())
        #: Reaches the sessions of other processes of the host.
        self.handover: Handover | None = None
        #: GETs answered here.
        self.served = 0

    def take(self, channel: Any, data: bytes) -> ExpressPoll | ForwardedPoll | None:
        """Take a whole request, if it is the GET of a session that is known and polling."""
        if not data.startswith(_BEGIN):
            return None
        line_end = data.find(b" HTTP/1.1\r\n")
        line, tail = data[: line_end + 1], data[line_end + 1 :]
        if _LINE.fullmatch(line) is None:
            return None
        sid = _SID.search(line)
        if sid is None or _JSONP.search(line) or b"transport=polling" not in line:
            return None
        name = sid[1].decode()
        session = self._door.sessions.get(name)
        owner = None
        if session is None:
            owner = None if self.handover is None else self.handover.owner(name)
            if owner is None:
                return None
        elif b"EIO=%d" % session.revision not in line:
            return None
        # the headers of one connection's requests are nearly always the same, byte for byte
        head: Head | None = channel.express_head
        if head is None or head.tail != tail:
            head = channel.express_head = self._read(tail)
            if head is None:
                return None
        self.served += 1
        if session is not None:
            return ExpressPoll(channel, session, head.headers, head.compress)
        assert owner is not None and self.handover is not None
        peer = getattr(channel.getPeer(), "host", "")
        return ForwardedPoll(channel, self.handover.forward(owner, data, peer))

    def _read(self, tail: bytes) -> Head | None:
        """What matters of the headers, if there is nothing unusual about them."""
        hosts = _HOST.findall(tail)
        host = _HOST.search(tail)
        if (
            host is None
            or len(hosts) != 1
            or _TAIL.fullmatch(tail) is None
            or len(tail) > MAX_HEAD
            or tail.find(b"\r\n\r\n") != len(tail) - 4
            or _UNUSUAL.search(tail)
        ):
            return None
        origin = _ORIGIN.search(tail)
        headers = self._always
        if origin is not None:
            text = origin[1].decode("latin-1").strip()
            if not self._door.origins.allows({"origin": text, "host": host[1].decode("latin-1")}):
                return None
            headers += b"".join(
                b"%b: %b\r\n" % (name.encode(), value.encode("latin-1"))
                for name, value in self._door.origins.headers(text).items()
            )
        encoding = _ENCODING.search(tail) if self._compress else None
        compress = encoding is not None and accepts_gzip(encoding[1].decode("latin-1"))
        return Head(tail, headers, compress)

    def session_of(self, method: bytes, uri: bytes) -> EngineSession | None:
        """The session that a POST which has just begun belongs to."""
        sid = _SID.search(uri + b" ") if method == b"POST" and uri.startswith(b"/socket.io/?") else None
        return None if sid is None else self._door.sessions.get(sid[1].decode())


class ExpressPoll:
    """A GET that waits in the express lane."""

    __slots__ = ("_channel", "_compress", "_headers", "session")

    def __init__(self, channel: Any, session: EngineSession, headers: bytes, compress: bool) -> None:
        self._channel = channel
        self.session = session
        self._headers = headers
        self._compress = compress

    def begin(self) -> None:
        self.session.poll(self)

    def lost(self) -> None:
        """The client has gone away."""
        self.session.poll_lost(self)

    def hurry(self) -> None:
        """Answer with nothing, if there is nothing: the client asks again, over another connection."""
        self.session.noop(self)

    def respond(self, payload: bytes) -> None:
        headers = self._headers
        if self._compress and len(payload) >= COMPRESS_FROM:
            payload = gzip.compress(payload, 4, mtime=0)
            headers += b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        self._write(b"200 OK", b"text/plain; charset=UTF-8", headers, payload)

    def refuse(self, refusal: Refusal) -> None:
        status = b"403 Forbidden" if refusal is engineio.FORBIDDEN else b"400 Bad Request"
        self._write(status, b"application/json; charset=utf-8", self._headers, refusal.body())

    def _write(self, status: bytes, kind: bytes, headers: bytes, body: bytes) -> None:
        self._channel.express_done(
            self,
            b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n%b\r\n%b"
            % (status, kind, len(body), headers, body),
        )


class ForwardedPoll:
    """A GET whose session is another process's: it waits there, and here for the answer."""

    __slots__ = ("_channel", "_forwarded")

    def __init__(self, channel: Any, forwarded: Forwarded) -> None:
        self._channel = channel
        self._forwarded = forwarded

    def begin(self) -> None:
        self._forwarded.answer.addCallbacks(self._answered, self._failed)

    def lost(self) -> None:
        """The client has gone away."""
        self._forwarded.drop()

    def hurry(self) -> None:
        self._forwarded.hurry()

    def _answered(self, response: bytes) -> None:
        if response:
            self._channel.express_done(self, response)
        else:
            self._channel.transport.abortConnection()

    def _failed(self, reason: Failure) -> None:
        """The session has gone with its process."""
        body = engineio.UNKNOWN_SID.body()
        head = (
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
        )
        self._channel.express_done(self, head % len(body) + body)
