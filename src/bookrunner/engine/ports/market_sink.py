"""Port: who is told when the market changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bookrunner.market.events import Bar, BookStateChanged, MarkPrice, Quote, Trade
    from bookrunner.market.live_book import LiveBook


class MarketSink(Protocol):
    """Called on the loop, in journal order; must return at once and must not raise.

    ``ts_recv_ns`` is the wall time at which the frame was received.
    """

    def on_book(self, live: LiveBook, ts_recv_ns: int) -> None:
        """One update was applied: the message is still in the book's scratch, ``live.book`` is after it."""
        ...

    def on_trades(self, live: LiveBook, trades: list[Trade], ts_recv_ns: int) -> None:
        """One or more trades, in the venue's order."""
        ...

    def on_quote(self, live: LiveBook, quote: Quote, ts_recv_ns: int) -> None:
        """Best bid and ask as the venue states them."""
        ...

    def on_bar(self, live: LiveBook, bar: Bar, ts_recv_ns: int) -> None:
        """A candle, final or still forming."""
        ...

    def on_mark_price(self, live: LiveBook, mark: MarkPrice, ts_recv_ns: int) -> None:
        """Mark price and funding."""
        ...

    def on_book_state(self, live: LiveBook, change: BookStateChanged) -> None:
        """The book became live, syncing, stale or closed."""
        ...
