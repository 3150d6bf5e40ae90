"""Plain HTTP/1.x requests, found in one piece (RFC 9112): the quick way in for what nearly every client sends.

Only what can be read in one way is taken: a whole request in the bytes at hand, of one method with one length, no field
twice, nothing folded, encoded or to be upgraded. Everything else is left to a full parser, malformed requests too.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: Bytes of a request line and headers that are looked at here.
MAX_HEAD: Final = 8192

#: Method, path, query, minor version, fields. A field's value has no control character but the tab inside it.
_HEAD: Final = re.compile(
    rb"(GET|HEAD|POST|PUT) (/[!\"$-;=@-~]*)(?:\?([!-~]*))? HTTP/1\.([01])\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
_FIELD: Final = re.compile(rb"([^:\r\n]+):[ \t]*([^\r\n]*)\r\n")
#: ``host[:port]`` (RFC 9110 section 7.2), or nothing.
HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,10}")
#: What makes a request one for the full parser.
_UNUSUAL: Final = frozenset((b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"content-encoding"))
_PERSISTENT: Final = frozenset((b"keep-alive", b""))


class Plain(NamedTuple):
    """A plain request.

    :ivar path: as it was written, without the query.
    :ivar headers: by their names in lower case.
    :ivar keep: may another request follow on the connection (RFC 9112 section 9.3)?
    :ivar one_zero: is it of HTTP/1.0?
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep: bool
    one_zero: bool


def parse(data: bytes, max_body: int) -> Plain | None:
    """The request that ``data`` is, from its first byte to its last; ``None`` when it is not plainly that."""
    match = _HEAD.match(data, 0, MAX_HEAD)
    if match is None:
        return None
    method, path, query, minor, fields = match.groups()
    found = _FIELD.findall(fields)
    headers = {name.lower(): value.rstrip(b" \t") for name, value in found}
    if len(headers) != len(found) or not _UNUSUAL.isdisjoint(headers):
        return None
    one_zero = minor == b"0"
    host = headers.get(b"host")
    if not one_zero if host is None else HOST.fullmatch(host) is None:
        return None
    length = headers.get(b"content-length")
    if length is None:
        if method in (b"POST", b"PUT") or len(data) != match.end():
            return None
        body = b""
    else:
        body = data[match.end() :]
        if _LENGTH.fullmatch(length) is None or int(length) != len(body) or len(body) > max_body:
            return None
    connection = headers.get(b"connection", b"").lower()
    if connection not in _PERSISTENT and connection != b"close":
        return None
    keep = connection == b"keep-alive" if one_zero else connection != b"close"
    return Plain(method, path, query or b"", headers, body, keep, one_zero)
