"""What a simulated market does, before any venue's wording: sources yield these, dialects word them.

Prices and quantities are decimal text as the venue would write it. ``raw`` is the recorded ``data`` object
(or, for Bybit, the rest of the frame after its topic) of an event that came from a recording, else empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from bookrunner.core.enums import Channel

Levels = list[tuple[str, str]]
"""``(price, quantity)``; quantity 0 removes the level."""

BINANCE_USDM = "binance_usdm"
BINANCE_COINM = "binance_coinm"
BINANCE_SPOT = "binance_spot"
BYBIT_LINEAR = "bybit_linear"
BYBIT_SPOT = "bybit_spot"
BINANCE_VENUES = (BINANCE_USDM, BINANCE_COINM, BINANCE_SPOT)
BYBIT_VENUES = (BYBIT_LINEAR, BYBIT_SPOT)
VENUES = BINANCE_VENUES + BYBIT_VENUES


class Listing(msgspec.Struct, frozen=True):
    """One symbol that the simulated venue trades, and its grid as decimal text."""

    venue: str
    symbol: str
    tick_size: str
    lot_step: str

    @property
    def assets(self) -> tuple[str, str]:
        """Base and quote asset, read off the symbol's name."""
        name = self.symbol.partition("_")[0]
        for quote in ("USDT", "USDC", "FDUSD", "BTC", "ETH", "USD"):
            if name.endswith(quote) and name != quote:
                return name.removesuffix(quote), quote
        return name, "USD"


class BookReset(msgspec.Struct, frozen=True):
    """The book starts over from these levels."""

    venue: str
    symbol: str
    last_update_id: int
    bids: Levels
    asks: Levels
    listing: Listing


class Depth(msgspec.Struct, frozen=True, gc=False):
    """Levels changed. The ids are Binance's; Bybit's market numbers its own messages."""

    venue: str
    symbol: str
    first_id: int
    final_id: int
    previous_id: int
    bids: Levels
    asks: Levels
    raw: bytes = b""


class Print(msgspec.Struct, frozen=True, gc=False):
    """One trade."""

    venue: str
    symbol: str
    trade_id: int
    price: str
    quantity: str
    buyer_is_maker: bool
    raw: bytes = b""


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask."""

    venue: str
    symbol: str
    update_id: int
    bid: str
    bid_quantity: str
    ask: str
    ask_quantity: str
    raw: bytes = b""


class Candle(msgspec.Struct, frozen=True, gc=False):
    """A one-minute candle, forming or closed."""

    venue: str
    symbol: str
    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str
    trades: int
    closed: bool


class Mark(msgspec.Struct, frozen=True, gc=False):
    """Mark price and funding."""

    venue: str
    symbol: str
    mark_price: str
    index_price: str
    funding_rate: str
    next_funding_ms: int


class RecordedFrame(msgspec.Struct, frozen=True, gc=False):
    """A recorded message that is passed on as it is: ``kind`` names its stream."""

    venue: str
    symbol: str
    kind: str
    raw: bytes


class RecordingEnd(msgspec.Struct, frozen=True):
    """The recording is over: its venues cut all their connections, and it begins again."""

    venues: tuple[str, ...]


MarketEvent = Depth | Print | Quote | Candle | Mark | RecordedFrame
"""What subscribers are told of."""
Event = MarketEvent | BookReset | RecordingEnd


def channel_of(kind: str) -> Channel:
    """Return what a stream carries; books that are only the best few levels count as quotes."""
    if kind == "depth" or (kind.startswith("orderbook.") and kind != "orderbook.1"):
        return Channel.DEPTH
    if kind in ("trade", "aggTrade", "publicTrade"):
        return Channel.TRADES
    if kind.startswith("kline"):
        return Channel.BARS
    return Channel.MARK_PRICE if kind == "markPrice" else Channel.QUOTES


class Source(Protocol):
    """Where a simulated market's events come from."""

    speed: float
    """How many times faster than its own times; 0: each event as soon as the clients have read the last."""

    def events(self) -> Iterator[tuple[int, Event]]:
        """Yield ``(due_ns, event)`` for ever, ``due_ns`` since the start and never decreasing.

        Every symbol's ``BookReset`` comes at 0, so that a server that has published what is due at 0
        can answer for all of them.
        """
        ...
