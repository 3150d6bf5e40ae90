"""The outbox: what waits to be written to one connection, bounded, written once per reactor turn.

Frames pushed during a turn leave together when the turn ends, by one ``send`` straight on the socket. Only what the
kernel does not take goes through Twisted's write buffer, and never more than the rest of one frame, so that
everything behind it can still be dropped or replaced.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IPullProducer, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.publication import DeliveryClass

_log = Logger()

_VOLATILE: Final = DeliveryClass.VOLATILE
_STATE: Final = DeliveryClass.STATE


class Loss(StrEnum):
    """Why a publication that was given to a connection does not reach its client."""

    DROPPED = "dropped"  #: Volatile, and the client was behind.
    REPLACED = "replaced"  #: A newer value of the same took its place before the client took it.
    SLOW = "slow_consumer"  #: The client was so far behind that its connection was closed.
    GONE = "connection_ended"  #: The connection ended before it could be written.


class OutboxStats:
    """What all outboxes of a process did; plain integers, read by the metrics."""

    __slots__ = ("bytes", "coalesced", "dropped", "overflows", "stalls", "writes")

    def __init__(self) -> None:
        self.bytes = 0
        self.writes = 0
        self.stalls = 0
        self.dropped = 0
        self.coalesced = 0
        self.overflows = 0


class Turn:
    """The outboxes that have something to write when the reactor's turn ends.

    At most :data:`SLICE` are written in one turn, so that a publication to very many does not keep the others waiting.

    :ivar soft: queued bytes of one outbox over which volatile frames are dropped and state frames coalesced.
    :ivar hard: queued bytes over which the connection is closed.
    :ivar waiting: outboxes whose clients do not take what is for them, in the order in which they stopped.
    :ivar lost: called with a publication's id, a user, and why the user does not get it over this outbox.
    :ivar flushed: called when a turn has ended and everything is written that could be.
    """

    SLICE: Final = 1024

    __slots__ = ("_calls", "_dirty", "_reactor", "_timer", "flushed", "hard", "lost", "soft", "stats", "waiting")

    def __init__(self, reactor: IReactorTime, soft: int = 256 * 1024, hard: int = 1024 * 1024) -> None:
        self._reactor = reactor
        self._dirty: list[Outbox] = []
        self._calls: list[Callable[[], object]] = []
        self._timer: IDelayedCall | None = None
        self.soft = soft
        self.hard = hard
        self.stats = OutboxStats()
        self.waiting: dict[Outbox, None] = {}
        self.lost: Callable[[str, int, str], object] = _ignore
        self.flushed: Callable[[], object] = _nothing

    def queued(self) -> int:
        """Bytes that wait for clients who do not take them."""
        return sum(outbox.queued for outbox in self.waiting)

    def add(self, outbox: Outbox) -> None:
        """Flush ``outbox`` when this turn ends."""
        self._dirty.append(outbox)
        if self._timer is None:
            self._timer = self._reactor.callLater(0, self._end)

    def later(self, call: Callable[[], object]) -> None:
        """Call ``call`` when this turn ends, before the flush."""
        self._calls.append(call)
        if self._timer is None:
            self._timer = self._reactor.callLater(0, self._end)

    def _end(self) -> None:
        self._timer = None
        calls, self._calls = self._calls, []
        for call in calls:
            _safely(call)
        dirty = self._dirty
        if len(dirty) > self.SLICE:
            dirty, self._dirty = dirty[: self.SLICE], dirty[self.SLICE :]
            if self._timer is None:
                self._timer = self._reactor.callLater(0, self._end)
        else:
            self._dirty = []
        for outbox in dirty:
            try:
                outbox.flush()
            except Exception:
                _log.failure("An outbox could not be written")
        self.flushed()

    def flush(self) -> None:
        """Write everything now (when the server stops)."""
        while self._dirty or self._calls:
            if self._timer is not None:
                self._timer.cancel()
            self._end()


class Transport(Protocol):
    """What an outbox needs of a Twisted transport."""

    def write(self, data: bytes) -> None: ...

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...


class Outbox(ABC):
    """What waits to be written to one client, and what happens when it is too much. How it is written, subclasses know.

    :param overflow: called once, at the end of a turn, when more than the hard limit would wait.
    """

    #: The transport's name, as clients know it.
    transport_name: ClassVar[str] = "websocket"

    __slots__ = (
        "_newest",
        "_overflow",
        "_pending",
        "_scheduled",
        "_soft",
        "_stalled",
        "_turn",
        "queued",
        "shut",
        "user",
    )

    def __init__(self, turn: Turn, overflow: Callable[[], object]) -> None:
        #: Whose it is, 0 as long as nobody's.
        self.user = 0
        self._turn = turn
        self._overflow = overflow
        self._soft = turn.soft
        self._pending: list[Frame] = []
        self._newest: dict[str, int] | None = None
        self._scheduled = False
        self._stalled = False
        #: No frame is taken any more.
        self.shut = False
        #: Bytes that wait here, and the rest of the frame that the transport still holds.
        self.queued = 0

    def push(self, frame: Frame) -> None:
        """Queue ``frame`` for the end of this turn; under pressure it may be dropped, or close the connection."""
        queued = self.queued + frame.size
        if queued > self._soft:
            if not self._fits(frame):
                return
            queued = self.queued + frame.size
        self.queued = queued
        self._pending.append(frame)
        if not self._scheduled:
            self._scheduled = True
            self._turn.add(self)

    def _fits(self, frame: Frame) -> bool:
        """Over the soft limit: may ``frame`` still be appended? Otherwise it has been dealt with here."""
        if self.shut:
            self._lost(frame, Loss.GONE)
            return False
        if not self._stalled:
            # much in one turn, for a client that may well be reading: see what the kernel takes before judging it
            self.flush()
            if not self._stalled:
                return True
        stats = self._turn.stats
        if frame.delivery is _VOLATILE:
            stats.dropped += 1
            self._lost(frame, Loss.DROPPED)
            return False
        newest = self._newest
        if newest is None:
            newest = self._newest = {f.key: at for at, f in enumerate(self._pending) if f.delivery is _STATE}
        if frame.delivery is _STATE:
            at = newest.get(frame.key)
            if at is not None:
                self.queued += frame.size - self._pending[at].size
                self._lost(self._pending[at], Loss.REPLACED)
                self._pending[at] = frame
                stats.coalesced += 1
                if self.queued <= self._soft:
                    # frames may be appended unseen again: what is known of the newest would go stale
                    self._newest = None
                return False
        if self.queued + frame.size > self._turn.hard:
            self._lost(frame, Loss.SLOW)
            self._spill()
            return False
        if frame.delivery is _STATE:
            newest[frame.key] = len(self._pending)
        return True

    def _spill(self) -> None:
        """Over the hard limit: drop everything, and have the connection closed."""
        self._turn.stats.overflows += 1
        self._shut()
        self._lose_all(Loss.SLOW)
        self._drop()
        self._turn.later(self._overflow)

    def _lost(self, frame: Frame, why: Loss) -> None:
        if frame.publication:
            self._turn.lost(frame.publication, self.user, why)

    def _lose_all(self, why: Loss) -> None:
        for frame in self._pending:
            self._lost(frame, why)

    def carries(self, publication: str) -> bool:
        """Does it wait here?"""
        return any(frame.publication == publication for frame in self._pending)

    def _drop(self) -> None:
        if self in self._turn.waiting:
            del self._turn.waiting[self]
        self._pending = []
        self._newest = None
        self.queued = 0

    def _shut(self) -> None:
        self.shut = True
        self._soft = -1

    @abstractmethod
    def flush(self) -> None:
        """Write what is queued, as far as the client takes it."""

    def take(self) -> list[Frame]:
        """What is queued; it is the caller's from now on."""
        frames = self._pending
        self._drop()
        return frames

    def abandon(self) -> None:
        """Drop everything: the connection is gone."""
        self._lose_all(Loss.GONE)
        self._shut()
        self._drop()
        self._overflow = _nothing


