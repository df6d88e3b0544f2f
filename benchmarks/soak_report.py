"""What the soak has seen, and the bounds that it must hold."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from soak_clients import KEEPS_UP, Tally

RSS_MB_MAX = 300.0
GROWTH_KB_PER_MINUTE_MAX = 500.0
"""Of resident memory, first quarter to last, by their medians."""
FILES_GROWTH_MAX = 8
THREADS_GROWTH_MAX = 2
WARM_UP_S = 180.0
"""Left out of the quarters: until every thread has done its largest piece of work, and its heap that size."""


class Sample(NamedTuple):
    """One process at one moment."""

    at_s: float
    rss_kb: float
    cpu_s: float
    files: int
    threads: int
    messages: int
    """Depth frames and trades taken in so far."""


def write_samples(path: Path, taken: dict[str, list[Sample]]) -> None:
    """Write all samples as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["process", *Sample._fields])
        writer.writerows([name, *sample] for name, samples in taken.items() for sample in samples)


def quarters(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return the first and the last quarter of what came after the warm-up."""
    span_s = samples[-1].at_s
    settled = [sample for sample in samples if sample.at_s >= min(WARM_UP_S, span_s / 4)]
    size = max(len(settled) // 4, 2)
    return settled[:size], settled[-size:]


def slope_kb_per_minute(samples: list[Sample]) -> float:
    line = statistics.linear_regression([s.at_s / 60 for s in samples], [s.rss_kb for s in samples])
    return float(line.slope)


def process_report(name: str, samples: list[Sample]) -> Iterator[str]:
    """Print what a process used, and yield the bounds that it broke."""
    first, last = quarters(samples)
    middles = [statistics.median(sample.rss_kb for sample in quarter) for quarter in (first, last)]
    minutes = (statistics.median(s.at_s for s in last) - statistics.median(s.at_s for s in first)) / 60
    millions = (last[-1].messages - first[0].messages) / 1e6
    growth_kb = middles[1] - middles[0]
    peak_mb = max(sample.rss_kb for sample in samples) / 1_000
    cpu = 100 * (last[-1].cpu_s - first[0].cpu_s) / (last[-1].at_s - first[0].at_s)
    print(f"{name}: rss {middles[0] / 1e3:.1f} MB -> {middles[1] / 1e3:.1f} MB, peak {peak_mb:.1f} MB")
    print(
        f"  slope {slope_kb_per_minute(first):+.0f} kB/min in the first quarter, "
        f"{slope_kb_per_minute(last):+.0f} in the last; "
        f"between their medians {growth_kb / minutes:+.0f} kB/min"
        + (f", {growth_kb / millions:+.0f} kB per million messages" if millions else "")
    )
    print(
        f"  processor {cpu:.0f} %, files {first[0].files} -> {last[-1].files}, "
        f"threads {first[0].threads} -> {last[-1].threads}, {millions:.2f} million messages"
    )
    if peak_mb > RSS_MB_MAX:
        yield f"{name}: {peak_mb:.1f} MB resident, over {RSS_MB_MAX:.0f}"
    if growth_kb / minutes > GROWTH_KB_PER_MINUTE_MAX:
        yield f"{name}: grew by {growth_kb / minutes:.0f} kB/min, over {GROWTH_KB_PER_MINUTE_MAX:.0f}"
    for what, most in (("files", FILES_GROWTH_MAX), ("threads", THREADS_GROWTH_MAX)):
        lows = [min(getattr(sample, what) for sample in quarter) for quarter in (first, last)]
        if lows[1] - lows[0] > most:
            yield f"{name}: {what} went from {lows[0]} to {lows[1]}"


def books_report(summary: dict[str, Any], *, faulty: bool) -> Iterator[str]:
    """Print every book at the end, and yield what is wrong with one."""
    for book in summary["books"]:
        print("  {venue:14}{symbol:10}{state:9}".format(**book), end="")
        print("messages {messages:>10,}  gaps {gaps:>4}  resyncs {resyncs:>4}".format(**book), end="")
        print("  {best_bid} / {best_ask}".format(**book))
        if book["state"] != "live":
            yield f"{book['venue']}:{book['symbol']} ended {book['state']}"
        if book["gaps"] and not faulty:
            yield f"{book['venue']}:{book['symbol']} had {book['gaps']} gaps without a fault"
    print(f"journal {summary['journal']}, recorded {summary['recorded']}, latency {summary['latency_us']}")


def clients_report(tallies: dict[str, Tally]) -> Iterator[str]:
    """Print what the clients saw, and yield what they may not have seen."""
    for name, tally in tallies.items():
        shown = ", ".join(f"{what} {count:,}" for what, count in sorted(tally.counts.items()))
        print(f"who {name}: {shown}")
        for what in ("unannounced_jumps", "books_not_live"):
            if tally.counts[what]:
                yield f"who {name}: {tally.counts[what]} {what}"
    if lags := tallies[KEEPS_UP].counts["lagged"]:
        yield f"{lags} lags of clients that keep up"
