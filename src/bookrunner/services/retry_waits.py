"""How long to wait before the venue is asked again."""

from __future__ import annotations

import random

from bookrunner.core.errors import BannedError, RateLimitedError

FIRST_CEILING_S = 0.5
"""Most that the first wait takes; doubles with each attempt."""
CEILING_CAP_S = 30.0
_MOST_DOUBLINGS = 16


def wait_s(attempt: int, failure: Exception | None, jitter: random.Random) -> float:
    """Return seconds to wait: exponential with full jitter, or what the venue asked for.

    Args:
        attempt: attempts made, from 1.
        failure: why the last one failed, if it did.
        jitter: draws the wait.
    """
    if isinstance(failure, RateLimitedError | BannedError):
        asked_s = failure.fields.get("retry_after_s")
        return float(asked_s) if isinstance(asked_s, int | float) else CEILING_CAP_S
    ceiling_s = FIRST_CEILING_S * 2 ** min(attempt - 1, _MOST_DOUBLINGS)
    return jitter.uniform(0, min(CEILING_CAP_S, ceiling_s))
