"""Metrics: what the process did, how fast, and at what cost.

Nothing here is on the hot road but ``Histogram.record``. Counters are read where they already are: in the
memory of the books, and through the callables that services register.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from mmap import PAGESIZE as _PAGE_BYTES
from pathlib import Path
from typing import Any

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.enums import BookState
from bookrunner.core.histogram import Histogram
from bookrunner.market.live_book import LiveBook

RATE_WINDOW_SAMPLES = 10
"""Rates are over so many sampling intervals."""
SAMPLE_INTERVAL_S = 1.0
BYTES_PER_MEGABYTE = 1_000_000

RECEIVE_TO_PARSED = "receive_to_parsed"
PARSED_TO_BOOK = "parsed_to_book"
RECEIVE_TO_BOOK = "receive_to_book"
BOOK_TO_SENT = "book_to_sent"
HOPS = (RECEIVE_TO_PARSED, PARSED_TO_BOOK, RECEIVE_TO_BOOK, BOOK_TO_SENT)
"""The hops of a quote, each with its histogram."""

MESSAGES = "messages"
UPDATES = "updates"
TRADES = "trades"
RATES = (MESSAGES, UPDATES, TRADES)
"""Counters that are also reported per second."""
CONNECTIONS = "websocket_connections_active"

Read = Callable[[], int]

_STATM = Path("/proc/self/statm")


class Reading(msgspec.Struct, frozen=True):
    """A number that some service keeps, and where to read it."""

    name: str
    help: str
    read: Read
    labels: tuple[tuple[str, str], ...] = ()
    """Names and values; the values come from configuration, never from the wire, so that they are bounded."""


class ProcessUsage(msgspec.Struct, frozen=True):
    """What the process costs now."""

    rss_bytes: int
    virtual_bytes: int
    cpu_seconds: float
    """User and system time since the process started."""


class MetricsCollector:
    """Gathers the numbers of one process.

    Args:
        books: all books, live or not.
        clock: time.
        usage: reads memory and processor time; ``None``: this process, from the kernel.
    """

    def __init__(
        self, books: Iterable[LiveBook], clock: Clock, usage: Callable[[], ProcessUsage] | None = None
    ) -> None:
        self._books = books
        self._clock = clock
        self._usage = usage or _own_usage
        self._started_ns = clock.monotonic_ns()
        self.latency = {hop: Histogram() for hop in HOPS}
        """Per hop; hand ``latency[hop].record`` to whoever times it, in ns."""
        self.counters: list[Reading] = []
        self.gauges: list[Reading] = []
        self._samples: deque[_Sample] = deque(maxlen=RATE_WINDOW_SAMPLES + 1)
        self.sample()

    # --- what is read -----------------------------------------------------------------------------------

    def add_counter(self, name: str, read: Read, help_text: str, **labels: str) -> None:
        """Report a number that only grows; counters of one name and other labels add up in ``totals``."""
        self.counters.append(Reading(name, help_text, read, tuple(sorted(labels.items()))))

    def add_gauge(self, name: str, read: Read, help_text: str, **labels: str) -> None:
        """Report a number that comes and goes, such as ``websocket_connections_active``."""
        self.gauges.append(Reading(name, help_text, read, tuple(sorted(labels.items()))))

    @property
    def books(self) -> Iterator[LiveBook]:
        """The books reported on."""
        return iter(self._books)

    def usage(self) -> ProcessUsage:
        """Return memory and processor time, as of now."""
        return self._usage()

    # --- reports ----------------------------------------------------------------------------------------

    def sample(self) -> None:
        """Note the totals; called once a ``SAMPLE_INTERVAL_S``, so that rates can be told."""
        self._samples.append(
            _Sample(
                self._clock.monotonic_ns(),
                self.totals(),
                self._usage().cpu_seconds,
                {hop: histogram.copy() for hop, histogram in self.latency.items()},
            )
        )

    def totals(self) -> dict[str, int]:
        """Return counts since the start, over all books and services."""
        totals = dict.fromkeys((MESSAGES, UPDATES, TRADES, "gaps", "resyncs", "malformed", "crossed"), 0)
        for live in self._books:
            totals[MESSAGES] += live.messages
            totals[UPDATES] += live.updates
            totals["gaps"] += live.gaps
            totals["resyncs"] += live.resyncs
            totals["malformed"] += live.malformed
            totals["crossed"] += live.crossed
        for reading in self.counters:
            totals[reading.name] = totals.get(reading.name, 0) + reading.read()
        return totals

    def rates(self) -> dict[str, float]:
        """Return ``messages_per_s``, ``updates_per_s`` and ``trades_per_s`` over the last samples."""
        first, last = self._samples[0], self._samples[-1]
        seconds = (last.ts_ns - first.ts_ns) / NANOSECONDS_PER_SECOND
        return {
            f"{name}_per_s": round((last.totals[name] - first.totals[name]) / seconds, 1) if seconds else 0.0
            for name in RATES
        }

    def latency_us(self) -> dict[str, dict[str, float | int]]:
        """Return per hop count, min, avg, max and percentiles since the start, in microseconds."""
        return {hop: histogram.summary_us() for hop, histogram in self.latency.items()}

    def recent_latency_us(self) -> dict[str, dict[str, float | int]]:
        """Likewise, since the oldest sample (``RATE_WINDOW_SAMPLES`` intervals ago)."""
        before = self._samples[0].latency
        return {hop: histogram.since(before[hop]).summary_us() for hop, histogram in self.latency.items()}

    def process(self) -> dict[str, float]:
        """Return ``rss_mb``, ``virtual_mb`` and ``cpu_percent`` (100 is one core, over the last samples)."""
        usage = self._usage()
        first, last = self._samples[0], self._samples[-1]
        seconds = (last.ts_ns - first.ts_ns) / NANOSECONDS_PER_SECOND
        busy = last.cpu_seconds - first.cpu_seconds
        return {
            "rss_mb": round(usage.rss_bytes / BYTES_PER_MEGABYTE, 1),
            "virtual_mb": round(usage.virtual_bytes / BYTES_PER_MEGABYTE, 1),
            "cpu_percent": round(100 * busy / seconds, 1) if seconds else 0.0,
        }

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON-ready values: the ``metrics`` message of the fan-out."""
        return {
            "uptime_s": round((self._clock.monotonic_ns() - self._started_ns) / NANOSECONDS_PER_SECOND, 3),
            "rates": self.rates(),
            "totals": self.totals(),
            "latency_us": self.recent_latency_us(),
            "process": self.process(),
            "connections": sum(gauge.read() for gauge in self.gauges if gauge.name == CONNECTIONS),
            "books": [book_metrics(live) for live in self._books],
        }


