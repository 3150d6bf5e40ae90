"""The bus between hosts, through Redis.

Inside a host its own bus carries everything; through Redis goes what other hosts must hear, and what comes back with
the id of our own host is dropped. While Redis is away nothing waits for it: the host works by itself, what is for the
others is kept within bounds, and goes out in order when they are all back.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.defer import TimeoutError as NoAnswer
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from mechamap_rt.bus import parcels
from mechamap_rt.bus.redis_answers import Counted, Gatherings, Replies, added
from mechamap_rt.bus.redis_host import HostReceiver
from mechamap_rt.bus.redis_interests import Interests
from mechamap_rt.bus.redis_messages import (
    HEAD_LENGTH,
    HOST_LENGTH,
    NODE_LENGTH,
    Answer,
    Answers,
    Bye,
    Hello,
    Message,
    Question,
    decode,
    encode,
    head,
    read_head,
)
from mechamap_rt.bus.redis_outflow import Outflow
from mechamap_rt.bus.redis_peers import HELLO_INTERVAL, Peers
from mechamap_rt.core.publication import WORTHLESS_LATER, Publication
from mechamap_rt.interfaces import IBus, IReactor, IReceiver
from mechamap_rt.redis.commands import Commands
from mechamap_rt.redis.link import LONGEST_DELAY, Link
from mechamap_rt.redis.protocols import Connection, Subscriber, encode_publish, ignore
from mechamap_rt.settings.backing import Redis

_log = Logger()

#: Seconds that the number of subscribers waits for other hosts.
COUNT_LIMIT: Final = 0.25
#: Seconds that a question waits for them.
ANSWER_LIMIT: Final = 1.0
#: Seconds that what was kept waits for processes that were there before the link was lost.
FLUSH_PATIENCE: Final = 3.0
#: The same for processes that are not known, because the link was never up: they come back within a delay.
STRANGERS_PATIENCE: Final = 1.5 * LONGEST_DELAY


@implementer(IBus)
class RedisBus:
    """Joins this host with the others behind the same Redis and prefix.

    :param local: carries everything inside the host.
    :param settings: where Redis is, and the bounds.
    :param host: the host's id, 3 characters.
    :param node: this process's, 6 characters, the host's first; unique in the cluster.
    :ivar commands: Redis for others.
    :ivar received: publications of other hosts that were delivered.
    :ivar own_dropped: messages of this host that came back.
    :ivar repeats: publications that came a second time, after an outage, and were dropped.
    :ivar garbled: bytes that were no message.
    """

    def __init__(self, reactor: IReactor, local: IBus, settings: Redis, host: str, node: str) -> None:
        if len(host) != HOST_LENGTH or len(node.encode()) != NODE_LENGTH or not node.startswith(host):
            raise ValueError("host must be 3 and node 6 characters, and begin with host")
        self._reactor, self._local, self._settings = reactor, local, settings
        self._node, self._origin, self._host_origin = node, node.encode(), host.encode()
        # In a Redis Cluster PUBLISH replies with the receivers at one of its nodes: their number is not known.
        self._clustered = bool(settings.cluster_nodes)
        prefix = settings.prefix.encode()
        self._prefix = prefix + b"ch:"
        self._all, self._everybody = prefix + b"all", prefix + b"ch:*"
        self._inbox_prefix = prefix + b"node:"
        inbox = self._inbox_prefix + self._origin
        always = [inbox, self._all, *([self._everybody] if self._clustered else [])]
        self._controls = frozenset((inbox, self._all))
        # Grows from one start of the process to the next: who remembers the last takes nothing new for a repeat.
        self._first = self._sequence = int(reactor.seconds() * 1000) << 20
        self._interests = Interests(reactor, self._prefix, always, self._subscribed)
        self._counts: Gatherings[int] = Gatherings(reactor, COUNT_LIMIT)
        self._counted = Counted(reactor)
        self._questions: Gatherings[bytes] = Gatherings(reactor, ANSWER_LIMIT)
        self._outflow = Outflow(reactor, settings.buffer_size, partial(self._expect, self._counts))
        self._replies = Replies(reactor, self._send_answers)
        self._peers = Peers(host)
        self._link = Link(reactor, settings, f"mechamap-{node}")
        self._link.on_open, self._link.on_lost = self._opened, self._lost
        self.commands = Commands(reactor, self._link, settings.timeout)
        self._receiver: IReceiver | None = None
        self._connection: Connection | None = None
        self._up = self._was_up = self._told = self._started = self._stopping = False
        self._since = reactor.seconds()
        self._lost_before = 0
        self._upped: Deferred[None] = Deferred()
        self._patience: IDelayedCall | None = None
        self._heartbeat: IDelayedCall | None = None
        self.received = self.own_dropped = self.repeats = self.garbled = 0

    # state

    @property
    def degraded(self) -> bool:
        return not self._up or self._local.degraded

    @property
    def published(self) -> int:
        """Publications that Redis has taken."""
        return self._outflow.published

    @property
    def lost(self) -> int:
        """Publications that other hosts never got."""
        return self._outflow.lost

    @property
    def skipped(self) -> int:
        """Volatile publications that came while Redis was away."""
        return self._outflow.skipped

    @property
    def reconnects(self) -> int:
        return max(self._link.reconnects, 0)

    @property
    def buffered(self) -> int:
        """Publications that wait for Redis."""
        return self._outflow.waiting

    @property
    def buffered_bytes(self) -> int:
        return self._outflow.waiting_bytes

    def figures(self) -> dict[str, Any]:
        """``since`` in seconds of the epoch, ``endpoint`` is ``host:port``."""
        return self._local.figures() | {
            "connected": self._up,
            "degraded": self.degraded,
            "since": self._since,
            "endpoint": self._link.endpoint,
            "buffered": self.buffered,
            "buffered_bytes": self.buffered_bytes,
            "lost": self.lost,
            "skipped": self.skipped,
            "reconnects": self.reconnects,
            "hosts": self._peers.hosts(),
        }

    def _tell(self) -> None:
        """Tell the receiver when the state is another one."""
        if self._started and self._receiver is not None and self._told != self.degraded:
            self._told = not self._told
            self._receiver.on_state(self._told)

    # life

    def start(self, receiver: IReceiver) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start(receiver))

    async def _start(self, receiver: IReceiver) -> None:
        self._receiver = receiver
        await self._local.start(HostReceiver(receiver, self._tell))
        self._link.start()
        try:
            await self._upped.addTimeout(self._settings.timeout, self._reactor)
        except NoAnswer:
            _log.warn("The server starts without Redis: it does not reach other hosts until Redis is there.")
        self._started = True
        self._tell()

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if self._connection is not None:
            if self._patience is not None:
                self._flush()
            with suppress(NoAnswer):
                await self._outflow.drained().addTimeout(self._settings.timeout, self._reactor)
            self._send_control(self._all, Bye(self._node))
        self._end_link()
        await self._link.stop()
        self._receiver = None
        if self._outflow.waiting:
            _log.warn("{lost} publications did not get to other hosts before the stop", lost=self._outflow.waiting)
        await self._local.stop()

    def _opened(self, commands: Connection, subscriber: Subscriber) -> None:
        self._connection = commands
        subscriber.on_message = self._message
        self._interests.opened(subscriber)

    def _subscribed(self) -> None:
        """Redis has confirmed everything: wait until the others, who were cut off too, are back as well."""
        self._peers.found(self._reactor.seconds())
        self._hello(fresh=True)
        strangers = not self._was_up and self._outflow.waiting > 0
        if self._peers.missing or strangers:
            patience = FLUSH_PATIENCE if self._peers.missing else STRANGERS_PATIENCE
            self._patience = self._reactor.callLater(patience, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._patience = None
        self._peers.missing.clear()
        if self._connection is not None:
            kept = self._outflow.waiting
            self._outflow.begin(self._connection, partial(self._flushed, kept))

    def _flushed(self, kept: int) -> None:
        now = self._reactor.seconds()
        lost, self._lost_before = self._outflow.lost - self._lost_before, self._outflow.lost
        away = now - self._since
        self._up = self._was_up = True
        self._since = now
        _log.info(
            "Redis at {endpoint} is connected after {away:.1f} s: {kept} publications went out late, {lost} were lost",
            endpoint=self._link.endpoint,
            away=away,
            kept=kept,
            lost=lost,
        )
        if not self._upped.called:
            self._upped.callback(None)
        self._tell()

    def _lost(self) -> None:
        """The link is gone: whoever waits for other hosts gets what there is."""
        if self._up:
            self._since = self._reactor.seconds()
        self._end_link()
        self._tell()

    def _end_link(self) -> None:
        self._up, self._connection = False, None
        for call in (self._patience, self._heartbeat):
            if call is not None and call.active():
                call.cancel()
        self._patience = self._heartbeat = None
        self._peers.lost()
        self._replies.drop()
        self._outflow.cut()
        self._interests.lost()
        self._counted.clear()
        self._counts.end_all()
        self._questions.end_all()

    def _hello(self, fresh: bool = False) -> None:
        """Say that this process is there, now and from time to time."""
        self._send_control(self._all, Hello(self._node, self._first, fresh))
        self._heartbeat = self._reactor.callLater(HELLO_INTERVAL, self._hello)

    # this process's own

    def publish(self, publication: Publication, counted: bool = True) -> Deferred[int]:
        if self._stopping or self._receiver is None:
            return succeed(0)
        local = self._local.publish(publication, counted)
        # What nobody can be asked about now is not counted elsewhere.
        counted = counted and self._up
        resource = publication.channel.resource
        remote = self._counted.get(resource) if counted else None
        if remote is not None:
            counted = False
        self._sequence += 1
        serial = self._sequence
        everybody = counted and self._clustered
        command = encode_publish(
            self._everybody if everybody else self._prefix + resource.encode(),
            head(self._origin, counted, serial) + parcels.pack(publication),
        )
        volatile = publication.delivery in WORTHLESS_LATER
        if counted:
            remote = self._counted.put(resource, self._counts.open(serial).addCallback(sum))
        self._outflow.add(command, serial if counted else 0, volatile)
        return local if remote is None else added(local, remote)

    def subscribe(self, resource: str) -> Deferred[None]:
        local = self._local.subscribe(resource)
        confirmed = self._interests.subscribe(resource)
        if confirmed is None:
            return local
        return gatherResults([local, confirmed]).addCallback(ignore)

    def unsubscribe(self, resource: str) -> None:
        self._local.unsubscribe(resource)
        self._interests.unsubscribe(resource)

    def ask(self, question: str, body: bytes) -> Deferred[list[bytes]]:
        local = self._local.ask(question, body)
        if not self._up or self._connection is None or self._stopping:
            return local
        self._sequence += 1
        serial = self._sequence
        remote = self._questions.open(serial)
        asked = encode_publish(self._all, encode(Question(self._node, serial, question, body)))
        self._connection.send(asked, partial(self._expect, self._questions, serial))
        return added(local, remote)

    def probe(self) -> Deferred[bool]:
        if not self._up or self._connection is None:
            return succeed(False)
        self._sequence += 1
        serial = self._sequence
        came = self._questions.open(serial)
        self._questions.expect(serial, 1)
        self._send_control(self._inbox_prefix + self._origin, Answers([(serial, b"")]))
        return came.addCallback(bool)

    def _expect(self, gatherings: Gatherings[Any], serial: int, receivers: Any) -> None:
        """Redis has replied how many processes hear it; without a number only those known can be waited for."""
        known = isinstance(receivers, int) and not self._clustered
        gatherings.expect(serial, receivers if known else len(self._peers))

    # what comes

    def _message(self, channel: bytes, body: bytes) -> None:
        try:
            if channel in self._controls:
                self._control(decode(body))
            else:
                self._publication(body)
        except ValueError as error:
            self.garbled += 1
            if self.garbled == 1:
                _log.error("Bytes that are no message came by Redis; another version's? {reason}", reason=str(error))

    def _publication(self, body: bytes) -> None:
        origin, counted, sequence = read_head(body)
        if origin.startswith(self._host_origin):
            self.own_dropped += 1
            if counted and not self._clustered:
                self._answer(origin.decode(), sequence, None)
            return
        if self._peers.repeats(origin, sequence):
            self.repeats += 1
            return
        publication = parcels.unpack(memoryview(body)[HEAD_LENGTH:])
        self.received += 1
        if self._receiver is not None:
            count = self._receiver.on_publication(publication)
            if counted:
                self._answer(origin.decode(), sequence, count)

    def _answer(self, node: str, serial: int, value: Answer) -> None:
        if node == self._node:
            self._answered(serial, value)
        else:
            self._replies.add(node, serial, value)

    def _answered(self, serial: int, value: Answer) -> None:
        # serials are of one series: only one of the two knows it
        self._counts.answer(serial, value)
        self._questions.answer(serial, value)

    def _control(self, message: Message) -> None:
        if isinstance(message, Answers):
            for serial, value in message.answers:
                self._answered(serial, value)
        elif isinstance(message, Question):
            self._question(message)
        elif isinstance(message, Bye):
            if self._peers.bye(message.node):
                self._gone(message.node, 0.0)
            self._perhaps_flush()
        elif message.node == self._node:
            for node, silent in self._peers.echo(self._reactor.seconds()):
                self._gone(node, silent)
        else:
            if self._peers.hello(message, self._reactor.seconds()):
                self._gone(message.node, 0.0)
            if message.fresh:
                hello = Hello(self._node, self._first, False)
                self._send_control(self._inbox_prefix + message.node.encode(), hello)
            self._perhaps_flush()

    def _gone(self, node: str, silent: float) -> None:
        if self._receiver is not None:
            self._receiver.on_gone(node, silent)

    def _perhaps_flush(self) -> None:
        if self._patience is not None and not self._peers.missing and self._was_up:
            self._flush()

    def _question(self, asked: Question) -> None:
        own = asked.node.encode().startswith(self._host_origin)
        if own and self._clustered:
            return
        answer: Answer = None
        if own:
            self.own_dropped += 1
        elif self._receiver is not None:
            try:
                answer = self._receiver.on_question(asked.question, asked.body)
            except Exception:
                _log.failure("no answer to {question}", question=asked.question)
        self._answer(asked.node, asked.serial, answer)

    def _send_answers(self, node: str, answers: list[tuple[int, Answer]]) -> None:
        self._send_control(self._inbox_prefix + node.encode(), Answers(answers))

    def _send_control(self, channel: bytes, message: Message) -> None:
        if self._connection is not None:
            self._connection.send(encode_publish(channel, encode(message)), ignore)
