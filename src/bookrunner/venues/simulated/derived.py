"""Candles and mark prices for recordings that hold none, so that no stream of a symbol stays silent."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND
from bookrunner.venues.simulated.events import (
    BINANCE_SPOT,
    BINANCE_VENUES,
    Candle,
    Event,
    Mark,
    Print,
    RecordedFrame,
)

INTERVAL_NS = NANOSECONDS_PER_SECOND
MINUTE_MS = 60_000
FUNDING_MS = 8 * 3_600_000
FUNDING_RATE = "0.00010000"


class _Candles:
    """One symbol's forming minute, from its trades."""

    def __init__(self, first: Print, open_ms: int) -> None:
        price = Decimal(first.price)
        self.open_ms = open_ms
        self.open = self.high = self.low = self.last = price
        self.volume = self.turnover = Decimal(0)
        self.trades = 0

    def add(self, event: Print) -> None:
        price, quantity = Decimal(event.price), Decimal(event.quantity)
        self.high, self.low, self.last = max(self.high, price), min(self.low, price), price
        self.volume += quantity
        self.turnover += price * quantity
        self.trades += 1

    def worded(self, venue: str, symbol: str, *, closed: bool) -> Candle:
        return Candle(
            venue=venue,
            symbol=symbol,
            open_ms=self.open_ms,
            open=f"{self.open:f}",
            high=f"{self.high:f}",
            low=f"{self.low:f}",
            close=f"{self.last:f}",
            volume=f"{self.volume:f}",
            turnover=f"{self.turnover:f}",
            trades=self.trades,
            closed=closed,
        )


class Derived:
    """Watches events go by and adds, once a second, what their trades imply.

    Args:
        start_ms: wall time of the source's start.
    """

    def __init__(self, start_ms: int) -> None:
        self._start_ms = start_ms
        self._candles: dict[tuple[str, str], _Candles] = {}
        self._recorded: set[tuple[str, str, str]] = set()
        self._next_ns = INTERVAL_NS

    def after(self, due_ns: int, event: Event) -> Iterator[Event]:
        """Note an event, and yield what is due after it."""
        at_ms = self._start_ms + due_ns // NANOSECONDS_PER_MILLISECOND
        if isinstance(event, Print) and event.venue in BINANCE_VENUES:
            key = event.venue, event.symbol
            if key not in self._candles:
                self._candles[key] = _Candles(event, at_ms // MINUTE_MS * MINUTE_MS)
            self._candles[key].add(event)
        elif isinstance(event, RecordedFrame):
            self._recorded.add((event.venue, event.symbol, event.kind))
        if due_ns >= self._next_ns:
            self._next_ns = due_ns + INTERVAL_NS
            yield from self._derived(at_ms)

    def _derived(self, at_ms: int) -> Iterator[Event]:
        for (venue, symbol), candles in list(self._candles.items()):
            closed = at_ms >= candles.open_ms + MINUTE_MS
            if (venue, symbol, "kline_1m") not in self._recorded:
                yield candles.worded(venue, symbol, closed=closed)
            if venue != BINANCE_SPOT and (venue, symbol, "markPrice") not in self._recorded:
                price = f"{candles.last:f}"
                funding_ms = (at_ms // FUNDING_MS + 1) * FUNDING_MS
                yield Mark(venue, symbol, price, price, FUNDING_RATE, funding_ms)
            if closed:
                del self._candles[venue, symbol]
