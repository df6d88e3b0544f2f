"""A small market to serve in tests: books that a test moves by hand, behind the real interface."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import cast

from bookrunner.core.clock import ManualClock
from bookrunner.core.enums import BookState, InstrumentKind, Side
from bookrunner.engine.ports.market_sink import MarketSink
from bookrunner.market.events import BookStateChanged, Trade
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks

START_NS = 1_700_000_000_000_000_000


class HandBook:
    """Two dicts of ticks to lots, with the reading side of ``OrderBook``."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.last_update_id = 0

    def top(self, depth: int) -> tuple[list[int], list[int], list[int], list[int]]:
        bids = sorted(self.bids, reverse=True)[:depth]
        asks = sorted(self.asks)[:depth]
        return bids, [self.bids[t] for t in bids], asks, [self.asks[t] for t in asks]


class HandLiveBook:
    """A live book that a test moves by hand."""

    def __init__(self, venue: str, symbol: str, tick: str = "0.10", lot: str = "0.001") -> None:
        base = symbol.removesuffix("USDT")
        self.instrument = Instrument(
            venue=venue,
            symbol=symbol,
            base=base,
            quote="USDT",
            kind=InstrumentKind.PERPETUAL,
            grid=Grid.of(tick, lot),
        )
        self.book = HandBook()
        self.state = BookState.LIVE
        self.resyncs = 0

    @property
    def venue(self) -> str:
        return self.instrument.venue

    @property
    def symbol(self) -> str:
        return self.instrument.symbol

    @property
    def last_update_id(self) -> int:
        return self.book.last_update_id


class Market:
    """Some books, and the sink that is told when they change."""

    def __init__(self, names: Iterable[tuple[str, str]], clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(START_NS)
        self.by_name = {name: HandLiveBook(*name) for name in names}
        self.books = LiveBooks()
        self.sink: MarketSink | None = None
        for index, live in enumerate(self.by_name.values()):
            live.book.bids = {1_000 * (index + 1) - step: 10 + step for step in range(1, 9)}
            live.book.asks = {1_000 * (index + 1) + step: 20 + step for step in range(1, 9)}
            live.book.last_update_id = 1
            self.books.add(cast("LiveBook", live))

    def add(self, venue: str, symbol: str) -> HandLiveBook:
        live = self.by_name[venue, symbol] = HandLiveBook(venue, symbol)
        self.books.add(cast("LiveBook", live))
        return live

    def update(self, venue: str, symbol: str, tick: int, lots: int) -> None:
        """Set (or with 0 lots delete) a level on the side that keeps the book uncrossed."""
        live = self.by_name[venue, symbol]
        best_bid = max(live.book.bids, default=0)
        side = live.book.bids if tick <= best_bid else live.book.asks
        if lots:
            side[tick] = lots
        elif len(side) > 1:
            side.pop(tick, None)
        live.book.last_update_id += 1
        if self.sink is not None:
            self.sink.on_book(cast("LiveBook", live), self.clock.wall_ns())

    def change_state(self, venue: str, symbol: str, state: BookState, reason: str = "gap") -> None:
        live = self.by_name[venue, symbol]
        live.state = state
        if self.sink is not None:
            change = BookStateChanged(venue, symbol, state, reason, self.clock.wall_ns())
            self.sink.on_book_state(cast("LiveBook", live), change)

    def trade(self, venue: str, symbol: str, trade_id: int, count: int = 1) -> None:
        live = self.by_name[venue, symbol]
        now_ns = self.clock.wall_ns()
        trades = [
            Trade(str(trade_id + index), 618_002, 15, Side.BUY, now_ns, now_ns) for index in range(count)
        ]
        if self.sink is not None:
            self.sink.on_trades(cast("LiveBook", live), trades, now_ns)

    def tops(self, depth: int) -> dict[tuple[str, str], tuple[list[list[str]], list[list[str]]]]:
        """The live books as clients should see them, read straight from the dicts."""
        tops = {}
        for name, live in self.by_name.items():
            if live.state is BookState.LIVE:
                grid = live.instrument.grid
                bids = sorted(live.book.bids.items(), reverse=True)[:depth]
                asks = sorted(live.book.asks.items())[:depth]
                tops[name] = (
                    [[grid.price(t), grid.quantity(q)] for t, q in bids],
                    [[grid.price(t), grid.quantity(q)] for t, q in asks],
                )
        return tops


BTC = ("binance_usdm", "BTCUSDT")
ETH = ("binance_usdm", "ETHUSDT")
BYBIT_BTC = ("bybit_linear", "BTCUSDT")


def three_books(clock: ManualClock | None = None) -> Market:
    return Market([BTC, ETH, BYBIT_BTC], clock)


def tokens(seed: int = 7) -> random.Random:
    return random.Random(seed)
