"""Who calls the API: the backend, an administrator, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Flag, auto
from hmac import compare_digest
from ipaddress import IPv4Network, IPv6Network, ip_address

from twisted.web.server import Request

from mechamap_rt.auth.jwt import bare
from mechamap_rt.core.identity import ADMIN
from mechamap_rt.errors import AuthRefused
from mechamap_rt.http.replies import Error, HTTPFault
from mechamap_rt.interfaces import IAuthenticator
from mechamap_rt.wire.forwarded import client_address

_FORWARDING = (b"X-Forwarded-For", b"X-Real-IP", b"Forwarded")


class Right(Flag):
    """What a caller may do."""

    NOTHING = 0
    PUBLISH = auto()
    ADMINISTER = auto()


class Keys:
    """Tells callers apart.

    :param api_key: the backend's key.
    :param admin_key: the administrators' key.
    :param allow_from: networks from which the site's broadcaster needs no key.
    :param hops: trusted proxies, and ``networks`` their addresses.
    """

    def __init__(
        self,
        *,
        api_key: str,
        admin_key: str,
        authenticator: IAuthenticator,
        allow_from: Sequence[IPv4Network | IPv6Network],
        hops: int,
        networks: Sequence[IPv4Network | IPv6Network],
    ) -> None:
        self._api_key = api_key.encode()
        self._admin_key = admin_key.encode()
        self._authenticator = authenticator
        self._allow_from = tuple(allow_from)
        self._hops = hops
        self._networks = tuple(networks)

    def address(self, request: Request) -> str:
        """The caller's address, as far as proxies are trusted to tell it."""
        peer = getattr(request.getClientAddress(), "host", "")
        lines = request.requestHeaders.getRawHeaders(b"X-Forwarded-For", [])
        forwarded = b",".join(lines).decode("latin-1")
        return client_address(peer, forwarded, self._hops, self._networks)

    async def rights(self, request: Request) -> Right:
        """What the keys and tokens of ``request`` allow.

        :raises HTTPFault: there is one, and it is wrong (401).
        """
        found = Right.NOTHING
        wrong = False
        for value in _values(request, b"X-WebSocket-API-Key"):
            wrong |= not (match := _same(value, self._api_key))
            found |= Right.PUBLISH if match else Right.NOTHING
        for value in _values(request, b"X-Admin-Key"):
            wrong |= not (match := _same(value, self._admin_key))
            found |= Right.PUBLISH | Right.ADMINISTER if match else Right.NOTHING
        for value in _values(request, b"Authorization"):
            right = await self._bearer(value)
            wrong |= right is None
            found |= right or Right.NOTHING
        if wrong and not found:
            raise HTTPFault(Error.UNAUTHORIZED, "The key or token is not valid", headers=_CHALLENGE)
        return found

    async def _bearer(self, value: bytes) -> Right | None:
        """What a Bearer value allows; ``None`` when it is neither a key nor a valid token."""
        if value[:7].lower() != b"bearer ":
            return None
        secret = value[7:].strip()
        if _same(secret, self._api_key):
            return Right.PUBLISH
        try:
            identity = await self._authenticator.authenticate(bare(secret.decode("latin-1")))
        except AuthRefused:
            return None
        if identity.rank >= ADMIN:
            return Right.PUBLISH | Right.ADMINISTER
        return Right.PUBLISH if "broadcast" in identity.permissions else Right.NOTHING

    async def require(self, request: Request, right: Right, *, keyless: bool = False) -> None:
        """Let the request pass, or not.

        :param keyless: no key is needed from the networks of the broadcaster.
        :raises HTTPFault: 401 without a valid key, 403 when a valid one does not allow this.
        """
        rights = await self.rights(request)
        if right in rights:
            return
        if rights or any(_values(request, name) for name in _CARRIERS):
            raise HTTPFault(Error.FORBIDDEN, "The key or token does not allow this")
        if keyless and self._from_backend(request):
            return
        raise HTTPFault(Error.UNAUTHORIZED, "A key is required", headers=_CHALLENGE)

    def _from_backend(self, request: Request) -> bool:
        """Does the request come from where the site's backend lives?

        A proxy that is not declared hides the caller's address behind its own, which may well be this host's: a request
        that names a forwarding header nobody is trusted to have set gets no privilege from its address.
        """
        if not (self._hops or self._networks) and any(request.requestHeaders.hasHeader(h) for h in _FORWARDING):
            return False
        try:
            address = ip_address(self.address(request))
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allow_from)


_CARRIERS = (b"X-WebSocket-API-Key", b"X-Admin-Key", b"Authorization")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="mechamap"'}


def _values(request: Request, name: bytes) -> Sequence[bytes]:
    return [value.strip() for value in request.requestHeaders.getRawHeaders(name, [])]


def _same(given: bytes, secret: bytes) -> bool:
    """Compared in constant time; an unset secret is never given."""
    return bool(secret) and compare_digest(given, secret)
