"""What the load tests reckon with: percentiles, deliveries, answers, and what a refusal means."""

from __future__ import annotations

import math
import random
import time

import orjson
import pytest

from mechamap_rt.bench.loadtest import advice, refusals
from mechamap_rt.bench.loadtest.advice import Attempt
from mechamap_rt.bench.loadtest.deliveries import Ledger, Shelf
from mechamap_rt.bench.loadtest.exchange import MAX_BODY, MAX_HEAD, Fault, parse
from mechamap_rt.bench.loadtest.latencies import Latencies
from mechamap_rt.bench.loadtest.outcome import Limits


def gathered(values: list[float]) -> Latencies:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    return latencies


@pytest.mark.parametrize("count", [1, 2, 10, 1000, 30_000])
def test_percentiles_are_those_of_the_sorted_list_within_half_a_percent(count: int) -> None:
    dice = random.Random(count)
    values = sorted(dice.lognormvariate(-6, 1.5) for _ in range(count))
    summary = gathered(values).summary()
    shares = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
    for name, share in shares.items():
        exact = values[max(1, math.ceil(count * share / 100)) - 1] * 1000
        assert getattr(summary, name) == pytest.approx(exact, rel=0.0051)
    assert summary.count == count
    assert summary.mean == pytest.approx(sum(values) / count * 1000)
    assert (summary.min, summary.max) == (pytest.approx(values[0] * 1000), pytest.approx(values[-1] * 1000))
    ascending = [value for _, value in summary.curve]
    assert ascending == sorted(ascending)
    assert ascending[-1] == summary.max


def test_no_latency_is_none_and_an_absurd_one_is_bounded() -> None:
    assert gathered([]).summary().count == 0
    summary = gathered([-1.0, 0.0, 1e9]).summary()
    assert summary.min == 0.001
    assert summary.max == 1e12


def test_limits_are_held_against_figures_and_not_met_by_silence() -> None:
    limits = Limits(p99=50.0, failed=0.1, rate=100.0)
    met = {each.name: each.met for each in limits.checks({"p99": 50.0, "failed": 0.1, "rate": 100.0}, timed=True)}
    assert met == {"p99": True, "failed": True, "rate": True}
    missed = limits.checks({"p99": 50.1, "failed": 0.11, "rate": 99.0, "lost": 5.0}, timed=True)
    assert {each.name: each.met for each in missed} == {"p99": False, "failed": False, "rate": False}
    assert [each.met for each in limits.checks({"p99": 0.0}, timed=False)] == [False]


def message(ledger: Ledger, number: int, due: float | None = None) -> memoryview:
    """The publication as a subscriber gets it."""
    body = orjson.loads(ledger.body(number, time.monotonic() if due is None else due))
    return memoryview(b"42" + orjson.dumps([body["event"], body["data"]]))


def test_what_is_lost_and_what_comes_twice_is_counted() -> None:
    ledger = Ledger("public.load", 20, 10)
    shelf = Shelf(ledger)
    messages = [message(ledger, number) for number in range(20)]
    for number in range(20):
        ledger.answered(number, accepted=number != 19)
    for number in (0, 1, 2, 3, 4, 5, 9, 9, 9, 10):
        shelf.heard(messages[number])
    assert (shelf.total, shelf.missing(), ledger.duplicated) == (8, 11, 2)
    assert ledger.latencies.count == 8


def test_other_messages_and_other_loads_are_not_counted() -> None:
    ledger, other = Ledger("public.load", 5, 0), Ledger("public.load", 5, 0)
    shelf = Shelf(ledger)
    shelf.heard(message(other, 1))
    shelf.heard(memoryview(b'42["comment.created",{"load":"00000001"}]'))
    assert (shelf.total, ledger.duplicated) == (0, 0)


def test_only_what_was_answered_before_has_an_order() -> None:
    ledger = Ledger("public.load", 4, 0)
    first, second = message(ledger, 0), message(ledger, 1)  # under way at once
    ledger.answered(0, accepted=True)
    ledger.answered(1, accepted=True)
    third = message(ledger, 2)
    one, two = Shelf(ledger), Shelf(ledger)
    for arrived in (second, first, third):
        one.heard(arrived)
    assert ledger.disordered == 0
    for arrived in (third, first, second):
        two.heard(arrived)
    assert ledger.disordered == 2


def test_a_publication_counts_from_when_it_was_due() -> None:
    ledger = Ledger("public.load", 2, 0)
    shelf = Shelf(ledger)
    shelf.heard(message(ledger, 0, time.monotonic() - 2.0))
    shelf.heard(message(ledger, 1, time.monotonic() + 50.0))  # a timer that was early
    assert ledger.latencies.summary().max == pytest.approx(2000, rel=0.1)
    assert ledger.latencies.summary().min < 100


HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\n"


@pytest.mark.parametrize(
    ("answer", "body", "keep"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
        (HEAD + b"Connection: close\r\ncontent-length:5\r\n\r\nhello", b"hello", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n", b"hello", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    ],
)
def test_an_answer_is_whole_with_its_last_byte_and_not_before(answer: bytes, body: bytes, keep: bool) -> None:
    for end in range(len(answer)):
        assert parse(answer[:end], over=False) is None
    found = parse(answer, over=False)
    assert found is not None
    assert (found.body, found.keep) == (body, keep)


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    assert parse(HEAD + b"\r\nhello", over=False) is None
    found = parse(HEAD + b"\r\nhello", over=True)
    assert found is not None
    assert (found.body, found.keep) == (b"hello", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        HEAD + b"x" * MAX_HEAD,
        HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        HEAD + b"\r\n" + b"x" * (MAX_BODY + 1),
    ],
)
def test_what_is_no_answer_or_too_large_is_a_fault(answer: bytes) -> None:
    with pytest.raises(Fault):
        parse(answer, over=False)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b'44{"message":"Authentication failed: Token expired"}', "Authentication failed: Token expired"),
        (b'42["connection_rejected",{"reason":"user_limit_reached","message":"x"}]', "user_limit_reached"),
        (b'42["subscription_error",{"channel":"a","error":"Unauthorized"}]', "Unauthorized"),
        (
            b'{"type":"error","code":"RATE_LIMITED","error":"x","details":{"reason":"connection_throttled"}}',
            "connection_throttled",
        ),
        (b'44{"message":"no user 4711 here\\u001b[2J"}', "no user … here [2J"),
        (b"41", "disconnected"),
        (b"44", "44"),
        (b'44{"message":"' + b"x" * 500 + b'"}', "x" * 100),
    ],
)
def test_reasons_can_be_counted_and_shown(said: bytes, reason: str) -> None:
    assert refusals.said(said) == reason


def attempts(*found: tuple[str, int, int]) -> list[Attempt]:
    return [Attempt(*each) for each in found]


def test_which_of_the_two_limits_throttled() -> None:
    throttled = "connection_throttled"
    by_address = advice.throttling(attempts(("", 99, 1), (throttled, 100, 1), (throttled, 100, 1)))
    assert [each.split()[0] for each in by_address] == ["MAX_CONNECTIONS_PER_IP"]
    by_user = advice.throttling(attempts(("", 4, 5), ("user_limit_reached", 5, 30), (throttled, 5, 31)))
    assert [each.split()[0] for each in by_user] == ["CONNECTION_ATTEMPTS_PER_MINUTE"]
    unclear = advice.throttling(attempts(("", 99, 2), (throttled, 100, 3)))
    assert len(unclear) == 2
    assert advice.throttling(attempts(("", 0, 1), ("HTTP 503", 0, 1))) == []
