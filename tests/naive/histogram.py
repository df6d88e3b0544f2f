"""The plain twin of ``core.histogram``: keeps every value and sorts."""

from __future__ import annotations

from math import ceil


class NaiveHistogram:
    def __init__(self) -> None:
        self.values: list[int] = []

    def record(self, value_ns: int) -> None:
        self.values.append(min(max(value_ns, 0), 2**37 - 1))

    def percentile(self, fraction: float) -> int:
        if not self.values:
            return 0
        ordered = sorted(self.values)
        return ordered[max(1, ceil(fraction * len(ordered))) - 1]
