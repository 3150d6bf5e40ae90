"""Waiting for what others wait for as well, or for so long."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import coroutine
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


def run(steps: Coroutine[Any, Any, T], done: Callable[[T], object]) -> None:
    """Run a coroutine that never raises, and give ``done`` what it returns.

    As ``Deferred.fromCoroutine``, but one that has to wait for nothing, as most answers do not, costs no Deferred.
    """
    try:
        waited = steps.send(None)
    except StopIteration as ended:
        done(ended.value)
        return

    async def rest() -> T:
        return await _resumed(steps, waited)

    Deferred.fromCoroutine(rest()).addCallback(done)


@coroutine
def _resumed(steps: Coroutine[Any, Any, T], waited: Any) -> Generator[Any, Any, T]:
    """Go on with ``steps``, which waits for ``waited``."""
    while True:
        failure: BaseException | None = None
        try:
            value = yield waited
        except BaseException as raised:
            failure = raised
        try:
            waited = steps.send(value) if failure is None else steps.throw(failure)
        except StopIteration as ended:
            result: T = ended.value
            return result
