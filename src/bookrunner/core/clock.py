"""Time: int64 nanoseconds, handed in.

This is the only module that reads the machine's clocks; everything else is given a ``Clock``.
"""

from __future__ import annotations

import time
from typing import Protocol

NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MILLISECOND = 1_000_000
NANOSECONDS_PER_MICROSECOND = 1_000


class Clock(Protocol):
    """Two readings: when it is, and how long something took."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never run backwards; only differences have meaning."""
        ...


class SystemClock:
    """The machine's clocks."""

    wall_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


class ManualClock:
    """A clock that moves only when told to: for tests, replay and simulation."""

    def __init__(self, start_ns: int = 1_700_000_000 * NANOSECONDS_PER_SECOND) -> None:
        self._now_ns = start_ns

    def wall_ns(self) -> int:
        """Return the time that was last set."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Return the same reading; a manual clock has one hand."""
        return self._now_ns

    def advance(self, nanoseconds: int) -> None:
        """Move forward by ``nanoseconds`` (>= 0)."""
        if nanoseconds < 0:
            message = "a manual clock does not run backwards"
            raise ValueError(message)
        self._now_ns += nanoseconds
