"""Which channels of Redis this process is subscribed to, and which of them Redis has confirmed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mechamap_rt.interfaces import IReactor
from mechamap_rt.redis.protocols import Subscriber

#: Seconds that a resource without subscribers stays subscribed: pages that are reloaded come back.
UNSUBSCRIBE_DELAY: Final = 5.0
#: Channels named in one command; more would hold up Redis for everybody else.
CHUNK: Final = 500


class _Interest:
    """One resource.

    :ivar leave_at: when it is given up; 0 while it is wanted.
    """

    __slots__ = ("confirmed", "leave_at", "waiting")

    def __init__(self) -> None:
        self.confirmed = False
        self.leave_at = 0.0
        self.waiting: list[Deferred[None]] = []


class Interests:
    """Subscribes on the first interest, and unsubscribes some time after the last.

    :param prefix: what comes before a resource in its channel's name.
    :param always: channels that are no resource's and are always subscribed.
    :param on_ready: called when, after :meth:`opened`, Redis has confirmed every channel.
    """

    def __init__(
        self, reactor: IReactor, prefix: bytes, always: Sequence[bytes], on_ready: Callable[[], object]
    ) -> None:
        self._reactor = reactor
        self._prefix = prefix
        self._always = tuple(always)
        self._on_ready = on_ready
        self._interests: dict[bytes, _Interest] = {}
        self._leaving: deque[tuple[float, bytes]] = deque()
        self._sweep: IDelayedCall | None = None
        self._asking: list[bytes] = []
        self._ask_soon: IDelayedCall | None = None
        self._missing: set[bytes] | None = None
        self._subscriber: Subscriber | None = None

    def __len__(self) -> int:
        return len(self._interests)

    def subscribe(self, resource: str) -> Deferred[None] | None:
        """Want a resource.

        :returns: fires when Redis has confirmed it, or is lost; None when there is nothing to wait for.
        """
        channel = self._prefix + resource.encode()
        interest = self._interests.get(channel)
        if interest is None:
            interest = self._interests[channel] = _Interest()
            if self._subscriber is not None:
                self._asking.append(channel)
                if self._ask_soon is None:
                    self._ask_soon = self._reactor.callLater(0, self._ask)
        interest.leave_at = 0.0
        if interest.confirmed or self._subscriber is None:
            return None
        waiting: Deferred[None] = Deferred()
        interest.waiting.append(waiting)
        return waiting

    def unsubscribe(self, resource: str) -> None:
        """Want it no longer."""
        channel = self._prefix + resource.encode()
        interest = self._interests.get(channel)
        if interest is None:
            return
        if self._subscriber is None:
            del self._interests[channel]
            return
        self._leave(channel, interest)

    def _leave(self, channel: bytes, interest: _Interest) -> None:
        interest.leave_at = self._reactor.seconds() + UNSUBSCRIBE_DELAY
        self._leaving.append((interest.leave_at, channel))
        if self._sweep is None:
            self._sweep = self._reactor.callLater(UNSUBSCRIBE_DELAY, self._give_up)

    def _ask(self) -> None:
        self._ask_soon = None
        asking, self._asking = self._asking, []
        if self._subscriber is not None:
            self._command(b"SUBSCRIBE", asking)

    def _give_up(self) -> None:
        """Unsubscribe what nobody has wanted for long enough."""
        self._sweep = None
        now = self._reactor.seconds()
        gone: list[bytes] = []
        while self._leaving and self._leaving[0][0] <= now:
            leave_at, channel = self._leaving.popleft()
            interest = self._interests.get(channel)
            if interest is None or interest.leave_at != leave_at:
                continue  # wanted again since
            if not interest.confirmed:
                # its confirmation must not be taken for that of a SUBSCRIBE that comes after the UNSUBSCRIBE
                self._leave(channel, interest)
                continue
            del self._interests[channel]
            gone.append(channel)
        self._command(b"UNSUBSCRIBE", gone)
        if self._leaving and self._sweep is None:
            self._sweep = self._reactor.callLater(max(self._leaving[0][0] - now, 0.0), self._give_up)

    def _command(self, name: bytes, channels: list[bytes]) -> None:
        assert self._subscriber is not None
        for start in range(0, len(channels), CHUNK):
            self._subscriber.command(name, channels[start : start + CHUNK])

    def opened(self, subscriber: Subscriber) -> None:
        """There is a connection: subscribe to everything."""
        self._subscriber = subscriber
        subscriber.on_subscribed = self._confirmed
        channels = [*self._always, *self._interests]
        self._missing = set(channels)
        self._command(b"SUBSCRIBE", channels)

    def _confirmed(self, channel: bytes) -> None:
        interest = self._interests.get(channel)
        if interest is not None:
            interest.confirmed = True
            waiting, interest.waiting = interest.waiting, []
            for one in waiting:
                one.callback(None)
        if self._missing is not None:
            self._missing.discard(channel)
            if not self._missing:
                self._missing = None
                self._on_ready()

    def lost(self) -> None:
        """The connection is gone; nobody waits for it."""
        self._subscriber = self._missing = None
        for call in (self._sweep, self._ask_soon):
            if call is not None:
                call.cancel()
        self._sweep = self._ask_soon = None
        self._asking = []
        self._leaving.clear()
        kept = {channel: interest for channel, interest in self._interests.items() if not interest.leave_at}
        waiting = [one for interest in self._interests.values() for one in interest.waiting]
        self._interests = kept
        for interest in kept.values():
            interest.confirmed, interest.waiting = False, []
        for one in waiting:
            one.callback(None)
