"""How long to wait before trying again: capped exponential, with full jitter."""

from __future__ import annotations

import random

import msgspec

MAX_DOUBLINGS = 32
"""Beyond this the ceiling no longer grows, whatever the cap."""


class Backoff(msgspec.Struct, frozen=True):
    """In seconds: the ceiling starts at ``base_s``, doubles with every attempt and stops at ``cap_s``."""

    base_s: float
    cap_s: float

    def ceiling_s(self, attempt: int) -> float:
        """Return the longest wait before retry number ``attempt`` (from 1)."""
        doublings = min(max(attempt - 1, 0), MAX_DOUBLINGS)
        return min(self.cap_s, self.base_s * 2.0**doublings)

    def delay_s(self, attempt: int, generator: random.Random) -> float:
        """Draw the wait uniformly between nothing and the ceiling, so that a crowd spreads out evenly."""
        return generator.uniform(0.0, self.ceiling_s(attempt))
