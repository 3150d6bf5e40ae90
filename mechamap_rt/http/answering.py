"""Answers as bytes: what both ways of reading a request have in common when they write."""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from twisted.web.http import datetimeToString

from mechamap_rt.http.call import Call
from mechamap_rt.http.express import COMPRESS_FROM, accepts_gzip
from mechamap_rt.http.limits import RateLimits
from mechamap_rt.http.replies import Reply

_LINES: Final = {status.value: b"%d %b" % (status.value, status.phrase.encode()) for status in HTTPStatus}


def compressed(reply: Reply, accepted: str) -> Reply:
    """The answer gzipped, if it is long enough and ``Accept-Encoding`` says that it may be."""
    if len(reply.body) < COMPRESS_FROM or not accepts_gzip(accepted):
        return reply
    extra = dict(reply.headers) | {"Content-Encoding": "gzip"}
    extra["Vary"] = ", ".join(filter(None, (extra.get("Vary"), "Accept-Encoding")))
    return replace(reply, body=gzip.compress(reply.body, 4, mtime=0), headers=extra)


class Answers:
    """Writes answers of the API.

    :param headers: of every answer.
    :param compress: gzip longer ones for clients that accept it.
    :param limits: on requests, which have headers of their own.
    """

    def __init__(self, headers: Mapping[str, str], compress: bool, limits: RateLimits | None = None) -> None:
        self.headers = headers
        self.compress = compress
        self._limits = limits
        self._always = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in headers.items())
        self._second = 0
        self._date = b""

    def lines(self, call: Call) -> bytes:
        """The lines of the head that depend on the request: its id, and where its caller stands."""
        ident = b"X-Request-ID: %b\r\n" % call.ident.encode()
        if call.standing is None or self._limits is None:
            return ident
        return ident + self._limits.headers(call.standing)

    def whole(self, call: Call, reply: Reply, *, keep: bool, one_zero: bool) -> bytes:
        """Head and body.

        :param keep: does the connection go on?
        :param one_zero: is the client of HTTP/1.0, to which that has to be said?
        """
        if self.compress and len(reply.body) >= COMPRESS_FROM:
            reply = compressed(reply, call.joined(b"accept-encoding") or "")
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = b"Date: %b\r\n" % datetimeToString(now)
        extra = b"".join(
            b"%b: %b\r\n" % (name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()
        )
        if not keep:
            extra += b"Connection: close\r\n"
        elif one_zero:
            extra += b"Connection: keep-alive\r\n"
        if reply.status != 204:
            extra += b"Content-Length: %d\r\n" % len(reply.body)
        return b"HTTP/1.1 %b\r\n%bContent-Type: %b\r\n%b%b%b\r\n%b" % (
            _LINES[reply.status],
            self._date,
            reply.content_type.encode(),
            self._always,
            self.lines(call),
            extra,
            b"" if call.method == b"HEAD" else reply.body,
        )
