"""Whether the peer still answers: pings by the venue's rule, and a deadline for each pong.

This watches the socket only. A peer that answers pings and sends no data is found by ``silence``.
"""

from __future__ import annotations

from enum import Enum

from bookrunner.core.clock import NANOSECONDS_PER_SECOND

NEVER_NS = (1 << 63) - 1
"""A time that does not come."""


class PingStep(Enum):
    """What to do now."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class Liveness:
    """Ping every ``ping_interval_s``, and expect a pong within ``pong_timeout_s``.

    Args:
        ping_interval_s: seconds between pings; 0 or less means that we send none.
        pong_timeout_s: seconds a pong may take.
        now_ns: monotonic time at which the connection was made.
    """

    def __init__(self, ping_interval_s: float, pong_timeout_s: float, now_ns: int) -> None:
        self._interval_ns = span_ns(ping_interval_s) if ping_interval_s > 0 else NEVER_NS
        self._timeout_ns = span_ns(pong_timeout_s)
        self._next_ping_ns = after_ns(now_ns, self._interval_ns)
        self._pong_due_ns = NEVER_NS

    @property
    def awaiting_pong(self) -> bool:
        """Whether a ping is unanswered."""
        return self._pong_due_ns != NEVER_NS

    @property
    def due_ns(self) -> int:
        """When ``step`` should be asked again."""
        return min(self._next_ping_ns, self._pong_due_ns)

    def step(self, now_ns: int) -> PingStep:
        """Return what is due; after ``PING`` the caller sends one, and the pong's time begins to run."""
        if now_ns >= self._pong_due_ns:
            return PingStep.DEAD
        if now_ns < self._next_ping_ns:
            return PingStep.WAIT
        self._next_ping_ns = after_ns(now_ns, self._interval_ns)
        # An older ping that is still unanswered keeps its deadline.
        self._pong_due_ns = min(self._pong_due_ns, after_ns(now_ns, self._timeout_ns))
        return PingStep.PING

    def pong(self) -> None:
        """The peer answered."""
        self._pong_due_ns = NEVER_NS


def span_ns(seconds: float) -> int:
    """Return seconds as nanoseconds; what is too long to count is never."""
    return int(min(seconds * NANOSECONDS_PER_SECOND, NEVER_NS))


def after_ns(now_ns: int, span: int) -> int:
    """Return ``now_ns + span``, or never."""
    return min(now_ns + span, NEVER_NS)
