"""Reading WebSockets in portions: who sends very many small frames must not hold up everybody else.

A read brings up to 64 kB. That is one frame, or ten thousand, which cost a hundred milliseconds and more. So what was
read is taken in portions until a few milliseconds are over; the rest waits its turn, and meanwhile nothing is read.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mechamap_rt.core.wheel import Deadline

#: Bytes taken at once, unless they belong to one frame.
PORTION: Final = 1024
#: Seconds after which the rest of what was read has to wait.
BUDGET: Final = 0.002
#: Seconds for which who is slowed down is not read from.
PAUSE: Final = 1.0


class Queue:
    """Those who have bytes that wait, one a turn of the reactor."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._waiting: deque[Paced] = deque()
        self._call: IDelayedCall | None = None

    def add(self, one: Paced) -> None:
        self._waiting.append(one)
        if self._call is None:
            self._call = self._reactor.callLater(0, self._next)

    def _next(self) -> None:
        self._call = None
        one = self._waiting.popleft()
        if one.go_on():
            self._waiting.append(one)
        if self._waiting and self._call is None:
            self._call = self._reactor.callLater(0, self._next)


class Paced(WebSocketServerProtocol):
    """The part of a WebSocket that reads."""

    factory: Any
    transport: Any
    state: Any
    current_frame: Any
    current_frame_masker: Any
    #: What was read and has to wait, for its turn or for the end of a pause.
    _rest: bytes = b""
    _pause: Deadline | None = None

    def received(self, data: bytes) -> None:
        """Take a portion; nothing is raised."""
        raise NotImplementedError

    def dataReceived(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            return
        if self._take(data):
            self.transport.pauseProducing()
            if self._pause is None:
                self.factory.queue.add(self)

    def _take(self, data: bytes) -> bool:
        """Take portions until the time is over; is there a rest?"""
        until = perf_counter() + BUDGET
        at = 0
        while at < len(data) and self.state != self.STATE_CLOSED:
            end = at + self._portion(data)
            self.received(data[at:end])
            at = end
            if at < len(data) and (self._pause is not None or perf_counter() > until):
                self._rest = data[at:]
                return True
        return False

    def _portion(self, data: bytes) -> int:
        """How much to take at once: up to the end of a handshake, or of the frame that has begun."""
        if self.state == self.STATE_CONNECTING:
            end = data.find(b"\r\n\r\n")
            return len(data) if end < 0 else end + 4
        frame = self.current_frame
        missing: int = 0 if frame is None else frame.length - self.current_frame_masker.pointer()
        return max(missing, PORTION)

    def go_on(self) -> bool:
        """It has its turn again; has something to wait still?"""
        rest, self._rest = self._rest, b""
        if self not in self.factory.pipes:
            return False
        if self._take(rest):
            return self._pause is None
        if self._pause is None:
            self.transport.resumeProducing()
        return False

    def slow_down(self) -> None:
        """Read nothing of this client for a second; TCP makes it wait."""
        if self._pause is None and self.state == self.STATE_OPEN:
            self.transport.pauseProducing()
            self._pause = self.factory.wheel.after(PAUSE, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._rest:
            self.factory.queue.add(self)
        elif self in self.factory.pipes:
            self.transport.resumeProducing()
