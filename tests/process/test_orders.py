"""Orders between the master and its workers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.process.orders import Long, Operate, Refused, Stream


@given(st.integers(0, 200_000), st.binary(min_size=1, max_size=5))
def test_bytes_of_any_length_fit(length: int, pattern: bytes) -> None:
    value = (pattern * (length // len(pattern) + 1))[:length]
    strings: dict[bytes, bytes] = {}
    objects: dict[str, Any] = {}
    Long().toBox(b"asked", strings, {"asked": value}, None)
    assert all(len(piece) <= 0xFFFF for piece in strings.values())
    Long().fromBox(b"asked", strings, objects, None)
    assert objects == {"asked": value}
    assert strings == {}


class Echo(Stream):
    @Operate.responder
    def operate(self, command: str, asked: bytes) -> dict[str, Any]:
        if command == "refuse":
            raise Refused('{"code": "NO", "message": "Không"}')
        return {"answer": asked * 3}


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.master, self.worker = Stream(), Echo()
        self.ends = (StringTransport(), StringTransport())
        self.master.makeConnection(self.ends[0])
        self.worker.makeConnection(self.ends[1])

    def pump(self) -> None:
        for end, other in ((self.ends[0], self.worker), (self.ends[1], self.master)):
            other.dataReceived(end.value())
            end.clear()

    def test_a_long_answer_comes_whole(self) -> None:
        answer = self.master.callRemote(Operate, command="x", asked=b"0123456789" * 9999)
        self.pump()
        self.assertEqual(self.successResultOf(answer), {"answer": b"0123456789" * 9999 * 3})

    def test_a_refusal_keeps_its_words(self) -> None:
        refusals: list[Any] = []
        self.master.callRemote(Operate, command="refuse", asked=b"").addErrback(refusals.append)
        self.pump()
        self.assertIsInstance(refusals[0].value, Refused)
        self.assertEqual(str(refusals[0].value), '{"code": "NO", "message": "Không"}')

    def test_values_of_amp_have_the_length_that_is_cut_to(self) -> None:
        self.assertEqual(amp.MAX_VALUE_LENGTH, 0xFFFF)
