from hypothesis import given
from hypothesis import strategies as st

from bookrunner.core.histogram import BUCKETS, VALUE_MAX, Histogram, bucket_low
from naive.histogram import NaiveHistogram

RELATIVE_ERROR = 1 / 128
values = st.one_of(
    st.integers(0, 300), st.integers(-5, VALUE_MAX), st.integers(VALUE_MAX - 2, 2**62), st.integers(0, 10**7)
)
fractions = st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 0.999, 1.0])


def filled(numbers: list[int]) -> tuple[Histogram, NaiveHistogram]:
    histogram, naive = Histogram(), NaiveHistogram()
    for number in numbers:
        histogram.record(number)
        naive.record(number)
    return histogram, naive


@given(st.lists(values, min_size=1, max_size=200), fractions)
def test_percentiles_are_within_half_a_bucket_of_the_sorted_values(
    numbers: list[int], fraction: float
) -> None:
    histogram, naive = filled(numbers)
    exact = naive.percentile(fraction)
    assert abs(histogram.percentile(fraction) - exact) <= exact * RELATIVE_ERROR


@given(st.lists(values, max_size=200))
def test_count_sum_and_extremes_are_exact(numbers: list[int]) -> None:
    histogram, naive = filled(numbers)
    assert histogram.count == len(naive.values)
    assert histogram.total == sum(naive.values)
    if naive.values:
        assert (histogram.low, histogram.high) == (min(naive.values), max(naive.values))


@given(st.lists(values, max_size=100), st.lists(values, max_size=100))
def test_merging_equals_recording_everything_in_one(left: list[int], right: list[int]) -> None:
    merged, _ = filled(left)
    other, _ = filled(right)
    merged.merge(other)
    whole, _ = filled(left + right)
    assert merged.counts == whole.counts
    assert merged.summary_us() == whole.summary_us()


@given(st.lists(values, max_size=100), st.lists(values, max_size=100))
def test_a_window_holds_what_came_after_the_copy(before: list[int], after: list[int]) -> None:
    histogram, _ = filled(before)
    earlier = histogram.copy()
    for number in after:
        histogram.record(number)
    window = histogram.since(earlier)
    alone, naive = filled(after)
    assert window.counts == alone.counts
    assert window.total == alone.total
    for exact, known in (
        (min(naive.values, default=None), window.low),
        (max(naive.values, default=None), window.high),
    ):
        if exact is not None:
            assert abs(known - exact) <= 2 * exact * RELATIVE_ERROR


@given(st.integers(0, BUCKETS - 1))
def test_buckets_tile_the_line(index: int) -> None:
    low, after = bucket_low(index), bucket_low(index + 1)
    assert low < after
    for edge in (low, after - 1):
        histogram = Histogram()
        histogram.record(edge)
        assert histogram.counts[index] == 1


def test_an_empty_histogram_reports_zeros() -> None:
    assert set(Histogram().summary_us().values()) == {0}


def test_the_summary_is_in_microseconds() -> None:
    histogram = Histogram()
    for value_ns in (100, 200, 300_000):
        histogram.record(value_ns)
    summary = histogram.summary_us()
    assert summary["count"] == 3
    assert (summary["min"], summary["max"]) == (0.1, 300.0)
    assert summary["avg"] == 100.1
    assert abs(summary["p50"] - 0.2) < 0.002
