"""The site's own HTTP interface: whose token is it, and may its user hear a channel?"""

from __future__ import annotations

from typing import Any, Final, Protocol
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLate
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from mechamap_rt.auth.breaker import Breaker
from mechamap_rt.auth.decisions import Decisions
from mechamap_rt.auth.exchange import Exchange, why
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.identity import Identity, Member
from mechamap_rt.errors import EXPIRED, AuthRefused, Unavailable
from mechamap_rt.interfaces import IPolicy
from mechamap_rt.wire import json

_log = Logger()

#: Requests at the same time, and those that wait for one of them to end.
CONCURRENT: Final = 20
MAX_WAITING: Final = 2_000
#: How often the site is asked about one subscription while rights are taken away.
MAX_ATTEMPTS: Final = 3
#: Characters of a member's name or avatar, and members of presence channels whose are remembered.
MAX_TEXT: Final = 1_024
MAX_MEMBERS: Final = 50_000


class LaravelSite:
    """Asks the site.

    :param url: ``LARAVEL_API_URL``.
    :param key: shown to the site with ``verify-user``.
    :param timeout: seconds for a whole answer; no question waits longer for its turn, either.
    :param policy: which certificates of the site are good; ``None`` for those the system trusts.
    """

    def __init__(self, reactor: Any, url: str, key: str, timeout: float, policy: IPolicyForHTTPS | None = None) -> None:
        self._reactor: IReactorTime = reactor
        self._key = key
        self._timeout = timeout
        self._exchange = Exchange(reactor, url, timeout, CONCURRENT, policy)
        self.breaker = Breaker(reactor.seconds)
        self._running = 0
        #: Those that wait for their turn, the first first; a dict, so that one that gives up is found at once.
        self._queue: dict[Deferred[None], None] = {}
        self._admitting = False
        #: Since the start.
        self.requests = self.failures = 0

    async def verify(self, token: str) -> dict[str, Any]:
        """The members of ``user`` in the answer of ``verify-user``.

        :raises AuthRefused: the site refuses the token.
        :raises Unavailable: it does not answer, or not as it should.
        """
        body = json.encode({"token": token})
        headers = {"X-WebSocket-API-Key": self._key, "Content-Type": "application/json"}
        status, answer = await self._post("/api/websocket-api/verify-user", headers, body, 500)
        if status == 200:
            user = _user(answer)
            if user is None:
                raise self._strange(status)
            return user
        if status in (400, 401, 403, 422):
            if _is_about_key(answer):
                _log.error("The site does not know this server's LARAVEL_API_KEY: nobody can be authenticated")
                raise Unavailable("the site refuses the key")
            raise AuthRefused(_reason(status, answer))
        raise self._strange(status)

    async def authorize(self, token: str, socket: str, channel: str) -> Member | None:
        """May the user of ``token`` hear ``channel``? What ``/broadcasting/auth`` says.

        :raises Unavailable: it says nothing.
        """
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"socket_id": socket, "channel_name": channel}).encode()
        # 500 is what the site says when it stumbles over a name that a user made up: that is not everybody's affair
        status, answer = await self._post("/broadcasting/auth", headers, body, 501)
        if status == 200 and _is_json(answer):
            return _member(answer)
        if status in (401, 403):
            return None
        raise self._strange(status)

    def _strange(self, status: int) -> Unavailable:
        # a wrong address of ours looks like this too, and only the log can say so
        _log.error("The site answered with {status} and not as it should", status=status)
        return Unavailable(f"the site answered with {status}")

    async def close(self) -> None:
        """Give the connections up."""
        await self._exchange.close()

    async def _post(self, path: str, headers: dict[str, str], body: bytes, away: int) -> tuple[int, bytes]:
        """:param away: from this status on the site counts as one that does not answer."""
        await self._turn()
        try:
            admitted = self.breaker.admit()
            if admitted is None:
                raise Unavailable("the site has not answered lately")
            return await self._attempt(admitted, path, headers, body, away)
        finally:
            self._done()

    async def _attempt(
        self, admitted: int, path: str, headers: dict[str, str], body: bytes, away: int
    ) -> tuple[int, bytes]:
        self.requests += 1
        try:
            status, answer = await self._exchange.post(path, headers, body)
        except CancelledError:
            self.breaker.abandoned(admitted)
            raise
        except Exception as error:
            self.failures += 1
            self.breaker.failed(admitted)
            _log.error("The site does not answer: {reason}", reason=why(error))
            raise Unavailable("the site does not answer") from None
        except BaseException:
            self.breaker.abandoned(admitted)
            raise
        if status >= away:
            self.failures += 1
            self.breaker.failed(admitted)
        else:
            self.breaker.succeeded(admitted)
        return status, answer

    async def _turn(self) -> None:
        """Wait until fewer than :data:`CONCURRENT` requests run; :meth:`_done` must follow, unless this fails."""
        if self._running < CONCURRENT:
            self._running += 1
            return
        if self.breaker.refuses:
            raise Unavailable("the site has not answered lately")
        if len(self._queue) >= MAX_WAITING:
            raise Unavailable("too many questions to the site wait")
        # who gives up, or waits for too long, leaves the queue: a turn that nobody takes would never end
        turn: Deferred[None] = Deferred(lambda left: self._queue.pop(left, None))
        self._queue[turn] = None
        turn.addTimeout(self._timeout, self._reactor)
        try:
            await turn
        except TooLate:
            raise Unavailable("the site answers too slowly") from None

    def _done(self) -> None:
        self._running -= 1
        if self._admitting:
            return
        # in a loop: while the breaker is open each of those whose turn comes is done at once, and comes back to here
        self._admitting = True
        while self._queue and self._running < CONCURRENT:
            turn = next(iter(self._queue))
            del self._queue[turn]
            self._running += 1
            turn.callback(None)
        self._admitting = False


