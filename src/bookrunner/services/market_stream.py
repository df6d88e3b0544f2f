"""The one ordered stream of normalised events from all venues and connections.

Every event of every session passes here, in the order in which its raw message was journaled, and is counted
and numbered before the subscribers see it. Subscribers are called one after another on the loop; none can
change the order for another.
"""

from __future__ import annotations

import asyncio

import structlog

from bookrunner.core.enums import BookState
from bookrunner.engine.ports.market_sink import MarketSink
from bookrunner.market.events import Bar, BookStateChanged, MarkPrice, Quote, Trade
from bookrunner.market.live_book import LiveBook

log = structlog.get_logger(__name__)

STREAM_COUNTERS = ("book_updates", "trades", "quotes", "bars", "mark_prices", "state_changes")
"""The attributes of a ``MarketStream`` that count events by kind."""


class MarketStream:
    """A ``MarketSink`` that numbers events and passes them to its subscribers."""

    def __init__(self) -> None:
        self.sequence = 0
        """Number of the last event, from 1, over all kinds and venues."""
        self.book_updates = 0
        self.trades = 0
        self.quotes = 0
        self.bars = 0
        self.mark_prices = 0
        self.state_changes = 0
        self.first_live = asyncio.Event()
        """Set when the first book of any venue became live."""
        self._subscribers: tuple[MarketSink, ...] = ()

    def subscribe(self, sink: MarketSink) -> None:
        """Tell ``sink`` of every event from now on, after the earlier subscribers."""
        self._subscribers = (*self._subscribers, sink)

    def unsubscribe(self, sink: MarketSink) -> None:
        """Stop telling ``sink``, with the next event."""
        self._subscribers = tuple(known for known in self._subscribers if known is not sink)

    def on_book(self, live: LiveBook, ts_recv_ns: int) -> None:
        """Number and pass on an applied update."""
        self.sequence += 1
        self.book_updates += 1
        for sink in self._subscribers:
            sink.on_book(live, ts_recv_ns)

    def on_trades(self, live: LiveBook, trades: list[Trade], ts_recv_ns: int) -> None:
        """Number and pass on trades."""
        self.sequence += 1
        self.trades += len(trades)
        for sink in self._subscribers:
            sink.on_trades(live, trades, ts_recv_ns)

    def on_quote(self, live: LiveBook, quote: Quote, ts_recv_ns: int) -> None:
        """Number and pass on a quote."""
        self.sequence += 1
        self.quotes += 1
        for sink in self._subscribers:
            sink.on_quote(live, quote, ts_recv_ns)

    def on_bar(self, live: LiveBook, bar: Bar, ts_recv_ns: int) -> None:
        """Number and pass on a candle."""
        self.sequence += 1
        self.bars += 1
        for sink in self._subscribers:
            sink.on_bar(live, bar, ts_recv_ns)

    def on_mark_price(self, live: LiveBook, mark: MarkPrice, ts_recv_ns: int) -> None:
        """Number and pass on a mark price."""
        self.sequence += 1
        self.mark_prices += 1
        for sink in self._subscribers:
            sink.on_mark_price(live, mark, ts_recv_ns)

    def on_book_state(self, live: LiveBook, change: BookStateChanged) -> None:
        """Number and pass on a change of state."""
        self.sequence += 1
        self.state_changes += 1
        if change.state is BookState.LIVE and not self.first_live.is_set():
            self.first_live.set()
            log.info("first_book_live", venue=live.venue, symbol=live.symbol)
        for sink in self._subscribers:
            sink.on_book_state(live, change)
