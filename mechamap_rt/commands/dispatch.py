"""Takes the requests of clients: limits, order, faults. What they do is in :mod:`mechamap_rt.commands.table`."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt.commands.outcome import Outcome, failure, rate_limited, unavailable
from mechamap_rt.core.connection import Connection, State
from mechamap_rt.errors import ClientFault, Code, Unavailable
from mechamap_rt.interfaces import ISessionStore

_log = Logger()

#: Requests of one connection that may wait for the one in progress.
MAX_BACKLOG: Final = 128

Respond = Callable[[Outcome], object]


@dataclass(frozen=True, slots=True)
class Command:
    """One thing a client may ask for.

    :ivar run: does it; raises :class:`~mechamap_rt.errors.ClientFault`.
    :ivar error_event: the name of its error answer.
    :ivar limit: the name of the limit it takes from.
    """

    run: Callable[[Connection, Any], Awaitable[Outcome]]
    error_event: str = "error"
    limit: str = "events"


class Dispatcher:
    """Runs the requests of each connection one after another, in the order they came.

    :param store: has the limits by :attr:`Command.limit`; the key is the user, so all devices of a user share them.
    """

    def __init__(self, commands: Mapping[str, Command], store: ISessionStore, clock: Callable[[], float]) -> None:
        self._commands = commands
        self._store = store
        self._clock = clock
        #: Requests by name, for the metrics; only known names are kept apart.
        self.requests: Counter[str] = Counter()

    def submit(self, connection: Connection, name: str | int, data: Any, respond: Respond) -> None:
        """Take the request ``name`` with ``data``; ``respond`` gets its outcome, unless the connection ends first."""
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            self.requests["other"] += 1
            command = _UNKNOWN
        else:
            self.requests[str(name)] += 1
        connection.active_at = self._clock()
        if connection.backlog is None:
            return self._run(connection, command, data, respond)
        if len(connection.backlog) >= MAX_BACKLOG:
            return self.refuse(rate_limited("unanswered requests", 1.0), respond)
        connection.backlog.append(lambda: self._run(connection, command, data, respond))

    def refuse(self, fault: ClientFault, respond: Respond) -> None:
        """Answer a request that was not looked at: over a limit, or not readable."""
        respond(failure(fault, "error", {}, self._clock()))

    def _run(self, connection: Connection, command: Command, data: Any, respond: Respond) -> None:
        running = Deferred.fromCoroutine(self._perform(command, data, connection))
        if not running.called:
            connection.backlog = deque()
            running.addCallback(self._resume, connection, respond)
            running.addErrback(_unexpected, connection)
            return
        running.addCallback(_answer, connection, respond)
        running.addErrback(_unexpected, connection)

    def _resume(self, outcome: Outcome, connection: Connection, respond: Respond) -> None:
        """A request that had to wait is done: answer, and go on with those that came meanwhile."""
        waiting = connection.backlog or deque()
        connection.backlog = None
        if _active(connection):
            _answer(outcome, connection, respond)
        while waiting and _active(connection):
            waiting.popleft()()
            backlog: deque[Callable[[], None]] | None = connection.backlog
            if backlog is not None:
                backlog.extend(waiting)
                return

    async def _perform(self, command: Command, data: Any, connection: Connection) -> Outcome:
        wait = await self._store.take(command.limit, connection.identity.user_id)
        if wait:
            return failure(rate_limited("events", wait), "error", {}, self._clock())
        try:
            return await command.run(connection, data)
        except ClientFault as fault:
            return failure(fault, command.error_event, _context(command, data), self._clock())
        except Unavailable:
            return failure(unavailable(), command.error_event, _context(command, data), self._clock())
        except Exception:
            user = connection.identity.user_id
            _log.failure("A client's request failed unexpectedly", connection=connection.id, user=user)
            ours = ClientFault(Code.SERVER_ERROR, "Internal error")
            return failure(ours, command.error_event, _context(command, data), self._clock())


def _answer(outcome: Outcome, connection: Connection, respond: Respond) -> None:
    """Answer; one that cannot be encoded must not hold back the others."""
    try:
        respond(outcome)
    except Exception:
        _log.failure("An answer could not be given", connection=connection.id, user=connection.identity.user_id)
        respond(failure(ClientFault(Code.SERVER_ERROR, "Internal error"), "error", {}, time.time()))


def _active(connection: Connection) -> bool:
    return connection.state is State.ACTIVE


def _context(command: Command, data: Any) -> dict[str, Any]:
    """What the error event names besides the error: the channel, for those about a channel."""
    if command.error_event != "subscription_error":
        return {}
    name = data.get("channel") if isinstance(data, dict) else data
    return {"channel": name} if isinstance(name, str) and len(name) <= 256 else {}


def _unexpected(reason: Failure, connection: Connection) -> None:
    user = connection.identity.user_id
    _log.failure("An answer could not be given", reason, connection=connection.id, user=user)


async def _unknown(connection: Connection, data: Any) -> Outcome:
    """An event nobody knows is ignored: no error event, but who asked for an acknowledgement gets one."""
    return Outcome(None, {}, ClientFault(Code.VALIDATION_ERROR, "Unknown event", field="event"))


_UNKNOWN: Final = Command(_unknown)
