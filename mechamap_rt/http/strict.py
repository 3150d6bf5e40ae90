"""One way to read a request: what two readers could take for two different things is refused (RFC 9112 section 11.2).

Twisted's parser refuses most of it; here is the rest. Whoever is refused gets a 400, and its connection ends.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.wire.http import HOST

#: What no head contains: NUL, and a line end that is only half of one (RFC 9112 section 2.2).
_BROKEN = re.compile(rb"\x00|(?<!\r)\n|\r(?!\n|\Z)")
#: A target in absolute form (RFC 9112 section 3.2.2).
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^#]*|\?[^#]*)?", re.IGNORECASE)

_AMBIGUOUS: Final = HTTPFault(Error.VALIDATION, "Malformed HTTP request").reply()
_ONE_HOST: Final = HTTPFault(Error.VALIDATION, "A request names its host, once", [("Host", "required")]).reply()

if TYPE_CHECKING:
    from twisted.web.http import HTTPChannel as _Channel
else:
    _Channel = object


class StrictHead(_Channel):
    """The part of a channel that reads heads with suspicion."""

    _path: bytes
    _version: bytes
    _command: bytes
    _refused: bool

    if TYPE_CHECKING:

        def refuse(self, reply: Reply) -> None: ...

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        # what is left of a head has no whole line in it: a line end there would never become one
        if self.line_mode:
            if self._buffer and _BROKEN.search(self._buffer):
                self.refuse(_AMBIGUOUS)
        elif self._transferDecoder is not None and self.length is None:
            self._check_chunks(self._transferDecoder)

    def _check_chunks(self, decoder: Any) -> None:
        """The same for what stands between the chunks (RFC 9112 section 7.1); and for what one announces."""
        if decoder.state in ("CHUNK_LENGTH", "TRAILER"):
            if _BROKEN.search(decoder._buffer):
                self.refuse(_AMBIGUOUS)
        elif decoder.length > self.requests[-1].max_body:
            self.refuse(self.requests[-1].too_large())

    def allContentReceived(self) -> None:
        for line in getattr(self._transferDecoder, "_trailerHeaders", ()):
            if _BROKEN.search(line) or b":" not in line:
                self.refuse(_AMBIGUOUS)
                return
        super().allContentReceived()

    def lineReceived(self, line: bytes) -> None:
        if line[:1] in (b" ", b"\t"):
            # a folded line, or one before the first header (RFC 9112 sections 2.2 and 5.2)
            self.refuse(_AMBIGUOUS)
            return
        super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        if name.lower() == b"transfer-encoding" and (
            self._version != b"HTTP/1.1" or value.strip(b" \t").lower() != b"chunked"
        ):
            # another coding, two of them, or a version that has none (RFC 9112 sections 6.1 and 6.3)
            self.refuse(_AMBIGUOUS)
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        if self._refused:
            return
        headers: Any = self.requests[-1].requestHeaders
        hosts = headers.getRawHeaders(b"Host", [])
        if len(hosts) > 1 or (not hosts and self._version == b"HTTP/1.1") or not all(map(HOST.fullmatch, hosts)):
            self.refuse(_ONE_HOST)
            return
        absolute = _ABSOLUTE.fullmatch(self._path)
        if absolute is not None and HOST.fullmatch(absolute[1]):
            # the target's host is the one that counts
            headers.setRawHeaders(b"Host", [absolute[1]])
            target = absolute[2] or b"/"
            self._path = target if target.startswith(b"/") else b"/" + target
        elif not self._path.startswith(b"/") and (self._path, self._command) != (b"*", b"OPTIONS"):
            self.refuse(_AMBIGUOUS)
            return
        super().allHeadersReceived()
