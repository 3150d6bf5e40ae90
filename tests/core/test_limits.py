"""Token buckets, and the counts of several processes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.core.limits import Buckets, Quota, Tally
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


def tally(**limits: int) -> Tally:
    return Tally(Quota(**limits), Time())


def test_transports_over_the_limit_of_an_address_are_counted_too() -> None:
    counts = tally(per_address=2)
    assert [counts.enter("w", "a") for _ in range(4)] == [None, None, Disconnect.THROTTLED, Disconnect.THROTTLED]
    assert counts.enter("w", "b") is None
    for _ in range(3):
        counts.leave("w", "a")
    assert counts.enter("w", "a") is None
    assert counts.transports == 3


def test_the_total_is_over_all_addresses_and_processes() -> None:
    counts = tally(total=1)
    assert counts.enter("w", "a") is None
    assert counts.enter("v", "b") is Disconnect.GLOBAL_LIMIT


def test_connections_of_a_user_are_counted_over_all_processes() -> None:
    counts = tally(per_user=2)
    assert [counts.admit("w", 5), counts.admit("v", 5), counts.admit("w", 5)] == [None, None, Disconnect.USER_LIMIT]
    assert counts.admit("w", 6) is None
    counts.dismiss("v", 5)
    assert counts.admit("w", 5) is None
    assert counts.connections(5) == 2


def test_attempts_of_a_user() -> None:
    counts = tally(attempts=3)
    for _ in range(3):
        assert counts.admit("w", 5) is None
        counts.dismiss("w", 5)
    assert counts.admit("w", 5) is Disconnect.THROTTLED
    assert counts.admit("w", 6) is None
    assert counts.connections(5) == 0


def test_a_rate_is_of_one_key() -> None:
    counts = Tally(Quota(rates={"events": 2}), Time())
    assert [counts.take("events", 5) > 0 for _ in range(3)] == [False, False, True]
    assert counts.take("events", 6) == 0.0
    assert counts.take("no such limit", 5) == 0.0


def test_a_dead_process_leaves_nothing_behind() -> None:
    counts = tally(per_user=1, per_address=1)
    counts.enter("w", "a")
    counts.admit("w", 5)
    counts.enter("v", "a")
    counts.forget("w")
    assert (counts.transports, counts.connections(5)) == (1, 0)
    assert counts.admit("v", 5) is None
    # what was the dead one's cannot be counted out twice
    counts.dismiss("w", 5)
    counts.leave("w", "a")
    assert (counts.transports, counts.connections(5)) == (1, 1)


@given(st.lists(st.tuples(st.sampled_from("wv"), st.integers(0, 4), st.sampled_from("ab"), st.integers(1, 3))))
def test_counts_are_the_sum_of_what_the_living_have(steps: list[tuple[str, int, str, int]]) -> None:
    counts = tally()
    transports: Counter[tuple[str, str]] = Counter()
    users: Counter[tuple[str, int]] = Counter()
    for owner, what, address, user in steps:
        if what == 0:
            counts.enter(owner, address)
            transports[owner, address] += 1
        elif what == 1 and transports[owner, address]:
            counts.leave(owner, address)
            transports[owner, address] -= 1
        elif what == 2:
            counts.admit(owner, user)
            users[owner, user] += 1
        elif what == 3 and users[owner, user]:
            counts.dismiss(owner, user)
            users[owner, user] -= 1
        elif what == 4:
            counts.forget(owner)
            transports = Counter({key: count for key, count in transports.items() if key[0] != owner})
            users = Counter({key: count for key, count in users.items() if key[0] != owner})
    assert counts.transports == sum(transports.values())
    for user in (1, 2, 3):
        assert counts.connections(user) == users["w", user] + users["v", user]
