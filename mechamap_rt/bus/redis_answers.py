"""Answers between processes: those waited for, and those given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mechamap_rt.bus.redis_messages import Answer
from mechamap_rt.core.deferreds import shared
from mechamap_rt.interfaces import IReactor

#: Seconds for which answers to the same process are held back, to go together.
HOLD: Final = 0.001

#: Seconds for which a number of subscribers holds, and resources of which it is kept.
FRESH: Final = 0.02
MAX_COUNTED: Final = 4096

T = TypeVar("T")
Sum = TypeVar("Sum", int, list[bytes])


class _Gathering(Generic[T]):
    __slots__ = ("answered", "deadline", "done", "expected", "values")

    def __init__(self, deadline: float) -> None:
        self.done: Deferred[list[T]] = Deferred()
        self.values: list[T] = []
        self.answered = 0
        self.expected = -1
        self.deadline = deadline


class Gatherings(Generic[T]):
    """What is waited for, each until all have answered or the time is over.

    :param limit: seconds; the same for all, so that the oldest is always the next to end.
    """

    def __init__(self, reactor: IReactor, limit: float) -> None:
        self._reactor = reactor
        self._limit = limit
        self._open: dict[int, _Gathering[T]] = {}
        self._timer: IDelayedCall | None = None

    def open(self, serial: int) -> Deferred[list[T]]:
        """Fires with the answers that came, without those that had nothing to add."""
        gathering = self._open[serial] = _Gathering(self._reactor.seconds() + self._limit)
        if self._timer is None:
            self._timer = self._reactor.callLater(self._limit, self._expire)
        return gathering.done

    def expect(self, serial: int, number: int) -> None:
        """So many will answer; answers may have come before this is known."""
        gathering = self._open.get(serial)
        if gathering is not None:
            gathering.expected = number
            if gathering.answered >= number:
                self._end(serial)

    def answer(self, serial: int, value: Any) -> None:
        gathering = self._open.get(serial)
        if gathering is not None:
            gathering.answered += 1
            if value is not None:
                gathering.values.append(value)
            if 0 <= gathering.expected <= gathering.answered:
                self._end(serial)

    def end_all(self) -> None:
        """Nobody will answer any more."""
        for serial in tuple(self._open):
            self._end(serial)

    def _end(self, serial: int) -> None:
        gathering = self._open.pop(serial)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathering.done.callback(gathering.values)

    def _expire(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        for serial in [serial for serial, one in self._open.items() if one.deadline <= now]:
            # an earlier one's callback may have ended it
            if serial in self._open:
                self._end(serial)
        if self._open and self._timer is None:
            oldest = next(iter(self._open.values()))
            self._timer = self._reactor.callLater(max(oldest.deadline - now, 0.001), self._expire)


class Counted:
    """Numbers of subscribers on other hosts that are still fresh, or on their way.

    Publications on one resource that follow each other closely are counted once for all: each answer would cost every
    process a message, and in so short a time there is no telling who came first.
    """

    def __init__(self, reactor: IReactor) -> None:
        self._reactor = reactor
        self._known: dict[str, tuple[float, Deferred[int]]] = {}

    def get(self, resource: str) -> Deferred[int] | None:
        """Fires with the number, if it is known or being asked for."""
        known = self._known.get(resource)
        if known is None:
            return None
        until, counting = known
        if counting.called and until < self._reactor.seconds():
            del self._known[resource]
            return None
        return shared(counting)

    def put(self, resource: str, counting: Deferred[int]) -> Deferred[int]:
        """The number is being asked for; fires with it."""
        if len(self._known) >= MAX_COUNTED:
            del self._known[next(iter(self._known))]
        self._known[resource] = (self._reactor.seconds() + FRESH, counting)
        return shared(counting)

    def clear(self) -> None:
        """The other hosts are out of reach."""
        self._known.clear()


class Replies:
    """Answers that this process gives, sent together.

    :param send: sends the answers to one process, by its id.
    """

    def __init__(self, reactor: IReactor, send: Callable[[str, list[tuple[int, Answer]]], object]) -> None:
        self._reactor = reactor
        self._send = send
        self._held: dict[str, list[tuple[int, Answer]]] = {}
        self._timer: IDelayedCall | None = None

    def add(self, node: str, serial: int, value: Answer) -> None:
        self._held.setdefault(node, []).append((serial, value))
        if self._timer is None:
            self._timer = self._reactor.callLater(HOLD, self._flush)

    def drop(self) -> None:
        """There is no way to send them."""
        self._held = {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self._timer = None
        held, self._held = self._held, {}
        for node, answers in held.items():
            self._send(node, answers)


def added(local: Deferred[Sum], remote: Deferred[Sum]) -> Deferred[Sum]:
    """Fires with what came from this host and what came from the others, together."""
    return local.addCallback(lambda here: remote.addCallback(lambda there: here + there))
