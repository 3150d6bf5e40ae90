"""One request to the API, by whichever way its bytes were read."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mechamap_rt.http.keys import Caller
    from mechamap_rt.http.limits import Standing

#: A request's id as a client may choose it (``X-Request-ID``); any other is replaced by one of ours.
_IDENT: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def ident_of(given: bytes | None) -> str:
    """The id of a request: the client's own, if it is one, or a new one of 16 hexadecimal digits."""
    if given is not None and _IDENT.fullmatch(given) is not None:
        return given.decode()
    return secrets.token_hex(8)


class Call:
    """A request whose head and body are here.

    :ivar path: as it was written, without the query.
    :ivar headers: every value, by the name in lower case.
    :ivar peer: the address at the other end of the connection; empty for a unix socket.
    :ivar ident: the request's id, in the answer's ``X-Request-ID`` and in the log.
    :ivar route: the pattern of the path, once it is found; for counting.
    :ivar caller: who makes it, as far as that is known already.
    :ivar standing: where the caller stands with the limit on requests, where there is one.
    :ivar variables: what the path has in the places of its route's variables.
    """

    __slots__ = (
        "body",
        "caller",
        "headers",
        "ident",
        "method",
        "path",
        "peer",
        "query",
        "route",
        "standing",
        "variables",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: Mapping[bytes, Sequence[bytes]],
        body: bytes,
        peer: str,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.peer = peer
        self.route = ""
        self.variables = _NOTHING
        self.caller: Caller | None = None
        self.standing: Standing | None = None
        given = headers.get(b"x-request-id")
        self.ident = ident_of(given[0] if given and len(given) == 1 else None)

    def has(self, name: bytes) -> bool:
        """Is there such a header? Names are in lower case."""
        return name in self.headers

    def values(self, name: bytes) -> Sequence[bytes]:
        """Every value of a header."""
        return self.headers.get(name, ())

    def header(self, name: bytes) -> str | None:
        """The first value of a header, any bytes of it."""
        values = self.headers.get(name)
        return None if not values else values[0].decode("latin-1")

    def joined(self, name: bytes) -> str | None:
        """All values of a header, joined by commas (RFC 9110 section 5.2)."""
        values = self.headers.get(name)
        return None if not values else b",".join(values).decode("latin-1")
