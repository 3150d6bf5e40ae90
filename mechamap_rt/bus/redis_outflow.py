"""Publications on their way to Redis: in order, none twice, and bounded while Redis is away."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mechamap_rt.redis.errors import RedisAway, in_words
from mechamap_rt.redis.protocols import Connection

_log = Logger()

#: Publications that wait while Redis is away, at most; their bytes have a limit too, ``REDIS_BUFFER_SIZE``.
MOST_WAITING: Final = 100_000
#: What may be under way to Redis without its reply: beyond that it does not keep up, and the rest waits here.
WINDOW_BYTES: Final = 1024 * 1024
WINDOW_COMMANDS: Final = 4096

#: Seconds for which a publication is held back that closely follows another, to go together with those that follow it:
#: a message by itself costs this process, Redis and every receiver a turn of their loops.
HOLD: Final = 0.001

#: An encoded PUBLISH, the serial of who waits for its reply (0: nobody), and is it worthless later?
_Item = tuple[bytes, int, bool]


class Outflow:
    """A queue in two parts: what waits, and what was sent and not confirmed, which is sent again by the next link.

    :param size: bytes that may wait.
    :param on_receivers: called with a serial and the number that Redis replied.
    :ivar lost: publications that other hosts never saw, because the bound was hit or Redis refused them.
    :ivar skipped: volatile ones that could not be sent at once.
    """

    def __init__(self, reactor: IReactorTime, size: int, on_receivers: Callable[[int, int], object]) -> None:
        self._reactor = reactor
        self._size = size
        self._on_receivers = on_receivers
        self._on_flushed: Callable[[], object] | None = None
        self._connection: Connection | None = None
        self._waiting: deque[_Item] = deque()
        self._flying: deque[_Item] = deque()
        self._flying_bytes = 0
        self._held: list[bytes] = []
        self._holding: IDelayedCall | None = None
        self._sent_at = 0.0
        self._drained: list[Deferred[None]] = []
        self._refusal = ""
        self.waiting_bytes = 0
        self.published = self.lost = self.skipped = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, command: bytes, serial: int, volatile: bool) -> None:
        """Send, or keep in order until it can be sent."""
        if self._connection is not None and not self._waiting and self._has_room():
            self._fly((command, serial, volatile))
        elif volatile:
            self.skipped += 1
        else:
            self._waiting.append((command, serial, volatile))
            self.waiting_bytes += len(command)
            self._bound()

    def _has_room(self) -> bool:
        return self._flying_bytes < WINDOW_BYTES and len(self._flying) < WINDOW_COMMANDS

    def _fly(self, item: _Item) -> None:
        self._flying.append(item)
        self._flying_bytes += len(item[0])
        self._held.append(item[0])
        if self._holding is None:
            wait = self._sent_at + HOLD - self._reactor.seconds()
            # not by the clock alone: it may have been set back
            if 0 < wait <= HOLD:
                self._holding = self._reactor.callLater(wait, self._send)
            else:
                self._send()

    def _send(self) -> None:
        """Send what was held back."""
        self._stop_holding()
        held, self._held = self._held, []
        if held and self._connection is not None:
            self._sent_at = self._reactor.seconds()
            self._connection.send_all(held, self._replied)

    def _stop_holding(self) -> None:
        holding, self._holding = self._holding, None
        if holding is not None and holding.active():
            holding.cancel()

    def _bound(self) -> None:
        while self._waiting and (self.waiting_bytes > self._size or len(self._waiting) > MOST_WAITING):
            self.waiting_bytes -= len(self._waiting.popleft()[0])
            self.lost += 1

    def begin(self, connection: Connection, on_flushed: Callable[[], object]) -> None:
        """Send by this connection; ``on_flushed`` is called when nothing waits any more."""
        self._connection = connection
        self._on_flushed = on_flushed
        self._pump()

    def _pump(self) -> None:
        while self._waiting and self._connection is not None and self._has_room():
            item = self._waiting.popleft()
            self.waiting_bytes -= len(item[0])
            self._fly(item)
        if not self._waiting and self._on_flushed is not None:
            on_flushed, self._on_flushed = self._on_flushed, None
            on_flushed()

    def _replied(self, reply: Any) -> None:
        if isinstance(reply, RedisAway):
            return  # `cut` comes at once, and keeps it
        command, serial, _ = self._flying.popleft()
        self._flying_bytes -= len(command)
        if isinstance(reply, Exception):
            self._refused(reply)
        else:
            self.published += 1
            if serial:
                self._on_receivers(serial, reply)
        if self._waiting:
            self._pump()
        elif not self._flying and self._drained:
            self._fire_drained()

    def _refused(self, error: Exception) -> None:
        self.lost += 1
        reason = in_words(error)
        if reason != self._refusal:
            self._refusal = reason
            _log.error("Redis refuses publications: {reason}. Other hosts do not get them.", reason=reason)

    def cut(self) -> None:
        """The connection is gone: what it did not confirm is sent again by the next, before what waits.

        Whether Redis took it is not known; who got it recognises it by its sequence.
        """
        self._connection = self._on_flushed = None
        self._stop_holding()
        self._held.clear()
        again = [item for item in self._flying if not item[2]]
        self._flying.clear()
        self._flying_bytes = 0
        self._waiting.extendleft(reversed(again))
        self.waiting_bytes += sum(len(item[0]) for item in again)
        self._bound()
        self._fire_drained()

    def _fire_drained(self) -> None:
        drained, self._drained = self._drained, []
        for one in drained:
            one.callback(None)

    def drained(self) -> Deferred[None]:
        """Fires when Redis has everything, or is lost."""
        if self._connection is None or not (self._waiting or self._flying):
            return succeed(None)
        self._send()
        waiting: Deferred[None] = Deferred()
        self._drained.append(waiting)
        return waiting
