from __future__ import annotations

from bookrunner.core.clock import NANOSECONDS_PER_SECOND as SECOND
from bookrunner.venues.simulated.limits import (
    BANNED,
    FIRST_BAN_S,
    OK,
    TOLERATED_AFTER_429,
    TOO_MANY_REQUESTS,
    MessageLimiter,
    WeightLimiter,
)


def test_weight_is_counted_and_forgotten_with_its_minute() -> None:
    limiter = WeightLimiter(40)
    assert [limiter.admit(20, 10 * SECOND).used_weight for _ in range(2)] == [20, 40]
    refused = limiter.admit(20, 10 * SECOND)
    assert (refused.status, refused.retry_after_s) == (TOO_MANY_REQUESTS, 50)
    assert limiter.admit(20, 60 * SECOND).status == OK


def test_asking_on_while_limited_leads_to_bans_that_double() -> None:
    limiter = WeightLimiter(10)
    limiter.admit(10, 0)
    now_s, bans = 0, []
    for _ in range(3):
        for _ in range(TOLERATED_AFTER_429):
            assert limiter.admit(10, now_s * SECOND).status == TOO_MANY_REQUESTS
        banned = limiter.admit(10, now_s * SECOND)
        assert banned.status == BANNED
        bans.append(banned.retry_after_s)
        now_s += banned.retry_after_s
        assert limiter.admit(10, now_s * SECOND - 1).status == BANNED
        assert limiter.admit(10, now_s * SECOND).status == OK
    assert bans == [FIRST_BAN_S, 2 * FIRST_BAN_S, 4 * FIRST_BAN_S]


def test_waiting_as_told_is_never_banned() -> None:
    limiter = WeightLimiter(10)
    now_ns = 0
    for _ in range(50):
        answer = limiter.admit(10, now_ns)
        assert answer.status != BANNED
        now_ns += answer.retry_after_s * SECOND


def test_an_exhausted_budget_refuses_for_as_long_as_asked() -> None:
    limiter = WeightLimiter(100)
    limiter.exhaust(0, 2.0)
    assert limiter.admit(1, SECOND).retry_after_s == 1
    assert limiter.admit(1, 2 * SECOND).status == OK


def test_messages_are_limited_within_any_second() -> None:
    limiter = MessageLimiter(3)
    times = [0, 1, 2, SECOND - 1, SECOND + 2, 2 * SECOND + 1]
    assert [limiter.admit(now_ns) for now_ns in times] == [True, True, True, False, True, True]


def test_no_limit_admits_everything() -> None:
    limiter = MessageLimiter(0)
    assert all(limiter.admit(0) for _ in range(1_000))
