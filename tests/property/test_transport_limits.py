"""Backoff, lifetimes, pacing and weight keep their limits whatever happens."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from bookrunner.engine.ports.transport import RateLimit
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.fragments import FragmentJoiner
from bookrunner.venues.transport.lifetime import EARLIEST_SHARE, LATEST_SHARE, StaggeredLifetimes
from bookrunner.venues.transport.pacing import PACING_WINDOW_NS, Pacer
from bookrunner.venues.transport.request_gate import RequestGate, Ticket
from bookrunner.venues.transport.token_bucket import TokenBucket
from naive.limits import NaivePacer, heaviest_window
from transport_rig import dice

SECOND = 1_000_000_000


@given(
    base_s=st.floats(0.001, 60),
    cap_s=st.floats(0.001, 3600),
    attempt=st.integers(-5, 10**6),
    seed=st.integers(0, 2**32),
)
def test_backoff_is_within_its_ceiling_and_the_ceiling_only_grows(
    base_s: float, cap_s: float, attempt: int, seed: int
) -> None:
    backoff = Backoff(base_s, cap_s)
    ceiling_s = backoff.ceiling_s(attempt)
    assert 0 <= backoff.delay_s(attempt, dice(seed)) <= ceiling_s <= cap_s
    assert ceiling_s <= backoff.ceiling_s(attempt + 1) <= max(2 * ceiling_s, base_s)


def test_the_jitter_is_full() -> None:
    backoff, generator = Backoff(8.0, 8.0), dice(1)
    eighths = [int(backoff.delay_s(1, generator)) for _ in range(8000)]
    assert all(800 < eighths.count(eighth) < 1200 for eighth in range(8))


@given(count=st.integers(2, 200), seed=st.integers(0, 2**32), lifetime_s=st.floats(1, 1e6))
def test_lifetimes_end_before_the_venue_cuts_and_never_two_together(
    count: int, seed: int, lifetime_s: float
) -> None:
    lifetimes = StaggeredLifetimes(dice(seed))
    ages_s = sorted(lifetimes.next_age_s(lifetime_s) for _ in range(count))
    assert ages_s[0] >= EARLIEST_SHARE * lifetime_s
    assert ages_s[-1] <= LATEST_SHARE * lifetime_s
    closest_s = min(later - earlier for earlier, later in itertools.pairwise(ages_s))
    assert closest_s >= 0.38 / count * (LATEST_SHARE - EARLIEST_SHARE) * lifetime_s * (1 - 1e-6)


@given(
    limit=st.integers(1, 12),
    steps_ns=st.lists(st.integers(0, SECOND // 2), max_size=80),
)
def test_pacing_equals_its_naive_twin(limit: int, steps_ns: list[int]) -> None:
    pacer = Pacer(limit)
    twin = NaivePacer(max(1, limit - 1), PACING_WINDOW_NS)
    now_ns = 0
    for step_ns in steps_ns:
        now_ns += step_ns
        wait_ns = pacer.wait_ns(now_ns)
        assert (wait_ns == 0) == twin.may_send(now_ns)
        assert twin.may_send(now_ns + wait_ns)
        if wait_ns == 0:
            pacer.sent(now_ns)
            twin.sent_ns.append(now_ns)
    assert heaviest_window([(sent_ns, 1) for sent_ns in twin.sent_ns], SECOND) <= limit


class NaiveBucket:
    """The same bucket in exact fractions."""

    def __init__(self, limit: RateLimit) -> None:
        self.usable = max(2, limit.weight * 9 // 10)
        self.burst = max(1, self.usable // 2)
        self.rate = Fraction(self.usable - self.burst, limit.window_s * SECOND)
        self.level = Fraction(self.burst)

    def pass_time(self, elapsed_ns: int) -> None:
        self.level = min(Fraction(self.burst), self.level + elapsed_ns * self.rate)


@given(
    limit=st.builds(RateLimit, weight=st.integers(2, 6000), window_s=st.integers(1, 300)),
    demands=st.lists(
        st.tuples(st.integers(0, 100 * SECOND), st.integers(1, 300), st.none() | st.integers(-50, 6000)),
        max_size=60,
    ),
)
def test_the_bucket_equals_its_naive_twin_and_no_window_sees_more_than_is_usable(
    limit: RateLimit, demands: list[tuple[int, int, int | None]]
) -> None:
    bucket, twin = TokenBucket(limit, 0), NaiveBucket(limit)
    assert (bucket.usable, bucket.burst) == (twin.usable, twin.burst)
    spent: list[tuple[int, int]] = []
    now_ns = 0
    for elapsed_ns, wanted, stated in demands:
        weight = min(wanted, bucket.burst)
        now_ns += elapsed_ns
        twin.pass_time(elapsed_ns)
        if stated is not None:
            bucket.observe_remaining(stated, now_ns)
            twin.level = min(twin.level, Fraction(stated))
        assert bucket.available(now_ns) == twin.level.numerator // twin.level.denominator
        wait_ns = bucket.wait_ns(weight, now_ns)
        assert (wait_ns == 0) == (twin.level >= weight)
        if wait_ns:
            assert bucket.wait_ns(weight, now_ns + wait_ns - 1) == 1  # not a nanosecond longer than needed
            now_ns += wait_ns
            twin.pass_time(wait_ns)
        bucket.take(weight, now_ns)
        twin.level -= weight
        spent.append((now_ns, weight))
    assert heaviest_window(spent, limit.window_s * SECOND) <= bucket.usable <= limit.weight


@given(
    requests=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), max_size=40),
    max_in_flight=st.integers(1, 5),
    max_waiting=st.integers(1, 20),
)
def test_the_gate_admits_by_urgency_and_keeps_its_bounds(
    requests: list[tuple[int, int]], max_in_flight: int, max_waiting: int
) -> None:
    gate = RequestGate(RateLimit(600, 5), 0, max_in_flight=max_in_flight, max_waiting=max_waiting)
    waiting: list[Ticket] = []
    for weight, priority in requests:
        ticket, turned_away = gate.join(weight, priority)
        waiting.append(ticket)
        waiting.sort(key=lambda each: (each.priority, each.number))
        if len(waiting) > max_waiting:
            assert turned_away is waiting.pop()
        else:
            assert turned_away is None
    now_ns = 0
    spent: list[tuple[int, int]] = []
    while waiting:
        assert gate.waiting == len(waiting)
        ticket_or_none = gate.admit(now_ns)
        if ticket_or_none is not None:
            assert ticket_or_none is waiting.pop(0)
            assert gate.in_flight <= max_in_flight
            spent.append((now_ns, ticket_or_none.weight))
        elif gate.in_flight == max_in_flight:
            assert gate.wait_ns(now_ns) is None
            gate.release()
        else:
            wait_ns = gate.wait_ns(now_ns)
            assert wait_ns
            now_ns += wait_ns
    assert heaviest_window(spent, 5 * SECOND) <= gate.bucket.usable


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=10))
def test_fragments_join_to_what_was_cut(pieces: list[bytes]) -> None:
    joiner = FragmentJoiner(200)
    outcomes = [
        joiner.add(piece, continuation=index > 0, final=index == len(pieces) - 1)
        for index, piece in enumerate(pieces)
    ]
    assert outcomes == [None] * (len(pieces) - 1) + [b"".join(pieces)]
