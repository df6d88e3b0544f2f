"""A latency histogram: bounded memory, cheap to record, exact to merge.

Log-linear: values below ``2 * SUB_BUCKETS`` ns have a bucket each; above, every power of two is cut into
``SUB_BUCKETS`` equal buckets, so that a bucket is at most 1/64 (1.6 %) of its values wide and a percentile,
taken from the bucket's middle, is off by less than 0.8 %.
"""

from __future__ import annotations

from array import array

SUB_BUCKET_BITS = 6
SUB_BUCKETS = 1 << SUB_BUCKET_BITS
VALUE_BITS = 37
"""Values up to 2**37 - 1 ns (137 s) have buckets; larger ones count in the last one."""
VALUE_MAX = (1 << VALUE_BITS) - 1
BUCKETS = (VALUE_BITS - SUB_BUCKET_BITS + 1) << SUB_BUCKET_BITS

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
"""The percentiles that reports name."""

_LINEAR_END = 2 * SUB_BUCKETS
_SHIFT_BASE = SUB_BUCKET_BITS + 1


class Histogram:
    """Counts of non-negative int64 values, in ns."""

    __slots__ = ("counts", "high", "low", "total")

    def __init__(self) -> None:
        self.counts = array("q", bytes(8 * BUCKETS))
        self.total = 0
        self.low = VALUE_MAX
        self.high = 0

    def record(self, value_ns: int) -> None:
        """Count one value; negative ones (a clock stepped back) count as 0."""
        # Branches, because min() and max() would double the time. What is out of range is a new extreme.
        if value_ns > self.high:
            if value_ns > VALUE_MAX:  # noqa: PLR1730
                value_ns = VALUE_MAX
            self.high = value_ns
        if value_ns < self.low:
            if value_ns < 0:  # noqa: PLR1730
                value_ns = 0
            self.low = value_ns
        if value_ns < _LINEAR_END:
            self.counts[value_ns] += 1
        else:
            shift = value_ns.bit_length() - _SHIFT_BASE
            self.counts[(shift << SUB_BUCKET_BITS) + (value_ns >> shift)] += 1
        self.total += value_ns

    def merge(self, other: Histogram) -> None:
        """Add the counts of ``other``; the result is as if all its values had been recorded here."""
        self.counts = array("q", map(int.__add__, self.counts, other.counts))
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    def copy(self) -> Histogram:
        """Return an independent histogram with the same values."""
        twin = Histogram()
        twin.counts = self.counts[:]
        twin.total, twin.low, twin.high = self.total, self.low, self.high
        return twin

    def since(self, earlier: Histogram) -> Histogram:
        """Return what was recorded after ``earlier``, a copy of this one.

        Its extremes are known to a bucket only, and never beyond those of the whole.
        """
        window = Histogram()
        window.counts = array("q", map(int.__sub__, self.counts, earlier.counts))
        window.total = self.total - earlier.total
        used = [index for index, count in enumerate(window.counts) if count]
        if used:
            window.low = max(bucket_low(used[0]), self.low)
            window.high = min(bucket_low(used[-1] + 1) - 1, self.high)
        return window

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self.counts)

    def percentiles(self, fractions: list[float]) -> list[float]:
        """Return the value below or at which each fraction (ascending, 0 to 1) of the values lies; ns.

        0 for an empty histogram.
        """
        count = self.count
        answers: list[float] = []
        seen = 0
        index = -1
        for fraction in fractions:
            rank = max(1, -int(-fraction * count // 1))
            while seen < rank and index + 1 < BUCKETS:
                index += 1
                seen += self.counts[index]
            answers.append(self._middle(index) if count else 0.0)
        return answers

    def percentile(self, fraction: float) -> float:
        """Return one percentile; see ``percentiles``."""
        return self.percentiles([fraction])[0]

    def summary_us(self) -> dict[str, float | int]:
        """Return count, min, avg, max and ``PERCENTILES``, in microseconds."""
        count = self.count
        values = self.percentiles(list(PERCENTILES.values()))
        return {
            "count": count,
            "min": self.low / 1_000 if count else 0.0,
            "avg": round(self.total / count / 1_000, 3) if count else 0.0,
            "max": self.high / 1_000,
            **{name: round(value / 1_000, 3) for name, value in zip(PERCENTILES, values, strict=True)},
        }

    def _middle(self, index: int) -> float:
        middle = (bucket_low(index) + bucket_low(index + 1) - 1) / 2
        return min(max(middle, self.low), self.high)


def bucket_low(index: int) -> int:
    """Return the smallest value of a bucket; of ``BUCKETS``, one more than the largest value."""
    if index < _LINEAR_END:
        return index
    shift = (index >> SUB_BUCKET_BITS) - 1
    return (SUB_BUCKETS + (index & (SUB_BUCKETS - 1))) << shift
