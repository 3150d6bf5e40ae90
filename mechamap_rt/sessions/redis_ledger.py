"""The ledger that several hosts have in Redis."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from txredisapi import ResponseError
from zope.interface import implementer

from mechamap_rt.core.ledger import KEPT, UNDER_WAY, Claim, State
from mechamap_rt.interfaces import ILedger
from mechamap_rt.redis.commands import Commands
from mechamap_rt.redis.errors import RedisAway

_log = Logger()

#: What a value in Redis begins with, before the digest: under way, or done.
_UNDER_WAY: Final = b"w"
_DONE: Final = b"d"


@implementer(ILedger)
class RedisLedger:
    """Several hosts: what Redis has holds; while it is away, what the host has.

    A key of Redis is set once (``SET … NX``) by who does it, and again with the answer.

    :param host: the ledger of this host, which is asked first.
    :param prefix: what the keys begin with.
    """

    def __init__(self, host: ILedger, commands: Commands, prefix: str) -> None:
        self._host = host
        self._commands = commands
        self._prefix = prefix.encode() + b"once:"

    def claim(self, key: str, digest: bytes) -> Deferred[Claim]:
        return Deferred.fromCoroutine(self._claim(key, digest))

    async def _claim(self, key: str, digest: bytes) -> Claim:
        claim: Claim = await self._host.claim(key, digest)
        if claim.state is not State.NEW:
            return claim
        name, lease = self._prefix + key.encode(), int(UNDER_WAY * 1000)
        try:
            if await self._commands.execute("SET", name, _UNDER_WAY + digest, "NX", "PX", lease):
                return claim
            there: bytes | None = await self._commands.execute("GET", name)
        except (RedisAway, ResponseError):
            return claim
        if there is None:
            return claim
        # another host has it: this one only remembers the answer
        self._host.release(key)
        if there[1 : 1 + len(digest)] != digest:
            return Claim(State.OTHER)
        if there[:1] != _DONE:
            return Claim(State.BUSY)
        answer = there[1 + len(digest) :]
        self._host.settle(key, digest, answer)
        return Claim(State.DONE, answer)

    def settle(self, key: str, digest: bytes, answer: bytes) -> None:
        self._host.settle(key, digest, answer)
        self._tell("SET", self._prefix + key.encode(), _DONE + digest + answer, "PX", int(KEPT * 1000))

    def release(self, key: str) -> None:
        self._host.release(key)
        self._tell("DEL", self._prefix + key.encode())

    def _tell(self, *arguments: Any) -> None:
        telling = Deferred.fromCoroutine(self._commands.execute(*arguments))
        telling.addErrback(lambda reason: reason.trap(RedisAway, ResponseError))
        telling.addErrback(lambda reason: _log.failure("Redis was not told what has been done", reason))
