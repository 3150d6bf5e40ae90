"""What the processes of one host know of each other's load: a few numbers in memory that they share.

The kernel wakes every worker when a connection arrives and gives it to the first that asks. That is whoever is least
busy for a microsecond, not whoever has the fewest connections, so the workers look at each other's counts.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Slots of a scoreboard.
SLOTS: Final = 64
_FIELDS: Final = 5
_BYTES: Final = 8
#: Nanoseconds since the last sign of life after which a process counts as gone, and after which as too busy.
_GONE: Final = 2_000_000_000
_BUSY: Final = 300_000_000


class Scoreboard:
    """Slots of five unsigned 64-bit numbers, in a file that is memory only.

    Each slot has one writer, the worker it belongs to (the master, once that worker is dead). An aligned number is
    written and read whole, so there are no locks; two numbers of a slot may be of different moments.
    """

    def __init__(self, fd: int) -> None:
        #: The descriptor, for children to inherit; not inherited unless they are given it.
        self.fd = fd
        self._memory = mmap.mmap(fd, 0)
        self._view = memoryview(self._memory).cast("Q")
        size = self.slots = len(self._view) // _FIELDS
        self.connections, self.accepting, self.beats, self.clients, self.workers = (
            self._view[field * size : (field + 1) * size] for field in range(_FIELDS)
        )

    @classmethod
    def create(cls, slots: int = SLOTS) -> Scoreboard:
        """A new one, all zeros."""
        fd = os.memfd_create("mechamap-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(fd, slots * _FIELDS * _BYTES)
        return cls(fd)

    @classmethod
    def attach(cls, fd: int) -> Scoreboard:
        """The one behind an inherited descriptor, which it closes in the end."""
        os.set_inheritable(fd, False)
        return cls(fd)

    def slot(self, number: int) -> Slot:
        """:raises IndexError: for a number that is not from 0 to ``slots`` - 1."""
        if not 0 <= number < self.slots:
            raise IndexError(number)
        return Slot(self, number)

    def alive(self, now: int) -> list[tuple[int, int]]:
        """(connections, last sign of life) of the slots that are alive and accepting.

        :param now: ``time.monotonic_ns()``, which all processes of a host share.
        """
        rows = zip(self.connections.tolist(), self.accepting.tolist(), self.beats.tolist(), strict=True)
        return [(connections, beat) for connections, accepting, beat in rows if accepting and now - beat < _GONE]

    def takers(self, now: int) -> list[tuple[int, int]]:
        """(clients, worker) of the slots that accept, and whose reactor goes round."""
        rows = zip(
            self.clients.tolist(), self.workers.tolist(), self.accepting.tolist(), self.beats.tolist(), strict=True
        )
        return [(clients, worker) for clients, worker, accepting, beat in rows if accepting and now - beat < _BUSY]

    def average_of_accepting(self, now: int) -> float:
        """Connections of a worker that accepts, on average; 0 without one."""
        rows = self.alive(now)
        return sum(connections for connections, _ in rows) / len(rows) if rows else 0.0

    def close(self) -> None:
        """Let go of the memory and of the descriptor."""
        for view in (self.connections, self.accepting, self.beats, self.clients, self.workers, self._view):
            view.release()
        self._memory.close()
        os.close(self.fd)


class Slot:
    """The numbers of one worker."""

    __slots__ = ("_board", "number")

    def __init__(self, board: Scoreboard, number: int) -> None:
        self._board = board
        self.number = number

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return self._board.connections[self.number]

    @connections.setter
    def connections(self, count: int) -> None:
        self._board.connections[self.number] = count

    @property
    def accepting(self) -> bool:
        """Whether it takes new connections."""
        return bool(self._board.accepting[self.number])

    @accepting.setter
    def accepting(self, on: bool) -> None:
        self._board.accepting[self.number] = int(on)

    @property
    def beat(self) -> int:
        """The last sign of life, in nanoseconds of ``CLOCK_MONOTONIC``; 0 for none ever."""
        return self._board.beats[self.number]

    @beat.setter
    def beat(self, now: int) -> None:
        self._board.beats[self.number] = now

    @property
    def clients(self) -> int:
        """Clients, which may be more or fewer than connections: those of a proxy carry many, or none."""
        return self._board.clients[self.number]

    @clients.setter
    def clients(self, count: int) -> None:
        self._board.clients[self.number] = count

    @property
    def worker(self) -> int:
        """The number of the worker that has the slot."""
        return self._board.workers[self.number]

    @worker.setter
    def worker(self, number: int) -> None:
        self._board.workers[self.number] = number

    def clear(self) -> None:
        """Make it anybody's; the master does so when the worker is dead, and before it gives the slot away."""
        self.accepting = False
        self.connections = self.beat = self.clients = self.worker = 0


