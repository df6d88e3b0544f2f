"""Bybit v5's market-data wording, from the server's side: linear and spot.

Pure: events in, frames after their topic and REST results out. Source: the venue's v5 pages on public
WebSocket topics and on market endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from bookrunner.venues.simulated.events import (
    BYBIT_LINEAR,
    BYBIT_SPOT,
    Candle,
    Depth,
    Levels,
    Listing,
    Mark,
    MarketEvent,
    Print,
    Quote,
    RecordedFrame,
)
from bookrunner.venues.simulated.truth import DepthWindow, TruthBook, as_text

BOOK_DEPTHS = (1, 50, 200, 1_000)
CATEGORIES = {"linear": BYBIT_LINEAR, "spot": BYBIT_SPOT}
MILLISECONDS_PER_MINUTE = 60_000
FUNDING_INTERVAL_MINUTES = 480
REPEAT_MS = 3_000
"""After which an unchanged ``orderbook.1`` is sent again."""

_SENT = re.compile(rb'"ts":(\d{13})\b')
_TIMES = re.compile(rb'"(ts|cts|T|timestamp)":(\d{13})\b')
_encode = msgspec.json.encode


def topic_of(topic: str) -> tuple[str, str] | None:
    """Read ``orderbook.50.BTCUSDT`` as ``("BTCUSDT", "orderbook.50")``; ``None``: no such handler."""
    kind, _, symbol = topic.rpartition(".")
    kinds = {f"orderbook.{depth}" for depth in BOOK_DEPTHS} | {"publicTrade", "tickers", "kline.1"}
    return (symbol, kind) if symbol and kind in kinds else None


def restamped(raw: bytes, now_ms: int) -> bytes:
    """Move a recorded frame's times so that it was sent now."""
    sent = _SENT.search(raw)
    if sent is None:
        return raw
    delta = now_ms - int(sent[1])
    return _TIMES.sub(lambda match: b'"%b":%d' % (match[1], int(match[2]) + delta), raw)


def _tail(body: dict[str, Any]) -> bytes:
    """A frame after ``{"topic":"…",``."""
    return _encode(body)[1:]