def _user(answer: bytes) -> dict[str, Any] | None:
    """``user``, wherever the site's versions have it."""
    found = _decoded(answer)
    if found.get("success") is False:
        raise AuthRefused(_reason(200, answer))
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


def _is_json(answer: bytes) -> bool:
    """Not a page for people, which proxies and sites in maintenance answer with; nothing at all is well too."""
    try:
        if answer:
            json.decode(answer)
    except json.BadJSON:
        return False
    return True


def _member(answer: bytes) -> Member:
    """What the site says of a presence channel's member: ``{name, avatar}``, by itself or where its broadcasters have
    it: ``{channel_data: {user_info: {..}}}``, whose first value may be a text."""
    found = _decoded(answer)
    data = found.get("channel_data", found)
    if isinstance(data, str):
        try:
            data = json.decode(data.encode())
        except (json.BadJSON, UnicodeEncodeError):
            data = {}
    info = data.get("user_info", data) if isinstance(data, dict) else {}
    name, avatar = (info.get(key) if isinstance(info, dict) else None for key in ("name", "avatar"))
    return Member(*(text if isinstance(text, str) and len(text) <= MAX_TEXT else None for text in (name, avatar)))


def _is_about_key(answer: bytes) -> bool:
    """Is it this server that the site refuses, and not the user?"""
    return "api key" in str(_decoded(answer).get("message", "")).lower()


def _reason(status: int, answer: bytes) -> str:
    """The site's refusal in the contract's words."""
    message = str(_decoded(answer).get("message", "")).lower()
    if "expired" in message:
        return EXPIRED
    if "active" in message or "banned" in message:
        return "User account is not active"
    return "Insufficient permissions" if status == 403 else "Invalid token"


class Decider(Protocol):
    """The site, asked about a channel."""

    async def authorize(self, token: str, socket: str, channel: str) -> Member | None:
        """May the user of ``token`` hear ``channel``? ``None`` is no.

        :raises Unavailable: it cannot be found out now.
        """


@implementer(IPolicy)
class LaravelPolicy:
    """Lets the site decide about every channel but the user's own one, which every connection has."""

    def __init__(self, site: Decider, decisions: Decisions) -> None:
        self._site = site
        self._decisions = decisions
        self._members: dict[tuple[int, str], Member] = {}

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
        for _ in range(MAX_ATTEMPTS):
            era = self._decisions.era
            member = await self._site.authorize(identity.bearer, socket, channel.name)
            # when somebody's rights were taken away meanwhile, perhaps this one's, what the site said may be older
            if era == self._decisions.era:
                break
        else:
            raise Unavailable("rights are being taken away")
        self._decisions.remember(identity, channel.name, member is not None, era)
        if channel.presence:
            self._members.pop((identity.user_id, channel.name), None)
            if member is not None and any(member):
                if len(self._members) >= MAX_MEMBERS:
                    del self._members[next(iter(self._members))]
                self._members[(identity.user_id, channel.name)] = member
        return member is not None

    @property
    def era(self) -> int:
        return self._decisions.era

    def member(self, identity: Identity, channel: Channel) -> tuple[str, str | None]:
        said = self._members.get((identity.user_id, channel.name), Member())
        return said.name or identity.name, said.avatar or identity.avatar

    def changes(self, channel: Channel) -> bool:
        # the site is not asked about everybody once a minute: it says itself when it takes a right away
        return False

    def forget(self, user_id: int | None = None, resource: str | None = None) -> None:
        names: list[str | None] = (
            [None] if resource is None else [resource, f"private-{resource}", f"presence-{resource}"]
        )
        for name in names:
            self._decisions.forget(user_id, name)
