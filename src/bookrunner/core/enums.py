"""Words with one meaning everywhere."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class BookState(StrEnum):
    """Whether a book may be believed."""

    SYNCING = "syncing"
    """No snapshot yet, or updates are being bridged onto one."""
    LIVE = "live"
    """Every update since the snapshot was seen, in order."""
    STALE = "stale"
    """Something is missing; the levels are the last known ones and are not served as live."""
    CLOSED = "closed"
    """The instrument is delisted."""


class Side(IntEnum):
    """Side of an order, or of the taker in a trade."""

    BUY = 1
    SELL = -1


class InstrumentKind(StrEnum):
    """What is traded."""

    SPOT = "spot"
    PERPETUAL = "perpetual"
    FUTURE = "future"


class InstrumentStatus(StrEnum):
    """Whether the venue trades it now."""

    TRADING = "trading"
    HALTED = "halted"
    CLOSED = "closed"


class Channel(StrEnum):
    """Kinds of market data that a feed can carry."""

    DEPTH = "depth"
    TRADES = "trades"
    QUOTES = "quotes"
    BARS = "bars"
    MARK_PRICE = "mark_price"