class BybitDialect:
    """Words the events of one product's market."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self._windows: dict[tuple[str, str], DepthWindow] = {}
        self._best: dict[str, tuple[tuple[Levels, Levels], int]] = {}
        self._tickers: dict[str, dict[str, str]] = {}
        self._sequence: dict[str, int] = {}

    def messages(
        self, event: MarketEvent, book: TruthBook | None, kinds: Iterable[str], now_ms: int
    ) -> list[tuple[str, bytes]]:
        """Return ``(kind, frame after its topic)`` for those of ``kinds`` that this event is a message of."""
        match event:
            case Depth() if book is not None:
                self._sequence[event.symbol] = event.final_id
                books = [kind for kind in kinds if kind.startswith("orderbook.")]
                worded = [(kind, self._book(event.symbol, kind, book, now_ms)) for kind in books]
                return [(kind, payload) for kind, payload in worded if payload]
            case Print():
                return self._print_messages(event, kinds, now_ms)
            case Quote() | Mark():
                changed = self._ticker_changes(event)
                if "tickers" in kinds and changed and self.venue != BYBIT_SPOT:
                    return [("tickers", self._ticker(event.symbol, "delta", changed, now_ms))]
            case Candle():
                return [("kline.1", _candle(event, now_ms))] if "kline.1" in kinds else []
            case RecordedFrame():
                return [(event.kind, restamped(event.raw, now_ms))] if event.kind in kinds else []
        return []

    def greeting(self, symbol: str, kind: str, book: TruthBook | None, now_ms: int) -> bytes:
        """Return the snapshot that a new subscriber is sent first; empty where the stream has none."""
        if kind == "tickers" and symbol in self._tickers:
            return self._ticker(symbol, "snapshot", self._tickers[symbol], now_ms)
        if not kind.startswith("orderbook.") or book is None:
            return b""
        window = DepthWindow(int(kind.removeprefix("orderbook.")))
        self._windows[symbol, kind] = window
        return self._message(symbol, "snapshot", *window.snapshot(book), book.last_update_id, now_ms)

    def emptied(self, event: Depth, kind: str, book: TruthBook, now_ms: int) -> bytes:
        """Restart the service: ids begin at 1 with an empty book, and the next update refills it."""
        del kind
        book.last_update_id = 1
        for (symbol, _), window in self._windows.items():
            if symbol == event.symbol:
                window.forget()
        return self._message(event.symbol, "snapshot", [], [], 1, now_ms)

    def _book(self, symbol: str, kind: str, book: TruthBook, now_ms: int) -> bytes:
        if kind == "orderbook.1":
            best = as_text(book.bids.top(1)), as_text(book.asks.top(1))
            told, told_ms = self._best.get(symbol, (None, 0))
            if told == best and now_ms - told_ms < REPEAT_MS:
                return b""
            self._best[symbol] = best, now_ms
            return self._message(symbol, "snapshot", *best, book.last_update_id, now_ms)
        window = self._windows.setdefault((symbol, kind), DepthWindow(int(kind.removeprefix("orderbook."))))
        return self._message(symbol, "delta", *window.changes(book), book.last_update_id, now_ms)

    def _message(
        self, symbol: str, kind: str, bids: Levels, asks: Levels, update_id: int, now_ms: int
    ) -> bytes:
        sequence = self._sequence.get(symbol, update_id)
        data = {"s": symbol, "b": bids, "a": asks, "u": update_id, "seq": sequence}
        return _tail({"type": kind, "ts": now_ms, "data": data, "cts": now_ms - 2})

    def _print_messages(self, event: Print, kinds: Iterable[str], now_ms: int) -> list[tuple[str, bytes]]:
        self._tickers.setdefault(event.symbol, {})["lastPrice"] = event.price
        messages = []
        if "publicTrade" in kinds:
            messages.append(("publicTrade", self._trade(event, now_ms)))
        if "tickers" in kinds and self.venue == BYBIT_SPOT:
            ticker = self._tickers[event.symbol]
            messages.append(("tickers", self._ticker(event.symbol, "snapshot", ticker, now_ms)))
        return messages

    def _trade(self, event: Print, now_ms: int) -> bytes:
        side = "Sell" if event.buyer_is_maker else "Buy"
        trade: dict[str, Any] = {"T": now_ms - 2, "s": event.symbol, "S": side, "v": event.quantity}
        trade |= {"p": event.price, "L": "ZeroPlusTick", "i": self._trade_id(event), "BT": False}
        trade |= {"RPI": False, "seq": self._sequence.get(event.symbol, 1)}
        return _tail({"type": "snapshot", "ts": now_ms, "data": [trade]})

    def _trade_id(self, event: Print) -> str:
        """Linear trades carry UUIDs, spot trades numbers."""
        if self.venue == BYBIT_SPOT:
            return str(event.trade_id)
        low = f"{event.trade_id:016x}"
        return f"00000000-0000-5000-{low[:4]}-{low[4:]}"

    def _ticker_changes(self, event: Quote | Mark) -> dict[str, str]:
        if isinstance(event, Quote):
            fields = {"bid1Price": event.bid, "bid1Size": event.bid_quantity}
            fields |= {"ask1Price": event.ask, "ask1Size": event.ask_quantity}
        else:
            fields = {"markPrice": event.mark_price, "indexPrice": event.index_price}
            fields |= {"fundingRate": event.funding_rate, "nextFundingTime": str(event.next_funding_ms)}
        if self.venue == BYBIT_SPOT:
            return {}
        known = self._tickers.setdefault(event.symbol, {})
        changed = {name: value for name, value in fields.items() if known.get(name) != value}
        known |= changed
        return changed

    def _ticker(self, symbol: str, kind: str, fields: dict[str, str], now_ms: int) -> bytes:
        data = {"symbol": symbol} | fields
        return _tail({"type": kind, "data": data, "cs": self._sequence.get(symbol, 1), "ts": now_ms})


def _candle(event: Candle, now_ms: int) -> bytes:
    candle: dict[str, Any] = {"start": event.open_ms, "end": event.open_ms + MILLISECONDS_PER_MINUTE - 1}
    candle |= {"interval": "1", "open": event.open, "close": event.close, "high": event.high}
    candle |= {"low": event.low, "volume": event.volume, "turnover": event.turnover}
    candle |= {"confirm": event.closed, "timestamp": now_ms}
    return _tail({"type": "snapshot", "ts": now_ms, "data": [candle]})


def order_book_result(symbol: str, book: TruthBook, limit: int, now_ms: int) -> dict[str, Any]:
    """Result of ``GET /v5/market/orderbook``."""
    levels = {"b": as_text(book.bids.top(limit)), "a": as_text(book.asks.top(limit))}
    ids = {"u": book.last_update_id, "seq": book.last_update_id}
    return {"s": symbol} | levels | {"ts": now_ms} | ids | {"cts": now_ms - 2}


def instrument_info(venue: str, listing: Listing) -> dict[str, Any]:
    """One entry of ``GET /v5/market/instruments-info``."""
    base, quote = listing.assets
    tick, step = listing.tick_size, listing.lot_step
    body: dict[str, Any] = {"symbol": listing.symbol, "status": "Trading", "baseCoin": base}
    body |= {
        "quoteCoin": quote,
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
    }
    if venue == BYBIT_SPOT:
        return body | {"lotSizeFilter": {"basePrecision": step, "quotePrecision": "0.0000001"}}
    body |= {"contractType": "LinearPerpetual", "settleCoin": quote}
    body |= {"fundingInterval": FUNDING_INTERVAL_MINUTES}
    return body | {"lotSizeFilter": {"qtyStep": step, "minOrderQty": step, "maxOrderQty": "100000000"}}


def candle_row(candle: Candle) -> list[str]:
    """One row of ``GET /v5/market/kline``."""
    return [
        str(candle.open_ms),
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
        candle.turnover,
    ]
