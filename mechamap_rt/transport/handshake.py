"""What the handshakes of all protocols have in common: who asks, from where, with which token, and may they come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from mechamap_rt.auth.jwt import bare
from mechamap_rt.errors import Code, Disconnect
from mechamap_rt.transport.lobby import Lobby, Rejected, Visit
from mechamap_rt.wire import json

_PREFLIGHT_AGE: Final = "600"


class Handshake(NamedTuple):
    """A request that wants to begin, or to go on with, a session.

    :ivar address: the client's address.
    :ivar path: without the query.
    :ivar query: the first value of every parameter.
    :ivar headers: by lower-case name.
    :ivar subprotocols: the WebSocket subprotocols the client offered.
    """

    address: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    subprotocols: tuple[str, ...] = ()


class Denied(Exception):
    """A handshake is refused with an HTTP status and a JSON body."""

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers


class Credentials(NamedTuple):
    """The tokens that came with the handshake, in the order in which they are looked at."""

    header: str | None
    query: str | None

    def first(self) -> str | None:
        return self.header or self.query


def credentials(handshake: Handshake) -> Credentials:
    header = handshake.headers.get("authorization", "")
    token = bare(header) if header[:7].lower() == "bearer " else None
    return Credentials(token, bare(handshake.query.get("token")))


def enter(lobby: Lobby, handshake: Handshake) -> Visit:
    """Count a transport in; the session must count it out.

    :raises Denied: so many are over a limit that telling one more is too dear.
    """
    try:
        return lobby.enter(handshake.address)
    except Rejected as rejected:
        body = {"success": False, "error": Code.RATE_LIMITED, "message": str(rejected)}
        status = 503 if rejected.reason is Disconnect.GLOBAL_LIMIT else 429
        raise Denied(status, json.encode(body), (("Retry-After", "30"),)) from None


class Origins:
    """Whose pages may connect (``CORS_ORIGIN``).

    :param allowed: origins such as ``https://example.org``, or ``*``.
    :param credentials: may those pages send cookies?
    """

    def __init__(self, allowed: tuple[str, ...], credentials: bool) -> None:
        self._allowed = frozenset(origin.lower() for origin in allowed)
        self._any = "*" in allowed
        self._credentials = credentials

    def allows(self, headers: Mapping[str, str]) -> bool:
        """May a page with this ``Origin`` connect? What is no page has none; a page of this host always may."""
        origin = headers.get("origin")
        if origin is None or self._any:
            return True
        origin = origin.strip().lower()
        host = headers.get("host", "").strip().lower()
        return origin in self._allowed or (host != "" and _authority(origin) == host)

    def headers(self, origin: str | None) -> dict[str, str]:
        """The CORS headers of an answer to a page of ``origin``."""
        if origin is None:
            return {}
        if self._any and not self._credentials:
            return {"Access-Control-Allow-Origin": "*"}
        headers = {"Vary": "Origin"}
        if self._any or origin.strip().lower() in self._allowed:
            headers["Access-Control-Allow-Origin"] = origin
            if self._credentials:
                headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def preflight(self, origin: str | None, requested: str | None) -> dict[str, str]:
        """The headers of an answer to ``OPTIONS``.

        :param requested: ``Access-Control-Request-Headers``.
        """
        headers = self.headers(origin)
        if "Access-Control-Allow-Origin" in headers:
            headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            headers["Access-Control-Allow-Headers"] = requested or "Authorization, Content-Type"
            headers["Access-Control-Max-Age"] = _PREFLIGHT_AGE
        return headers


def _authority(origin: str) -> str:
    """Host and port of an origin; a default port is left out, as browsers leave it out of ``Host``."""
    scheme, _, authority = origin.partition("://")
    return authority.removesuffix(":443" if scheme == "https" else ":80")
