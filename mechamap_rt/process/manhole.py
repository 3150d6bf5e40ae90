"""The manhole's ways to the processes of a host: which one a user's name means.

Imported in the process that listens, and only where ``MANHOLE_ENABLED`` says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IAuditLog
from mechamap_rt.manhole.door import ADDRESS, Destination, Manhole
from mechamap_rt.process.child import Child, State, closing
from mechamap_rt.process.crew import Crew
from mechamap_rt.process.orders import Attend
from mechamap_rt.settings import Settings
from mechamap_rt.settings.control_socket import UnusableSocketError
from mechamap_rt.settings.shell_keys import UnusableKeysError, host_key_path

if TYPE_CHECKING:
    from mechamap_rt.app import Realtime
    from mechamap_rt.manhole.shell import Shells
    from mechamap_rt.process.master import Master

_log = Logger()

#: The names that mean a worker, and the master.
_WORKER: Final = re.compile(r"w?([1-9][0-9]{0,8})")
MASTER: Final = "master"


class Ways:
    """The manhole of a host.

    :param find: the destination that a user's name means.
    """

    def __init__(self, reactor: Any, settings: Settings, audit: IAuditLog, find: Callable[[str], Destination]) -> None:
        self._settings = settings
        self._door = Manhole(reactor, settings.manhole.port, settings.manhole.authorized_keys, find, audit)
        self._find = find
        self._fault = ""

    @classmethod
    def of_master(cls, reactor: Any, settings: Settings, audit: IAuditLog, crew: Crew, master: Master) -> Self:
        """To the workers, and the master."""
        shells: list[Shells] = []

        def own() -> Shells:
            if not shells:
                from mechamap_rt.process.shells import shells_of_master

                shells.append(shells_of_master(reactor, settings, master, crew))
            return shells[0]

        return cls(reactor, settings, audit, partial(_of_crew, crew, own))

    @classmethod
    def of_single(cls, reactor: Any, settings: Settings, audit: IAuditLog, app: Realtime) -> Self:
        """To the one process there is, by whatever name."""
        shells: list[Shells] = []

        async def come_in(descriptor: int) -> None:
            if not shells:
                from mechamap_rt.process.shells import shells_of

                shells.append(shells_of(reactor, settings, app))
            shells[0].open(descriptor)

        destination = Destination("The server", {"worker": 1}, come_in)

        def find(name: str) -> Destination:
            wanted = _WORKER.fullmatch(name)
            if wanted is not None and int(wanted[1]) != 1:
                raise OperationFault("UNKNOWN_WORKER", f"There is no worker {wanted[1]}: this is a single process.")
            return destination

        return cls(reactor, settings, audit, find)

    def open(self) -> None:
        """Let visitors in. A server without its manhole serves clients all the same: what is wrong is logged."""
        try:
            self._door.listen(host_key_path(self._settings, os.environ, os.geteuid()))
        except UnusableKeysError as error:
            self._fault = f"the host key: MANHOLE_HOST_KEY {error}"
        except OSError as error:
            self._fault = f"the host key cannot be written: {error.strerror or error}"
        except (CannotListenError, UnusableSocketError) as error:
            self._fault = str(error)
        if self._fault:
            _log.error("The manhole is not open: {reason}", reason=self._fault)

    async def close(self) -> None:
        await self._door.stop()

    def described(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """How an operator gets in: ``address``, ``port``, ``user``, and ``host_key`` as known_hosts has it.

        :raises OperationFault: the manhole is not open, or there is no such worker.
        """
        if not self._door.port:
            raise OperationFault("NO_MANHOLE", f"The manhole is not open: {self._fault or 'the server stops'}")
        worker = asked.get("worker")
        user = MASTER if worker == 0 else "any" if worker is None else f"w{worker}"
        self._find(user)
        return {"address": ADDRESS, "port": self._door.port, "user": user, "host_key": self._door.host_key}


def _of_crew(crew: Crew, own: Callable[[], Shells], name: str) -> Destination:
    """``w2`` or ``2`` is the worker of that number, ``master`` the master, and any other name the least busy worker.

    :raises OperationFault: there is none.
    """
    if name == MASTER:

        async def come_in(descriptor: int) -> None:
            own().open(descriptor)

        return Destination("The master", {"worker": MASTER}, come_in)
    serving = crew.serving()
    wanted = _WORKER.fullmatch(name)
    if wanted is None:
        if not serving:
            raise OperationFault("NO_WORKER", "No worker is ready.")
        return _to(serving[0])
    child = crew.workers.get(int(wanted[1]))
    # one that drains may be looked at, too
    if child is None or child.state not in (State.READY, State.DRAINING):
        there = ", ".join(map(str, sorted(each.number for each in serving))) or "none"
        raise OperationFault("UNKNOWN_WORKER", f"There is no worker {wanted[1]}; there are {there}.", "worker")
    return _to(child)


def _to(child: Child) -> Destination:
    async def come_in(descriptor: int) -> None:
        await closing(child.orders.callRemote(Attend, stream=descriptor), descriptor)

    return Destination(f"Worker {child.number}", {"worker": child.number, "node": child.name}, come_in)
