"""Binance's market-data wording, from the server's side: USD-M, COIN-M and spot.

Pure: events in, ``data`` objects and REST bodies out. Sources: the venue's pages on USD-M WebSocket market
streams and spot WebSocket streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from bookrunner.venues.simulated.events import (
    BINANCE_COINM,
    BINANCE_SPOT,
    BINANCE_USDM,
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
from bookrunner.venues.simulated.truth import TruthBook, as_text

PARTIAL_DEPTHS = (5, 10, 20)
MILLISECONDS_PER_MINUTE = 60_000

_encode = msgspec.json.encode
_DEPTH_SPEEDS = {
    BINANCE_USDM: frozenset({"", "0ms", "100ms", "500ms"}),
    BINANCE_COINM: frozenset({"", "0ms", "100ms", "500ms"}),
    BINANCE_SPOT: frozenset({"", "100ms"}),
}
_PUBLIC = ("depth", "bookTicker", "trade")
_MARKET = ("aggTrade", "kline", "markPrice", "trade")
_SENT = re.compile(rb'"E":(\d{13})\b')
_TIMES = re.compile(rb'"(?:E|T)":(\d{13})\b')
_CANDLE_TIMES = re.compile(rb'"(?:E|t|T)":(\d{13})\b')
_SHIFTED_IDS = {
    "depth": re.compile(rb'"(?:U|u|pu)":(\d+)'),
    "bookTicker": re.compile(rb'"u":(\d+)'),
    "trade": re.compile(rb'"t":(\d+)'),
    "aggTrade": re.compile(rb'"(?:a|f|l)":(\d+)'),
}
_LEVELS_BEGIN = b',"b":['


def stream_of(venue: str, name: str) -> tuple[str, str] | None:
    """Read ``btcusdt@depth@100ms`` as ``("BTCUSDT", "depth")``; ``None`` for a stream that does not exist."""
    symbol, _, rest = name.partition("@")
    kind, _, speed = rest.partition("@")
    if not symbol or symbol != symbol.lower():
        return None
    if kind in ("depth", *(f"depth{depth}" for depth in PARTIAL_DEPTHS)):
        return (symbol.upper(), kind) if speed in _DEPTH_SPEEDS[venue] else None
    if kind == "markPrice":
        return (symbol.upper(), kind) if venue != BINANCE_SPOT and speed in ("", "1s") else None
    if kind in ("trade", "aggTrade", "bookTicker", "kline_1m") and not speed:
        return symbol.upper(), kind
    return None


def is_served_on(route: str, kind: str) -> bool:
    """Return whether a futures route (``public``, ``market``, or ``""``: spot) carries a kind of stream."""
    families = {"public": _PUBLIC, "market": _MARKET}.get(route)
    return families is None or kind.startswith(families)


def restamped(raw: bytes, kind: str, now_ms: int) -> bytes:
    """Move a recorded message's times so that it was sent now."""
    head, begin, levels = raw.partition(_LEVELS_BEGIN)
    sent = _SENT.search(head)
    if sent is None:
        return raw
    delta = now_ms - int(sent[1])
    pattern = _CANDLE_TIMES if kind.startswith("kline") else _TIMES
    return _added(pattern, head, delta) + begin + levels


def shifted(raw: bytes, kind: str, by: int) -> bytes:
    """Move a recorded message's ids."""
    pattern = _SHIFTED_IDS.get(kind)
    if not by or pattern is None:
        return raw
    head, begin, levels = raw.partition(_LEVELS_BEGIN)
    return _added(pattern, head, by) + begin + levels


def _added(pattern: re.Pattern[bytes], text: bytes, by: int) -> bytes:
    return pattern.sub(lambda match: b"%b:%d" % (match[0].partition(b":")[0], int(match[1]) + by), text)


