"""What became of publications, kept in Redis: so that it is known after a process has ended, and by every host.

A chunk of records is a string, ``<prefix>trace:<worker>:<number>``; for each process whose publications are in it, a
sorted set ``<prefix>traced:<process>`` has ``<worker>:<number>`` under the least number of its publications there.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txredisapi import ResponseError
from zope.interface import implementer

from mechamap_rt.core.publication import base36
from mechamap_rt.core.tracing import Chunk, Record, about, origin
from mechamap_rt.interfaces import IArchive, IReactor
from mechamap_rt.redis.commands import Commands
from mechamap_rt.redis.errors import RedisAway

_log = Logger()

#: Chunks that are looked through for one publication, and that the index of one process has at most.
CANDIDATES: Final = 32
INDEXED: Final = 20_000
#: Chunks that may be on their way to Redis at once; more are not kept there.
MAX_PENDING: Final = 16
#: Seconds that a stop waits for them.
SETTLE: Final = 0.5


@implementer(IArchive)
class RedisArchive:
    """Keeps the chunks of one process, and finds those of all.

    :param worker: the process's name.
    :param prefix: what the keys begin with.
    :param most: publications of this process that are kept; ``kept``: seconds for which they are.
    """

    def __init__(
        self, reactor: IReactor, commands: Commands, worker: str, prefix: str, most: int, kept: float, first: int
    ) -> None:
        self._reactor = reactor
        self._commands = commands
        self._worker = worker
        self._prefix = prefix
        self._most = most
        self._kept = int(kept)
        # a process of the same name may have been before
        self._number = first
        self._mine: deque[tuple[str, int]] = deque()
        self._held = 0
        self._pending = 0
        #: Chunks that Redis did not take.
        self.missed = 0

    def keep(self, chunk: Chunk) -> None:
        if self._pending >= MAX_PENDING:
            self.missed += 1
            return
        self._pending += 1
        self._number += 1
        keeping = Deferred.fromCoroutine(self._keep(f"{self._worker}:{base36(self._number)}", chunk))
        keeping.addErrback(self._not_kept)
        keeping.addBoth(self._done)

    def _not_kept(self, reason: Any) -> None:
        self.missed += 1
        if reason.check(FirstError) is not None:
            reason = reason.value.subFailure
        if reason.check(RedisAway, ResponseError) is None:
            _log.failure("What became of publications could not be kept in Redis", reason)

    def _done(self, result: object) -> None:
        self._pending -= 1

    async def _keep(self, name: str, chunk: Chunk) -> None:
        commands: list[tuple[Any, ...]] = [("SET", self._chunk(name), chunk.packed, "EX", self._kept)]
        for process, (least, _) in chunk.spans.items():
            index = self._index(process)
            commands.append(("ZADD", index, least, name))
            commands.append(("ZREMRANGEBYRANK", index, 0, -INDEXED - 1))
            commands.append(("EXPIRE", index, self._kept))
        self._mine.append((name, chunk.publications))
        self._held += chunk.publications
        while self._held > self._most and len(self._mine) > 1:
            old, publications = self._mine.popleft()
            self._held -= publications
            commands.append(("DEL", self._chunk(old)))
        # all at once: the process may be about to end
        sent = [Deferred.fromCoroutine(self._commands.execute(*command)) for command in commands]
        await gatherResults(sent, consumeErrors=True)

    async def settle(self) -> None:
        """Wait until Redis has what it was given, for a moment."""
        until = self._reactor.seconds() + SETTLE
        while self._pending and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.01)

    def about(self, ident: str) -> Deferred[dict[str, list[Record]]]:
        return Deferred.fromCoroutine(self._about(ident))

    async def _about(self, ident: str) -> dict[str, list[Record]]:
        process, serial = origin(ident)
        found: dict[str, list[Record]] = {}
        try:
            names = await self._commands.execute(
                "ZREVRANGEBYSCORE", self._index(process), serial, "-inf", "LIMIT", 0, CANDIDATES
            )
            for name in names:
                packed = await self._commands.execute("GET", self._chunk(name.decode()))
                if packed is None:
                    continue
                records = about(ident, packed)
                if records:
                    found.setdefault(name.decode().partition(":")[0], []).extend(records)
                # each takes a millisecond
                await deferLater(self._reactor, 0)
        except (RedisAway, ResponseError, ValueError) as error:
            _log.warn("What became of {ident} cannot be read in Redis: {reason}", ident=ident, reason=str(error))
        return found

    def _chunk(self, name: str) -> str:
        return f"{self._prefix}trace:{name}"

    def _index(self, process: str) -> str:
        return f"{self._prefix}traced:{process}"
