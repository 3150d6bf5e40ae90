"""What became of publications: accepted, delivered, lost, kept for who asks why somebody did not get one.

Three records tell it, each a tuple whose first member is its kind:

* ``("a", id, moment, channel, event, class, priority, source, request, sender, bytes)``: accepted, in this process;
* ``("d", id, moment, count, users)``: given to so many connections of this process; ``users`` where they are few;
* ``("x", id, moment, user, why)``: one of them did not get it after all.

Moments are seconds since the epoch. Records are gathered, and a thousand at a time, or those of a few seconds, packed
into a :class:`Chunk`: some 25 bytes each, so that a hundred thousand publications are a few megabytes. Who looks for
one unpacks only the chunks that can have it.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from mechamap_rt.core.publication import DeliveryClass, Publication

#: Records of a chunk, and seconds after which a smaller one is packed.
CHUNK: Final = 1_000
EVERY: Final = 5.0
#: Users of one delivery that are named.
NAMED: Final = 8
#: Losses of one publication that are recorded, within one chunk.
MAX_LOSSES: Final = 50
#: Of volatile publications one in 18 is traced: those whose number ends so.
_SAMPLED: Final = ("0", "i")

_VOLATILE: Final = DeliveryClass.VOLATILE
#: What happens to volatile ones only.
DROPPED: Final = "dropped"

Record = Sequence[Any]


def sampled(publication: Publication) -> bool:
    """Is it traced? The same in every process."""
    return publication.delivery is not _VOLATILE or publication.id.endswith(_SAMPLED)


def origin(ident: str) -> tuple[str, int]:
    """The process that made a publication, and its number there.

    :raises ValueError: it is no publication's id.
    """
    node, _, serial = ident.partition("-")
    if not node or not serial.isalnum() or len(serial) > 16:
        raise ValueError("not the id of a publication")
    return node, int(serial, 36)


class Chunk:
    """Records, packed.

    :ivar spans: for each process whose publications are in it, the least and the greatest number.
    :ivar packed: zlib over MessagePack.
    :ivar records: how many there are.
    :ivar publications: how many of them are acceptances or deliveries.
    :ivar ended: when it was packed.
    """

    __slots__ = ("ended", "packed", "publications", "records", "spans")

    def __init__(self, records: Sequence[Record], ended: float) -> None:
        self.spans: dict[str, tuple[int, int]] = {}
        for _, ident, *_rest in records:
            node, serial = origin(ident)
            least, most = self.spans.get(node, (serial, serial))
            self.spans[node] = (min(least, serial), max(most, serial))
        self.packed = zlib.compress(msgspec.msgpack.encode(records), 1)
        self.records = len(records)
        self.publications = sum(record[0] != "x" for record in records)
        self.ended = ended

    def may_have(self, node: str, serial: int) -> bool:
        least, most = self.spans.get(node, (1, 0))
        return least <= serial <= most


def about(ident: str, packed: bytes) -> list[Record]:
    """The records about one publication in a packed chunk.

    :raises ValueError: the bytes are no chunk.
    """
    try:
        records = msgspec.msgpack.decode(zlib.decompress(packed))
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"not a chunk: {error}") from None
    return [record for record in records if record[1] == ident]


class Tracing:
    """The records of one process.

    :param most: publications that are remembered; the oldest are forgotten.
    :param kept: seconds for which they are.
    :ivar on_chunk: called with every chunk that has been packed.
    """

    def __init__(self, most: int, kept: float) -> None:
        self._most = most
        self._kept = kept
        self._young: list[Record] = []
        self._losses: Counter[str] = Counter()
        self._chunks: deque[Chunk] = deque()
        self._held = 0
        self._packed_at = time.monotonic()
        # what is added to a moment of the monotonic clock
        self._epoch = time.time() - time.monotonic()
        self.on_chunk: Callable[[Chunk], object] = lambda chunk: None

    # recording

    def accepted(self, publication: Publication, source: str, request: str) -> None:
        if not sampled(publication):
            return
        self._add(
            (
                "a",
                publication.id,
                publication.born + self._epoch,
                publication.channel.name,
                publication.event,
                publication.delivery.name.lower(),
                publication.priority.name.lower(),
                source,
                request,
                publication.sender,
                len(publication.data),
            )
        )

    def delivered(self, publication: Publication, count: int, users: Iterable[int]) -> None:
        """:param users: of the connections; taken only when they are few."""
        if sampled(publication):
            named = tuple(users) if count <= NAMED else ()
            self._add(("d", publication.id, time.time(), count, named))

    def lost(self, ident: str, user: int, why: str) -> None:
        """A connection of ``user`` was given a publication, and did not get it."""
        if why == DROPPED and not ident.endswith(_SAMPLED):
            return
        losses = self._losses
        losses[ident] += 1
        if losses[ident] <= MAX_LOSSES and len(losses) <= CHUNK:
            self._add(("x", ident, time.time(), user, why))

    def _add(self, record: Record) -> None:
        young = self._young
        young.append(record)
        if len(young) >= CHUNK:
            self._pack()

    def tick(self) -> None:
        """Pack what has waited, and forget what is old; called once a second or so."""
        now = time.monotonic()
        self._epoch = time.time() - now
        if now - self._packed_at >= EVERY:
            self._packed_at = now
            self.flush()
        self._forget()

    def flush(self) -> None:
        """Pack everything."""
        if self._young:
            self._pack()

    def _pack(self) -> None:
        records, self._young = self._young, []
        self._losses.clear()
        chunk = Chunk(records, time.time())
        self._chunks.append(chunk)
        self._held += chunk.publications
        self.on_chunk(chunk)

    def _forget(self) -> None:
        oldest = time.time() - self._kept
        while self._chunks and (self._held > self._most or self._chunks[0].ended < oldest):
            self._held -= self._chunks.popleft().publications

    # looking

    def about(self, ident: str) -> list[Record]:
        """The records about one publication."""
        try:
            node, serial = origin(ident)
        except ValueError:
            return []
        found = []
        for chunk in self._chunks:
            if chunk.may_have(node, serial):
                found += about(ident, chunk.packed)
        return found + [record for record in self._young if record[1] == ident]

    def figures(self) -> dict[str, int]:
        """How much is remembered: ``publications``, and ``bytes`` of what is packed."""
        return {
            "publications": self._held + len(self._young),
            "bytes": sum(len(chunk.packed) for chunk in self._chunks),
        }
