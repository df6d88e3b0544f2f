"""Normalised market events: what every venue's frames become.

Depth stays in arrays (see ``kernels.layout``); these are the slower or smaller kinds. Prices are ticks and
quantities lots of the instrument's grid, times are nanoseconds UTC.
"""

from __future__ import annotations

import msgspec

from bookrunner.core.enums import BookState, Side


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade, or one aggregate of fills at one price."""

    trade_id: str
    price_ticks: int
    quantity_lots: int
    side: Side
    """The taker's side."""
    ts_event_ns: int
    """When the venue sent it."""
    ts_match_ns: int
    """When the venue matched it; equals ``ts_event_ns`` where the venue does not say."""
    flags: int = 0
    """``kernels.layout.TRADE_FLAG_*``."""


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask as the venue states them, outside the book's own chain."""

    update_id: int
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    ts_event_ns: int
    """0 where the venue sends no time (Binance spot)."""
    ts_match_ns: int


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One candle as the venue sends it; prices and volumes are exact decimal text."""

    interval: str
    ts_open_ns: int
    ts_close_ns: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str
    closed: bool
    """Whether the bar is final."""
    ts_event_ns: int


class MarkPrice(msgspec.Struct, frozen=True, gc=False):
    """Mark price and funding of a derivative; decimal text, ``""`` where the venue sends none."""

    mark_price: str
    index_price: str
    funding_rate: str
    ts_next_funding_ns: int
    ts_event_ns: int


class DepthUpdate(msgspec.Struct, frozen=True, gc=False):
    """A depth message as the typed decoder reads it, levels still as the venue's text."""

    symbol: str
    snapshot: bool
    first_id: int
    final_id: int
    previous_id: int
    """-1 where the venue sends none."""
    ts_event_ns: int
    ts_match_ns: int
    cross_sequence: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class DepthSnapshot(msgspec.Struct, frozen=True, gc=False):
    """A REST order-book snapshot."""

    symbol: str
    last_update_id: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    ts_event_ns: int = 0


class BookStateChanged(msgspec.Struct, frozen=True, gc=False):
    """A book became live, syncing, stale or closed, and why."""

    venue: str
    symbol: str
    state: BookState
    reason: str
    """A short stable word: ``snapshot``, ``gap``, ``disconnect``, ``silence``, ``malformed``, ``crossed``."""
    ts_ns: int
