"""Batches: what need not leave at once is gathered for each channel and priority, and leaves together.

The first event of a channel opens a window. When it closes, all of them are delivered in one turn of the reactor, so
that each subscriber gets them in one write, and the next window opens; one that closes on nothing is the last. Of
``STATE`` events with the same key only the newest is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from twisted.logger import Logger

from mechamap_rt.core.publication import DeliveryClass, Priority, Publication
from mechamap_rt.core.wheel import Deadline, Wheel

_log = Logger()

#: Seconds within which an event leaves, as publishers are promised.
PROMISED: Final = {Priority.MEDIUM: 2.0, Priority.LOW: 10.0}
#: Seconds that a window is shorter: the wheel may be late by 0.1, the rest is for the reactor and the way.
MARGIN: Final = 0.15

#: Events and bytes of one batch; when it has as many it leaves at once.
MAX_EVENTS: Final = 1000
MAX_BYTES: Final = 1_000_000
#: Events, batches, and bytes in all; when there are as many, the batch that grew leaves at once.
MAX_GATHERED: Final = 100_000
MAX_GATHERED_BYTES: Final = 64_000_000
#: Bytes that an event takes besides its data: name, channel and id in its frame.
OVERHEAD: Final = 128

_STATE: Final = DeliveryClass.STATE
_Key = tuple[str, Priority]


class _Batch:
    """What is gathered of one resource and priority.

    :ivar events: with their numbers, in the order in which they leave; by their key where they may be replaced.
    :ivar size: their bytes.
    :ivar since: when the window opened, in the reactor's seconds.
    """

    __slots__ = ("deadline", "events", "key", "since", "size", "window")

    def __init__(self, key: _Key, since: float) -> None:
        self.key = key
        self.window = PROMISED[key[1]] - MARGIN
        self.since = since
        self.events: dict[str | int, tuple[int, Publication]] = {}
        self.size = 0
        self.deadline: Deadline | None = None


class Batches:
    """Gathers publications that are not :attr:`~Priority.HIGH`, and delivers them in time.

    Two deliveries of the same resource and priority are a window apart, unless a bound is hit.

    :param deliver: delivers one publication to its subscribers of that moment.
    :param size: bytes of one batch, at most :data:`MAX_BYTES`; what fits into an outbox leaves in one write.

    :ivar gathered: events that wait now.
    :ivar gathered_bytes: their bytes.
    :ivar coalesced: events that a newer one has replaced since the start.
    :ivar early: batches that left before their time, because a bound was hit.
    """

    def __init__(self, wheel: Wheel, deliver: Callable[[Publication], object], size: int = MAX_BYTES) -> None:
        self._wheel = wheel
        self._deliver = deliver
        self._size = min(size, MAX_BYTES)
        self._batches: dict[_Key, _Batch] = {}
        self._numbers = count()
        self._closed = False
        self.gathered = self.gathered_bytes = 0
        self.coalesced = self.early = 0

    def __len__(self) -> int:
        """Windows that are open."""
        return len(self._batches)

    def add(self, publication: Publication) -> None:
        """Gather, for as long as its priority allows; what is over a bound leaves at once."""
        key = (publication.channel.resource, publication.priority)
        batch = self._batches.get(key)
        if batch is None:
            if self._closed or len(self._batches) >= MAX_GATHERED:
                if publication.delivery is _STATE:
                    self.supersede(publication)
                self._hand_over(publication)
                return
            batch = self._open(key)
        number = next(self._numbers)
        name: str | int = number
        if publication.delivery is _STATE:
            name = publication.key
            self._replaced(batch, name)
        size = len(publication.data) + OVERHEAD
        batch.events[name] = (number, publication)
        batch.size += size
        self.gathered += 1
        self.gathered_bytes += size
        if len(batch.events) >= MAX_EVENTS or batch.size >= self._size or self._is_full():
            self.early += 1
            self._flush(batch)

    def supersede(self, publication: Publication, number: int | None = None) -> None:
        """A ``STATE`` event leaves now: older ones of its key, of whatever priority, must not come after it.

        :param number: its own; ``None`` for one that was not gathered, and is the newest.
        """
        for priority in PROMISED:
            batch = self._batches.get((publication.channel.resource, priority))
            if batch is not None:
                older = batch.events.get(publication.key)
                if older is not None and (number is None or older[0] < number):
                    self._replaced(batch, publication.key)

    def renew(self, publication: Publication) -> None:
        """A ``STATE`` event for which nobody is subscribed: who comes before an older one of its key leaves gets it."""
        for priority in PROMISED:
            batch = self._batches.get((publication.channel.resource, priority))
            if batch is not None and publication.key in batch.events:
                return self.add(publication)

    def forget_states(self, resource: str) -> None:
        """Newer values of what is gathered for ``resource`` may have been missed."""
        for priority in PROMISED:
            batch = self._batches.get((resource, priority))
            if batch is not None:
                for name in [name for name in batch.events if isinstance(name, str)]:
                    self._replaced(batch, name)

    def holds(self, resource: str, ident: str) -> bool:
        """Does a publication wait here?"""
        return any(
            publication.id == ident
            for priority in PROMISED
            if (batch := self._batches.get((resource, priority))) is not None
            for _, publication in batch.events.values()
        )

    def flush(self) -> None:
        """Deliver everything now; the windows stay as they are."""
        for batch in tuple(self._batches.values()):
            self._flush(batch)

    def close(self) -> None:
        """Deliver everything now, and from now on everything at once."""
        self._closed = True
        self.flush()
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            if batch.deadline is not None:
                batch.deadline.cancel()

    def _is_full(self) -> bool:
        return self.gathered >= MAX_GATHERED or self.gathered_bytes >= MAX_GATHERED_BYTES

    def _open(self, key: _Key) -> _Batch:
        batch = self._batches[key] = _Batch(key, self._wheel.seconds())
        self._arm(batch, batch.window)
        return batch

    def _arm(self, batch: _Batch, seconds: float) -> None:
        batch.deadline = self._wheel.after(seconds, partial(self._tick, batch))

    def _tick(self, batch: _Batch) -> None:
        """A window closes."""
        left = batch.since + batch.window - self._wheel.seconds()
        if left > self._wheel.resolution / 10:
            # what was in it has left early, and a new one has begun with that
            self._arm(batch, left)
        elif batch.events:
            self._flush(batch)
            self._arm(batch, batch.window)
        else:
            del self._batches[batch.key]

    def _replaced(self, batch: _Batch, name: str | int) -> None:
        older = batch.events.pop(name, None)
        if older is not None:
            size = len(older[1].data) + OVERHEAD
            batch.size -= size
            self.gathered -= 1
            self.gathered_bytes -= size
            self.coalesced += 1

    def _flush(self, batch: _Batch) -> None:
        events, batch.events = batch.events, {}
        self.gathered -= len(events)
        self.gathered_bytes -= batch.size
        batch.size = 0
        if events:
            batch.since = self._wheel.seconds()
        for number, publication in events.values():
            if publication.delivery is _STATE:
                self.supersede(publication, number)
            self._hand_over(publication)

    def _hand_over(self, publication: Publication) -> None:
        """One event's fault is not another's."""
        try:
            self._deliver(publication)
        except Exception:
            _log.failure("Publication {ident} could not be delivered", ident=publication.id)
