"""The metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.core.enums import BookState
from bookrunner.core.histogram import BUCKETS, Histogram, bucket_low
from bookrunner.services.metrics import CONNECTIONS, MetricsCollector, Reading, spread_bps

PREFIX = "bookrunner_"
BOOK_LABELS = ("venue", "symbol")
"""Bounded by the symbols subscribed to."""
BOOK_COUNTERS = {
    "messages": "Depth frames taken.",
    "updates": "Depth updates applied.",
    "gaps": "Updates found missing.",
    "resyncs": "Times the book was made anew.",
    "malformed": "Depth frames that could not be read.",
    "crossed": "Applied updates that left the book crossed.",
}
LATENCY_BOUNDS_NS = tuple(step * 10**power for power in range(3, 9) for step in (1, 2, 5))
"""Upper bounds of the exposed buckets: 1 µs to 0.5 s."""


class PrometheusText:
    """Renders one collector's numbers."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, metrics: MetricsCollector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(metrics))

    def render(self) -> bytes:
        """Return the page as of now."""
        return generate_latest(self._registry)


class _Families(Collector):
    def __init__(self, metrics: MetricsCollector) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._books()
        yield from self._readings()
        for hop, histogram in self._metrics.latency.items():
            yield _latency(hop, histogram)
        usage = self._metrics.usage()
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", value=usage.rss_bytes)
        yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory.", value=usage.virtual_bytes)
        yield CounterMetricFamily("process_cpu_seconds", "User and system time.", value=usage.cpu_seconds)

    def _books(self) -> Iterator[Metric]:
        books = list(self._metrics.books)
        for name, help_text in BOOK_COUNTERS.items():
            family = CounterMetricFamily(PREFIX + name, help_text, labels=BOOK_LABELS)
            for live in books:
                family.add_metric((live.venue, live.symbol), getattr(live, name))
            yield family
        live_family = GaugeMetricFamily(PREFIX + "book_live", "1: may be believed.", labels=BOOK_LABELS)
        spread = GaugeMetricFamily(PREFIX + "spread_bps", "Spread of a live book.", labels=BOOK_LABELS)
        for live in books:
            live_family.add_metric((live.venue, live.symbol), float(live.state is BookState.LIVE))
            if (basis_points := spread_bps(live)) is not None:
                spread.add_metric((live.venue, live.symbol), basis_points)
        yield live_family
        yield spread

    def _readings(self) -> Iterator[Metric]:
        for family_of, readings in (
            (CounterMetricFamily, self._metrics.counters),
            (GaugeMetricFamily, self._metrics.gauges),
        ):
            families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
            for reading in readings:
                family = families.get(reading.name)
                if family is None:
                    labels = [name for name, _ in reading.labels]
                    family = families[reading.name] = family_of(_name(reading), reading.help, labels=labels)
                family.add_metric([value for _, value in reading.labels], reading.read())
            yield from families.values()


def _name(reading: Reading) -> str:
    return reading.name if reading.name == CONNECTIONS else PREFIX + reading.name


def _latency(hop: str, histogram: Histogram) -> HistogramMetricFamily:
    """Cumulate the fine buckets into coarse ones; a fine bucket counts where its largest value belongs."""
    cumulative: list[tuple[str, float]] = []
    seen = index = 0
    for bound_ns in LATENCY_BOUNDS_NS:
        while index < BUCKETS and bucket_low(index + 1) - 1 <= bound_ns:
            seen += histogram.counts[index]
            index += 1
        cumulative.append((f"{bound_ns / NANOSECONDS_PER_SECOND:g}", seen))
    cumulative.append(("+Inf", histogram.count))
    family = HistogramMetricFamily(f"{PREFIX}latency_seconds", "Time spent on a hop.", labels=["hop"])
    family.add_metric([hop], cumulative, histogram.total / NANOSECONDS_PER_SECOND)
    return family
