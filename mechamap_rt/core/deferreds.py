"""Waiting for what others wait for as well, or for so long."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


def shared(waited: Deferred[T]) -> Deferred[T]:
    """Fires with what ``waited`` fires with, and may be cancelled or waited for by itself."""
    one: Deferred[T] = Deferred()

    def pass_on(result: T) -> T:
        one.callback(result)
        return result

    waited.addBoth(pass_on)
    return one


def within(reactor: IReactorTime, limit: float, waited: Deferred[T]) -> Deferred[T]:
    """``waited``, which fails with ``TimeoutError`` after ``limit`` seconds; what it waited for goes on."""
    shield: Deferred[T] = Deferred()

    def give_up() -> None:
        if not shield.called:
            shield.errback(TimeoutError("no answer in time"))

    late = reactor.callLater(limit, give_up)

    def pass_on(result: Any) -> None:
        if late.active():
            late.cancel()
        if not shield.called:
            shield.callback(result)

    waited.addBoth(pass_on)
    return shield
