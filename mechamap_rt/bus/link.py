"""A stream between two processes of one host: numbered requests, answers in any order, and descriptors.

A frame is its length (4 bytes, what follows the header), its kind (1), its number (4), and a body. Number 0 wants no
answer. An answer has the kind :data:`ANSWER` and the number of its request; a peer that could not answer says
:data:`FAILED`, with the reason as the body.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IFileDescriptorReceiver, IPushProducer, IReactorSocket
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.system.direct import write

_log = Logger()

_HEADER: Final = Struct(">IBI")
ANSWER: Final = 0
FAILED: Final = 1
#: The kinds of requests begin here.
FIRST_KIND: Final = 2

#: Bytes that may wait for a peer that does not read; what does not fit is dropped, and counted.
MAX_WAITING: Final = 32 * 1024 * 1024
#: Descriptors that came and whose frame has not.
MAX_DESCRIPTORS: Final = 256

#: Takes a request: its kind, its body, and the descriptor that came with it (-1 for none, to be closed by the taker).
Take = Callable[[int, bytes, int], "bytes | Deferred[bytes] | None"]


class LinkLost(Exception):
    """The peer is gone, or cannot answer."""


@implementer(IFileDescriptorReceiver, IPushProducer)
class Link(Protocol):
    """One end of the stream.

    :param take: answers the peer's requests.
    :param lost: called once, when the stream has ended.

    :ivar dropped: frames that did not fit.
    :ivar heard: frames that came.
    """

    def __init__(self, take: Take, lost: Callable[[Link], object]) -> None:
        self._take = take
        self._lost = lost
        self._buffer = b""
        self._serial = 0
        self._asked: dict[int, Deferred[bytes]] = {}
        self._descriptors: deque[int] = deque()
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._waiting_size = 0
        self._paused = False
        self.open = False
        self.dropped = 0
        self.heard = 0

    def connectionMade(self) -> None:
        self.open = True
        transport: Any = self.transport
        transport.registerProducer(self, True)

    # asking

    def tell(self, kind: int, body: bytes) -> None:
        """Send what needs no answer."""
        self._write(_HEADER.pack(len(body), kind, 0) + body)

    def ask(self, kind: int, body: bytes) -> Deferred[bytes]:
        """Send a request; fires with the answer, or fails with :class:`LinkLost`. Cancelling forgets it."""
        return self._request_with(kind, body, -1)

    def _request_with(self, kind: int, body: bytes, descriptor: int) -> Deferred[bytes]:
        serial = self._serial = self._serial % 0xFFFFFFFF + 1
        if not self._write(_HEADER.pack(len(body), kind, serial) + body, descriptor):
            return fail(LinkLost("the peer does not read"))
        answer: Deferred[bytes] = Deferred(lambda _: self._unask(serial))
        self._asked[serial] = answer
        return answer

    def _unask(self, serial: int) -> None:
        self._asked.pop(serial, None)

    def hand(self, kind: int, body: bytes, descriptor: int) -> Deferred[bytes]:
        """Ask, and send a duplicate of ``descriptor`` with it."""
        # it is needed until it is sent, which is some time before the answer
        copy = os.dup(descriptor)
        return self._request_with(kind, body, copy).addBoth(_closed, copy)

    def close(self) -> None:
        """End the stream after what has been written."""
        transport: Any = self.transport
        if transport is not None:
            transport.unregisterProducer()
            transport.loseConnection()

    def _write(self, frame: bytes, descriptor: int = -1) -> bool:
        """Send, or keep until the peer reads; is there hope?"""
        if not self.open:
            return False
        if not self._paused:
            self._send(frame, descriptor)
            return True
        if self._waiting_size + len(frame) > MAX_WAITING:
            self.dropped += 1
            return False
        self._waiting.append((frame, descriptor))
        self._waiting_size += len(frame)
        return True

    def _send(self, frame: bytes, descriptor: int) -> None:
        transport: Any = self.transport
        if descriptor < 0:
            write(transport, frame)
            return
        # Twisted sends it with the next bytes there are: never later than its frame, and in order
        transport.sendFileDescriptor(descriptor)
        transport.write(frame)

    # what the transport calls

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        waiting = self._waiting
        while waiting and not self._paused:
            frame, descriptor = waiting.popleft()
            self._waiting_size -= len(frame)
            self._send(frame, descriptor)

    def stopProducing(self) -> None:
        """The stream has ended: :meth:`connectionLost` follows."""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        if len(self._descriptors) >= MAX_DESCRIPTORS:
            os.close(self._descriptors.popleft())
        self._descriptors.append(descriptor)

    def dataReceived(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at, end = 0, len(data)
        while end - at >= _HEADER.size:
            size, kind, serial = _HEADER.unpack_from(data, at)
            if end - at - _HEADER.size < size:
                break
            at += _HEADER.size
            self.heard += 1
            self._frame(kind, serial, data[at : at + size])
            at += size
        self._buffer = data[at:]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        asked, self._asked = self._asked, {}
        self._waiting.clear()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._lost(self)
        for answer in asked.values():
            answer.errback(LinkLost("the peer is gone"))

    # answering

    def _frame(self, kind: int, serial: int, body: bytes) -> None:
        if kind >= FIRST_KIND:
            self._request(kind, serial, body)
            return
        answer = self._asked.pop(serial, None)
        if answer is None:
            return
        if kind == ANSWER:
            answer.callback(body)
        else:
            answer.errback(LinkLost(body.decode()))

    def _request(self, kind: int, serial: int, body: bytes) -> None:
        descriptor = self._descriptors.popleft() if kind in self.with_descriptor and self._descriptors else -1
        try:
            answer = self._take(kind, body, descriptor)
        except Exception:
            _log.failure("A request of a neighbouring process failed; its kind: {kind}", kind=kind)
            self._answer(serial, FAILED, b"it failed there")
            return
        if isinstance(answer, Deferred):
            answer.addCallback(lambda body: self._answer(serial, ANSWER, body))
            answer.addErrback(self._failed, serial)
        else:
            self._answer(serial, ANSWER, answer or b"")

    #: The kinds of requests that come with a descriptor.
    with_descriptor: frozenset[int] = frozenset()

    def _answer(self, serial: int, kind: int, body: bytes) -> None:
        if serial:
            self._write(_HEADER.pack(len(body), kind, serial) + body)

    def _failed(self, reason: Failure, serial: int) -> None:
        if reason.check(LinkLost) is None:
            _log.failure("A request of a neighbouring process failed", reason)
        self._answer(serial, FAILED, b"it failed there")


class OneLink(Factory):
    """A factory for a stream that exists already: ``reactor.adoptStreamConnection`` wants one."""

    noisy = False

    def __init__(self, link: Protocol) -> None:
        self._link = link

    def buildProtocol(self, addr: object) -> Any:
        return self._link


def adopt(reactor: IReactorSocket, descriptor: int, protocol: Protocol) -> None:
    """Speak ``protocol`` over one end of a socket pair. The descriptor is closed: the reactor has a duplicate."""
    os.set_blocking(descriptor, False)
    factory: Any = OneLink(protocol)
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)
    os.close(descriptor)


def _closed(result: Any, descriptor: int) -> Any:
    os.close(descriptor)
    return result
