"""Limits checked the plain way: count everything in every window."""

from __future__ import annotations


def heaviest_window(events: list[tuple[int, int]], window_ns: int) -> int:
    """Return the most weight in any half-open window, of events ``(time_ns, weight)`` in time order."""
    return max(
        (
            sum(weight for time_ns, weight in events if begin_ns <= time_ns < begin_ns + window_ns)
            for begin_ns, _ in events
        ),
        default=0,
    )


class NaivePacer:
    """Keeps every time it ever sent."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit = limit
        self.window_ns = window_ns
        self.sent_ns: list[int] = []

    def may_send(self, now_ns: int) -> bool:
        return sum(time_ns > now_ns - self.window_ns for time_ns in self.sent_ns) < self.limit
