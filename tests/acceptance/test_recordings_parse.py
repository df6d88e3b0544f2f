"""Every market-data frame of the recordings is scanned, and a sample of them decoded: both read the same.

The compiled scanners are given every depth and trade frame; the typed decoders every ``STRIDE``-th frame of a
file and all that a scanner refused, to keep this within seconds.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bookrunner.core.enums import Channel
from bookrunner.engine.ports.venue_feed import Stream, VenueFeed
from bookrunner.kernels import layout
from bookrunner.market.book import OrderBook
from bookrunner.market.trades import trades_of_rows
from bookrunner.wire.recording import RecordedKind, RecordingReport, format_of, read_messages
from conformance.cases import FEEDS, FINE_GRID, book_of, scratch_of

DATA = Path(__file__).parents[3] / "shared" / "data"
STRIDE = 7
SPACED = "ws/binance/usdm_ETHUSDT_20231230_ws.jsonl.gz"
"""Its recorder wrote JSON with spaces, as no venue does: all of it is left to the typed decoder."""

# By file: the venue, and the frames of depth, quotes, trades, bars and mark prices in it.
FILES = {
    "ws/binance/usdm_BTCUSDT_20240808.ndlog.gz": ("binance_usdm", (6551, 66089, 21313, 0, 0)),
    "ws/binance/usdm_ETHUSDT_20240808.ndlog.gz": ("binance_usdm", (6586, 53992, 14076, 0, 0)),
    "ws/binance/usdm_5sym_20210405.cfraw.gz": ("binance_usdm", (4423, 3424, 574, 0, 0)),
    SPACED: ("binance_usdm", (50, 0, 0, 0, 0)),
    "ws/binance/spot_BTCUSDT_20240808.ndlog.gz": ("binance_spot", (3451, 28040, 9757, 0, 0)),
    "ws/binance/spot_BTCUSDT_20240809.ndlog.gz": ("binance_spot", (3044, 45134, 10147, 0, 0)),
    "ws/binance/spot_BTC-ETH-DOT_20210404.cfraw.gz": ("binance_spot", (2688, 0, 1910, 118, 0)),
    "ws/binance/us_10sym_20210405.cfraw.gz": ("binance_us", (3196, 2624, 188, 0, 0)),
    "ws/binance/coinm_BTCUSD_PERP_20240808.ndlog.gz": ("binance_coinm", (26847, 19136, 2286, 0, 0)),
    "ws/binance/coinm_BTCUSD_PERP_20240809.ndlog.gz": ("binance_coinm", (17948, 29219, 2949, 0, 0)),
    "ws/binance/coinm_10sym_20210417_ws.cfraw.gz": ("binance_coinm", (2429, 7082, 131, 0, 0)),
    "ws/bybit/v5_spot_orderbook1_20250613.cfraw.gz": ("bybit_spot", (0, 139, 0, 0, 0)),
    "agpl/bybit_v5_linear_20260809.jsonl.gz": ("bybit_linear", (1598, 0, 102, 71, 758)),
}  # fmt: skip


def _frames(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as lines:
        for message in read_messages(lines, format_of(path.name), RecordingReport()):
            if message.kind is RecordedKind.FRAME:
                yield message.payload


class _Reader:
    """Reads one venue's frames on both roads and counts them by channel."""

    def __init__(self, feed: VenueFeed) -> None:
        self.counts: Counter[str] = Counter()
        self.left_to_typed = 0
        self._feed = feed
        self._books: dict[str, tuple[OrderBook, OrderBook]] = {}
        self._rows = np.zeros((layout.MAX_TRADES, layout.TRADE_WIDTH), np.int64)

    def take(self, frame: bytes) -> None:
        stream = self._feed.identify(frame)
        if stream is None:
            assert self._feed.control(frame).kind == "ack"
            return
        self.counts[stream.channel] += 1
        sampled = self.counts[stream.channel] % STRIDE == 0
        if stream.channel is Channel.DEPTH:
            self._depth(stream, frame, sampled=sampled)
        elif stream.channel is Channel.TRADES:
            self._trades(stream, frame, sampled=sampled)
        elif stream.channel is Channel.BARS:
            assert self._feed.decode_bar(frame).ts_open_ns > 0
        elif stream.channel is Channel.MARK_PRICE:
            self._feed.decode_mark_price(frame)
        elif sampled:
            quote = self._feed.decode_quote(frame, FINE_GRID)
            assert quote is not None
            assert quote.bid_ticks < quote.ask_ticks

    def _pair(self, symbol: str) -> tuple[OrderBook, OrderBook]:
        if symbol not in self._books:
            self._books[symbol] = book_of(self._feed, symbol), book_of(self._feed, symbol)
        return self._books[symbol]

    def _depth(self, stream: Stream, frame: bytes, *, sampled: bool) -> None:
        rule = self._feed.depth_rule
        scanned, typed = self._pair(stream.symbol)
        known = rule.scan_frame(frame, scanned.words) == layout.APPLIED
        self.left_to_typed += not known
        if sampled or not known:
            update = rule.decode(frame)
            assert update.symbol == stream.symbol
            rule.apply_update(update, FINE_GRID, typed.words)
            assert not known or scratch_of(typed) == scratch_of(scanned)

    def _trades(self, stream: Stream, frame: bytes, *, sampled: bool) -> None:
        count = self._feed.scan_trades(frame, self._pair(stream.symbol)[0].words, self._rows)
        self.left_to_typed += count < 0
        if sampled or count < 0:
            trades = self._feed.decode_trades(frame, FINE_GRID)
            assert count < 0 or trades_of_rows(self._rows, count) == trades


@pytest.mark.parametrize("name", FILES)
def test_recording_is_read_alike_on_both_roads(name: str) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip("the recorded market data is not beside this checkout")
    venue, expected = FILES[name]
    channels = (Channel.DEPTH, Channel.QUOTES, Channel.TRADES, Channel.BARS, Channel.MARK_PRICE)
    reader = _Reader(FEEDS[venue]())
    for frame in _frames(path):
        reader.take(frame)

    assert tuple(reader.counts[channel] for channel in channels) == expected
    assert reader.left_to_typed == (sum(expected) if name == SPACED else 0)
