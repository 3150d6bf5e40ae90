"""The master, as its workers see it, so that operators can steer by way of any of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from zope.interface import implementer

from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IHelm
from mechamap_rt.process.orders import Refused, Steer, Stream
from mechamap_rt.wire import json


@implementer(IHelm)
class WorkerHelm:
    """Asks the master over the stream of orders.

    :ivar master: the stream.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.master: Stream | None = None

    def steer(self, command: str, asked: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(self._steer(command, asked))

    async def _steer(self, command: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if self.master is None:
                raise ConnectionClosed
            answer = await self.master.callRemote(Steer, command=command, asked=json.encode(dict(asked)))
        except Refused as refused:
            raise unpacked(refused) from None
        except ConnectionClosed:
            raise OperationFault("NO_MASTER", "The master is gone") from None
        result: dict[str, Any] = json.decode(answer["answer"])
        return result


@implementer(IHelm)
class OwnHelm:
    """A process that looks after itself.

    :param run: does what an operator asks.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.run: Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]] | None = None

    def steer(self, command: str, asked: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(self._ask(command, asked))

    async def _ask(self, command: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert self.run is not None
        return await self.run(command, asked)


def packed(fault: OperationFault) -> Refused:
    """A fault, as it travels between processes."""
    return Refused(json.encode(fault.members()).decode())


def unpacked(refused: Refused) -> OperationFault:
    """The fault that :func:`packed` was given."""
    members = json.decode(str(refused).encode())
    return OperationFault(members["code"], members["message"], members.get("field"))