@implementer(IPushProducer)
class SocketOutbox(Outbox):
    """An outbox that writes WebSocket frames to a transport.

    :param transport: where to write.
    :param send: the transport's own ``socket.send`` where bytes may bypass its buffer (plain TCP and unix sockets),
        else ``None`` (TLS).
    """

    __slots__ = ("_send", "_transport")

    def __init__(
        self, turn: Turn, transport: Transport, send: Callable[[bytes], int] | None, overflow: Callable[[], object]
    ) -> None:
        super().__init__(turn, overflow)
        self._transport = transport
        self._send = send
        if send is None:
            transport.registerProducer(self, True)

    def flush(self) -> None:
        self._scheduled = False
        frames = self._pending
        if self._stalled or not frames:
            return
        data = frames[0].wire if len(frames) == 1 else b"".join([frame.wire for frame in frames])
        stats = self._turn.stats
        stats.writes += 1
        stats.bytes += len(data)
        if self._send is None:
            self._drop()
            self._transport.write(data)
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # the connection is gone: the transport finds out by itself and says so to its protocol
            self._drop()
            self._transport.write(data)
            return
        if sent == len(data):
            frames.clear()
            self._newest = None
            self.queued = 0
        else:
            self._stall(sent)

    def _stall(self, sent: int) -> None:
        """The kernel took only ``sent`` bytes: lend the transport the rest of the frame it cut, keep the others."""
        self._turn.stats.stalls += 1
        frames = self._pending
        at = 0
        while sent >= frames[at].size:
            sent -= frames[at].size
            at += 1
        rest = frames[at].wire[sent:]
        self._pending = frames[at + 1 :]
        self._newest = None
        self.queued = len(rest) + sum(frame.size for frame in self._pending)
        self._stalled = True
        self._turn.waiting[self] = None
        self._transport.write(rest)
        self._transport.registerProducer(_WhenDrained(self), False)

    def deflating(self) -> DeflatingOutbox:
        """An outbox in the place of this one, for a client that has just negotiated permessage-deflate."""
        if self._send is None:
            self._transport.unregisterProducer()
        other = DeflatingOutbox(self._turn, self._transport, self._send, self._overflow)
        for frame in self.take():
            other.push(frame)
        self.abandon()
        return other

    def close(self) -> None:
        """Hand everything that is queued to the transport, and take no more: the connection is about to end."""
        if not self.shut:
            self._shut()
            self.flush()
        if self._pending:
            self._transport.write(b"".join([frame.wire for frame in self._pending]))
        self._drop()

    # IPushProducer, for transports that must not be bypassed

    def pauseProducing(self) -> None:
        self._stalled = True
        self._turn.waiting[self] = None

    def resumeProducing(self) -> None:
        self._stalled = False
        self._turn.waiting.pop(self, None)
        self.flush()

    def stopProducing(self) -> None:
        self._stalled = True


class DeflatingOutbox(SocketOutbox):
    """The outbox of a client that negotiated permessage-deflate: frames are compressed once for all such clients."""

    __slots__ = ()

    def push(self, frame: Frame) -> None:
        super().push(frame.deflated())


@implementer(IPullProducer)
class _WhenDrained:
    """Tells an outbox that its transport has written what it was lent.

    Twisted calls a pull producer once when it is registered and then whenever the transport's buffer is empty.
    """

    __slots__ = ("_outbox", "_registered")

    def __init__(self, outbox: SocketOutbox) -> None:
        self._outbox = outbox
        self._registered = False

    def resumeProducing(self) -> None:
        if not self._registered:
            self._registered = True
            return
        self._outbox._transport.unregisterProducer()
        self._outbox.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone; its protocol says so."""


def _safely(call: Callable[[], object]) -> None:
    """One client's fault is not another's."""
    try:
        call()
    except Exception:
        _log.failure("A call at the end of a turn failed")


def _nothing() -> None:
    """What an abandoned outbox does when it overflows, and a turn that nobody watches."""


def _ignore(publication: str, user: int, why: str) -> None:
    """Nobody wants to know."""
