"""Token buckets and admission."""

from mechamap_rt.core.limits import Admission, Buckets, Entry
from mechamap_rt.errors import Disconnect


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_come_at_once_and_no_more() -> None:
    time = Time()
    buckets = Buckets(100, time)
    assert [buckets.take("u") for _ in range(100)] == [0.0] * 100
    assert 0 < buckets.take("u") <= 0.6
    assert buckets.take("other") == 0.0
    time.now += 0.61
    assert buckets.take("u") == 0.0
    assert buckets.take("u") > 0


def test_refused_attempts_cost_nothing() -> None:
    time = Time()
    buckets = Buckets(60, time)
    for _ in range(60):
        buckets.take("u")
    for _ in range(1000):
        assert buckets.take("u") > 0
    time.now += 1.01
    assert buckets.take("u") == 0.0


def test_zero_means_no_limit_and_no_table() -> None:
    buckets = Buckets(0, Time())
    assert not any(buckets.take("u") for _ in range(1000))
    assert len(buckets) == 0


def test_the_table_is_bounded_and_forgets_the_longest_unused() -> None:
    buckets = Buckets(1, Time(), size=10)
    for number in range(1000):
        buckets.take(number)
    assert len(buckets) == 10
    assert buckets.take(999) > 0
    assert buckets.take(0) == 0.0


def admission(**limits: int) -> Admission:
    return Admission(**({"total": 0, "per_address": 0, "per_user": 0, "attempts": 0} | limits), clock=Time())


def test_transports_over_the_limit_of_an_address_are_told_then_refused() -> None:
    guard = admission(per_address=2)
    assert [guard.enter("a")[0] for _ in range(2)] == [Entry.ADMIT] * 2
    told = [guard.enter("a") for _ in range(16)]
    assert told == [(Entry.TELL, Disconnect.THROTTLED)] * 16
    assert guard.enter("a") == (Entry.REFUSE, Disconnect.THROTTLED)
    assert guard.enter("b")[0] is Entry.ADMIT
    for _ in range(18):
        guard.leave("a")
    assert guard.enter("a")[0] is Entry.ADMIT


def test_the_total_is_over_all_addresses() -> None:
    guard = admission(total=1)
    assert guard.enter("a")[0] is Entry.ADMIT
    assert guard.enter("b") == (Entry.TELL, Disconnect.GLOBAL_LIMIT)


def test_connections_of_a_user() -> None:
    guard = admission(per_user=2)
    assert [guard.admit(5), guard.admit(5), guard.admit(5)] == [None, None, Disconnect.USER_LIMIT]
    assert guard.admit(6) is None
    guard.dismiss(5)
    assert guard.admit(5) is None
    assert guard.connections(5) == 2


def test_attempts_of_a_user() -> None:
    guard = admission(attempts=3)
    for _ in range(3):
        assert guard.admit(5) is None
        guard.dismiss(5)
    assert guard.admit(5) is Disconnect.THROTTLED
    assert guard.admit(6) is None
    assert guard.connections(5) == 0
