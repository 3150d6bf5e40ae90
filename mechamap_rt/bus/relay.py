"""The bus of one host: every process has a stream to every other, and sends each publication over all of them.

Nothing is subscribed to. A host has few processes, and sending everything to all of them is what makes it exact: who
was told that it is subscribed misses nothing that is published anywhere on the host from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.bus import parcels
from mechamap_rt.bus.link import FIRST_KIND, Link
from mechamap_rt.core.publication import Publication
from mechamap_rt.interfaces import IBus, IReceiver

PUBLISH: Final = FIRST_KIND
QUESTION: Final = FIRST_KIND + 1
#: Kinds from here on are for others: see :meth:`RelayBus.serve`.
FREE_KIND: Final = FIRST_KIND + 2

#: Seconds that the number of subscribers waits for a neighbour.
COUNT_LIMIT: Final = 0.5
#: Seconds that a question waits for a neighbour.
ANSWER_LIMIT: Final = 1.0

_COUNT: Final = Struct(">I")
_DONE: Final[Deferred[None]] = succeed(None)

Serve = Callable[[bytes, int], "bytes | Deferred[bytes] | None"]


class _Neighbour:
    """A process of this host.

    :ivar silent: it has not answered in time; until it is heard from again nobody waits for it.
    """

    __slots__ = ("_heard", "_silent", "link", "name")

    def __init__(self, name: str, link: Link) -> None:
        self.name = name
        self.link = link
        self._silent = False
        self._heard = 0

    @property
    def silent(self) -> bool:
        if self._silent and self.link.heard != self._heard:
            self._silent = False
        return self._silent

    def missed(self) -> None:
        self._silent = True
        self._heard = self.link.heard


class _Gathering:
    """The answers of several neighbours: fires when the last is there, or time is up."""

    __slots__ = ("_left", "answers", "done", "until")

    def __init__(self, until: float) -> None:
        self._left: dict[_Neighbour, Deferred[bytes]] = {}
        self.answers: list[bytes] = []
        self.until = until
        self.done: Deferred[list[bytes]] = Deferred()

    def wait_for(self, neighbour: _Neighbour, answer: Deferred[bytes]) -> None:
        self._left[neighbour] = answer
        answer.addCallbacks(self._answered, self._gone, callbackArgs=(neighbour,), errbackArgs=(neighbour,))

    def _answered(self, body: bytes, neighbour: _Neighbour) -> None:
        self.answers.append(body)
        self._one_less(neighbour)

    def _gone(self, reason: Failure, neighbour: _Neighbour) -> None:
        self._one_less(neighbour)

    def _one_less(self, neighbour: _Neighbour) -> None:
        self._left.pop(neighbour, None)
        self.settle()

    def settle(self) -> None:
        if not self._left and not self.done.called:
            self.done.callback(self.answers)

    def give_up(self) -> None:
        """Time is up."""
        left, self._left = self._left, {}
        for neighbour, answer in left.items():
            neighbour.missed()
            answer.cancel()
        self.settle()


@implementer(IBus)
class RelayBus:
    """Joins the processes of a host; :meth:`meet` makes it known to each other.

    :ivar degraded: never: a neighbour that is gone has no clients either.
    """

    degraded = False

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._receiver: IReceiver | None = None
        self._neighbours: dict[str, _Neighbour] = {}
        self._served: dict[int, Serve] = {}
        self._gatherings: dict[_Gathering, None] = {}
        self._ticking: IDelayedCall | None = None

    # neighbours

    def serve(self, kind: int, serve: Serve) -> None:
        """Have ``serve(body, descriptor)`` answer the neighbours' requests of ``kind``."""
        self._served[kind] = serve

    def meet(self, name: str, with_descriptor: frozenset[int] = frozenset()) -> Link:
        """The protocol of a new stream to the neighbour ``name``."""
        link = Link(self._take, lambda lost: self._forget(name, lost))
        link.with_descriptor = with_descriptor
        self._neighbours[name] = _Neighbour(name, link)
        return link

    def neighbour(self, name: str) -> Link | None:
        """The stream to the process of that name, if it is one of this host, and alive."""
        found = self._neighbours.get(name)
        return None if found is None or not found.link.open else found.link

    def _forget(self, name: str, link: Link) -> None:
        found = self._neighbours.get(name)
        if found is not None and found.link is link:
            del self._neighbours[name]
            if self._receiver is not None:
                self._receiver.on_gone(name, 0.0)

    # the bus

    def start(self, receiver: IReceiver) -> Deferred[None]:
        self._receiver = receiver
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._receiver = None
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        for neighbour in tuple(self._neighbours.values()):
            neighbour.link.close()
        for gathering in tuple(self._gatherings):
            gathering.give_up()
        return succeed(None)

    def publish(self, publication: Publication, counted: bool = True) -> Deferred[int]:
        receiver = self._receiver
        if receiver is None:
            return succeed(0)
        here = receiver.on_publication(publication)
        if not self._neighbours:
            return succeed(here)
        body = parcels.pack(publication, host=True)
        if not counted:
            for neighbour in self._neighbours.values():
                neighbour.link.tell(PUBLISH, body)
            return succeed(here)
        counting = self._gather(PUBLISH, body, COUNT_LIMIT)
        return counting.addCallback(lambda counts: here + sum(_COUNT.unpack(count)[0] for count in counts))

    def subscribe(self, resource: str) -> Deferred[None]:
        """Nothing to do: everything comes."""
        return _DONE

    def unsubscribe(self, resource: str) -> None:
        """Nothing to do: everything comes."""

    def ask(self, question: str, body: bytes) -> Deferred[list[bytes]]:
        receiver = self._receiver
        if receiver is None:
            return succeed([])
        mine = receiver.on_question(question, body)
        asking = self._gather(QUESTION, msgspec.msgpack.encode((question, body)), ANSWER_LIMIT)
        return asking.addCallback(lambda answers: [mine, *answers])

    def probe(self) -> Deferred[bool]:
        """Its own publications come to a process directly; a neighbour that is silent is that one's fault."""
        return succeed(self._receiver is not None)

    def figures(self) -> dict[str, Any]:
        silent = sum(neighbour.silent for neighbour in self._neighbours.values())
        return {"connected": True, "neighbours": len(self._neighbours), "silent": silent}

    def _gather(self, kind: int, body: bytes, limit: float) -> Deferred[list[bytes]]:
        """Ask every neighbour; who has been silent is told, but not waited for."""
        gathering = _Gathering(self._reactor.seconds() + limit)
        for neighbour in tuple(self._neighbours.values()):
            if neighbour.silent:
                neighbour.link.ask(kind, body).addErrback(_ignored)
            else:
                gathering.wait_for(neighbour, neighbour.link.ask(kind, body))
        gathering.settle()
        if not gathering.done.called:
            self._gatherings[gathering] = None
            gathering.done.addBoth(self._gathered, gathering)
            self._tick()
        return gathering.done

    def _gathered(self, answers: list[bytes], gathering: _Gathering) -> list[bytes]:
        self._gatherings.pop(gathering, None)
        return answers

    def _tick(self) -> None:
        """One timer for all that waits, however much it is."""
        if self._ticking is None:
            self._ticking = self._reactor.callLater(COUNT_LIMIT / 2, self._tock)

    def _tock(self) -> None:
        self._ticking = None
        now = self._reactor.seconds()
        for gathering in [each for each in self._gatherings if each.until <= now]:
            gathering.give_up()
        if self._gatherings:
            self._tick()

    # what neighbours ask

    def _take(self, kind: int, body: bytes, descriptor: int) -> bytes | Deferred[bytes] | None:
        receiver = self._receiver
        if kind == PUBLISH:
            return _COUNT.pack(0 if receiver is None else receiver.on_publication(parcels.unpack(body)))
        if kind == QUESTION:
            question, asked = msgspec.msgpack.decode(body, type=tuple[str, bytes])
            return b"" if receiver is None else receiver.on_question(question, asked)
        return self._served[kind](body, descriptor)


def _ignored(reason: Failure) -> None:
    """Nobody waits for this answer."""
