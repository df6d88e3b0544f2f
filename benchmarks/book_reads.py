"""S3, reads: what it costs Python to ask a full book for its best, its top 10, its volume.

    python benchmarks/book_reads.py [--json]

The book is the one at the end of the recorded stream. Bars: best bid or ask 150 ns; top 10 of both sides as
lists 1.5 µs.
"""

from __future__ import annotations

import argparse
import json
import timeit
from collections.abc import Callable
from typing import Any

from depth_stream import recorded
from run_all import conditions
from wire_to_book import book_before

from bookrunner.core.enums import Side
from bookrunner.kernels import layout
from bookrunner.kernels.binance import depth_frame

BEST_BAR_NS = 150
TOP_BAR_NS = 1_500
CALLS = 2_000
REPEATS = 25


def nanoseconds(call: Callable[[], object]) -> float:
    """Least time of a call over many rounds, without the loop around it."""
    empty = min(timeit.repeat(lambda: None, number=CALLS, repeat=REPEATS))
    least = min(timeit.repeat(call, number=CALLS, repeat=REPEATS))
    return round((least - empty) / CALLS * 1e9, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    stream = recorded()
    book = book_before(stream)
    for frame in stream.frames:
        depth_frame(frame, book.words)
    view, best_bid = book.view, layout.BEST_BID
    figures: dict[str, Any] = {
        "best_from_view_ns": nanoseconds(lambda: view[best_bid]),
        "best_bid_ns": nanoseconds(book.best_bid),
        "top_1_ns": nanoseconds(lambda: book.top(1)),
        "top_5_ns": nanoseconds(lambda: book.top(5)),
        "top_10_ns": nanoseconds(lambda: book.top(10)),
        "top_100_ns": nanoseconds(lambda: book.top(100)),
        "micro_price_ns": nanoseconds(lambda: book.micro_price),
        "volume_10_bps_ns": nanoseconds(lambda: book.volume_to(Side.BUY, depth_bps=10)),
    }
    figures["passed"] = figures["best_bid_ns"] <= BEST_BAR_NS and figures["top_10_ns"] <= TOP_BAR_NS
    if options.json:
        print(json.dumps(figures))
        return
    print(json.dumps(conditions(), indent=2))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
