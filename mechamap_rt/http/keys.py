"""Who calls the API: the backend, an administrator, or nobody."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from enum import Flag, auto
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple

from twisted.logger import Logger

from mechamap_rt.auth.jwt import bare
from mechamap_rt.auth.keyring import KeyRing
from mechamap_rt.core.identity import ADMIN
from mechamap_rt.core.limits import Buckets
from mechamap_rt.errors import AuthRefused, Unavailable
from mechamap_rt.http.call import Call
from mechamap_rt.http.replies import Error, HTTPFault
from mechamap_rt.interfaces import IAuthenticator
from mechamap_rt.system.rates import RateTable
from mechamap_rt.wire.forwarded import client_address, household, strict_client_address, within

_log = Logger()

#: Seconds over which wrong keys are counted, and for which an address that had the right one is listened to.
FAILURE_WINDOW: Final = 60.0
TRUSTED_FOR: Final = 3600.0
#: Addresses that are known to have had the right key.
MAX_TRUSTED: Final = 10_000
#: Lines about wrong keys that the log gets a minute.
LINES_PER_MINUTE: Final = 60

#: Headers by which a proxy gives itself away.
_PROXIES: Final = (
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-client-ip",
    b"cf-connecting-ip",
    b"true-client-ip",
)
#: Headers by which a browser gives itself away.
_BROWSER: Final = (b"origin", b"sec-fetch-site")
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1"))
_API_KEY, _ADMIN_KEY, _BEARER = b"x-websocket-api-key", b"x-admin-key", b"authorization"
_CARRIERS: Final = {_API_KEY: "X-WebSocket-API-Key", _ADMIN_KEY: "X-Admin-Key", _BEARER: "Authorization"}
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="mechamap"'}

Networks = Sequence[IPv4Network | IPv6Network]


class Right(Flag):
    """What a caller may do."""

    NOTHING = 0
    PUBLISH = auto()
    ADMINISTER = auto()


class Caller(NamedTuple):
    """Who calls.

    :ivar kind: ``api_key``, ``admin_key``, ``jwt``, ``backend`` (by its address), or ``nobody``.
    :ivar user_id: of a token.
    :ivar fingerprint: of a key.
    """

    right: Right
    kind: str
    user_id: int | None = None
    fingerprint: str | None = None


_NOBODY: Final = Caller(Right.NOTHING, "nobody")
_BACKEND: Final = Caller(Right.PUBLISH, "backend")


class Keys:
    """Tells callers apart.

    :param api_keys: the backend's: the current one, and those that are still accepted.
    :param admin_keys: the administrators', likewise.
    :param allow_from: networks from which the site's broadcaster needs no key.
    :param hops: trusted proxies, and ``networks`` their addresses.
    :param rates: counts wrong keys, over all processes of the host.
    :param failures: wrong keys of an address a minute that are looked at; 0 for any number.
    """

    def __init__(
        self,
        *,
        api_keys: Sequence[str],
        admin_keys: Sequence[str],
        authenticator: IAuthenticator,
        allow_from: Networks,
        hops: int,
        networks: Networks,
        rates: RateTable,
        failures: int,
    ) -> None:
        self._by_api_key = _Lock(api_keys, Right.PUBLISH, "api_key")
        self._by_admin_key = _Lock(admin_keys, Right.PUBLISH | Right.ADMINISTER, "admin_key")
        self._authenticator = authenticator
        self._allow_from = tuple(allow_from)
        self._hops = hops
        self._networks = tuple(networks)
        self._rates = rates
        self._failures = failures
        self._trusted: dict[str, float] = {}
        self._lines = Buckets(LINES_PER_MINUTE, time.monotonic)
        #: Wrong keys and tokens since the start.
        self.failed = 0

    # who is it

    def address(self, call: Call) -> str:
        """The caller's address, as far as proxies are trusted to tell it."""
        return client_address(call.peer, call.joined(b"x-forwarded-for"), self._hops, self._networks)

    def account(self, call: Call) -> str:
        """Who is counted for a request: a valid key, or else the address."""
        keyed = self._by_key(call)
        return f"key {keyed.kind}" if keyed.right else "address " + household(self.address(call))

    def _by_key(self, call: Call) -> Caller:
        """Who calls, by a key: found out once."""
        found = call.caller
        if found is None:
            if _ADMIN_KEY in call.headers:
                found = self._by_admin_key.opened(call.headers[_ADMIN_KEY][0])
            if found is None and _API_KEY in call.headers:
                found = self._by_api_key.opened(call.headers[_API_KEY][0])
            if found is None and _BEARER in call.headers:
                found = self._by_api_key.opened(_secret(call.headers[_BEARER][0]))
            found = call.caller = found or _NOBODY
        return found

    async def caller(self, call: Call) -> Caller:
        """Who calls, by the keys and the token of ``call``.

        :raises HTTPFault: there is a key or token, and none that is valid (401), several of one kind (400), or the
            address has had too many wrong ones (429).
        """
        self.single(call)
        given = [name for name in _CARRIERS if name in call.headers]
        if not given:
            return _NOBODY
        self.guard(call)
        found: Caller | None = self._by_key(call)
        if found is _NOBODY:
            found = await self._by_token(call) if _BEARER in call.headers else None
        if found is None:
            self.refused(call, ", ".join(_CARRIERS[name] for name in given))
            raise HTTPFault(Error.UNAUTHORIZED, "The key or token is not valid", headers=CHALLENGE)
        call.caller = found
        if found.right:
            self._trust(call)
        return found

    def single(self, call: Call) -> None:
        """Of each kind of key or token there may be one: each that is looked at may cost a question to the database.

        :raises HTTPFault: 400.
        """
        for name, title in _CARRIERS.items():
            if len(call.values(name)) > 1:
                raise HTTPFault(Error.VALIDATION, "The request is not valid", [(title, "one value only")])

    async def _by_token(self, call: Call) -> Caller | None:
        """Who calls, by a token; ``None`` when it is not valid."""
        secret = _secret(call.values(_BEARER)[0])
        if not secret:
            return None
        try:
            identity = await self._authenticator.identify(bare(secret.decode("latin-1")))
        except AuthRefused:
            return None
        except Unavailable:
            raise HTTPFault(Error.UNAVAILABLE, "Temporarily unavailable", headers={"Retry-After": "2"}) from None
        right = Right.NOTHING
        # a Sanctum token opens the realtime service to its user, and nothing else
        if identity.token_id is None:
            if identity.rank >= ADMIN:
                right = Right.PUBLISH | Right.ADMINISTER
            elif "broadcast" in identity.permissions:
                right = Right.PUBLISH
        return Caller(right, "jwt", identity.user_id)

    async def require(self, call: Call, right: Right, *, keyless: bool = False) -> Caller:
        """Let the request pass, or not; who makes it.

        :param keyless: no key is needed from the networks of the broadcaster.
        :raises HTTPFault: 401 without a valid key, 403 when a valid one does not allow this, and as :meth:`caller`.
        """
        caller = await self.caller(call)
        if right in caller.right:
            return caller
        if caller.kind == "api_key" and _BEARER in call.headers:
            # an administrator's token beside the backend's key
            token = await self._by_token(call)
            if token is not None and right in token.right:
                return token
        if caller is not _NOBODY:
            raise HTTPFault(Error.FORBIDDEN, "The key or token does not allow this")
        if keyless and self.within(call, self._allow_from):
            return _BACKEND
        raise HTTPFault(Error.UNAUTHORIZED, "A key is required", headers=CHALLENGE)

    def within(self, call: Call, allowed: Networks) -> bool:
        """Does the request come, for certain, from one of these networks?

        A proxy hides the caller's address behind its own, which may well be this host's. So an address counts only when
        nothing in the request speaks of a proxy, or when ``X-Forwarded-For`` comes from a proxy that is trusted: one in
        the declared networks, or, where only their number is declared, one on this host. A browser's page never counts.
        """
        if any(name in call.headers for name in _BROWSER):
            return False
        forwarded = call.joined(b"x-forwarded-for")
        if forwarded is None:
            if any(name in call.headers for name in _PROXIES):
                return False
        elif not (self._hops or self._networks) or not within(call.peer, self._networks or _LOOPBACK):
            return False
        address = strict_client_address(call.peer, forwarded, self._hops, self._networks)
        return address is not None and within(address, allowed)

    # wrong keys

    def guard(self, call: Call) -> None:
        """Look at no more keys of an address that has had too many wrong ones.

        An address from which the right key came lately is looked at all the same: behind one proxy or NAT a stranger
        must not be able to lock the backend out.

        :raises HTTPFault: 429.
        """
        if not self._failures:
            return
        address = household(self.address(call))
        count, seconds = self._rates.count("failed " + address)
        if count < self._failures or self._is_trusted(address):
            return
        wait = max(1, math.ceil(seconds))
        raise HTTPFault(Error.RATE_LIMITED, "Too many wrong keys from this address", headers={"Retry-After": str(wait)})

    def refused(self, call: Call, what: str) -> None:
        """A key or token was wrong; the log hears of it, and not of the secret."""
        self.failed += 1
        address = self.address(call)
        count = self._rates.take("failed " + household(address), FAILURE_WINDOW).number if self._failures else 0
        if not self._lines.take("failed"):
            _log.warn(
                "Wrong {what} from {address} for {method} {path} (request {request}, the {count}. of this address)",
                what=what,
                address=address,
                method=call.method.decode("latin-1"),
                path=call.path.decode("latin-1"),
                request=call.ident,
                count=count,
            )

    def _trust(self, call: Call) -> None:
        """Remember where the right key came from, on all processes of the host."""
        if not self._failures:
            return
        address, now = household(self.address(call)), time.monotonic()
        if self._trusted.get(address, 0.0) > now:
            return
        self._rates.take("trusted " + address, TRUSTED_FOR)
        self._trusted[address] = now + TRUSTED_FOR / 2
        if len(self._trusted) > MAX_TRUSTED:
            del self._trusted[next(iter(self._trusted))]

    def _is_trusted(self, address: str) -> bool:
        return self._rates.count("trusted " + address).number > 0


def _secret(authorization: bytes) -> bytes:
    """What follows ``Bearer``; nothing where it is another scheme."""
    return authorization[7:].strip() if authorization[:7].lower() == b"bearer " else b""


class _Lock:
    """What the keys of one kind open; an unset one opens nothing."""

    def __init__(self, keys: Sequence[str], right: Right, kind: str) -> None:
        self._ring = KeyRing(keys)
        self._callers = [Caller(right, kind, None, mark) for mark in self._ring.fingerprints]

    def opened(self, given: bytes) -> Caller | None:
        found = self._ring.find(given.strip())
        return None if found is None else self._callers[found]
