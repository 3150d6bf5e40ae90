"""The door of the manhole: where it listens, who may come in, who is in, and what is written down of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IAuditLog
from mechamap_rt.manhole import hostkey
from mechamap_rt.manhole.ssh import Server, Transport
from mechamap_rt.manhole.visit import Visit
from mechamap_rt.settings.shell_keys import UnusableKeysError, authorized
from mechamap_rt.system.audit import Actor

_log = Logger()

#: Loopback, and nothing else: whoever is elsewhere has a login on this host, and forwards a port.
ADDRESS: Final = "127.0.0.1"
#: Connections, of whoever has logged in or not, and of those who have.
MAX_CONNECTIONS: Final = 16
MAX_VISITS: Final = 4
#: Seconds without a keystroke after which a session is over.
IDLE: Final = 30 * 60.0
#: Failed logins a minute that are each written down; of more only the number is.
MAX_FAILURES: Final = 30
#: Seconds that visitors have to read why it is over, when the server stops.
PATIENCE: Final = 0.5

LOGIN: Final = "manhole.login"
LOGOUT: Final = "manhole.logout"


class Destination(NamedTuple):
    """A process that has a shell.

    :ivar label: its name in a sentence, at the beginning: ``Worker 2``.
    :ivar target: what it is in the audit log.
    :ivar open: gives it its end of a stream, which it closes; raises what there is to say.
    """

    label: str
    target: Mapping[str, Any]
    open: Callable[[int], Coroutine[Any, Any, None]]


class Manhole:
    """Listens, for visitors.

    :param port: 0 for any free one.
    :param keys: the path of the file with the keys that open it.
    :param find: the destination that a user's name means; raises :class:`OperationFault` where there is none.
    :param audit: is told of every login, every one that has failed, and of the end of each.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        keys: str,
        find: Callable[[str], Destination],
        audit: IAuditLog,
        idle: float = IDLE,
    ) -> None:
        self.reactor = reactor
        self._wanted = port
        self._keys = keys
        self._find = find
        self._audit = audit
        self._idle = idle
        self._server: Server | None = None
        self._port: IListeningPort | None = None
        self._failures = _Failures(reactor.seconds)
        self.visits: dict[Visit, None] = {}
        #: The public half of the host key, as known_hosts has it.
        self.host_key = ""

    @property
    def port(self) -> int:
        """Where it listens; 0 where it does not."""
        number: int = 0 if self._port is None else self._port.getHost().port  # type: ignore[attr-defined]
        return number

    def listen(self, host_key: Path) -> None:
        """Let visitors come.

        :raises UnusableKeysError, OSError, CannotListenError: it cannot be; the host key is not fit, or the port taken.
        """
        key = hostkey.load_or_make(host_key)
        self.host_key = hostkey.known(key)
        self._server = Server(self, key, self._authorized, MAX_CONNECTIONS)
        self._port = self.reactor.listenTCP(self._wanted, self._server, interface=ADDRESS)
        _log.info("The manhole is open on {address}:{port}", address=ADDRESS, port=self.port)

    async def stop(self) -> None:
        """Nobody comes in any more, and whoever is in is told, and has to go."""
        port, self._port = self._port, None
        server, self._server = self._server, None
        if port is None or server is None:
            return
        stopped = port.stopListening()
        for visit in tuple(self.visits):
            visit.close("The server stops, and this session ends with it.")
        if server.connections:
            deadline = self.reactor.seconds() + PATIENCE
            while server.connections and self.reactor.seconds() < deadline:
                await deferLater(self.reactor, 0.02)
            for connection in tuple(server.connections):
                connection.abort()
            await deferLater(self.reactor, 0)
        if stopped is not None:
            await stopped

    def _authorized(self) -> Deferred[frozenset[bytes]]:
        """The keys as they are in the file now; none, if they are not to be trusted."""
        reading = deferToThreadPool(self.reactor, self.reactor.getThreadPool(), authorized, self._keys)
        return reading.addErrback(self._no_keys)

    def _no_keys(self, reason: Any) -> frozenset[bytes]:
        reason.trap(UnusableKeysError)
        _log.error("Nobody can log in: MANHOLE_AUTHORIZED_KEYS: {reason}", reason=reason.getErrorMessage())
        return frozenset()

    # coming and going

    def arrived(self, transport: Transport, who: str) -> Visit:
        """Somebody has logged in."""
        destination, refusal, code = None, "", None
        try:
            if len(self.visits) >= MAX_VISITS:
                raise OperationFault("TOO_MANY", f"There are {MAX_VISITS} sessions already.")
            destination = self._find(transport.user)
        except OperationFault as fault:
            refusal, code = str(fault), fault.code
        visit = Visit(self, transport, who, destination, refusal, self._idle)
        target = {"user": transport.user, **({} if destination is None else destination.target)}
        outcome: Any = "ok" if destination is not None else "refused"
        self._audit.note(_actor(who), LOGIN, target, outcome, code=code, address=transport.peer)
        if destination is not None:
            self.visits[visit] = None
            _log.info(
                "Manhole: {who} from {peer} comes to {label}",
                who=who,
                peer=transport.peer,
                label=destination.label.lower(),
            )
        return visit

    def left(self, visit: Visit) -> None:
        """The end of a visit."""
        if visit not in self.visits:
            return
        del self.visits[visit]
        assert visit.destination is not None
        seconds = round(self.reactor.seconds() - visit.since, 1)
        target = {"user": visit.user, **visit.destination.target, "seconds": seconds}
        self._audit.note(_actor(visit.who), LOGOUT, target, "ok", address=visit.peer)
        _log.info("Manhole: {who} leaves {label}", who=visit.who, label=visit.destination.label.lower())

    def gone(self, transport: Transport) -> None:
        """The end of a connection."""
        if self._server is not None:
            self._server.connections.pop(transport, None)
        if transport.visit is not None:
            transport.visit.end()
        elif transport.tries:
            self._failed(transport)

    def _failed(self, transport: Transport) -> None:
        """Somebody has not got in. Whoever it is may be anybody on this host, and must not fill the audit log."""
        noted, unnoted = self._failures.one_more()
        if unnoted:
            self._audit.note(Actor("server"), LOGIN, {"not_noted": unnoted}, "refused", code="UNAUTHORIZED")
        if noted:
            by_key = transport.last.startswith("SHA256:")
            actor = _actor(transport.last) if by_key else Actor("ssh_key")
            target = {"user": transport.user, "tries": transport.tries, **({} if by_key else {"by": transport.last})}
            self._audit.note(actor, LOGIN, target, "refused", code="UNAUTHORIZED", address=transport.peer)
            _log.warn("Manhole: {last} from {peer} is not let in", last=transport.last, peer=transport.peer)


class _Failures:
    """How many failed logins there were in the last minute.

    :param clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        self._count = 0

    def one_more(self) -> tuple[bool, int]:
        """Shall this one be noted? And how many of the last minute have not been."""
        now, unnoted = self._clock(), 0
        if now >= self._until:
            unnoted = max(0, self._count - MAX_FAILURES)
            self._until, self._count = now + 60.0, 0
        self._count += 1
        return self._count <= MAX_FAILURES, unnoted


def _actor(who: str) -> Actor:
    return Actor("ssh_key", who)
