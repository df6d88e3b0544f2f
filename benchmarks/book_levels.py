"""S2, book alone: levels a second from arrays, best read after each message, against other order books.

    python benchmarks/book_levels.py [--rounds 7] [--json]

Peers are measured where they are installed; ``python benchmarks/peers.py`` makes an environment with them and
runs this script there. ``order_book`` is a C extension that Python feeds level by level; hftbacktest's depths
are fed by its own replay, compiled, local side only. First all books are held to a plain rebuild.
Bars: 20 times ``order_book``, 5 times hftbacktest's ROI depth.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from depth_stream import (
    MIDDLE_TICKS,
    Levels,
    Stream,
    alternate,
    final_book,
    level_batch,
    recorded,
    synthetic,
    timed,
)
from run_all import conditions
from sortedcontainers import SortedDict
from wire_to_book import book_before

from bookrunner.kernels.book import apply_batch

ORDER_BOOK_BAR = 20
ROI_BAR = 5
SLOW_SHARE = 5
"""Peers that Python feeds get every fifth part of the stream, to keep the run short."""
TICK, LOT = 0.1, 0.001

Contestant = Callable[[Stream], float]
"""Feeds a whole stream to a fresh book and returns the seconds that took."""


def ours(stream: Stream) -> float:
    book, batch = book_before(stream), level_batch(stream)
    seconds = timed(lambda: apply_batch(book.words, batch.ends, batch.bids, batch.ticks, batch.lots))
    bid_ticks, bid_lots, ask_ticks, ask_lots = (array.tolist() for array in book.levels())
    found = list(zip(bid_ticks, bid_lots, strict=True)), list(zip(ask_ticks, ask_lots, strict=True))
    assert found == final_book(stream)
    return seconds


def _messages(stream: Stream) -> list[tuple[Levels, Levels]]:
    batch = level_batch(stream)
    levels = list(zip(batch.ticks.tolist(), batch.lots.tolist(), strict=True))
    messages, start = [], 0
    for end, bids in zip(batch.ends.tolist(), batch.bids.tolist(), strict=True):
        messages.append((levels[start : start + bids], levels[start + bids : end]))
        start = end
    return messages


def by_order_book(stream: Stream) -> float:
    """The C extension, with integer keys: cheaper for it than Decimal."""
    book = importlib.import_module("order_book").OrderBook()
    bids, asks = book.bids, book.asks
    for side, levels in ((bids, stream.bids), (asks, stream.asks)):
        for tick, lots in levels:
            side[tick] = lots
    messages = _messages(stream)

    def run() -> None:
        for changes in messages:
            for side, levels in zip((bids, asks), changes, strict=True):
                for tick, lots in levels:
                    if lots:
                        side[tick] = lots
                    elif tick in side:
                        del side[tick]

    seconds = timed(run)
    assert (list(bids.to_dict().items()), list(asks.to_dict().items())) == final_book(stream)
    return seconds


def by_sorted_dict(stream: Stream) -> float:
    """What many connectors are built on."""
    bids = SortedDict(stream.bids)
    asks = SortedDict(stream.asks)
    messages = _messages(stream)

    def run() -> None:
        for changes in messages:
            for side, levels in zip((bids, asks), changes, strict=True):
                for tick, lots in levels:
                    if lots:
                        side[tick] = lots
                    else:
                        side.pop(tick, None)

    seconds = timed(run)
    assert (list(reversed(bids.items())), list(asks.items())) == final_book(stream)
    return seconds


def _events(stream: Stream, package: Any) -> tuple[Any, int]:
    """The snapshot and the stream as hftbacktest's events; and how many of them are the snapshot's."""
    batch = level_batch(stream)
    first = [(*level, package.BUY_EVENT) for level in stream.bids]
    first += [(*level, package.SELL_EVENT) for level in stream.asks]
    events = np.zeros(len(first) + len(batch.ticks), package.event_dtype)
    sides = np.full(len(batch.ticks), package.SELL_EVENT, np.uint64)
    start = 0
    for end, bids in zip(batch.ends.tolist(), batch.bids.tolist(), strict=True):
        sides[start : start + bids] = package.BUY_EVENT
        start = end
    count = len(first)
    flags = np.uint64(package.DEPTH_EVENT | package.LOCAL_EVENT)
    events["ev"][:count] = np.array([side for _, _, side in first], np.uint64) | flags
    events["ev"][count:] = sides | flags
    events["px"][:count] = np.array([tick for tick, _, _ in first]) * TICK
    events["px"][count:] = batch.ticks * TICK
    events["qty"][:count] = np.array([lots for _, lots, _ in first]) * LOT
    events["qty"][count:] = batch.lots * LOT
    stamps = np.arange(1, len(events) + 1)
    stamps[count:] += 1_000_000
    events["local_ts"] = events["exch_ts"] = stamps
    return events, count


def _by_hftbacktest(stream: Stream, *, roi: bool) -> float:
    """Replay of the events in the backtester, one ``elapse`` over all of them."""
    package = importlib.import_module("hftbacktest")
    events, count = _events(stream, package)
    asset = (
        package.BacktestAsset()
        .data(events)
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(TICK)
        .lot_size(LOT)
    )
    if roi:
        middle = MIDDLE_TICKS * TICK
        asset = asset.roi_lb(middle * 0.5).roi_ub(middle * 1.5)
    build = package.ROIVectorMarketDepthBacktest if roi else package.HashMapMarketDepthBacktest
    replay = build([asset])
    replay.elapse(count + 10)
    seconds = timed(lambda: replay.elapse(2 * len(events) + 2_000_000))
    depth = replay.depth(0)
    bids, asks = final_book(stream)
    assert (depth.best_bid_tick, depth.best_ask_tick) == (bids[0][0], asks[0][0])
    for tick, lots in bids[:50]:
        assert round(depth.bid_qty_at_tick(tick) / LOT) == lots
    replay.close()
    return seconds


def by_roi_depth(stream: Stream) -> float:
    return _by_hftbacktest(stream, roi=True)


def by_hash_depth(stream: Stream) -> float:
    return _by_hftbacktest(stream, roi=False)


def contestants() -> dict[str, Contestant]:
    """Those that are installed here."""
    found: dict[str, Contestant] = {"ours": ours, "sorted_dict": by_sorted_dict}
    if importlib.util.find_spec("order_book"):
        found["order_book"] = by_order_book
    if importlib.util.find_spec("hftbacktest"):
        found["hftbacktest_roi"] = by_roi_depth
        found["hftbacktest_hash"] = by_hash_depth
    return found


def measure(stream: Stream, rounds: int) -> dict[str, Any]:
    ours(stream)  # compiles
    seconds = alternate({name: partial(run, stream) for name, run in contestants().items()}, rounds)
    levels = len(level_batch(stream).ticks)
    rates = {f"{name}_levels_per_s": round(levels / median(taken)) for name, taken in seconds.items()}
    times = {
        f"times_{name}": round(median(a / b for a, b in zip(taken, seconds["ours"], strict=True)), 1)
        for name, taken in seconds.items()
        if name != "ours"
    }
    return {**stream.describe(), **rates, **times}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        stream.name: measure(stream, options.rounds) for stream in (recorded(), synthetic())
    }
    parts = list(figures.values())
    bars = {"times_order_book": ORDER_BOOK_BAR, "times_hftbacktest_roi": ROI_BAR}
    figures["bars"] = bars
    figures["passed"] = all(part.get(name, bar) >= bar for part in parts for name, bar in bars.items())
    if options.json:
        print(json.dumps(figures))
        return
    print(json.dumps(conditions(), indent=2))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
