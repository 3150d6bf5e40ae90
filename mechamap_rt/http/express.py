"""The express lane: the GETs of long polling, answered without Twisted Web.

A polling client asks again after every answer, so that a published event costs one HTTP request for each. Parsing a
request in full costs some 100 µs; a GET of a known session needs four things of it, which are found here with a few
searches. Anything that is not plainly such a GET is left to the full parser.
"""

from __future__ import annotations

import gzip
import re
from typing import Any, Final

from mechamap_rt.transport.engineio import EngineDoor
from mechamap_rt.transport.enginesession import EngineSession
from mechamap_rt.wire import engineio
from mechamap_rt.wire.engineio import Refusal

#: Bytes from which an answer is compressed, for clients that accept it.
COMPRESS_FROM: Final = 1024

_BEGIN: Final = b"GET /socket.io/?"
_SID = re.compile(rb"[?&]sid=([A-Za-z0-9_-]{20})[& ]")
_ORIGIN = re.compile(rb"\r\norigin:[ \t]*([^\r\n]+)\r\n", re.IGNORECASE)
_ENCODING = re.compile(rb"\r\naccept-encoding:([^\r\n]*)", re.IGNORECASE)
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)
_JSONP = re.compile(rb"[?&]j=")
#: What makes a request one for the full parser.
_UNUSUAL = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|upgrade|expect|connection:[ \t]*close)|\r\n[ \t]|[\x00]", re.IGNORECASE
)


def accepts_gzip(header: str) -> bool:
    """Does ``Accept-Encoding`` name gzip, with a weight that is not 0 (RFC 9110 section 12.5.3)?"""
    match = _GZIP.search(header)
    return match is not None and (match[1] is None or match[1].strip("0.") != "")


class Express:
    """Takes the GETs of long polling off the channels of a site.

    :param compress: gzip answers of over :data:`COMPRESS_FROM` bytes.
    """

    def __init__(self, door: EngineDoor, compress: bool) -> None:
        self._door = door
        self._compress = compress
        #: GETs answered here.
        self.served = 0

    def take(self, channel: Any, data: bytes) -> ExpressPoll | None:
        """Take a whole request, if it is the GET of a session that is known and polling."""
        if not data.startswith(_BEGIN) or not data.endswith(b"\r\n\r\n") or data.count(b"\r\n\r\n") != 1:
            return None
        line_end = data.find(b" HTTP/1.1\r\n")
        sid = _SID.search(data, 0, line_end + 1)
        if sid is None or _JSONP.search(data, 0, line_end):
            return None
        if b"transport=polling" not in data[:line_end] or _UNUSUAL.search(data, line_end):
            return None
        session = self._door.sessions.get(sid[1].decode())
        if session is None or b"EIO=%d" % session.revision not in data[:line_end]:
            return None
        origin = _ORIGIN.search(data, line_end)
        headers = b""
        if origin is not None:
            text = origin[1].decode("latin-1").strip()
            host = _HOST.search(data, line_end)
            if not self._door.origins.allows({"origin": text, "host": host[1].decode("latin-1") if host else ""}):
                return None
            headers = b"".join(
                b"%b: %b\r\n" % (name.encode(), value.encode("latin-1"))
                for name, value in self._door.origins.headers(text).items()
            )
        encoding = _ENCODING.search(data, line_end) if self._compress else None
        compress = encoding is not None and accepts_gzip(encoding[1].decode("latin-1"))
        self.served += 1
        return ExpressPoll(channel, session, headers, compress)

    def session_of(self, method: bytes, uri: bytes) -> EngineSession | None:
        """The session that a POST which has just begun belongs to."""
        sid = _SID.search(uri + b" ") if method == b"POST" and uri.startswith(b"/socket.io/?") else None
        return None if sid is None else self._door.sessions.get(sid[1].decode())


_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]+)\r\n", re.IGNORECASE)


class ExpressPoll:
    """A GET that waits in the express lane."""

    __slots__ = ("_channel", "_compress", "_headers", "session")

    def __init__(self, channel: Any, session: EngineSession, headers: bytes, compress: bool) -> None:
        self._channel = channel
        self.session = session
        self._headers = headers
        self._compress = compress

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
