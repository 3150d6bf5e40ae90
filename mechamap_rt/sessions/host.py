"""The session store and the ledger of a host: the master has them, its workers ask over a stream.

Numbers that no limit is set for are not asked about. A master that does not answer in time is not waited for again
until it has been heard from; meanwhile each worker goes by its own counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.bus.link import FIRST_KIND, Link
from mechamap_rt.core.ledger import Claim, Ledger, State
from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import ILedger, ISessionStore

T = TypeVar("T")

ENTER, LEAVE, ADMIT, DISMISS, TAKE, CLAIM, SETTLE, RELEASE = range(FIRST_KIND, FIRST_KIND + 8)

#: Entries, and bytes, of the part of the ledger that a worker has itself, in case the master does not answer.
OWN_ENTRIES: Final = 1_000
OWN_BYTES: Final = 1024 * 1024
#: Seconds that a client waits for the master's answer.
PATIENCE: Final = 0.5

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


class Teller:
    """The master's end: asks the tally and the ledger in the name of one worker."""

    def __init__(self, tally: Tally, ledger: Ledger, owner: str) -> None:
        self._tally = tally
        self._ledger = ledger
        self._owner = owner
        self._calls: dict[int, Callable[[Any], Any]] = {
            ENTER: lambda address: _name(tally.enter(owner, address)),
            LEAVE: lambda address: tally.leave(owner, address),
            ADMIT: lambda user_id: _name(tally.admit(owner, user_id)),
            DISMISS: lambda user_id: tally.dismiss(owner, user_id),
            TAKE: lambda asked: tally.take(*asked),
            CLAIM: lambda asked: ledger.claim(owner, *asked),
            SETTLE: lambda asked: ledger.settle(*asked),
            RELEASE: lambda key: ledger.release(key),
        }

    def link(self) -> Link:
        """The protocol of the stream to the worker; when it ends, so does all that the worker had."""
        return Link(self._take, self._forget)

    def _forget(self, link: Link) -> None:
        self._tally.forget(self._owner)
        self._ledger.forget(self._owner)

    def _take(self, kind: int, body: bytes, descriptor: int) -> bytes:
        return _encode(self._calls[kind](_decode(body)))


class _Asked:
    """A question that waits for the master."""

    __slots__ = ("fallback", "result", "until")

    def __init__(self, until: float, fallback: Callable[[], Any]) -> None:
        self.until = until
        self.fallback = fallback
        self.result: Deferred[Any] = Deferred()


class _LateAnswers:
    """Users who were let in without the master's answer, until it has come: has it counted them or not?"""

    def __init__(self) -> None:
        self._unanswered: Counter[int] = Counter()
        self._left: Counter[int] = Counter()
        self._uncounted: Counter[int] = Counter()

    def let_in(self, user_id: int) -> None:
        self._unanswered[user_id] += 1

    def answered(self, user_id: int, counted: bool) -> bool:
        """The answer has come; has the user gone, so that the master must be told now?"""
        _take(self._unanswered, user_id)
        if _take(self._left, user_id):
            return counted
        if not counted:
            self._uncounted[user_id] += 1
        return False

    def leaves(self, user_id: int) -> bool:
        """A connection of the user ends; does the master have it?"""
        if _take(self._uncounted, user_id):
            return False
        if self._left[user_id] < self._unanswered[user_id]:
            self._left[user_id] += 1
            return False
        del self._left[user_id]
        return True


def _take(counter: Counter[int], user_id: int) -> bool:
    """One less, if there is one."""
    if counter[user_id] <= 0:
        del counter[user_id]
        return False
    counter[user_id] -= 1
    if not counter[user_id]:
        del counter[user_id]
    return True


@implementer(ISessionStore, ILedger)
class HostStore:
    """A worker's end.

    :param quota: the limits there are.
    """

    def __init__(self, reactor: IReactorTime, quota: Quota) -> None:
        self._reactor = reactor
        self._quota = quota
        self._own = Tally(quota, reactor.seconds)
        self._ledger = Ledger(reactor.seconds, most=OWN_ENTRIES, most_bytes=OWN_BYTES)
        self._waiting: dict[_Asked, None] = {}
        self._ticking = False
        self._silent_since = -1
        self._late = _LateAnswers()
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
        asking = self._ask(
            ADMIT, user_id, lambda: self._late.let_in(user_id), _reason, partial(self._heard_late, user_id)
        )
        return asking.addCallback(self._admitted, user_id)

    def _heard_late(self, user_id: int, reason: Disconnect | None) -> None:
        """The master has answered about somebody who was let in without its answer."""
        if self._late.answered(user_id, reason is None):
            self._link.tell(DISMISS, _encode(user_id))

    def _admitted(self, reason: Disconnect | None, user_id: int) -> Disconnect | None:
        if reason is not None:
            self._own.dismiss("", user_id)
        return reason

    def dismiss(self, user_id: int) -> None:
        self._own.dismiss("", user_id)
        if (self._quota.per_user or self._quota.attempts) and self._late.leaves(user_id):
            self._link.tell(DISMISS, _encode(user_id))

    def take(self, limit: str, key: int | str) -> Deferred[float]:
        own = self._own.take(limit, key)
        if own or not self._quota.rates.get(limit):
            return succeed(own)
        return self._ask(TAKE, (limit, key), lambda: 0.0, float)

    # the ledger

    def claim(self, key: str, digest: bytes) -> Deferred[Claim]:
        return self._ask(
            CLAIM,
            (key, digest),
            lambda: self._ledger.claim("", key, digest),
            lambda answer: Claim(State(answer[0]), answer[1]),
        )

    def settle(self, key: str, digest: bytes, answer: bytes) -> None:
        self._ledger.settle(key, digest, answer)
        self._link.tell(SETTLE, _encode((key, digest, answer)))

    def release(self, key: str) -> None:
        self._ledger.release(key)
        self._link.tell(RELEASE, _encode(key))

    # asking

    def _ask(
        self,
        kind: int,
        asked: Any,
        fallback: Callable[[], T],
        read: Callable[[Any], T],
        late: Callable[[T], object] = lambda answer: None,
    ) -> Deferred[T]:
        """Ask the master.

        :param fallback: what to go by when it does not answer.
        :param read: understands its answer.
        :param late: told an answer that nobody waits for any more.
        """
        link = self._link
        if not link.open:
            return succeed(fallback())
        answer = link.ask(kind, _encode(asked))
        if self._silent_since == link.heard:
            # the master has not been heard from since it failed to answer
            answer.addCallback(lambda body: late(read(_decode(body))))
            answer.addErrback(_ignored)
            return succeed(fallback())
        waiting = _Asked(self._reactor.seconds() + PATIENCE, fallback)
        self._waiting[waiting] = None

        def heard(body: bytes) -> None:
            result = read(_decode(body))
            if not self._answered(result, waiting):
                late(result)

        def failed(reason: Failure) -> None:
            if waiting in self._waiting:
                self._answered(fallback(), waiting)

        answer.addCallbacks(heard, failed)
        self._tick()
        return waiting.result

    def _answered(self, result: Any, waiting: _Asked) -> bool:
        """Give the answer to who waits for it; does anybody?"""
        if waiting not in self._waiting:
            return False
        del self._waiting[waiting]
        waiting.result.callback(result)
        return True

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._reactor.callLater(PATIENCE / 5, self._tock)

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