class _Sample(msgspec.Struct, frozen=True):
    ts_ns: int
    totals: dict[str, int]
    cpu_seconds: float
    latency: dict[str, Histogram]


class MetricsService:
    """Samples on a timer and hands each snapshot on.

    Args:
        collector: what is sampled.
        publish: given a snapshot after each sample; must return at once.
        interval_s: time between samples.
    """

    name = "metrics"

    def __init__(
        self,
        collector: MetricsCollector,
        publish: Callable[[dict[str, Any]], None] | None = None,
        interval_s: float = SAMPLE_INTERVAL_S,
    ) -> None:
        self._collector = collector
        self._publish = publish
        self._interval_s = interval_s
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Take the first sample."""
        self._collector.sample()

    async def run(self) -> None:
        """Sample until stopped."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._stopping.wait()
            except TimeoutError:
                self._collector.sample()
                if self._publish is not None:
                    self._publish(self._collector.snapshot())

    async def stop(self) -> None:
        """Stop sampling."""
        self._stopping.set()


def book_metrics(live: LiveBook) -> dict[str, Any]:
    """Return one book's counts and spread, JSON-ready."""
    return {
        "venue": live.venue,
        "symbol": live.symbol,
        "state": live.state.value,
        "messages": live.messages,
        "updates": live.updates,
        "gaps": live.gaps,
        "resyncs": live.resyncs,
        "last_update_id": live.last_update_id,
        "spread_bps": spread_bps(live),
    }


def spread_bps(live: LiveBook) -> float | None:
    """Return the spread over the mid in basis points; ``None`` when not live or a side is empty."""
    spread = live.book.spread_bps if live.state is BookState.LIVE else None
    return None if spread is None else round(spread, 4)


def _own_usage() -> ProcessUsage:
    times = os.times()
    try:
        pages = _STATM.read_bytes().split()
    except OSError:  # not Linux
        import psutil

        memory = psutil.Process().memory_info()
        return ProcessUsage(memory.rss, memory.vms, times.user + times.system)
    return ProcessUsage(int(pages[1]) * _PAGE_BYTES, int(pages[0]) * _PAGE_BYTES, times.user + times.system)
