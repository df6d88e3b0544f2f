"""Every depth recording, played through the connectors' own code, ends in the naive rebuild's book."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bookrunner.app.commands.books import play_books
from bookrunner.market.live_book import LiveBook
from naive.rebuild import NaiveRebuild, rebuild_binance, rebuild_bybit

DATA = Path(__file__).parents[3] / "shared" / "data"
WHOLE = 1_000_000

BINANCE = {
    "usdm_BTCUSDT": (["usdm_BTCUSDT_20240808.ndlog.gz"], "binance_usdm", True),
    "usdm_ETHUSDT": (["usdm_ETHUSDT_20240808.ndlog.gz"], "binance_usdm", True),
    "usdm_5sym": (["usdm_5sym_20210405.cfraw.gz"], "binance_usdm", True),
    "usdm_ETHUSDT_raw": (
        ["usdm_ETHUSDT_20231230_rest.json", "usdm_ETHUSDT_20231230_ws.jsonl.gz"], "binance_usdm", True,
    ),
    "spot_BTCUSDT_two_days": (
        ["spot_BTCUSDT_20240808.ndlog.gz", "spot_BTCUSDT_20240809.ndlog.gz"], "binance_spot", False,
    ),
    "spot_3sym": (["spot_BTC-ETH-DOT_20210404.cfraw.gz"], "binance_spot", False),
    "us_10sym": (["us_10sym_20210405.cfraw.gz"], "binance_us", False),
    "coinm_two_days": (
        ["coinm_BTCUSD_PERP_20240808.ndlog.gz", "coinm_BTCUSD_PERP_20240809.ndlog.gz"], "binance_coinm", True,
    ),
    "coinm_10sym": (
        ["coinm_10sym_20210417_rest.cfraw.gz", "coinm_10sym_20210417_ws.cfraw.gz"], "binance_coinm", True,
    ),
}  # fmt: skip
BYBIT = {
    "linear": ("agpl/bybit_v5_linear_20260809.jsonl.gz", "bybit_linear"),
    "spot_depth_1": ("ws/bybit/v5_spot_orderbook1_20250613.cfraw.gz", "bybit_spot"),
}


def _assert_same(live: LiveBook, naive: NaiveRebuild) -> None:
    bids, asks = naive.top(WHOLE)
    bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(len(bids) + len(asks) + 1)
    grid = live.instrument.grid
    assert [
        [Decimal(grid.price(t)), Decimal(grid.quantity(q))] for t, q in zip(bid_ticks, bid_lots, strict=True)
    ] == bids
    assert [
        [Decimal(grid.price(t)), Decimal(grid.quantity(q))] for t, q in zip(ask_ticks, ask_lots, strict=True)
    ] == asks
    assert naive.gaps == 0
    assert (live.gaps, live.malformed, live.crossed, naive.crossed) == (0, 0, 0, 0)
    assert live.messages == naive.frames
    assert live.state == "live"


@pytest.mark.parametrize("name", BINANCE)
def test_binance_recording_ends_in_the_naive_book(name: str) -> None:
    files, venue, futures = BINANCE[name]
    paths = [DATA / "ws" / "binance" / file for file in files]
    if not all(path.exists() for path in paths):
        pytest.skip("the recorded market data is not beside this checkout")
    books, reports = play_books(paths, venue)
    # The naive rebuild takes a snapshot whenever it comes; diffs before it wait.
    expected = rebuild_binance(sorted(paths, key=lambda path: "_rest" in path.name), futures=futures)
    assert {live.symbol for live in books} == set(expected)
    assert sum(report.bad_lines for report in reports) == 0
    for live in books:
        _assert_same(live, expected[live.symbol])
        assert live.updates == expected[live.symbol].updates


@pytest.mark.parametrize("name", BYBIT)
def test_bybit_recording_ends_in_the_naive_book(name: str) -> None:
    file, venue = BYBIT[name]
    path = DATA / file
    if not path.exists():
        pytest.skip("the recorded market data is not beside this checkout")
    books, _ = play_books([path], venue)
    expected = rebuild_bybit(path)
    assert {live.symbol for live in books} == set(expected)
    for live in books:
        _assert_same(live, expected[live.symbol])
