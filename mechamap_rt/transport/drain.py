"""Letting the clients of a process go, in waves, while other processes take them up.

Those whose session is another process's, and who reach it over a tunnel through this one, go like all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mechamap_rt.errors import Disconnect
from mechamap_rt.transport.engineio import EngineDoor
from mechamap_rt.transport.gate import Gate
from mechamap_rt.transport.tunnel import Tunnels
from mechamap_rt.transport.upgrade import Probe

#: Seconds between two waves.
TICK: Final = 0.1
#: Clients, or part of all, that may be on their way to the other processes before the next are let go.
UNDERWAY: Final = 100
UNDERWAY_PART: Final = 0.25
#: How many times longer than asked it may take when the others take them up slowly.
STRETCH: Final = 2.0


class _Leaver(Protocol):
    def dismiss(self, reason: Disconnect) -> None: ...


class Drain:
    """Lets the clients go.

    :param arrived: how many connections the other processes have; ``None`` where nobody can tell.
    :param before: called before each wave: who leaves must get what is being gathered for them.
    :ivar dismissed: clients that were told to go.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        gate: Gate,
        engine: EngineDoor,
        tunnels: Tunnels,
        arrived: Callable[[], int] | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._gate = gate
        self._engine = engine
        self._tunnels = tunnels
        self._arrived = arrived
        self._before = before
        self.dismissed = 0

    def clients(self, *, moving: bool = False) -> list[_Leaver]:
        """Those that have not been told to go.

        :param moving: also WebSockets over which a session is about to move? A client that has got so far does not poll
            any more, and would be lost for a while.
        """
        pipes = (pipe for pipe in self._gate.open_pipes() if moving or not isinstance(pipe.session, Probe))
        polling = (session for session in self._engine.polling() if not session.ended)
        return [*pipes, *polling, *self._tunnels.staying(young=moving)]

    async def run(self, seconds: float) -> None:
        """Let everybody go, evenly over ``seconds``, and no faster than the others take them up."""
        began = self._reactor.seconds()
        before = self._arrived() if self._arrived is not None else 0
        everybody = len(self.clients())
        underway = max(UNDERWAY, UNDERWAY_PART * everybody)
        while True:
            clients = self.clients()
            left = seconds - (self._reactor.seconds() - began)
            last = left + seconds * (STRETCH - 1) <= 0
            if not clients and (last or not self._tunnels.settling):
                return
            if last:
                self._dismiss(self.clients(moving=True))
                return
            if self._arrived is None or self.dismissed - (self._arrived() - before) < underway:
                self._dismiss(clients[: math.ceil(len(clients) * TICK / max(left, TICK))])
            await deferLater(self._reactor, TICK)

    def _dismiss(self, clients: list[_Leaver]) -> None:
        self._before()
        for client in clients:
            client.dismiss(Disconnect.RESTART)
        self.dismissed += len(clients)
