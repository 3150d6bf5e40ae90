"""What the bus inside the host sees of the bus between hosts."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from mechamap_rt.core.publication import Publication
from mechamap_rt.interfaces import IReceiver


@implementer(IReceiver)
class HostReceiver:
    """Hands on what the host's bus brings; of its state, only that it changed: two buses have one together."""

    def __init__(self, receiver: IReceiver, on_state: Callable[[], object]) -> None:
        self._receiver = receiver
        self._on_state = on_state

    def on_publication(self, publication: Publication) -> int:
        return self._receiver.on_publication(publication)

    def on_question(self, question: str, body: bytes) -> bytes:
        return self._receiver.on_question(question, body)

    def on_gone(self, process: str, silent: float) -> None:
        self._receiver.on_gone(process, silent)

    def on_state(self, degraded: bool) -> None:
        self._on_state()
