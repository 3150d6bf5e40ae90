"""The site's own HTTP interface: whose token is it, and may its user hear a channel?"""

from __future__ import annotations

from collections import deque
from io import BytesIO
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS, IResponse
from zope.interface import implementer

from mechamap_rt.auth.breaker import Breaker
from mechamap_rt.auth.decisions import Decisions
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.identity import Identity
from mechamap_rt.errors import AuthRefused, Unavailable
from mechamap_rt.interfaces import IPolicy
from mechamap_rt.wire import json

_log = Logger()

#: Bytes of an answer; a longer one is not read.
MAX_ANSWER: Final = 65_536
#: Requests at the same time, and those that wait for one of them to end.
CONCURRENT: Final = 20
MAX_WAITING: Final = 2_000
#: Seconds that an unused connection is kept; less than servers keep theirs.
KEPT: Final = 30


class LaravelSite:
    """Asks the site.

    :param url: ``LARAVEL_API_URL``.
    :param key: shown to the site with ``verify-user``.
    :param timeout: seconds for a whole answer.
    :param policy: which certificates of the site are good; ``None`` for those the system trusts.
    """

    def __init__(self, reactor: Any, url: str, key: str, timeout: float, policy: IPolicyForHTTPS | None = None) -> None:
        self._reactor: IReactorTime = reactor
        self._url = url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = CONCURRENT
        self._pool.cachedConnectionTimeout = KEPT
        self._pool.retryAutomatically = False
        trust = {} if policy is None else {"contextFactory": policy}
        self._agent = Agent(reactor, pool=self._pool, connectTimeout=timeout, **trust)
        self.breaker = Breaker(reactor.seconds)
        self._running = 0
        self._queue: deque[Deferred[None]] = deque()
        #: Since the start.
        self.requests = self.failures = 0

    async def verify(self, token: str) -> dict[str, Any]:
        """The members of ``user`` in the answer of ``verify-user``.

        :raises AuthRefused: the site refuses the token.
        :raises Unavailable: it does not answer, or not as it should.
        """
        body = json.encode({"token": token})
        headers = {"X-WebSocket-API-Key": self._key, "Content-Type": "application/json"}
        status, answer = await self._post("/api/websocket-api/verify-user", headers, body)
        if status == 200:
            user = _user(answer)
            if user is None:
                raise self._strange(status)
            return user
        if status in (400, 401, 403, 422):
            raise AuthRefused(_reason(status, answer))
        raise self._strange(status)

    async def authorize(self, token: str, socket: str, channel: str) -> bool:
        """May the user of ``token`` hear ``channel``? What ``/broadcasting/auth`` says.

        :raises Unavailable: it says nothing.
        """
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"socket_id": socket, "channel_name": channel}).encode()
        status, _ = await self._post("/broadcasting/auth", headers, body)
        if status == 200:
            return True
        if status in (401, 403):
            return False
        raise self._strange(status)

    def _strange(self, status: int) -> Unavailable:
        # a wrong address or key of ours looks like this too, and only the log can say so
        _log.error("The site answered with {status} and not as it should", status=status)
        return Unavailable(f"the site answered with {status}")

    async def close(self) -> None:
        """Give the connections up."""
        await self._pool.closeCachedConnections()

    async def _post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        await self._turn()
        try:
            if not self.breaker.allows():
                raise Unavailable("the site has not answered lately")
            self.requests += 1
            try:
                status, answer = await self._exchange(path, headers, body)
            except Exception as error:
                self.failures += 1
                self.breaker.failed()
                _log.error("The site does not answer: {reason}", reason=type(error).__name__)
                raise Unavailable("the site does not answer") from None
            except BaseException:
                self.breaker.abandoned()
                raise
            if status >= 500:
                self.failures += 1
                self.breaker.failed()
            else:
                self.breaker.succeeded()
            return status, answer
        finally:
            self._done()

    async def _turn(self) -> None:
        """Wait until fewer than :data:`CONCURRENT` requests run."""
        if self._running < CONCURRENT:
            self._running += 1
            return
        if len(self._queue) >= MAX_WAITING:
            raise Unavailable("too many questions to the site wait")
        turn: Deferred[None] = Deferred()
        self._queue.append(turn)
        await turn

    def _done(self) -> None:
        if self._queue:
            self._queue.popleft().callback(None)
        else:
            self._running -= 1

    async def _exchange(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        try:
            return await self._request(path, headers, body)
        except (ResponseNeverReceived, ConnectionDone):
            # a connection that was kept, and that the site has closed meanwhile
            return await self._request(path, headers, body)

    def _request(self, path: str, headers: dict[str, str], body: bytes) -> Deferred[tuple[int, bytes]]:
        told = Headers({"User-Agent": ["mechamap_rt"], "Accept": ["application/json"]})
        for name, value in headers.items():
            told.addRawHeader(name, value)
        producer = FileBodyProducer(BytesIO(body))
        asked: Deferred[Any] = self._agent.request(b"POST", (self._url + path).encode(), told, producer)
        asked.addCallback(_read)
        return asked.addTimeout(self._timeout, self._reactor)


def _read(response: IResponse) -> Deferred[tuple[int, bytes]]:
    reader = _Reader(response.code)
    response.deliverBody(reader)
    return reader.done


class _Reader(protocol.Protocol):
    """Takes the body of an answer, up to :data:`MAX_ANSWER`."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._parts: list[bytes] = []
        self._size = 0
        self.done: Deferred[tuple[int, bytes]] = Deferred(lambda _: self._abort())

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            return self._abort()
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if self._size <= MAX_ANSWER and reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback((self._status, b"".join(self._parts)))
        else:
            self.done.errback(reason)


def _user(answer: bytes) -> dict[str, Any] | None:
    """``user``, wherever the site's versions have it."""
    found = _decoded(answer)
    if found.get("success") is False:
        raise AuthRefused("Invalid token")
    data = found.get("data")
    inner = data.get("data") if isinstance(data, dict) else None
    for place in (data, inner, found):
        if isinstance(place, dict) and isinstance(place.get("user"), dict):
            user: dict[str, Any] = place["user"]
            return user
    return None


def _decoded(answer: bytes) -> dict[str, Any]:
    try:
        found = json.decode(answer)
    except json.BadJSON:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(status: int, answer: bytes) -> str:
    """The site's refusal in the contract's words."""
    message = str(_decoded(answer).get("message", "")).lower()
    if "expired" in message:
        return "Token expired"
    if "active" in message or "banned" in message:
        return "User account is not active"
    return "Insufficient permissions" if status == 403 else "Invalid token"


class Decider(Protocol):
    """The site, asked about a channel."""

    async def authorize(self, token: str, socket: str, channel: str) -> bool:
        """May the user of ``token`` hear ``channel``?

        :raises Unavailable: it cannot be found out now.
        """


@implementer(IPolicy)
class LaravelPolicy:
    """Lets the site decide about every channel but the user's own one, which every connection has."""

    def __init__(self, site: Decider, decisions: Decisions) -> None:
        self._site = site
        self._decisions = decisions

    def may_subscribe(
        self, identity: Identity, channel: Channel, fresh: bool = False, socket: str = ""
    ) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._ask(identity, channel, fresh, socket))

    async def _ask(self, identity: Identity, channel: Channel, fresh: bool, socket: str) -> bool:
        if channel.resource == f"user.{identity.user_id}":
            return True
        known = None if fresh else self._decisions.known(identity, channel.name)
        if known is not None:
            return known
        if identity.bearer is None:
            return False
        era = self._decisions.era
        allowed = await self._site.authorize(identity.bearer, socket, channel.name)
        self._decisions.remember(identity, channel.name, allowed, era)
        return allowed

    def changes(self, channel: Channel) -> bool:
        # the site is not asked about everybody once a minute: it says itself when it takes a right away
        return False

    def forget(self, user_id: int | None = None, resource: str | None = None) -> None:
        names: list[str | None] = (
            [None] if resource is None else [resource, f"private-{resource}", f"presence-{resource}"]
        )
        for name in names:
            self._decisions.forget(user_id, name)
