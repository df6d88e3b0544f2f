"""A venue's request weight as a token bucket, in exact integers."""

from __future__ import annotations

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.engine.ports.transport import RateLimit

HEAD_ROOM_PERCENT = 10
"""Share of the venue's limit that is left to others behind the same address and to the network's bunching."""
BURST_PERCENT = 50
"""Share of what we use that may go at once. The rest trickles in over the window.

A bucket holds ``burst`` and gains ``rest`` per window, so no window, wherever it begins, sees more than both
together: a bucket as large as the limit would let twice the limit through.
"""


class TokenBucket:
    """Never more than ``usable`` weight in any window of the venue's length.

    Args:
        limit: what the venue allows.
        now_ns: monotonic time; every other method takes it too, and it must not run backwards.
    """

    def __init__(self, limit: RateLimit, now_ns: int, *, head_room_percent: int = HEAD_ROOM_PERCENT) -> None:
        self.usable = max(2, limit.weight * (100 - head_room_percent) // 100)
        self.burst = max(1, self.usable * BURST_PERCENT // 100)
        """The heaviest single request that can ever be granted."""
        self._refill = self.usable - self.burst
        # One unit of weight is ``window_ns`` credits, so that a nanosecond earns ``_refill`` exactly.
        self._window_ns = limit.window_s * NANOSECONDS_PER_SECOND
        self._full = self.burst * self._window_ns
        self._credits = self._full
        self._now_ns = now_ns

    def _refresh(self, now_ns: int) -> None:
        elapsed_ns = max(0, now_ns - self._now_ns)
        self._now_ns = max(now_ns, self._now_ns)
        self._credits = min(self._full, self._credits + elapsed_ns * self._refill)

    def available(self, now_ns: int) -> int:
        """Return the whole units of weight that could be taken now; below 0 while we have overdrawn."""
        self._refresh(now_ns)
        return self._credits // self._window_ns

    def wait_ns(self, weight: int, now_ns: int) -> int:
        """Return how long until ``weight`` can be taken; 0 when it can be now.

        A weight above ``burst`` waits for the full bucket.
        """
        self._refresh(now_ns)
        missing = min(weight, self.burst) * self._window_ns - self._credits
        return max(0, -(-missing // self._refill))

    def take(self, weight: int, now_ns: int) -> None:
        """Spend ``weight``; one above ``burst`` leaves a debt that later requests wait for."""
        self._refresh(now_ns)
        self._credits -= weight * self._window_ns

    def observe_remaining(self, remaining: int, now_ns: int) -> None:
        """Believe the venue where it counts more than we did: at most ``remaining`` is left."""
        self._refresh(now_ns)
        self._credits = min(self._credits, remaining * self._window_ns)
