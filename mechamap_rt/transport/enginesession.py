"""Engine.IO sessions: heartbeat, upgrade and closing; the messages are Socket.IO's.

A session begins over a WebSocket or over long polling, and may move from the second to the first. While it moves, what
is sent goes on through polling; the client's ``UPGRADE`` packet is the moment at which everything that is still queued,
and all that follows, goes to the WebSocket. So nothing is lost, doubled or reordered.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from enum import Enum, auto
from time import monotonic
from typing import TYPE_CHECKING, Final

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.wheel import Deadline
from mechamap_rt.errors import Disconnect
from mechamap_rt.transport.handshake import Handshake, credentials
from mechamap_rt.transport.lobby import Visit
from mechamap_rt.transport.polling import Poll, PollingOutbox
from mechamap_rt.transport.socketio import SocketIOClient
from mechamap_rt.transport.websocket import Pipe
from mechamap_rt.wire import engineio
from mechamap_rt.wire.engineio import EngineIOError, Packet, PacketType, Revision
from mechamap_rt.wire.socketio import SocketIOError

if TYPE_CHECKING:
    from mechamap_rt.transport.engineio import EngineDoor
    from mechamap_rt.transport.upgrade import Probe

#: Seconds for which a polling session that has ended keeps what its client should still be told.
LINGER: Final = 10.0
#: Seconds after which a GET is answered with nothing while a WebSocket is trying to take over.
PROBE_PACE: Final = 0.05

_PING: Final = Frame.text(b"2")
#: Reasons after which a polling client is told nothing more: it is gone, or does not speak the protocol.
_AT_ONCE: Final = frozenset((Disconnect.NORMAL, Disconnect.GOING_AWAY, Disconnect.HEARTBEAT, Disconnect.BAD_MESSAGE))


class Phase(Enum):
    """``OPEN`` until somebody ends the session; ``ENDED`` while it is still known by its id; ``GONE`` after that."""

    OPEN = auto()
    ENDED = auto()
    GONE = auto()


class EngineSession:
    """One Engine.IO session.

    :param pipe: its WebSocket; ``None`` when it begins over long polling.
    """

    __slots__ = (
        "_alone_since",
        "_client",
        "_deadline",
        "_farewell",
        "_phase",
        "_pinged",
        "_pipe",
        "_polling",
        "_visit",
        "door",
        "posting",
        "probe",
        "revision",
        "sid",
    )

    def __init__(self, door: EngineDoor, handshake: Handshake, pipe: Pipe | None, visit: Visit) -> None:
        self.door = door
        self._visit = visit
        self.sid = door.lobby.new_id()
        self.revision = engineio.REVISIONS[handshake.query["EIO"]]
        self._pipe = pipe
        self._polling: PollingOutbox | None = None
        if pipe is None:
            self._polling = PollingOutbox(door.turn, lambda: self.finish(Disconnect.SLOW_CONSUMER), self.revision)
        self.probe: Probe | None = None
        #: The POST that is being read: there may be one at a time.
        self.posting: object | None = None
        self._client = SocketIOClient(
            door.lobby, self, visit, credentials(handshake), door.namespaces, door.max_payload
        )
        self._deadline: Deadline | None = None
        #: When the ping that waits for its answer was sent, by the monotonic clock; 0.0 for none.
        self._pinged = 0.0
        #: Why it has ended, while its client is moving to a WebSocket and can be told nowhere else.
        self._farewell: Disconnect | None = None
        self._phase = Phase.OPEN
        #: When the session was first seen without a namespace, or ``None``.
        self._alone_since: float | None = door.lobby.clock()

    @property
    def outbox(self) -> Outbox:
        """Where what is sent goes now."""
        if self._polling is not None:
            return self._polling
        assert self._pipe is not None
        return self._pipe.outbox

    def greeting(self) -> bytes:
        """The packet that opens the session."""
        door = self.door
        upgrades = ("websocket",) if self._pipe is None and "websocket" in door.transports else ()
        return engineio.open_packet(
            self.sid,
            upgrades=upgrades,
            interval=door.ping_interval,
            timeout=door.ping_timeout,
            max_payload=door.max_payload,
        )

    def begin(self) -> None:
        """The open packet is on its way."""
        door = self.door
        if self.revision is Revision.V3:
            self._arm(door.ping_interval + door.ping_timeout, self._silent)
            self._client.connect_root()
        else:
            self._arm(min(door.ping_interval, door.connect_timeout), self._first)

    # what a WebSocket calls

    def opened(self) -> None:
        self.send_packet(self.greeting())
        self.begin()

    def text(self, payload: bytes) -> None:
        self._receive(lambda: self._packet(engineio.decode(payload)))

    def binary(self, payload: bytes) -> None:
        self._receive(lambda: self._packet(engineio.decode_binary(payload, self.revision)))

    def heard(self) -> None:
        """Liveness is shown by Engine.IO's own heartbeat."""

    ponged = heard

    def lost(self) -> None:
        self._leave(Disconnect.GOING_AWAY)
        self._forget()

    def dismiss(self, reason: Disconnect) -> None:
        self.finish(reason)

    # what long polling calls

    def poll(self, poll: Poll) -> None:
        """A GET of this session."""
        polling = self._polling
        if polling is None:
            poll.refuse(engineio.BAD_REQUEST)
        elif self._phase is not Phase.OPEN:
            if polling.waiting:
                # clients take a close before the messages that come with it: it gets an answer of its own
                polling.open(poll)
            else:
                polling.answer_last(poll, b"1")
                self._forget()
        elif polling.polled:
            # two at once: the protocol has the session closed
            poll.refuse(engineio.BAD_REQUEST)
            self.finish(Disconnect.BAD_MESSAGE)
        else:
            polling.open(poll)
            if self.probe is not None and self.probe.probed:
                # the client must get to the end of its polling, but not as fast as it can ask
                self.door.lobby.wheel.after(PROBE_PACE, lambda: self._noop(poll))

    def noop(self, poll: Poll) -> None:
        """Answer a GET that waits with nothing."""
        if self._polling is not None:
            self._polling.answer_noop(poll)

    def _noop(self, poll: Poll) -> None:
        if self.probe is not None and self._polling is not None:
            self._polling.answer_noop(poll)

    def poll_lost(self, poll: Poll) -> None:
        """The client dropped a GET."""
        if self._polling is not None and self._polling.lost(poll):
            self.finish(Disconnect.GOING_AWAY)

    def payload(self, raw: bytes, octets: bool) -> bool:
        """The body of a POST; was it taken?"""
        if self._phase is Phase.ENDED and raw in (b"1", b"1:1"):
            self._forget()
            return True
        if self._polling is None or self._phase is not Phase.OPEN:
            return False
        return self._receive(lambda: self._packets(engineio.decode_payload(raw, self.revision, octets=octets)))

    # receiving

    def _receive(self, take: Callable[[], None]) -> bool:
        if self._phase is not Phase.OPEN:
            return False
        try:
            take()
        except (EngineIOError, SocketIOError):
            self.finish(Disconnect.BAD_MESSAGE)
            return False
        return True

    def _packets(self, packets: list[Packet]) -> None:
        for packet in packets:
            if self._phase is Phase.OPEN:
                self._packet(packet)

    def _packet(self, packet: Packet) -> None:
        kind = packet.type
        if kind is not PacketType.MESSAGE and self._pipe is not None:
            self._pipe.count_control()
        if kind is PacketType.MESSAGE:
            if packet.binary:
                self._client.receive_binary(packet.data)
            else:
                self._client.receive(packet.data)
        elif kind is PacketType.PONG and self.revision is Revision.V4:
            self._alive()
        elif kind is PacketType.PING and self.revision is Revision.V3:
            self.send_packet(b"3" + packet.data)
            if not self._abandoned():
                self._arm(self.door.ping_interval + self.door.ping_timeout, self._silent)
        elif kind is PacketType.CLOSE:
            self.finish(Disconnect.NORMAL)
        elif kind is not PacketType.NOOP:
            raise EngineIOError("a client does not send this")

    # sending

    @property
    def ended(self) -> bool:
        """Has somebody ended it? Its client may not know yet."""
        return self._phase is not Phase.OPEN

    def send(self, packet: bytes) -> None:
        """Send one Socket.IO packet."""
        self.send_packet(b"4" + packet)

    def send_binary(self, part: bytes) -> None:
        """Send one attachment."""
        marked = b"\x04" + part if self.revision is Revision.V3 else part
        base64 = (b"b4" if self.revision is Revision.V3 else b"b") + b64encode(part)
        self.outbox.push(Frame.binary(marked, base64))

    def refused(self) -> None:
        """A request was refused: who asks for too much over a WebSocket is made to wait."""
        if self._pipe is not None:
            self._pipe.refused()

    def send_packet(self, packet: bytes) -> None:
        self.outbox.push(Frame.text(packet))

    # upgrading

    @property
    def polling(self) -> bool:
        """Is it carried by long polling?"""
        return self._polling is not None

    @property
    def may_upgrade(self) -> bool:
        return self._polling is not None and self.probe is None and self._phase is Phase.OPEN

    def probing(self) -> None:
        """A WebSocket is trying to take over: from now on no GET waits."""
        if self._polling is not None:
            self._polling.answer(b"6")

    def upgrade(self, pipe: Pipe) -> bool:
        """Move to a WebSocket, with everything that is still queued; is there something to move?"""
        polling = self._polling
        self.probe = None
        if polling is None or (self._phase is not Phase.OPEN and self._farewell is None):
            return False
        frames = polling.take()
        polling.answer(b"6")
        polling.abandon()
        self._polling = None
        self._pipe = pipe
        self._client.moved(pipe.outbox)
        for frame in frames:
            pipe.outbox.push(frame)
        if self._farewell is not None:
            pipe.finish(self._farewell)
        return True

    def stay(self, probe: Probe) -> None:
        """The WebSocket has given up: polling goes on, or ends."""
        if self.probe is probe:
            self.probe = None
            farewell, self._farewell = self._farewell, None
            if farewell is not None:
                self._part(farewell)

    # time

    def _arm(self, seconds: float, call: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.door.lobby.wheel.after(seconds, call)

    def _first(self) -> None:
        """The first deadline: by now a namespace should be joined, or it is time for the first ping."""
        door = self.door
        if door.connect_timeout > door.ping_interval:
            self._beat()
        elif self._client.connected:
            self._arm(door.ping_interval - door.connect_timeout, self._beat)
        else:
            self.finish(Disconnect.AUTH_TIMEOUT)

    def _beat(self) -> None:
        """Time for a ping."""
        self._pinged = monotonic()
        self.outbox.push(_PING)
        self._arm(self.door.ping_timeout, self._silent)

    def _alive(self) -> None:
        """The pong."""
        if self._pinged:
            pinged, self._pinged = self._pinged, 0.0
            self._client.confirmed(pinged)
            if not self._abandoned():
                self._arm(self.door.ping_interval, self._beat)

    def _abandoned(self) -> bool:
        """A session that joined no namespace, or left the last, does not stay for ever: has it just been ended?"""
        now = self.door.lobby.clock()
        if self._client.connected:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since >= self.door.connect_timeout:
            self.finish(Disconnect.AUTH_TIMEOUT)
            return True
        return False

    def _silent(self) -> None:
        self.finish(Disconnect.HEARTBEAT)

    # the end

    def finish(self, reason: Disconnect) -> None:
        """Close the transport after what is queued. A polling client that has no GET waiting is told by its next."""
        if self._phase is not Phase.OPEN:
            return
        self._leave(reason)
        if self.probe is not None:
            if self.probe.probed and reason not in _AT_ONCE:
                # the client has stopped to poll: it is told when it has moved
                self._farewell = reason
                return
            self.probe.dismiss(reason)
        self._part(reason)

    def _part(self, reason: Disconnect) -> None:
        """Have the client told, by whatever carries the session."""
        if self._polling is None:
            if self._pipe is not None:
                self._pipe.finish(reason)
        elif self._polling.polled and (reason in _AT_ONCE or not self._polling.waiting):
            self._polling.answer(b"6" if reason is Disconnect.NORMAL else b"1")
            self._forget()
        elif reason in _AT_ONCE:
            self._forget()
        else:
            self._polling.flush()
            self._deadline = self.door.lobby.wheel.after(LINGER, self._forget)

    def _leave(self, reason: Disconnect) -> None:
        """No more requests, events or timers."""
        if self._phase is Phase.OPEN:
            self._phase = Phase.ENDED
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._client.leave(reason)

    def _forget(self) -> None:
        """Nobody will ask for this session any more."""
        if self._phase is Phase.GONE:
            return
        self._phase = Phase.GONE
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._polling is not None:
            self._polling.abandon()
        self._client.release()
        del self.door.sessions[self.sid]
        self._visit.leave()
