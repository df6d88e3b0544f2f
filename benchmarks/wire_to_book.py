"""S1, wire to book: one Python call a raw USD-M depth frame, against ``orjson.loads`` alone on the same.

    python benchmarks/wire_to_book.py [--rounds 9] [--json]

Ours scans, validates, checks the sequence, applies and reads best bid and ask; orjson only parses. First the
book after all frames is compared with a plain rebuild. Bar: at most 0.5 of the time.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from typing import Any

import orjson
from depth_stream import Stream, alternate, final_book, ratio, recorded, synthetic, timed
from run_all import conditions

from bookrunner.kernels import layout
from bookrunner.kernels.binance import depth_frame, scan_depth
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid

BAR = 0.5


def book_before(stream: Stream) -> OrderBook:
    book = OrderBook("BTCUSDT", layout.RULE_BINANCE_FUTURES, Grid.of("0.1", "0.001"))
    bid_ticks, bid_lots = zip(*stream.bids, strict=True)
    ask_ticks, ask_lots = zip(*stream.asks, strict=True)
    book.load_snapshot(stream.last_update_id, bid_ticks, bid_lots, ask_ticks, ask_lots)
    return book


def check(stream: Stream) -> None:
    """Every frame is applied, and the book is the one that a plain rebuild ends with."""
    book = book_before(stream)
    verdicts = {depth_frame(frame, book.words) for frame in stream.frames}
    assert verdicts == {layout.APPLIED}, verdicts
    bid_ticks, bid_lots, ask_ticks, ask_lots = (array.tolist() for array in book.levels())
    ours = list(zip(bid_ticks, bid_lots, strict=True)), list(zip(ask_ticks, ask_lots, strict=True))
    assert ours == final_book(stream)


def parse_only(stream: Stream) -> float:
    frames, loads = stream.frames, orjson.loads

    def run() -> None:
        for frame in frames:
            loads(frame)

    return timed(run)


def to_book(stream: Stream) -> float:
    book = book_before(stream)
    frames, words, view = stream.frames, book.words, book.view
    best_bid, best_ask = layout.BEST_BID, layout.BEST_ASK

    def run() -> None:
        for frame in frames:
            depth_frame(frame, words)
            view[best_bid]
            view[best_ask]

    seconds = timed(run)
    assert view[layout.COUNT_APPLIED] == len(frames)
    return seconds


def scan_only(stream: Stream) -> float:
    words, frames = book_before(stream).words, stream.frames

    def run() -> None:
        for frame in frames:
            scan_depth(frame, words)

    return timed(run)


def measure(stream: Stream, rounds: int) -> dict[str, Any]:
    check(stream)
    seconds = alternate(
        {
            "orjson": lambda: parse_only(stream),
            "ours": lambda: to_book(stream),
            "scan": lambda: scan_only(stream),
        },
        rounds,
    )
    count = len(stream.frames)
    return {
        **stream.describe(),
        "orjson_ns": round(median(seconds["orjson"]) / count * 1e9),
        "to_book_ns": round(median(seconds["ours"]) / count * 1e9),
        "scan_only_ns": round(median(seconds["scan"]) / count * 1e9),
        "ratio": round(ratio(seconds, "ours", "orjson"), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        stream.name: measure(stream, options.rounds) for stream in (recorded(), synthetic())
    }
    figures["orjson"] = orjson.__version__
    figures["bar"] = BAR
    figures["passed"] = all(part["ratio"] <= BAR for part in figures.values() if isinstance(part, dict))
    if options.json:
        print(json.dumps(figures))
        return
    print(json.dumps(conditions(), indent=2))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
