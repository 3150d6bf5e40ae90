"""Who calls the API: the backend, an administrator, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Flag, auto
from hmac import compare_digest
from ipaddress import IPv4Network, IPv6Network, ip_network

from mechamap_rt.auth.jwt import bare
from mechamap_rt.core.identity import ADMIN
from mechamap_rt.errors import AuthRefused, Unavailable
from mechamap_rt.http.replies import Error, HTTPFault
from mechamap_rt.http.request import RealtimeRequest
from mechamap_rt.interfaces import IAuthenticator
from mechamap_rt.wire.forwarded import client_address, strict_client_address, within

#: Headers by which a proxy gives itself away.
_PROXIES = (
    b"Forwarded",
    b"Via",
    b"X-Real-IP",
    b"X-Forwarded-Host",
    b"X-Forwarded-Port",
    b"X-Forwarded-Proto",
    b"X-Client-IP",
    b"CF-Connecting-IP",
    b"True-Client-IP",
)
#: Headers by which a browser gives itself away.
_BROWSER = (b"Origin", b"Sec-Fetch-Site")
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1"))


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

    def address(self, request: RealtimeRequest) -> str:
        """The caller's address, as far as proxies are trusted to tell it."""
        peer = getattr(request.getClientAddress(), "host", "")
        return client_address(peer, request.joined("x-forwarded-for"), self._hops, self._networks)

    async def rights(self, request: RealtimeRequest) -> Right:
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
            identity = await self._authenticator.identify(bare(secret.decode("latin-1")))
        except AuthRefused:
            return None
        except Unavailable:
            raise HTTPFault(Error.UNAVAILABLE, "Temporarily unavailable", headers={"Retry-After": "2"}) from None
        if identity.token_id is not None:
            # a Sanctum token opens the realtime service to its user, and nothing else
            return Right.NOTHING
        if identity.rank >= ADMIN:
            return Right.PUBLISH | Right.ADMINISTER
        return Right.PUBLISH if "broadcast" in identity.permissions else Right.NOTHING

    async def require(self, request: RealtimeRequest, right: Right, *, keyless: bool = False) -> None:
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

    def _from_backend(self, request: RealtimeRequest) -> bool:
        """Does the request come, for certain, from where the site's backend lives?

        A proxy hides the caller's address behind its own, which may well be this host's. So an address counts only when
        nothing in the request speaks of a proxy, or when ``X-Forwarded-For`` comes from a proxy that is trusted: one in
        the declared networks, or, where only their number is declared, one on this host. A browser's page never counts.
        """
        if any(request.requestHeaders.hasHeader(name) for name in _BROWSER):
            return False
        peer = getattr(request.getClientAddress(), "host", "")
        forwarded = request.joined("x-forwarded-for")
        if forwarded is None:
            if any(request.requestHeaders.hasHeader(name) for name in _PROXIES):
                return False
        elif not (self._hops or self._networks) or not within(peer, self._networks or _LOOPBACK):
            return False
        address = strict_client_address(peer, forwarded, self._hops, self._networks)
        return address is not None and within(address, self._allow_from)


_CARRIERS = (b"X-WebSocket-API-Key", b"X-Admin-Key", b"Authorization")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="mechamap"'}


def _values(request: RealtimeRequest, name: bytes) -> Sequence[bytes]:
    return [value.strip() for value in request.requestHeaders.getRawHeaders(name, [])]


def _same(given: bytes, secret: bytes) -> bool:
    """Compared in constant time; an unset secret is never given."""
    return bool(secret) and compare_digest(given, secret)
