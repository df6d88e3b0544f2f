"""The venue's limits, counted as it counts them. Times are the venue's nanoseconds, handed in."""

from __future__ import annotations

from collections import deque

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_SECOND

WINDOW_NS = 60 * NANOSECONDS_PER_SECOND
TOLERATED_AFTER_429 = 3
"""Requests answered 429 within one block before the address is banned."""
FIRST_BAN_S = 120
LONGEST_BAN_S = 3 * 86_400
OK, TOO_MANY_REQUESTS, BANNED = 200, 429, 418


class Admission(msgspec.Struct, frozen=True):
    """Whether a request is answered: 200, 429 or 418."""

    status: int
    used_weight: int
    retry_after_s: int = 0


class WeightLimiter:
    """Weight by the minute; asking on while limited leads to bans that double, up to three days."""

    def __init__(self, limit: int, first_ban_s: int = FIRST_BAN_S) -> None:
        self._limit = limit
        self._first_ban_s = first_ban_s
        self._bans = 0
        self._window = -1
        self._used = 0
        self._blocked_until_ns = 0
        self._banned_until_ns = 0
        self._offences = 0

    def admit(self, weight: int, now_ns: int) -> Admission:
        """Count one request."""
        if now_ns < self._banned_until_ns:
            return self._refusal(BANNED, self._banned_until_ns, now_ns)
        window = now_ns // WINDOW_NS
        if window != self._window:
            self._window, self._used = window, 0
        if now_ns >= self._blocked_until_ns:
            self._offences = 0
            if self._used + weight <= self._limit:
                self._used += weight
                return Admission(OK, self._used)
            self._blocked_until_ns = (window + 1) * WINDOW_NS
        self._offences += 1
        if self._offences <= TOLERATED_AFTER_429:
            return self._refusal(TOO_MANY_REQUESTS, self._blocked_until_ns, now_ns)
        self._offences = 0
        ban_s = min(self._first_ban_s << self._bans, LONGEST_BAN_S)
        self._bans += ban_s < LONGEST_BAN_S
        self._banned_until_ns = now_ns + ban_s * NANOSECONDS_PER_SECOND
        return self._refusal(BANNED, self._banned_until_ns, now_ns)

    def exhaust(self, now_ns: int, seconds: float) -> None:
        """Refuse everything for ``seconds``, as if the budget were spent; bans then begin there."""
        self._blocked_until_ns = now_ns + int(seconds * NANOSECONDS_PER_SECOND)
        self._first_ban_s = max(1, int(seconds))

    def _refusal(self, status: int, until_ns: int, now_ns: int) -> Admission:
        retry_after_s = -((now_ns - until_ns) // NANOSECONDS_PER_SECOND)
        return Admission(status, self._used, retry_after_s)


class MessageLimiter:
    """Incoming messages of one connection within any second."""

    def __init__(self, messages_per_second: int) -> None:
        self._limit = messages_per_second
        self._times_ns: deque[int] = deque(maxlen=max(1, messages_per_second))

    def admit(self, now_ns: int) -> bool:
        """Count one message; ``False`` when it is one too many."""
        times = self._times_ns
        full = self._limit > 0 and len(times) == self._limit
        too_many = full and now_ns - times[0] < NANOSECONDS_PER_SECOND
        times.append(now_ns)
        return not too_many