class BinanceDialect:
    """Words the events of one venue's market."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self._refill: set[str] = set()

    def messages(
        self, event: MarketEvent, book: TruthBook | None, kinds: Iterable[str], now_ms: int
    ) -> list[tuple[str, bytes]]:
        """Return ``(kind, data object)`` for those of ``kinds`` that this event makes a message of."""
        match event:
            case Depth():
                return self._depth_messages(event, book, kinds, now_ms)
            case Print():
                words = {"trade": self._trade, "aggTrade": self._aggregate}
                return [(kind, words[kind](event, now_ms)) for kind in kinds if kind in words]
            case Quote():
                kind, payload = "bookTicker", self._quote(event, now_ms)
            case Candle():
                kind, payload = "kline_1m", self._candle(event, now_ms)
            case Mark():
                kind, payload = "markPrice", self._mark(event, now_ms)
            case RecordedFrame():
                kind, payload = event.kind, restamped(event.raw, event.kind, now_ms)
        return [(kind, payload)] if kind in kinds else []

    def greeting(self, symbol: str, kind: str, book: TruthBook | None, now_ms: int) -> bytes:
        """Return what a new subscriber is sent first: nothing, at Binance."""
        del symbol, kind, book, now_ms
        return b""

    def emptied(self, event: Depth, kind: str, book: TruthBook, now_ms: int) -> bytes:
        """Word this update as the removal of every level; the next one refills the book."""
        del kind
        self._refill.add(event.symbol)
        bids = [(price, "0") for price, _ in as_text(book.bids.top(len(book.bids))) + event.bids]
        asks = [(price, "0") for price, _ in as_text(book.asks.top(len(book.asks))) + event.asks]
        return self._depth(event, bids, asks, now_ms)

    def _depth_messages(
        self, event: Depth, book: TruthBook | None, kinds: Iterable[str], now_ms: int
    ) -> list[tuple[str, bytes]]:
        messages = []
        for kind in kinds:
            if kind == "depth":
                messages.append((kind, self._difference(event, book, now_ms)))
            elif kind.startswith("depth") and book is not None:
                levels = int(kind.removeprefix("depth"))
                bids, asks = as_text(book.bids.top(levels)), as_text(book.asks.top(levels))
                messages.append((kind, self._partial(event, bids, asks, now_ms)))
        return messages

    def _difference(self, event: Depth, book: TruthBook | None, now_ms: int) -> bytes:
        if book is not None and event.symbol in self._refill:
            self._refill.discard(event.symbol)
            removed_bids = [level for level in event.bids if not Decimal(level[1])]
            removed_asks = [level for level in event.asks if not Decimal(level[1])]
            bids = removed_bids + as_text(book.bids.top(len(book.bids)))
            asks = removed_asks + as_text(book.asks.top(len(book.asks)))
            return self._depth(event, bids, asks, now_ms)
        if event.raw:
            return restamped(event.raw, "depth", now_ms)
        return self._depth(event, event.bids, event.asks, now_ms)

    def _depth(self, event: Depth, bids: Levels, asks: Levels, now_ms: int) -> bytes:
        body: dict[str, Any] = {"e": "depthUpdate", "E": now_ms}
        if self.venue != BINANCE_SPOT:
            body["T"] = now_ms - 1
        body |= {"s": event.symbol, "U": event.first_id, "u": event.final_id}
        if self.venue == BINANCE_SPOT:
            return _encode(body | {"b": bids, "a": asks})
        body |= {"pu": event.previous_id, "b": bids, "a": asks}
        return _encode(body | {"ps": _pair(event.symbol), "st": 1 if self.venue == BINANCE_USDM else 2})

    def _partial(self, event: Depth, bids: Levels, asks: Levels, now_ms: int) -> bytes:
        if self.venue == BINANCE_SPOT:
            return _encode({"lastUpdateId": event.final_id, "bids": bids, "asks": asks})
        return self._depth(event, bids, asks, now_ms)

    def _trade(self, event: Print, now_ms: int) -> bytes:
        if event.raw:
            return restamped(event.raw, "trade", now_ms)
        spot = self.venue == BINANCE_SPOT
        body: dict[str, Any] = {"e": "trade", "E": now_ms}
        body |= {} if spot else {"T": now_ms - 1}
        body |= {"s": event.symbol, "t": event.trade_id, "p": event.price, "q": event.quantity}
        body |= {"T": now_ms - 1} if spot else {"X": "MARKET"}
        return _encode(body | {"m": event.buyer_is_maker} | ({"M": True} if spot else {}))

    def _aggregate(self, event: Print, now_ms: int) -> bytes:
        """Each trade is an aggregate of its own."""
        body: dict[str, Any] = {"e": "aggTrade", "E": now_ms, "s": event.symbol, "a": event.trade_id}
        body |= {"p": event.price, "q": event.quantity}
        body |= {} if self.venue == BINANCE_SPOT else {"nq": event.quantity}
        body |= {"f": event.trade_id, "l": event.trade_id, "T": now_ms - 1, "m": event.buyer_is_maker}
        return _encode(body | ({"M": True} if self.venue == BINANCE_SPOT else {}))

    def _quote(self, event: Quote, now_ms: int) -> bytes:
        if event.raw:
            return restamped(event.raw, "bookTicker", now_ms)
        body: dict[str, Any] = {"u": event.update_id, "s": event.symbol, "b": event.bid}
        body |= {"B": event.bid_quantity, "a": event.ask, "A": event.ask_quantity}
        if self.venue == BINANCE_SPOT:
            return _encode(body)
        return _encode({"e": "bookTicker"} | body | {"T": now_ms - 1, "E": now_ms})

    def _candle(self, event: Candle, now_ms: int) -> bytes:
        candle = {"t": event.open_ms, "T": event.open_ms + MILLISECONDS_PER_MINUTE - 1, "s": event.symbol}
        candle |= {"i": "1m", "f": 0, "L": event.trades, "o": event.open, "c": event.close, "h": event.high}
        candle |= {"l": event.low, "v": event.volume, "n": event.trades, "x": event.closed}
        candle |= {"q": event.turnover, "V": "0", "Q": "0", "B": "0"}
        return _encode({"e": "kline", "E": now_ms, "s": event.symbol, "k": candle})

    def _mark(self, event: Mark, now_ms: int) -> bytes:
        body: dict[str, Any] = {"e": "markPriceUpdate", "E": now_ms, "s": event.symbol}
        body |= {"p": event.mark_price, "ap": event.mark_price, "i": event.index_price}
        body |= {"P": event.mark_price, "r": event.funding_rate, "T": event.next_funding_ms}
        return _encode(body)


def _pair(symbol: str) -> str:
    return symbol.partition("_")[0]


def depth_body(venue: str, book: TruthBook, limit: int, now_ms: int) -> dict[str, Any]:
    """Answer of ``GET …/depth``."""
    times = {} if venue == BINANCE_SPOT else {"E": now_ms, "T": now_ms - 1}
    levels = {"bids": as_text(book.bids.top(limit)), "asks": as_text(book.asks.top(limit))}
    return {"lastUpdateId": book.last_update_id} | times | levels


def exchange_info_body(venue: str, listings: Iterable[Listing], now_ms: int) -> dict[str, Any]:
    """Answer of ``GET …/exchangeInfo``."""
    symbols = [_symbol_info(venue, listing) for listing in listings]
    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}]
    return {"timezone": "UTC", "serverTime": now_ms, "rateLimits": limits, "symbols": symbols}


def _symbol_info(venue: str, listing: Listing) -> dict[str, Any]:
    base, quote = listing.assets
    tick, step = listing.tick_size, listing.lot_step
    filters: list[dict[str, Any]] = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "100000000", "stepSize": step},
    ]
    body = {"symbol": listing.symbol, "baseAsset": base, "quoteAsset": quote, "status": "TRADING"}
    if venue == BINANCE_SPOT:
        filters.append({"filterType": "NOTIONAL", "minNotional": "5.00000000"})
        return body | {"baseAssetPrecision": 8, "quotePrecision": 8, "filters": filters}
    filters.append({"filterType": "MIN_NOTIONAL", "notional": "5"})
    body |= {"pair": _pair(listing.symbol), "contractType": "PERPETUAL", "marginAsset": quote}
    if venue == BINANCE_COINM:
        body |= {"contractStatus": body.pop("status"), "marginAsset": base}
    # Deliberately not the tick's digits: the venue says that these two are neither tick nor step.
    return body | {"pricePrecision": 8, "quantityPrecision": 8, "filters": filters}


def candle_row(candle: Candle) -> list[Any]:
    """One row of ``GET …/klines``."""
    close_ms = candle.open_ms + MILLISECONDS_PER_MINUTE - 1
    prices = [candle.open, candle.high, candle.low, candle.close]
    return [candle.open_ms, *prices, candle.volume, close_ms, candle.turnover, candle.trades, "0", "0", "0"]
