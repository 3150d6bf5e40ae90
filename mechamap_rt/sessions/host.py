"""The session store of a host: the master counts, its workers ask over a stream.

Numbers that no limit is set for are not asked about. A master that does not answer in time is not waited for again
until it has been heard from; meanwhile each worker goes by its own counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.bus.link import FIRST_KIND, Link
from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import ISessionStore

T = TypeVar("T")

ENTER, LEAVE, ADMIT, DISMISS, TAKE = range(FIRST_KIND, FIRST_KIND + 5)

#: Seconds that a client waits for the master's answer.
PATIENCE: Final = 1.0

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


class Teller:
    """The master's end: asks the tally in the name of one worker."""

    def __init__(self, tally: Tally, owner: str) -> None:
        self._tally = tally
        self._owner = owner
        self._calls: dict[int, Callable[[Any], Any]] = {
            ENTER: lambda address: _name(tally.enter(owner, address)),
            LEAVE: lambda address: tally.leave(owner, address),
            ADMIT: lambda user_id: _name(tally.admit(owner, user_id)),
            DISMISS: lambda user_id: tally.dismiss(owner, user_id),
            TAKE: lambda asked: tally.take(*asked),
        }

    def link(self) -> Link:
        """The protocol of the stream to the worker; when it ends, so does all that the worker had."""
        return Link(self._take, lambda _: self._tally.forget(self._owner))

    def _take(self, kind: int, body: bytes, descriptor: int) -> bytes:
        return _encode(self._calls[kind](_decode(body)))


class _Asked:
    """A question that waits for the master."""

    __slots__ = ("answer", "fallback", "result", "until")

    def __init__(self, until: float, fallback: Callable[[], Any]) -> None:
        self.until = until
        self.fallback = fallback
        self.result: Deferred[Any] = Deferred()
        self.answer: Deferred[bytes] | None = None


@implementer(ISessionStore)
class HostStore:
    """A worker's end.

    :param quota: the limits there are.
    """

    def __init__(self, reactor: IReactorTime, quota: Quota) -> None:
        self._reactor = reactor
        self._quota = quota
        self._own = Tally(quota, reactor.seconds)
        self._waiting: dict[_Asked, None] = {}
        self._ticking = False
        self._silent_since = -1
        self._link = Link(lambda kind, body, descriptor: None, lambda _: None)

    def link(self) -> Link:
        """The protocol of the stream to the master."""
        return self._link

    def enter(self, address: str) -> Deferred[Disconnect | None]:
        own = self._own.enter("", address)
        if not (self._quota.total or self._quota.per_address):
            return succeed(None)
        return self._ask(ENTER, address, lambda: own, _reason)

    def leave(self, address: str) -> None:
        self._own.leave("", address)
        if self._quota.total or self._quota.per_address:
            self._link.tell(LEAVE, _encode(address))

    def admit(self, user_id: int) -> Deferred[Disconnect | None]:
        own = self._own.admit("", user_id)
        if own is not None or not (self._quota.per_user or self._quota.attempts):
            return succeed(own)
        return self._ask(ADMIT, user_id, lambda: None, _reason).addCallback(self._admitted, user_id)

    def _admitted(self, reason: Disconnect | None, user_id: int) -> Disconnect | None:
        if reason is not None:
            self._own.dismiss("", user_id)
        return reason

    def dismiss(self, user_id: int) -> None:
        self._own.dismiss("", user_id)
        if self._quota.per_user or self._quota.attempts:
            self._link.tell(DISMISS, _encode(user_id))

    def take(self, limit: str, key: int | str) -> Deferred[float]:
        own = self._own.take(limit, key)
        if own or not self._quota.rates.get(limit):
            return succeed(own)
        return self._ask(TAKE, (limit, key), lambda: 0.0, float)

    # asking

    def _ask(self, kind: int, asked: Any, fallback: Callable[[], T], read: Callable[[Any], T]) -> Deferred[T]:
        link = self._link
        if not link.open:
            return succeed(fallback())
        answer = link.ask(kind, _encode(asked))
        if self._silent_since == link.heard:
            # the master has not been heard from since it failed to answer
            answer.addErrback(_ignored)
            return succeed(fallback())
        waiting = _Asked(self._reactor.seconds() + PATIENCE, fallback)
        self._waiting[waiting] = None
        waiting.answer = answer
        answer.addCallback(lambda body: read(_decode(body)))
        answer.addErrback(lambda _: fallback())
        answer.addCallback(self._answered, waiting)
        self._tick()
        return waiting.result

    def _answered(self, result: Any, waiting: _Asked) -> None:
        if self._waiting.pop(waiting, self) is None:
            waiting.result.callback(result)

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._reactor.callLater(PATIENCE / 2, self._tock)

    def _tock(self) -> None:
        self._ticking = False
        now = self._reactor.seconds()
        for waiting in [each for each in self._waiting if each.until <= now]:
            self._silent_since = self._link.heard
            # the answer may still come; it counts for the master only
            self._answered(waiting.fallback(), waiting)
        if self._waiting:
            self._tick()


def _name(reason: Disconnect | None) -> str:
    return "" if reason is None else reason.name


def _reason(name: str) -> Disconnect | None:
    return Disconnect[name] if name else None


def _ignored(reason: Failure) -> None:
    """Nobody waits for this answer."""
