"""How long a request may take to come: slowness is not an error of TCP, but it holds a connection and its memory.

Twisted Web's time-out begins anew with every byte. These do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mechamap_rt.http.replies import Error, HTTPFault, Reply

#: Seconds from the first byte of a head to its last.
HEAD_TIME: Final = 15.0
#: Seconds for a body of any size, and bytes a second that it must come with from then on.
BODY_TIME: Final = 30.0
MIN_RATE: Final = 16 * 1024

if TYPE_CHECKING:
    from twisted.web.http import HTTPChannel as _Channel
else:
    _Channel = object


class Deadlines(_Channel):
    """The part of a channel that does not wait for ever."""

    site: Any
    _refused: bool
    _late: IDelayedCall | None = None
    _begun = 0.0

    if TYPE_CHECKING:

        def refuse(self, reply: Reply) -> None: ...

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._refused or self._handlingRequest or not (self.requests or self._buffer):
            self._in_time()
        elif self._late is None:
            self._begun = self.site.reactor.seconds()
            self._late = self.callLater(HEAD_TIME if self.line_mode else BODY_TIME, self._overdue)

    def allHeadersReceived(self) -> None:
        self._in_time()
        super().allHeadersReceived()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._in_time()
        super().connectionLost(reason)

    def _in_time(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def _overdue(self) -> None:
        self._late = None
        if not self.line_mode:
            received: int = getattr(self.requests[-1], "_received", 0)
            left = self._begun + BODY_TIME + received / MIN_RATE - self.site.reactor.seconds()
            if left > 0:
                self._late = self.callLater(left, self._overdue)
                return
        self.refuse(HTTPFault(Error.TOO_SLOW, "The request did not come in time").reply())

    def timeoutConnection(self) -> None:
        """The connection is idle: end it, without the line in the log that a stranger could have by the thousand."""
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()
