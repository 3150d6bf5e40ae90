"""One HTTP request to the site, and its answer: over connections that are kept, in bounded time and space."""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakSet

from OpenSSL import SSL
from twisted.internet import protocol
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IConsumer, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import ParseError
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

#: Bytes of an answer; a longer one is not read.
MAX_ANSWER: Final = 65_536
#: Seconds that an unused connection is kept; less than servers keep theirs.
KEPT: Final = 30


class Exchange:
    """Sends requests. Redirects are not followed: who asks shows secrets, which are for this host alone.

    :param url: what all paths begin with.
    :param timeout: seconds for a whole answer.
    :param kept: connections that are kept.
    :param policy: which certificates are good; ``None`` for those the system trusts.
    """

    def __init__(self, reactor: Any, url: str, timeout: float, kept: int, policy: IPolicyForHTTPS | None) -> None:
        self._reactor: IReactorTime = reactor
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._policy = policy or BrowserLikePolicyForHTTPS()
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = kept
        self._pool.cachedConnectionTimeout = KEPT
        self._pool.retryAutomatically = False
        self._used: WeakSet[Any] = WeakSet()

    async def close(self) -> None:
        """Give the kept connections up."""
        await self._pool.closeCachedConnections()

    async def post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer.

        :raises CancelledError: nobody waits any more. Whatever else is raised: there is no answer, or half of one.
        """
        late = self._reactor.seconds() + self._timeout
        told = Headers({"User-Agent": ["mechamap_rt"], "Accept": ["application/json"]})
        for name, value in headers.items():
            told.addRawHeader(name, value)
        line = _Line(self._pool, self._used)
        try:
            return await self._request(line, path, told, body, self._timeout)
        except (ResponseNeverReceived, RequestTransmissionFailed, ResponseFailed) as failed:
            if not line.kept or (type(failed) is ResponseFailed and not failed.reasons[0].check(ParseError)):
                raise
        # the site has closed the connection meanwhile, perhaps all that were kept, or had more to say about the request
        # before than it should: once more, on a new one
        new = _Line(HTTPConnectionPool(self._reactor, persistent=False), self._used)
        return await self._request(new, path, told, body, max(late - self._reactor.seconds(), 0.001))

    def _request(
        self, line: _Line, path: str, headers: Headers, body: bytes, limit: float
    ) -> Deferred[tuple[int, bytes]]:
        """Fails with ``TimeoutError`` when it is late, and with ``CancelledError`` only when nobody waits any more."""
        agent = Agent(self._reactor, contextFactory=self._policy, connectTimeout=limit, pool=line)
        asked = agent.request(b"POST", (self._url + path).encode(), headers, _Body(body)).addCallback(_read, line)

        def give_up(answer: Deferred[tuple[int, bytes]]) -> None:
            # what Twisted's own parts fail with then depends on how far they are, and may look like a hang-up
            answer.errback(CancelledError())
            asked.cancel()

        answer: Deferred[tuple[int, bytes]] = Deferred(give_up)
        asked.addBoth(lambda result: None if answer.called else answer.callback(result))
        return answer.addTimeout(limit, self._reactor)


class _Line:
    """The pool of connections, as one request sees it: remembers which connection it got.

    :ivar kept: has the connection served others before?
    """

    def __init__(self, pool: HTTPConnectionPool, used: WeakSet[Any]) -> None:
        self._pool = pool
        self._used = used
        self._connection: Any = None
        self.kept = False
        self.persistent = pool.persistent

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        return self._pool.getConnection(key, _Quiet(endpoint)).addCallback(self._note)

    def _note(self, connection: Any) -> Any:
        self._connection = connection
        self.kept = connection in self._used
        self._used.add(connection)
        return connection

    def abort(self) -> None:
        """Break the connection: to end one in good order would take the other side, over TLS."""
        self._connection.transport.abortConnection()


@implementer(IStreamClientEndpoint)
class _Quiet:
    """An endpoint for a factory that does not log each connection's beginning and end."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        factory.noisy = False
        return self._endpoint.connect(factory)


@implementer(IBodyProducer)
class _Body:
    """What is sent, at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All of it has been sent."""

    resumeProducing = stopProducing = pauseProducing


def _read(response: IResponse, line: _Line) -> Deferred[tuple[int, bytes]]:
    reader = _Reader(response.code, line)
    response.deliverBody(reader)
    return reader.done


class _Reader(protocol.Protocol):
    """Takes the body of an answer, up to :data:`MAX_ANSWER`."""

    def __init__(self, status: int, line: _Line) -> None:
        self._status = status
        self._line = line
        self._parts: list[bytes] = []
        self._size = 0
        self.done: Deferred[tuple[int, bytes]] = Deferred(lambda _: line.abort())

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_ANSWER:
            self._parts.append(data)
        else:
            self._line.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if self._size > MAX_ANSWER:
            self.done.errback(AnswerTooLong())
        elif reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback((self._status, b"".join(self._parts)))
        else:
            self.done.errback(reason)


class AnswerTooLong(Exception):
    """The answer has more than :data:`MAX_ANSWER` bytes."""


def why(error: BaseException) -> str:
    """For the log. Only the text of what happens below HTTP: what the site says may repeat what it was told."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        error = reasons[0].value
    name = type(error).__name__
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return f"TLS: {'; '.join(str(part[-1]) for part in error.args[0]) or 'the connection was closed'}"
    return f"{name}: {error}" if isinstance(error, ConnectError | DNSLookupError) else name
