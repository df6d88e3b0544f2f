"""One book per instrument across venues: every level tagged with its venue, only live books counted."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from heapq import merge
from itertools import islice

import msgspec

from bookrunner.core.enums import BookState
from bookrunner.core.fixed import format_decimal
from bookrunner.market.live_book import LiveBook


class ConsolidatedLevel(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One venue's level; price and quantity are exact decimal text."""

    price: str
    quantity: str
    venue: str


class ConsolidatedBook(msgspec.Struct, frozen=True, gc=False):
    """The joined top of one pair's live books, best first."""

    pair: str
    venues: tuple[str, ...]
    """Venues whose books were live and so counted."""
    bids: list[ConsolidatedLevel]
    asks: list[ConsolidatedLevel]

    @property
    def crossed(self) -> bool:
        """Whether one venue's bid is at or above another's ask (an arbitrage, or a lagging feed)."""
        return bool(self.bids and self.asks) and Decimal(self.bids[0].price) >= Decimal(self.asks[0].price)


def consolidate(pair: str, books: Iterable[LiveBook], depth: int) -> ConsolidatedBook:
    """Join the top ``depth`` levels of all live books of a pair.

    Prices of different grids are compared exactly, as integers on the finest scale among them. Levels of
    equal price stay apart, one per venue, in the order of venue names.
    """
    live = sorted(
        (book for book in books if book.state is BookState.LIVE and book.instrument.pair == pair),
        key=lambda book: book.venue,
    )
    scale = max((book.instrument.grid.price_scale for book in live), default=0)
    bids, asks = [], []
    for book in live:
        grid = book.instrument.grid
        bid_ticks, bid_lots, ask_ticks, ask_lots = book.book.top(depth)
        unit = grid.tick_units * 10 ** (scale - grid.price_scale)
        bids.append(
            [(-t * unit, book.venue, grid.quantity(q)) for t, q in zip(bid_ticks, bid_lots, strict=True)]
        )
        asks.append(
            [(t * unit, book.venue, grid.quantity(q)) for t, q in zip(ask_ticks, ask_lots, strict=True)]
        )
    return ConsolidatedBook(
        pair,
        tuple(book.venue for book in live),
        _levels(bids, scale, depth),
        _levels(asks, scale, depth),
    )


def _levels(sides: list[list[tuple[int, str, str]]], scale: int, depth: int) -> list[ConsolidatedLevel]:
    best = islice(merge(*sides), depth)
    return [
        ConsolidatedLevel(format_decimal(abs(key), scale), quantity, venue) for key, venue, quantity in best
    ]
