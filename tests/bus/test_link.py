"""Streams between processes: requests, answers, descriptors, and peers that do not read."""

from __future__ import annotations

import os
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mechamap_rt.bus import link as links
from mechamap_rt.bus.link import ANSWER, FIRST_KIND, Link, LinkLost
from tests.bus.streams import connect, pause

ECHO, LATER, BROKEN, WITH_FD = range(FIRST_KIND, FIRST_KIND + 4)


class Peer:
    """One end of a stream, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self.descriptors: list[int] = []
        self.later: list[Deferred[bytes]] = []
        self.lost = 0
        self.link = Link(self.take, self.has_lost)
        self.link.with_descriptor = frozenset((WITH_FD,))

    def take(self, kind: int, body: bytes, descriptor: int) -> Any:
        self.asked.append((kind, body))
        if kind == LATER:
            self.later.append(Deferred())
            return self.later[-1]
        if kind == BROKEN:
            raise ValueError("secret words")
        if descriptor >= 0:
            self.descriptors.append(descriptor)
        return body.upper()

    def has_lost(self, link: Link) -> None:
        self.lost += 1


class StreamTests(TestCase):
    def setUp(self) -> None:
        self.here, self.there = Peer(), Peer()
        connect(self.here.link, self.there.link)

    def tearDown(self) -> Deferred[None]:
        self.here.link.close()
        return pause(0.05)

    async def test_both_ask_and_both_are_answered(self) -> None:
        assert await self.here.link.ask(ECHO, b"from here") == b"FROM HERE"
        assert await self.there.link.ask(ECHO, b"") == b""

    async def test_answers_come_in_any_order(self) -> None:
        slow, quick = self.here.link.ask(LATER, b"1"), self.here.link.ask(ECHO, b"2")
        assert await quick == b"2"
        assert not slow.called
        self.there.later[0].callback(b"at last")
        assert await slow == b"at last"

    async def test_what_wants_no_answer_gets_none(self) -> None:
        self.here.link.tell(ECHO, b"a")
        await self.here.link.ask(ECHO, b"b")
        assert self.there.asked == [(ECHO, b"a"), (ECHO, b"b")]
        assert self.here.link.heard == 1

    async def test_a_fault_there_is_a_failure_here_without_its_words(self) -> None:
        with self.assertRaises(LinkLost) as caught:
            await self.here.link.ask(BROKEN, b"")
        assert "secret" not in str(caught.exception)
        assert len(self.flushLoggedErrors(ValueError)) == 1
        assert await self.here.link.ask(ECHO, b"still there") == b"STILL THERE"

    async def test_who_waits_when_the_stream_ends_is_told(self) -> None:
        waiting = self.here.link.ask(LATER, b"")
        await self.here.link.ask(ECHO, b"")
        self.there.link.close()
        with self.assertRaises(LinkLost):
            await waiting
        await pause(0.05)
        assert (self.here.lost, self.there.lost) == (1, 1)
        with self.assertRaises(LinkLost):
            await self.here.link.ask(ECHO, b"")

    async def test_a_cancelled_question_is_forgotten(self) -> None:
        waiting = self.here.link.ask(LATER, b"")
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        await self.here.link.ask(ECHO, b"")
        self.there.later[0].callback(b"too late")
        await self.here.link.ask(ECHO, b"")

    async def test_a_descriptor_arrives_with_its_request(self) -> None:
        end, other = socket.socketpair()
        answers = [self.here.link.ask(ECHO, b"x" * 100_000)]
        answers += [self.here.link.hand(WITH_FD, b"%d" % number, end.fileno()) for number in range(5)]
        for answer in answers:
            await answer
        end.close()
        assert len(set(self.there.descriptors)) == 5
        for descriptor in self.there.descriptors:
            os.write(descriptor, b".")
            os.close(descriptor)
        assert other.recv(100) == b"....."
        # the last one is closed: nobody has kept a copy
        assert other.recv(100) == b""
        other.close()

    async def test_a_peer_that_does_not_read_is_waited_for_within_bounds(self) -> None:
        self.patch(links, "MAX_WAITING", 3_000_000)
        transport: Any = self.there.link.transport
        transport.stopReading()
        for _ in range(50):
            self.here.link.tell(ECHO, b"x" * 100_000)
            await pause(0)
        assert self.here.link.dropped > 0
        with self.assertRaises(LinkLost):
            await self.here.link.ask(ECHO, b"y" * 3_000_000)
        transport.startReading()
        assert await self.here.link.ask(ECHO, b"again") == b"AGAIN"
        came = [body for kind, body in self.there.asked if body != b"again"]
        assert len(came) + self.here.link.dropped >= 50
        assert set(came) == {b"x" * 100_000}


class FrameTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 40))
    def test_frames_come_whole_however_they_are_cut(self, bodies: list[bytes], size: int) -> None:
        sender, peer = Link(lambda *_: None, lambda _: None), Peer()
        transport = StringTransport()
        sender.makeConnection(transport)
        peer.link.makeConnection(StringTransport())
        for body in bodies:
            sender.tell(ECHO, body)
        written = transport.value()
        for at in range(0, len(written), size):
            peer.link.dataReceived(written[at : at + size])
        self.assertEqual([body for _, body in peer.asked], bodies)

    def test_an_answer_to_nothing_is_ignored(self) -> None:
        peer = Peer()
        peer.link.makeConnection(StringTransport())
        peer.link.dataReceived(b"\0\0\0\1" + bytes([ANSWER]) + b"\0\0\0\7x")
        self.assertEqual(peer.asked, [])
