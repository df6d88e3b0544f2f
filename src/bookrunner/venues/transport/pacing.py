"""Outgoing messages at the rate a venue allows."""

from __future__ import annotations

from collections import deque

PACING_WINDOW_NS = 1_100_000_000
"""The venue counts per second on its side; a tenth more keeps us inside when the network bunches messages."""
RESERVED_FOR_PONGS = 1
"""Pongs count against the limit as well and cannot wait, so one message a second is kept for them."""


class Pacer:
    """A sliding window: never more than the limit in any window, wherever the window begins.

    Args:
        messages_per_second: what the venue allows, of all messages together (>= 1).
    """

    def __init__(self, messages_per_second: int) -> None:
        self._sent_ns: deque[int] = deque(maxlen=max(1, messages_per_second - RESERVED_FOR_PONGS))

    def wait_ns(self, now_ns: int) -> int:
        """Return how long to wait before the next message may go; 0 when it may go now."""
        if len(self._sent_ns) < (self._sent_ns.maxlen or 0):
            return 0
        return max(0, self._sent_ns[0] + PACING_WINDOW_NS - now_ns)

    def sent(self, now_ns: int) -> None:
        """Record that a message went out now."""
        self._sent_ns.append(now_ns)
