"""The outbox of a long-polling session: what waits for the client's next GET."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.outbox import Outbox, Turn
from mechamap_rt.wire.engineio import Refusal, Revision, encode_payload


class Poll(Protocol):
    """A GET that waits for something to answer."""

    def respond(self, payload: bytes) -> None:
        """Answer it with a payload."""

    def refuse(self, refusal: Refusal) -> None:
        """Answer it with an error."""


class PollingOutbox(Outbox):
    """An outbox that is emptied into the answer of one GET at a time."""

    transport_name = "polling"

    __slots__ = ("_poll", "_revision")

    def __init__(self, turn: Turn, overflow: Callable[[], object], revision: Revision) -> None:
        super().__init__(turn, overflow)
        self._revision = revision
        self._poll: Poll | None = None
        self._stalled = True

    @property
    def polled(self) -> bool:
        """Is there a GET waiting?"""
        return self._poll is not None

    def open(self, poll: Poll) -> None:
        """A GET came: answer it at once if something waits, else as soon as something does."""
        self._poll = poll
        self._stalled = False
        self.flush()

    def lost(self, poll: Poll) -> bool:
        """The client dropped a GET; was it the one that waits?"""
        if self._poll is not poll:
            return False
        self._poll = None
        self._stalled = True
        return True

    @property
    def waiting(self) -> bool:
        """Is something queued?"""
        return bool(self._pending)

    def answer_noop(self, poll: Poll) -> None:
        """Answer ``poll`` with nothing, if it still waits."""
        if self._poll is poll:
            self.answer(b"6")

    def answer_last(self, poll: Poll, packet: bytes) -> None:
        """Answer the last GET there will be, with what is queued and ``packet``."""
        self._poll = poll
        self.answer(packet)

    def flush(self) -> None:
        self._scheduled = False
        if not self._pending:
            return
        if self._stalled:
            self._turn.waiting[self] = None
            return
        self._answer(self.take())

    def answer(self, packet: bytes) -> None:
        """Answer the GET that waits, if there is one, with what is queued and ``packet``."""
        if self._poll is not None:
            self._answer([*self.take(), Frame(b"", payload=packet)])

    def _answer(self, frames: list[Frame]) -> None:
        poll, self._poll = self._poll, None
        self._stalled = True
        if poll is None:
            return
        payload = encode_payload([frame.payload for frame in frames], self._revision)
        stats = self._turn.stats
        stats.writes += 1
        stats.bytes += len(payload)
        poll.respond(payload)
