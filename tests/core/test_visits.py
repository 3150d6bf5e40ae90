"""The history of connections: what is remembered of them, what not any more, and how much at most."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mechamap_rt.core import visits as module
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.visits import MAX_HELD, MAX_NAMES, Visits, visit


class Encoder:
    protocol = "native"


class Outbox:
    transport_name = "websocket"


def connection(ident: str = "c1", user: int = 5) -> Connection:
    encoder: Any = Encoder()
    outbox: Any = Outbox()
    identity = Identity(user, "An", "member")
    return Connection(ident, identity, encoder, outbox, "127.0.0.1", time.time(), lambda reason: None)


def come(visits: Visits, one: Connection, resource: str) -> None:
    one.subscriptions[resource] = (resource,)
    visits.changed(one, resource, True)


def go(visits: Visits, one: Connection, resource: str) -> None:
    del one.subscriptions[resource]
    visits.changed(one, resource, False)


def test_what_it_was_subscribed_to_at_a_moment() -> None:
    visits, one = Visits(), connection()
    before = time.time()
    come(visits, one, "thread.1")
    during = time.time()
    time.sleep(0.002)
    go(visits, one, "thread.1")
    after = time.time()
    now = visit(one)
    assert visits.subscribed(now, "thread.1", before - 1) is False
    assert visits.subscribed(now, "thread.1", during) is True
    assert visits.subscribed(now, "thread.1", after) is False
    assert visits.subscribed(now, "thread.2", during) is False


def test_one_that_has_ended_is_remembered() -> None:
    visits, one = Visits(), connection()
    come(visits, one, "thread.1")
    one.confirmed = time.monotonic()
    visits.ended(one, "slow_consumer")
    (found,) = visits.of(5)
    assert (found.reason, found.held, found.protocol) == ("slow_consumer", frozenset({"thread.1"}), "native")
    assert abs(found.confirmed - time.time()) < 1
    assert found.until >= found.since
    assert visits.subscribed(found, "thread.1", time.time()) is True
    assert list(visits.of(6)) == []


def test_what_is_forgotten_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHANGES", 10)
    visits, one = Visits(), connection()
    come(visits, one, "thread.1")
    come(visits, one, "thread.2")
    go(visits, one, "thread.2")
    other = connection("c2", 6)
    time.sleep(0.002)
    for number in range(20):
        come(visits, other, f"thread.{number + 10}")
    moment = time.time()
    # it holds this one still, and had the other one for a while that nobody remembers
    assert visits.subscribed(visit(one), "thread.1", moment) is True
    assert visits.subscribed(visit(one), "thread.2", moment) is None


def test_there_is_a_bound_on_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENDED", 5)
    visits = Visits()
    for number in range(20):
        one = connection(f"c{number}")
        one.subscriptions = {f"public.{'x' * 150}{each}": ("n",) for each in range(100)}
        visits.ended(one, "normal")
    found = list(visits.of(5))
    assert [each.connection for each in found] == ["c15", "c16", "c17", "c18", "c19"]
    assert all(len(each.held) <= MAX_HELD and sum(map(len, each.held)) <= MAX_NAMES for each in found)