class FairShare:
    """One worker's part in the agreement that who has clearly more connections than the others lets them go first.

    :param clock: ``CLOCK_MONOTONIC`` in nanoseconds, the same in every process.
    """

    #: Seconds for which a port does not accept once it has to yield. Long enough for another process to be run, short
    #: enough that connections which come and go (HTTP) do not wait: with 20 ms half as many are served a second.
    pause: Final = 0.005
    #: Seconds between two signs of life.
    interval: Final = 0.1
    #: What is not clearly more than the average: this many connections, or this part of it. When three of four workers
    #: have all that, the fourth lacks three times as much.
    slack: Final = 8
    tolerance: Final = 0.04

    def __init__(
        self, reactor: IReactorTime, board: Scoreboard, slot: Slot, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._reactor = reactor
        self._board = board
        self._slot = slot
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._open = 0
        #: Counts the clients of this process.
        self.count_clients: Callable[[], int] = lambda: 0

    def start(self) -> None:
        """Count among those who accept, and show signs of life."""
        self._slot.connections = self._open
        if self._timer is None:
            self._beat()
        self._slot.accepting = True

    def leave(self) -> None:
        """Accept no more (draining, or full), but stay alive; :meth:`start` comes back."""
        self._slot.accepting = False

    def stop(self) -> None:
        """Count no more, and leave the reactor alone."""
        self._slot.accepting = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def arrived(self) -> None:
        """A connection has been accepted."""
        self._open += 1
        self._slot.connections = self._open

    def departed(self) -> None:
        """A connection has ended."""
        self._open -= 1
        self._slot.connections = self._open

    def processes(self) -> int:
        """How many processes there are now, those among them that leave."""
        now = self._clock()
        return sum(1 for beat in self._board.beats.tolist() if beat and now - beat < _GONE)

    def should_yield(self) -> bool:
        """Whether the next connection is for somebody else.

        Only while somebody is there to take it: a worker with fewer connections, whose reactor goes round.
        """
        now = self._clock()
        rows = self._board.alive(now)
        if len(rows) < 2:
            return False
        average = sum(connections for connections, _ in rows) / len(rows)
        if self._open <= average + max(self.slack, self.tolerance * average):
            return False
        return any(connections <= average and now - beat < _BUSY for connections, beat in rows)

    def show_clients(self) -> int:
        """Let the others know how many clients there are now, which they otherwise learn with a sign of life."""
        own = self._slot.clients = self.count_clients()
        return own

    def lightest(self, sent: Mapping[int, int]) -> int | None:
        """The worker that should have the next client, when it is not this one.

        A proxy keeps a few connections and sends every client's first request over one of them: whoever has accepted
        these would get all the clients.

        :param sent: clients that were sent to a worker, by its number, and that it does not count yet: in a rush
            everybody would be sent to whoever had the fewest when it began.
        """
        own = self.show_clients()
        rows = [(clients + sent.get(worker, 0), worker) for clients, worker in self._board.takers(self._clock())]
        if not rows:
            return None
        fewest, worker = min(rows)
        if worker == self._slot.worker:
            return None
        if not self._slot.accepting:
            return worker
        average = sum(clients for clients, _ in rows) / len(rows)
        return worker if own > average + max(1, self.tolerance * average) and fewest < own else None

    def rest(self, resume: Callable[[], object]) -> IDelayedCall:
        """Call ``resume`` when the others have had their moment."""
        return self._reactor.callLater(self.pause, resume)

    def _beat(self) -> None:
        self._slot.beat = self._clock()
        self.show_clients()
        self._timer = self._reactor.callLater(self.interval, self._beat)
