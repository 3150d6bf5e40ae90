"""Host names, by the system's own resolver, in threads that nobody has to wait for.

``getaddrinfo`` cannot be cut: with a name server that is silent it takes as long as ``/etc/resolv.conf`` says, 10 s
and more. A thread that is in it then must hold up neither a question nor the end of the process, which waits for all
threads but daemons.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

from twisted.internet._resolver import GAIResolver
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorThreads,
    IResolutionReceiver,
)
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

#: An address and a port.
Place: TypeAlias = "tuple[str, int]"

#: Names that are looked for at once for what the reactor connects to, and with those that wait; others are not found.
MAX_THREADS: Final = 4
MAX_PENDING: Final = 100

_SILENT: Final = "the name server does not answer"


class Host:
    """One host, at one port. Methods may be called in any thread.

    One thread at most asks for its addresses, however many want to know them.
    """

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._port = port
        self._changed = threading.Condition()
        self._asking = False
        self._closed = False
        self._found: list[Place] = []
        self._failure: OSError | None = None

    def addresses(self, limit: float) -> list[Place]:
        """Where it is; blocks. While no name server answers, where it was.

        :param limit: seconds to wait.
        :raises OSError: there is no such name, or it cannot be found out in time.
        """
        try:
            return self._lookup(socket.AI_NUMERICHOST)
        except socket.gaierror:
            # a name
            pass
        with self._changed:
            if not self._asking and not self._closed:
                self._asking = True
                threading.Thread(target=self._ask, name=f"names {self._name}", daemon=True).start()
            answered = self._changed.wait_for(lambda: not self._asking or self._closed, limit)
            if self._closed:
                raise TimeoutError("given up")
            if answered and self._failure is not None:
                raise self._failure
            if not self._found:
                raise TimeoutError(_SILENT)
            return self._found

    def _ask(self) -> None:
        found: list[Place] = []
        failure: OSError | None = None
        try:
            found = self._lookup(0)
        except OSError as error:
            # no name server has answered, at last: it counts where the host was
            silent = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            failure = None if silent and self._found else error
        except UnicodeError:
            failure = OSError("not a host's name")
        with self._changed:
            self._asking = False
            self._failure = failure
            self._found = found or self._found
            self._changed.notify_all()

    def _lookup(self, flags: int) -> list[Place]:
        found = socket.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM, flags=flags)
        return [(str(place[0]), int(place[1])) for *_, place in found]

    def close(self) -> None:
        """Nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Daemon(threading.Thread):
    """A thread that the end of the process does not wait for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, daemon=True)


class _Daemons(ThreadPool):
    threadFactory: type[threading.Thread] = _Daemon


class _Nowhere(NamedTuple):
    """A name that is not looked for."""

    name: str

    def cancel(self) -> None:
        """It is over already."""


@implementer(IHostnameResolver)
class Resolver:
    """Twisted's own resolver, but in daemon threads, for everything that the reactor connects to by name."""

    def __init__(self, reactor: IReactorThreads) -> None:
        threads = _Daemons(0, MAX_THREADS, "names")
        threads.start()
        self._inner = GAIResolver(reactor, lambda: threads, self._lookup)
        self._lock = threading.Lock()
        self._pending = 0

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        with self._lock:
            full = self._pending >= MAX_PENDING
            self._pending += not full
        if not full:
            return self._inner.resolveHostName(
                resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
            )
        nowhere: Any = _Nowhere(hostName)
        resolutionReceiver.resolutionBegan(nowhere)
        resolutionReceiver.resolutionComplete()
        return cast(IHostResolution, nowhere)

    def _lookup(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        try:
            return socket.getaddrinfo(host, port, family, type, proto, flags)
        finally:
            with self._lock:
                self._pending -= 1
