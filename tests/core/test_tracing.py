"""What is remembered of publications: packing, bounds, finding again."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.core import channels
from mechamap_rt.core.publication import DeliveryClass, Publication, base36
from mechamap_rt.core.tracing import CHUNK, MAX_LOSSES, NAMED, Chunk, Tracing, about, origin, sampled


def publication(number: int, node: str = "abc001", delivery: DeliveryClass = DeliveryClass.DURABLE) -> Publication:
    ident = f"{node}-{base36(number)}"
    return Publication(ident, channels.parse("private-user.5"), "order.paid", b"{}", delivery=delivery)


def test_a_publication_is_found_before_and_after_it_is_packed() -> None:
    tracing = Tracing(10_000, 3600)
    one = publication(5)
    tracing.accepted(one, "api", "req-1")
    tracing.delivered(one, 2, [5, 6])
    tracing.lost(one.id, 6, "slow_consumer")
    young = tracing.about(one.id)
    tracing.flush()
    packed = tracing.about(one.id)
    assert [record[0] for record in young] == [record[0] for record in packed] == ["a", "d", "x"]
    accepted, delivered, lost = packed
    assert accepted[3:10] == ["private-user.5", "order.paid", "durable", "high", "api", "req-1", ""]
    assert abs(accepted[2] - time.time()) < 5
    assert delivered[3:] == [2, [5, 6]]
    assert lost[3:] == [6, "slow_consumer"]
    assert tracing.about(publication(6).id) == []
    assert tracing.about("nonsense") == []


def test_the_oldest_are_forgotten() -> None:
    tracing = Tracing(3 * CHUNK, 3600)
    for number in range(6 * CHUNK):
        tracing.accepted(publication(number), "api", "")
    tracing.tick()
    assert tracing.about(publication(0).id) == []
    assert tracing.about(publication(6 * CHUNK - 1).id)
    figures = tracing.figures()
    assert figures["publications"] <= 3 * CHUNK
    # some 25 bytes each
    assert figures["bytes"] < 60 * figures["publications"]


def test_what_is_too_old_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing = Tracing(10_000, 60)
    tracing.accepted(publication(1), "api", "")
    tracing.flush()
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    tracing.tick()
    assert tracing.about(publication(1).id) == []


def test_many_users_are_not_named_and_many_losses_not_listed() -> None:
    tracing = Tracing(10_000, 3600)
    one = publication(1)
    tracing.delivered(one, NAMED + 1, iter([1] * (NAMED + 1)))
    for user in range(10 * MAX_LOSSES):
        tracing.lost(one.id, user, "slow_consumer")
    records = tracing.about(one.id)
    assert records[0][4] == ()
    assert len(records) == 1 + MAX_LOSSES


def test_of_volatile_ones_the_same_are_traced_everywhere() -> None:
    some = [publication(number, delivery=DeliveryClass.VOLATILE) for number in range(3600)]
    traced = [one.id for one in some if sampled(one)]
    assert len(traced) == 200
    assert all(sampled(publication(number)) for number in range(3600))


@given(
    st.lists(
        st.tuples(st.sampled_from(["abc001", "abc002", "zzz00z"]), st.integers(0, 10**15)), min_size=1, max_size=50
    )
)
def test_a_chunk_has_what_was_put_in(parts: list[tuple[str, int]]) -> None:
    records = [("x", f"{node}-{base36(serial)}", 1.5, 7, "dropped") for node, serial in parts]
    chunk = Chunk(records, 2.0)
    for (node, serial), record in zip(parts, records, strict=True):
        assert origin(record[1]) == (node, serial)
        assert chunk.may_have(node, serial)
        assert list(record) in [list(found) for found in about(record[1], chunk.packed)]
    assert not chunk.may_have("nobody", 1)


@pytest.mark.parametrize("strange", [b"", b"x", b"x\x9c"])
def test_strange_bytes_are_no_chunk(strange: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        about("abc001-1", strange)


@pytest.mark.parametrize("ident", ["", "abc", "abc-", "-1", "abc-!", "abc-" + "1" * 17, "abc-1-2"])
def test_what_is_no_id(ident: str) -> None:
    with pytest.raises(ValueError, match="id"):
        origin(ident)
