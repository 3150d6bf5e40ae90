"""One visitor of the manhole: a terminal at the end of an SSH connection, carried to the process it is for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.bus.link import adopt
from mechamap_rt.core.deferreds import within
from mechamap_rt.manhole.stream import DATA, END, EOF, OPEN, SIZE, Frames, Opening, packed

if TYPE_CHECKING:
    from mechamap_rt.manhole.door import Destination, Manhole
    from mechamap_rt.manhole.ssh import Terminal, Transport

_log = Logger()

#: Seconds in which a process must have taken a visitor in.
OPEN_LIMIT: Final = 5.0
#: The status with which a client ends that has not got what it wanted.
FAILED: Final = 1


class Visit:
    """Somebody who has logged in, until the end.

    :param who: the key's fingerprint.
    :param destination: where to; ``None`` for nowhere, because of ``refusal``.
    :param idle: seconds without a keystroke after which it is over.

    :ivar since: the reactor's seconds at its beginning.
    """

    def __init__(
        self,
        manhole: Manhole,
        transport: Transport,
        who: str,
        destination: Destination | None,
        refusal: str,
        idle: float,
    ) -> None:
        self._manhole = manhole
        self._transport = transport
        self.who = who
        self.user = transport.user
        self.peer = transport.peer
        self.destination = destination
        self._refusal = refusal
        self._idle = idle
        self.since = manhole.reactor.seconds()
        self._terminal: Terminal | None = None
        self._stream: _Stream | None = None
        self._late: IDelayedCall | None = manhole.reactor.callLater(idle, self._too_idle)
        self.over = False

    # what the client does

    def begin(self, terminal: Terminal, size: tuple[int, int] | None, command: str | None) -> None:
        """There is the terminal, or what is there instead: take it to where it belongs."""
        self._terminal = terminal
        destination = self.destination
        if destination is None:
            self.close(self._refusal)
            return
        ours, theirs = socket.socketpair()
        stream = self._stream = _Stream(self, destination.label)
        adopt(self._manhole.reactor, ours.detach(), stream)
        stream.send(OPEN, msgspec.json.encode(Opening(self.who, size, command)))
        opening = Deferred.fromCoroutine(destination.open(theirs.detach()))
        within(self._manhole.reactor, OPEN_LIMIT, opening).addErrback(self._not_open)

    def _not_open(self, reason: Failure) -> None:
        if not self.over:
            label = "" if self.destination is None else self.destination.label
            _log.error("{label} has opened no shell: {reason}", label=label, reason=reason.getErrorMessage())
            self.close(f"{label} has opened no shell: {reason.getErrorMessage()}")

    def typed(self, data: bytes) -> None:
        if self._late is not None:
            self._late.reset(self._idle)
        if self._stream is not None:
            self._stream.send(DATA, data)

    def typed_all(self) -> None:
        if self._stream is not None:
            self._stream.send(EOF)

    def resize(self, columns: int, rows: int) -> None:
        if self._stream is not None:
            self._stream.send(SIZE, packed(columns, rows))

    def pause(self, on: bool) -> None:
        """The client does not keep up with what is shown, or does again."""
        if self._stream is not None:
            self._stream.pause(on)

    # what the shell does

    def show(self, data: bytes) -> None:
        if self._terminal is not None and not self._terminal.localClosed:
            self._terminal.write(data)

    def hold(self, on: bool) -> None:
        """The shell does not keep up with what is typed, or does again."""
        if self._terminal is not None:
            self._terminal.hold(on)

    # the end

    def _too_idle(self) -> None:
        self._late = None
        self.close(f"Nothing was typed for {self._idle / 60:g} minutes: this session is over.")

    def close(self, sentence: str, status: int = FAILED) -> None:
        """It is over, for a reason that the visitor should know, if there is any."""
        terminal = self._terminal
        self.end()
        if terminal is None:
            self._transport.loseConnection()
            return
        if sentence:
            terminal.tell(sentence)
        terminal.leave(status)

    def end(self) -> None:
        """It is over: leave nothing behind."""
        if self.over:
            return
        self.over = True
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
            self.hold(False)
        self._manhole.left(self)


@implementer(IPushProducer)
class _Stream(Frames):
    """The stream to the shell, seen from the SSH server.

    :param label: of the process at the other end.
    """

    def __init__(self, visit: Visit, label: str) -> None:
        self._visit: Visit | None = visit
        self._label = label

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def took(self, kind: int, body: bytes) -> None:
        if self._visit is None:
            return
        if kind == DATA:
            self._visit.show(body)
        elif kind == END:
            self._over("", body[0] if body else FAILED)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over(f"{self._label} has ended, and this session with it.", FAILED)

    def _over(self, sentence: str, status: int) -> None:
        visit, self._visit = self._visit, None
        if visit is not None:
            visit.close(sentence, status)

    def close(self) -> None:
        self._visit = None
        transport: Any = self.transport
        if transport is not None:
            transport.unregisterProducer()
            transport.abortConnection() if transport.disconnecting else transport.loseConnection()

    def pause(self, on: bool) -> None:
        transport: Any = self.transport
        transport.pauseProducing() if on else transport.resumeProducing()

    # what the transport calls: the shell's end takes no more for now, or does again

    def pauseProducing(self) -> None:
        if self._visit is not None:
            self._visit.hold(True)

    def resumeProducing(self) -> None:
        if self._visit is not None:
            self._visit.hold(False)

    def stopProducing(self) -> None:
        """The stream has ended: :meth:`connectionLost` follows."""
