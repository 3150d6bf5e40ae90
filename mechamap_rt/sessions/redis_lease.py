"""The lease under which a process has something in Redis, and the way there and back.

Whatever goes wrong has one answer: the process is *away*, everything is answered from what the host knows, and when
Redis can be had again it comes back under a new name (an *owner*) and states anew what it has. What was under the old
name counts no more, whether Redis still did what it had been asked or not. So nothing has to be remembered of the time
in between, and a process that dies has nothing any more when its lease ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from txredisapi import ResponseError

from mechamap_rt.redis.commands import Commands
from mechamap_rt.redis.errors import RedisAway, in_words
from mechamap_rt.redis.protocols import Connection, encode
from mechamap_rt.sessions.redis_scripts import LOST, Script

_log = Logger()

#: Seconds that a lease lives without being renewed: so long a dead process's counts stay.
LEASE: Final = 15.0
#: Leases and tables are renewed that often in the life of a lease.
BEATS: Final = 3
#: Seconds that a client waits for Redis's answer.
PATIENCE: Final = 0.5
#: What this process may itself have been late by: timers run before sockets are read.
GRACE: Final = 0.05
#: Seconds between two looks whether Redis can be had again.
LOOK_INTERVAL: Final = 0.5
#: The same complaint is not logged more often.
COMPLAINT_INTERVAL: Final = 60.0


class Forgotten(Exception):
    """Redis does not know the process any more, or not all that it has."""


class LeasedTable(Protocol):
    """Something that a process has in Redis for as long as its lease lives."""

    def begin(self, owner: bytes, before: bytes) -> None:
        """Nothing of the table is in Redis under ``owner``; ``before`` is the name under which it may have been."""

    def state(self) -> bytes | None:
        """The command that states the next part of the table; ``None`` when all is stated."""

    def renew(self) -> bytes | None:
        """The command that makes the next part last; its reply is :data:`LOST` when it is not there."""


class Lease:
    """Asks Redis in the name of a process, as long as it answers.

    :param prefix: what the keys begin with.
    :param node: the name of the process, for people who look into Redis.
    :param scripts: Redis is made to know them.
    :param life: seconds; see :data:`LEASE`.
    :ivar tables: what the process has.
    :ivar present: does Redis answer, and count this process?
    :ivar owner: the name under which it does.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        commands: Commands,
        prefix: bytes,
        node: str,
        scripts: Sequence[Script],
        life: float = LEASE,
        patience: float = PATIENCE,
    ) -> None:
        self._reactor, self._commands = reactor, commands
        self._node, self._scripts = node, scripts
        self._life, self._patience = life, patience
        self.prefix = prefix + b"lease:"
        self.tables: list[LeasedTable] = []
        self.present = False
        self.owner = b""
        self._connection: Connection | None = None
        # replies that belong to an earlier epoch say only that Redis lives
        self._epoch = 0
        self._answers = False
        self._waiting: dict[Deferred[int | None], float] = {}
        self._overdue: IDelayedCall | None = None
        self._graced: Deferred[int | None] | None = None
        self._beating: IDelayedCall | None = None
        self._stopped = False
        self._complaint = ("", -COMPLAINT_INTERVAL)

    @property
    def key(self) -> bytes:
        return self.prefix + self.owner

    @property
    def beat(self) -> float:
        """Seconds between two renewals."""
        return self._life / BEATS

    # life

    def start(self) -> None:
        """Be present as soon as Redis can be had."""
        if self._beating is None and not self._stopped:
            self._beat()

    def stop(self) -> None:
        """Give up the lease, and with it all that the process had: the other processes see it at once."""
        self._stopped = True
        if self.present and self._connection is not None:
            self._connection.send(encode(b"DEL", self.key), lambda reply: None)
        self._leave()
        for call in (self._beating, self._overdue):
            if call is not None and call.active():
                call.cancel()

    def _beat(self) -> None:
        if self.ready():
            self._renew()
        elif self._answers and self._connection is not None:
            self._begin()
        self._beating = self._reactor.callLater(self.beat if self.present else LOOK_INTERVAL, self._beat)

    def _renew(self) -> None:
        self._send(encode(b"PEXPIRE", self.key, _milliseconds(self._life)), self._renewed)
        for table in self.tables:
            command = table.renew()
            if command is not None:
                self._send(command, self._told)

    def _renewed(self, reply: Any) -> None:
        self._told(reply or LOST)

    # here and away

    def ready(self) -> bool:
        """Can Redis be asked now? Takes notice of a new connection."""
        connection = self._current()
        if connection is not self._connection:
            # first, because who is answered by leaving may ask again at once
            self._connection = connection
            self._leave()
            if connection is not None and not self._stopped:
                self._begin()
        return self.present

    def _current(self) -> Connection | None:
        try:
            return self._commands.connection
        except RedisAway:
            return None

    def _begin(self) -> None:
        before = self.owner
        self.owner = b"%b-%b" % (self._node.encode(), secrets.token_hex(4).encode())
        self._answers, self.present = False, True
        for table in self.tables:
            table.begin(self.owner, before)
        for script in self._scripts:
            self._send(script.load, self._told)
        if before:
            self._send(encode(b"DEL", self.prefix + before), self._told)
        # what is asked from now on is behind it in the same stream
        self._send(encode(b"SET", self.key, 1, b"PX", _milliseconds(self._life)), self._arrived)

    def _arrived(self, reply: Any) -> None:
        self._told(reply)
        if self.present:
            if self._complaint[0]:
                _log.info("Limits hold over all hosts again")
                self._complaint = ("", self._complaint[1])
            self._state(0)

    def _state(self, reply: Any) -> None:
        """State the next part of what the process has; the one after it when Redis has taken this."""
        self._told(reply)
        if self.present:
            commands = (table.state() for table in self.tables)
            command = next(filter(None, commands), None)
            if command is not None:
                self._send(command, self._state)

    def _leave(self, error: BaseException | None = None) -> None:
        """Redis does not answer, or not as it should: whoever waits for it gets no answer."""
        if not self.present:
            return
        self.present = False
        self._epoch += 1
        self._answers = isinstance(error, ResponseError | Forgotten)
        if self._beating is not None and self._beating.active():
            self._beating.reset(LOOK_INTERVAL)
        waiting, self._waiting = self._waiting, {}
        if error is not None and not isinstance(error, RedisAway):
            self._complain(error)
        for one in waiting:
            one.callback(None)

    def _complain(self, error: BaseException) -> None:
        """Say why; that there is no connection is said by the link."""
        reason, now = in_words(error), self._reactor.seconds()
        if self._complaint[0] != reason and now - self._complaint[1] >= COMPLAINT_INTERVAL:
            self._complaint = (reason, now)
            _log.warn("Limits hold for each host by itself, because of Redis: {reason}", reason=reason)

    # asking

    def ask(self, command: bytes) -> Deferred[int | None]:
        """The number that a script returns, or ``None`` when there is none in time; only when :meth:`ready`."""
        answer: Deferred[int | None] = Deferred()
        self._waiting[answer] = self._reactor.seconds() + self._patience
        if self._overdue is None:
            self._overdue = self._reactor.callLater(self._patience, self._watch)
        self._send(command, partial(self._answered, answer))
        return answer

    def tell(self, command: bytes) -> None:
        """Run a script whose answer nobody waits for; only when :meth:`ready`."""
        self._send(command, self._told)

    def _send(self, command: bytes, handler: Callable[[Any], object]) -> None:
        if self._connection is not None:
            self._connection.send(command, partial(self._replied, self._epoch, handler))

    def _replied(self, epoch: int, handler: Callable[[Any], object], reply: Any) -> None:
        if epoch == self._epoch:
            handler(reply)
        elif not isinstance(reply, RedisAway):
            self._answers = True

    def _answered(self, answer: Deferred[int | None], reply: Any) -> None:
        self._told(reply)
        # who was waiting when the process went away has had its answer
        if self._waiting.pop(answer, None) is not None:
            answer.callback(reply)

    def _told(self, reply: Any) -> None:
        if reply == LOST:
            self._leave(Forgotten("it has lost what it had of this process"))
        elif isinstance(reply, Exception):
            self._leave(reply)

    def _watch(self) -> None:
        """See whether the oldest question waits for too long."""
        self._overdue = None
        if not self._waiting:
            return
        oldest, until = next(iter(self._waiting.items()))
        left = until - self._reactor.seconds()
        if left <= 0:
            if self._graced is oldest:
                self._graced = None
                self._leave(TimeoutError())
                return
            self._graced, left = oldest, GRACE
        self._overdue = self._reactor.callLater(left, self._watch)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
