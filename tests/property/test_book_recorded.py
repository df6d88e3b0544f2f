"""Recorded updates through the compiled road, compared with the naive book all along the way."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bookrunner.kernels import layout
from bookrunner.kernels.binance import depth_frame
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid
from naive.book import Changes, NaiveBook

SAMPLES = Path(__file__).parents[2] / "src" / "bookrunner" / "venues" / "simulated" / "sample"
COMPARED_EVERY = 50


def lines(symbol: str) -> Iterator[bytes]:
    """The frames of a packaged recording, without their receive times."""
    with gzip.open(SAMPLES / f"usdm_{symbol}_20240808.ndlog.gz") as file:
        for line in file:
            yield line.split(b" ", 1)[1].rstrip()


def levels(pairs: list[list[str]], grid: Grid) -> Changes:
    return [(grid.ticks(price), grid.lots(quantity)) for price, quantity in pairs]


@pytest.mark.parametrize(("symbol", "tick"), [("BTCUSDT", "0.1"), ("ETHUSDT", "0.01")])
def test_recorded_updates(symbol: str, tick: str) -> None:
    grid = Grid.of(tick, "0.001")
    book = OrderBook(symbol, layout.RULE_BINANCE_FUTURES, grid)
    naive = NaiveBook()
    stream = f'{{"stream":"{symbol.lower()}@depth'.encode()
    recorded = list(lines(symbol))
    snapshot = json.loads(next(line for line in recorded if line.startswith(b'{"lastUpdateId"')))
    bids, asks = levels(snapshot["bids"], grid), levels(snapshot["asks"], grid)
    (bid_ticks, bid_lots), (ask_ticks, ask_lots) = zip(*bids, strict=True), zip(*asks, strict=True)
    book.load_snapshot(snapshot["lastUpdateId"], bid_ticks, bid_lots, ask_ticks, ask_lots)
    naive.snapshot(bids, asks)
    updates = 0
    for line in filter(lambda line: line.startswith(stream), recorded):
        verdict = depth_frame(line, book.words)
        assert verdict in (layout.APPLIED, layout.OLD)
        if verdict == layout.APPLIED:
            data = json.loads(line)["data"]
            naive.apply(levels(data["b"], grid), levels(data["a"], grid))
            updates += 1
            assert (book.best_bid(), book.best_ask()) == (naive.best_bid(), naive.best_ask())
            if updates % COMPARED_EVERY == 0:
                assert_equal(book, naive)
    assert updates > 500
    assert book.view[layout.COUNT_FALLBACK] == 0
    assert_equal(book, naive)


def assert_equal(book: OrderBook, naive: NaiveBook) -> None:
    bid_ticks, bid_lots, ask_ticks, ask_lots = (array.tolist() for array in book.levels())
    assert list(zip(bid_ticks, bid_lots, strict=True)) == naive.sorted_bids()
    assert list(zip(ask_ticks, ask_lots, strict=True)) == naive.sorted_asks()
