"""The two protocols: commands with their replies, and a subscriber.

Both parse with :class:`hiredis.Reader` straight from ``dataReceived``: txredisapi's own way makes a Deferred for each
reply and converts each value, which halves what a subscriber can read. Its commands (``get``, ``hset``, …) all work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import hiredis
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import InvalidData, RedisProtocol, ResponseError

from mechamap_rt.redis.errors import RedisAway
from mechamap_rt.system.direct import write

_log = Logger()

Argument = bytes | str | int | float
#: Takes a reply (bytes, int, list, None) or an error, which is then a :class:`ResponseError` or :class:`RedisAway`.
Handler = Callable[[Any], object]

#: What a subscriber is sent that answers no command of the greeting.
_PUSHED: Final = frozenset((b"message", b"subscribe", b"unsubscribe", b"pong"))
#: Commands without a reply up to which each is sent at once.
AT_ONCE: Final = 2
_PING: Final = b"*1\r\n$4\r\nPING\r\n"


def encode(*arguments: Argument) -> bytes:
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        raw = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def encode_publish(channel: bytes, body: bytes) -> bytes:
    """``PUBLISH``, in one step: it is sent more often than everything else together."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(body), body)


def ignore(reply: Any) -> None:
    """The handler of a command whose reply nobody needs."""


def _settle(waiting: Deferred[Any], reply: Any) -> None:
    if isinstance(reply, Exception):
        waiting.errback(reply)
    else:
        waiting.callback(reply)


class Connection(RedisProtocol):  # type: ignore[misc]
    """Commands and their replies, pipelined. Transactions need a connection of their own: this one is shared.

    :param on_lost: called once, with the reason, as soon as the connection cannot be used any more.
    :ivar heard: set whenever bytes come.
    :ivar closed: fires when the socket is closed.
    """

    def __init__(self, on_lost: Callable[[BaseException], object]) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._parser = hiredis.Reader(protocolError=InvalidData, replyError=ResponseError)
        self._handlers: deque[Handler] = deque()
        self.on_lost = on_lost
        self._over = self._answered = False
        self.heard = True
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        # Instead of txredisapi's, which logs in here and gives up for ever when that fails.
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.connected = 1

    def send(self, command: bytes, handler: Handler) -> None:
        """Send an encoded command; ``handler`` is called exactly once, with the reply or an error."""
        if self._over:
            handler(RedisAway("not connected"))
        else:
            self._handlers.append(handler)
            # not before its first word: a Redis that is full says so and hangs up; who writes then hears nothing
            if self._answered and len(self._handlers) <= AT_ONCE:
                write(self.transport, command)
            else:
                # a burst: what follows in this turn of the reactor leaves together
                self.transport.write(command)

    def send_all(self, commands: list[bytes], handler: Handler) -> None:
        """Send several in one write; ``handler`` is called once for each, in their order."""
        if self._over:
            for _ in commands:
                handler(RedisAway("not connected"))
        else:
            self._handlers.extend([handler] * len(commands))
            write(self.transport, b"".join(commands))

    def execute_command(self, *args: Argument, **kwargs: Any) -> Deferred[Any]:
        """What every command of txredisapi goes through.

        Fails with :class:`ResponseError` when Redis refuses, with :class:`RedisAway` when the connection is lost.
        """
        if self._over:
            return fail(RedisAway("not connected"))
        waiting: Deferred[Any] = Deferred()
        self.send(encode(*args), partial(_settle, waiting))
        return waiting

    def knock(self) -> None:
        """Have Redis send something."""
        self.send(_PING, ignore)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self.heard = self._answered = True
        parser = self._parser
        parser.feed(data)
        try:
            while not self._over and (reply := parser.gets()) is not False:
                self._take(reply)
        except InvalidData as error:
            self.abort(error)

    def _take(self, reply: Any) -> None:
        if self._handlers:
            self._handlers.popleft()(reply)
        else:
            # "-ERR max number of clients reached" comes unasked, before the connection is closed
            self.abort(reply if isinstance(reply, Exception) else InvalidData("a reply to nothing"))

    def abort(self, reason: BaseException) -> None:
        """End the connection at once; nothing is heard of it any more."""
        self._end(reason)
        self.cut()

    def cut(self) -> None:
        """Give up what is still to be written."""
        if self.transport is not None and not self.closed.called:
            self.transport.abortConnection()

    def leave(self) -> None:
        """End the connection when what was written has gone out."""
        self._end(RedisAway("closed"))
        if self.transport is not None and not self.closed.called:
            self.transport.loseConnection()

    def _end(self, reason: BaseException) -> None:
        if self._over:
            return
        self._over, self.connected = True, 0
        handlers, self._handlers = self._handlers, deque()
        for handler in handlers:
            away = RedisAway("the connection was lost")
            away.__cause__ = reason
            handler(away)
        self.on_lost(reason)

    def connectionLost(self, why: Failure) -> None:
        self._end(why.value or RedisAway("closed"))
        if not self.closed.called:
            self.closed.callback(None)


class Subscriber(Connection):
    """A connection that listens.

    Confirmations are told apart by their channel, not by their order, so that any number may be under way.

    :ivar on_message: called with channel and body.
    :ivar on_subscribed: called with a channel that Redis has confirmed.
    """

    def __init__(self, on_lost: Callable[[BaseException], object]) -> None:
        super().__init__(on_lost)
        self.on_message: Callable[[bytes, bytes], object] = lambda channel, body: None
        self.on_subscribed: Callable[[bytes], object] = ignore

    def command(self, name: bytes, channels: list[bytes]) -> None:
        """``SUBSCRIBE`` or ``UNSUBSCRIBE``; nothing when the connection is lost."""
        if not self._over:
            self.transport.write(encode(name, *channels))

    def knock(self) -> None:
        if not self._over:
            self.transport.write(_PING)

    def _take(self, reply: Any) -> None:
        if type(reply) is list and reply[0] in _PUSHED:
            try:
                if reply[0] == b"message":
                    self.on_message(reply[1], reply[2])
                elif reply[0] == b"subscribe":
                    self.on_subscribed(reply[1])
            except Exception:
                _log.failure("what came by Redis could not be handled")
        elif self._handlers:
            self._handlers.popleft()(reply)
        elif isinstance(reply, Exception):
            # a SUBSCRIBE that was refused: nothing says which, and it would be waited for in vain
            self.abort(reply)
