"""Many who ask for one row each at the same moment, answered by few queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from mechamap_rt.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")

#: Keys of one query.
BATCH: Final = 200
#: Queries of one loader that run at the same time.
PARALLEL: Final = 2
#: Keys that may wait.
MAX_WAITING: Final = 20_000


class Loader(Generic[K, V]):
    """Asks at once while it is quiet; what is asked while :data:`PARALLEL` queries run is asked together afterwards.

    A key that several ask for is asked for once.

    :param fetch: the values of these keys, without those that there are none for; an
        :class:`~mechamap_rt.errors.Unavailable` for those of which it cannot be found out now.
    """

    def __init__(self, fetch: Callable[[list[K]], Awaitable[Mapping[K, V | Unavailable]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[K, list[Deferred[V | None]]] = {}
        self._running = 0
        self._pumping = False

    def load(self, key: K) -> Deferred[V | None]:
        """The value of ``key``, or ``None``; fails with :class:`~mechamap_rt.errors.Unavailable`."""
        answer: Deferred[V | None] = Deferred()
        asked = self._waiting.get(key)
        if asked is not None:
            asked.append(answer)
            return answer
        if len(self._waiting) >= MAX_WAITING:
            return fail(Unavailable("too many questions wait"))
        self._waiting[key] = [answer]
        self._pump()
        return answer

    def _pump(self) -> None:
        if self._pumping:
            # a query that fails at once ends within the loop below, which goes on by itself
            return
        self._pumping = True
        try:
            self._ask()
        finally:
            self._pumping = False

    def _ask(self) -> None:
        while self._waiting and self._running < PARALLEL:
            taken = [key for key, _ in zip(self._waiting, range(BATCH), strict=False)]
            answers = {key: self._waiting.pop(key) for key in taken}
            self._running += 1
            fetching = Deferred.fromCoroutine(self._run(taken))
            fetching.addCallbacks(self._found, self._failed, callbackArgs=(answers,), errbackArgs=(answers,))

    async def _run(self, keys: list[K]) -> Mapping[K, V | Unavailable]:
        return await self._fetch(keys)

    def _found(self, values: Mapping[K, V | Unavailable], answers: dict[K, list[Deferred[V | None]]]) -> None:
        self._running -= 1
        for key, waiting in answers.items():
            value = values.get(key)
            for answer in waiting:
                if isinstance(value, Unavailable):
                    answer.errback(value)
                else:
                    answer.callback(value)
        self._pump()

    def _failed(self, reason: Failure, answers: dict[K, list[Deferred[V | None]]]) -> None:
        self._running -= 1
        for waiting in answers.values():
            for answer in waiting:
                answer.errback(reason)
        self._pump()
