"""Redis for others than the bus."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import TimeoutError as NoAnswer

from mechamap_rt.interfaces import IReactor
from mechamap_rt.redis.errors import RedisAway
from mechamap_rt.redis.link import Link
from mechamap_rt.redis.protocols import Argument, Connection


class Commands:
    """Single commands on the link's connection, answered or failed in time."""

    def __init__(self, reactor: IReactor, link: Link, limit: float) -> None:
        self._reactor, self._link, self._limit = reactor, link, limit

    @property
    def connection(self) -> Connection:
        """txredisapi's commands (``get``, ``hset``, …), without a time limit; values are bytes.

        :raises RedisAway: there is none now.
        """
        if self._link.commands is None:
            raise RedisAway("not connected")
        return self._link.commands

    async def execute(self, *arguments: Argument) -> Any:
        """The reply to one command: bytes, int, list or None.

        :raises RedisAway: not connected, or no answer in time; Redis may have done it all the same.
        :raises txredisapi.ResponseError: Redis refused.
        """
        waiting = self.connection.execute_command(*arguments)
        try:
            return await waiting.addTimeout(self._limit, self._reactor)
        except NoAnswer as error:
            raise RedisAway("no answer in time") from error
