"""Of whom replicas are not believed: so many, and of everybody while it is not known of whom."""

from __future__ import annotations

from twisted.internet.task import Clock

from mechamap_rt.core.doubts import LAG, Doubts


def test_what_was_noted_stays_until_there_are_too_many() -> None:
    clock = Clock()
    doubts = Doubts(clock.seconds, bound=3)
    assert doubts.general
    clock.advance(LAG)
    assert not doubts.general
    for key in ("a", "b", "c", "a"):
        doubts.note(key)
        clock.advance(1000)
    assert doubts.covers("x", "b")
    assert not doubts.general
    doubts.note("d")
    assert [key for key in "abcd" if doubts.covers(key)] == ["a", "c", "d"]
    assert len(doubts) == 3
    assert not doubts.general, "it was noted long ago"


def test_everybody_is_in_doubt_when_a_recent_one_is_forgotten() -> None:
    clock = Clock()
    doubts = Doubts(clock.seconds, bound=2)
    clock.advance(LAG)
    for key in range(3):
        doubts.note(key)
        clock.advance(10)
    assert not doubts.covers(0)
    assert doubts.general
    clock.advance(LAG - 31)
    assert doubts.general
    clock.advance(2)
    assert not doubts.general
