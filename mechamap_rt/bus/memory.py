"""The bus of a single process: what is published here is for here."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mechamap_rt.core.publication import Publication
from mechamap_rt.interfaces import IBus, IReceiver


@implementer(IBus)
class MemoryBus:
    """Hands every publication to the one receiver at once."""

    degraded = False

    def __init__(self) -> None:
        self._receiver: IReceiver | None = None

    def start(self, receiver: IReceiver) -> Deferred[None]:
        self._receiver = receiver
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._receiver = None
        return succeed(None)

    def publish(self, publication: Publication, counted: bool = True) -> Deferred[int]:
        return succeed(0 if self._receiver is None else self._receiver.on_publication(publication))

    def subscribe(self, resource: str) -> Deferred[None]:
        """Everything is local."""
        return succeed(None)

    def unsubscribe(self, resource: str) -> None:
        """Nothing to do: everything is local."""

    def ask(self, question: str, body: bytes) -> Deferred[list[bytes]]:
        return succeed([] if self._receiver is None else [self._receiver.on_question(question, body)])

    def probe(self) -> Deferred[bool]:
        return succeed(self._receiver is not None)

    def figures(self) -> dict[str, Any]:
        return {"connected": self._receiver is not None}
