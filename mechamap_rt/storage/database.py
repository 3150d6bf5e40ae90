"""The database as everybody else sees it: one that reads, one that writes, whichever servers these are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import IDatabase
from mechamap_rt.storage.server import Server, State


@implementer(IDatabase)
class Database:
    """Servers that answer reads, and one that takes writes.

    :param readers: asked in turn; when none of them answers, the writer is.
    """

    def __init__(self, writer: Server, readers: Sequence[Server] = ()) -> None:
        self._writer = writer
        self._readers = tuple(readers)
        self._turn = 0

    @property
    def servers(self) -> tuple[Server, ...]:
        """Every server once, the writer first."""
        return (self._writer, *(reader for reader in self._readers if reader is not self._writer))

    def start(self) -> Deferred[None]:
        starting = [Deferred.fromCoroutine(server.start()) for server in self.servers]
        return gatherResults(starting).addCallback(lambda _: None)

    def stop(self) -> Deferred[None]:
        stopping = [Deferred.fromCoroutine(server.stop()) for server in self.servers]
        return gatherResults(stopping).addCallback(lambda _: None)

    def query(
        self, statement: str, arguments: Sequence[Any], *, fresh: bool = False
    ) -> Deferred[list[tuple[Any, ...]]]:
        if fresh or not self._readers:
            return self._writer.query(statement, arguments)
        return Deferred.fromCoroutine(self._read(statement, arguments))

    async def _read(self, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._turn += 1
        count = len(self._readers)
        for place in range(count):
            reader = self._readers[(self._turn + place) % count]
            if reader.usable:
                try:
                    return await reader.query(statement, arguments)
                except Unavailable:
                    if not self._worth_asking_another(reader):
                        raise
        return await self._writer.query(statement, arguments)

    def _worth_asking_another(self, failed: Server) -> bool:
        """A statement that fails while its server answers fails everywhere."""
        if failed.usable:
            return False
        if failed.name == self._writer.name:
            self._writer.follow(failed)
        return True

    def execute(self, statement: str, arguments: Sequence[Any]) -> Deferred[int]:
        return self._writer.execute(statement, arguments)

    @property
    def separate(self) -> bool:
        """May a row be on the writer already and not yet where reads are answered?"""
        return any(reader.name != self._writer.name for reader in self._readers)

    def resize(self, connections: int) -> None:
        """Share out ``connections`` among the servers: most of them to those that answer reads."""
        readers = [server for server in self.servers if server is not self._writer]
        writing = max(1, connections // 4) if readers else connections
        self._writer.pool.resize(writing)
        for reader in readers:
            reader.pool.resize(max(1, (connections - writing) // len(readers)))

    def rest(self) -> None:
        for server in self.servers:
            server.pool.rest()

    def status(self) -> str:
        """``up``, ``down``, or ``degraded`` when only some of it answers."""
        usable = [server.state is State.UP for server in self.servers]
        if all(usable):
            return "up"
        return "degraded" if usable[0] else "down"

    def figures(self) -> dict[str, Any]:
        """For health and metrics: what is known of every server."""
        roles = {id(self._writer): "write"}
        for reader in self._readers:
            roles[id(reader)] = "read" if reader is not self._writer else "read and write"
        pools = [{"role": roles[id(server)]} | server.figures() for server in self.servers]
        return {"status": self.status(), "pools": pools}
