"""Planned ages of connections: each ends before the venue cuts it, and no two end together.

Venues drop every connection at a fixed age. Connections that were opened together would all be cut together
and then fight for the connection and snapshot limits, so each is given its own, shorter age.
"""

from __future__ import annotations

import random

EARLIEST_SHARE = 0.75
"""No connection is ended before this share of the venue's lifetime."""
LATEST_SHARE = 0.97
"""Every connection is ended before this share."""
_GOLDEN_RATIO = 0.6180339887498949


class StaggeredLifetimes:
    """Hands out ages for the connections of one process.

    Successive ages step through the window by the golden ratio: among any ``n`` successive ones no two are
    closer than ``0.38 / n`` of the window. The first is random, so that two processes differ too.
    """

    def __init__(self, generator: random.Random) -> None:
        self._position = generator.random()

    def next_age_s(self, lifetime_s: float) -> float:
        """Return the age at which to end the next connection, for a venue that cuts at ``lifetime_s``.

        An infinite lifetime stays infinite.
        """
        self._position = (self._position + _GOLDEN_RATIO) % 1.0
        return lifetime_s * (EARLIEST_SHARE + (LATEST_SHARE - EARLIEST_SHARE) * self._position)
