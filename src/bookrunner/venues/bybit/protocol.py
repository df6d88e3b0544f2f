"""Bybit v5's public WebSocket messages: what we send, and what its frames mean. Pure, but for ``Tickers``.

Sources: BB ``websocket/public/{orderbook,trade,ticker,kline}``, ``websocket/wss-authentication``. The order
of keys varies by product and the topic may stand anywhere; the decoders ignore keys that they do not know.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bookrunner.core.enums import Channel, Side
from bookrunner.core.errors import MalformedFrameError
from bookrunner.engine.ports.venue_feed import ControlReply, Stream
from bookrunner.kernels.layout import TRADE_FLAG_NOT_MARKET
from bookrunner.market.events import Bar, DepthUpdate, MarkPrice, Quote, Trade
from bookrunner.market.instrument import Grid
from bookrunner.market.levels import price_ticks, quantity_lots, traded_lots
from bookrunner.venues.decoding import Id, Levels, Time, checked_decimal, decode_json, malformed, time_ns

KEY_PREFIX = b'{"topic":"'
PING = b'{"op":"ping"}'
ARGUMENT_CHARACTERS_PER_CONNECTION = 21_000
"""BB websocket/wss-authentication."""
RESTART_ID = 1
"""``u`` of the snapshot that follows a restart of the service."""

Json = msgspec.json

# --- topics -----------------------------------------------------------------------------------------------

_TOPIC_PARTS = 3
_BAR_NAMES = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "240": "4h",
    "360": "6h", "720": "12h", "D": "1d", "W": "1w", "M": "1M",
}  # fmt: skip
BAR_INTERVALS = {name: interval for interval, name in _BAR_NAMES.items()}
"""The venue's interval by its usual name: ``1h`` -> ``60``."""


def stream_of_topic(topic: str, quote_depth: int) -> Stream | None:
    """Read a topic such as ``orderbook.200.BTCUSDT``; ``None`` when it is none that we follow.

    ``orderbook.<quote_depth>`` is the quote stream. ``orderbook.full`` and ``orderbook.rpi`` chain by
    other rules and are none.
    """
    kind, _, rest = topic.partition(".")
    key = topic.encode()
    if kind == "publicTrade":
        return Stream(key, Channel.TRADES, rest) if rest else None
    if kind == "tickers":
        return Stream(key, Channel.MARK_PRICE, rest) if rest else None
    detail, _, symbol = rest.partition(".")
    if not symbol:
        return None
    if kind == "kline":
        return Stream(key, Channel.BARS, symbol, _BAR_NAMES.get(detail, detail))
    if kind == "orderbook" and detail.isdigit():
        channel = Channel.QUOTES if int(detail) == quote_depth else Channel.DEPTH
        return Stream(key, channel, symbol, detail)
    return None


def operation_messages(
    operation: str, streams: tuple[Stream, ...], request_id: int, per_request: int
) -> list[bytes]:
    """Return ``subscribe`` or ``unsubscribe`` messages of at most ``per_request`` topics each."""
    topics = [stream.key.decode() for stream in streams]
    parts = [topics[at : at + per_request] for at in range(0, len(topics), per_request)]
    return [
        Json.encode({"req_id": str(request_id + number), "op": operation, "args": part})
        for number, part in enumerate(parts)
    ]


# --- messages ---------------------------------------------------------------------------------------------


class _Peek(msgspec.Struct):
    topic: str


class _BookData(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    bids: Levels = msgspec.field(name="b")
    asks: Levels = msgspec.field(name="a")
    update_id: Id = msgspec.field(name="u")
    cross_sequence: Id = msgspec.field(name="seq", default=0)


class _Book(msgspec.Struct):
    topic: str
    type: Literal["snapshot", "delta"]
    ts: Time
    data: _BookData
    cts: Time = 0
    """Matching-engine time; absent from the oldest recordings."""


class _Trade(msgspec.Struct):
    matched: Time = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    side: Literal["Buy", "Sell"] = msgspec.field(name="S")
    """The taker's."""
    quantity: str = msgspec.field(name="v")
    price: str = msgspec.field(name="p")
    trade_id: str = msgspec.field(name="i")
    block: bool = msgspec.field(name="BT", default=False)


class _Trades(msgspec.Struct):
    topic: str
    ts: Time
    data: list[_Trade]


class _TickerData(msgspec.Struct, rename="camel"):
    """Of its many fields, those of the mark price; quotes come faster from ``orderbook.1``."""

    symbol: str
    mark_price: str = ""
    index_price: str = ""
    funding_rate: str = ""
    next_funding_time: str = ""


class _Ticker(msgspec.Struct):
    topic: str
    type: Literal["snapshot", "delta"]
    ts: Time
    data: _TickerData


class _Candle(msgspec.Struct):
    start: Time
    end: Time
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str
    confirm: bool


class _Kline(msgspec.Struct):
    topic: str
    ts: Time
    data: list[_Candle]


_PEEK = Json.Decoder(_Peek)
_BOOK = Json.Decoder(_Book)
_TRADES = Json.Decoder(_Trades)
_TICKER = Json.Decoder(_Ticker)
_KLINE = Json.Decoder(_Kline)


def topic_of(frame: bytes) -> str | None:
    """Return a frame's topic wherever it stands, ``None`` when it has none."""
    try:
        return decode_json(_PEEK, frame).topic
    except MalformedFrameError:
        return None


def _require(topic: str, kind: str, symbol: str | None = None) -> None:
    """Refuse a message of another kind, or whose topic names another symbol than its data."""
    if not topic.startswith(kind) or not (symbol is None or topic.endswith("." + symbol)):
        raise malformed("wrong_topic", topic[:80])


def decode_depth(frame: bytes) -> DepthUpdate:
    """Read an order-book message; ``u == 1`` is a snapshot whatever its type says.

    Raises:
        MalformedFrameError: it is none.
    """
    book = decode_json(_BOOK, frame)
    _require(book.topic, "orderbook.", book.data.symbol)
    return DepthUpdate(
        symbol=book.data.symbol,
        snapshot=book.type == "snapshot" or book.data.update_id == RESTART_ID,
        first_id=book.data.update_id,
        final_id=book.data.update_id,
        previous_id=-1,
        ts_event_ns=time_ns(book.ts),
        ts_match_ns=time_ns(book.cts),
        cross_sequence=book.data.cross_sequence,
        bids=book.data.bids,
        asks=book.data.asks,
    )


def decode_trades(frame: bytes, grid: Grid) -> list[Trade]:
    """Read a ``publicTrade`` message.

    Raises:
        MalformedFrameError: it is none.
        OffGridError: a value finer than the grid.
    """
    trades = decode_json(_TRADES, frame)
    _require(trades.topic, "publicTrade.")
    for symbol in {trade.symbol for trade in trades.data}:
        _require(trades.topic, "publicTrade.", symbol)
    ts_event_ns = time_ns(trades.ts)
    return [
        Trade(
            trade_id=trade.trade_id,
            price_ticks=price_ticks(trade.price, grid),
            quantity_lots=traded_lots(trade.quantity, grid),
            side=Side.BUY if trade.side == "Buy" else Side.SELL,
            ts_event_ns=ts_event_ns,
            ts_match_ns=time_ns(trade.matched),
            flags=TRADE_FLAG_NOT_MARKET if trade.block else 0,
        )
        for trade in trades.data
    ]


def decode_bar(frame: bytes) -> Bar:
    """Read a ``kline`` message; the close time is the first instant of the next bar.

    Raises:
        MalformedFrameError: it is none, or holds no candle.
    """
    kline = decode_json(_KLINE, frame)
    _require(kline.topic, "kline.")
    if not kline.data:
        raise malformed("missing_field", "no candle")
    candle = kline.data[-1]
    return Bar(
        interval=_BAR_NAMES.get(candle.interval, candle.interval),
        ts_open_ns=time_ns(candle.start),
        ts_close_ns=time_ns(candle.end + 1),
        open=checked_decimal(candle.open, "open"),
        high=checked_decimal(candle.high, "high"),
        low=checked_decimal(candle.low, "low"),
        close=checked_decimal(candle.close, "close"),
        volume=checked_decimal(candle.volume, "volume"),
        turnover=checked_decimal(candle.turnover, "turnover"),
        closed=candle.confirm,
        ts_event_ns=time_ns(kline.ts),
    )


def decode_quote(frame: bytes, grid: Grid) -> Quote | None:
    """Read an ``orderbook.1`` message; ``None`` when a side is empty or absent.

    Raises:
        MalformedFrameError: it is none.
        OffGridError: a value finer than the grid.
    """
    update = decode_depth(frame)
    # Until 2025-03-20 deltas came too: a removed level beside its successor, or one side alone.
    bid = next((level for level in update.bids if quantity_lots(level[1], grid)), None)
    ask = next((level for level in update.asks if quantity_lots(level[1], grid)), None)
    if bid is None or ask is None:
        return None
    return Quote(
        update_id=update.final_id,
        bid_ticks=price_ticks(bid[0], grid),
        bid_lots=quantity_lots(bid[1], grid),
        ask_ticks=price_ticks(ask[0], grid),
        ask_lots=quantity_lots(ask[1], grid),
        ts_event_ns=update.ts_event_ns,
        ts_match_ns=update.ts_match_ns,
    )


# --- tickers: the one stream that must be remembered ------------------------------------------------------

MAX_TICKERS = 4_096
"""Symbols remembered; then the oldest is forgotten and waits for its next snapshot."""
_MARK_FIELDS = ("mark_price", "index_price", "funding_rate", "next_funding_time")


class Tickers:
    """The last known ticker of each symbol: a snapshot replaces it, a delta changes what it names."""

    def __init__(self) -> None:
        self._known: dict[str, _TickerData] = {}

    def mark_price(self, frame: bytes) -> MarkPrice | None:
        """Merge a ``tickers`` message; ``None`` when it changes nothing of the mark price or funding.

        Raises:
            MalformedFrameError: it is none.
        """
        ticker = decode_json(_TICKER, frame)
        _require(ticker.topic, "tickers.", ticker.data.symbol)
        merged = self._merge(ticker)
        if merged is None or not any(getattr(ticker.data, name) for name in _MARK_FIELDS):
            return None
        if not merged.mark_price:
            return None
        next_funding = merged.next_funding_time or "0"
        if not (next_funding.isascii() and next_funding.isdigit()):
            raise malformed("wrong_type", "nextFundingTime")
        return MarkPrice(
            mark_price=checked_decimal(merged.mark_price, "mark_price"),
            index_price=checked_decimal(merged.index_price, "index_price") if merged.index_price else "",
            funding_rate=checked_decimal(merged.funding_rate, "funding_rate", signed=True)
            if merged.funding_rate
            else "",
            ts_next_funding_ns=time_ns(int(next_funding)),
            ts_event_ns=time_ns(ticker.ts),
        )

    def _merge(self, ticker: _Ticker) -> _TickerData | None:
        symbol = ticker.data.symbol
        if ticker.type == "snapshot":
            self._known.pop(symbol, None)
            if len(self._known) >= MAX_TICKERS:
                del self._known[next(iter(self._known))]
            self._known[symbol] = ticker.data
            return ticker.data
        known = self._known.get(symbol)
        if known is None:
            return None
        for name in known.__struct_fields__:
            value = getattr(ticker.data, name)
            if value:
                setattr(known, name, value)
        return known


# --- control ----------------------------------------------------------------------------------------------


class _Topics(msgspec.Struct, rename="camel"):
    fail_topics: list[str] = []
    success_topics: list[str] = []


class _Control(msgspec.Struct):
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    return_message: str = msgspec.field(name="retMsg", default="")
    return_code: int = msgspec.field(name="retCode", default=0)
    req_id: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()


_CONTROL = Json.Decoder(_Control)
_COMMAND = Json.Decoder(_Topics)
_PONG_WORDS = {"pong", "ping"}


def control(frame: bytes) -> ControlReply:
    """Read an answer; never raises.

    Pongs: spot and linear ``{"success":true,"ret_msg":"pong","op":"ping"}``, option and private
    ``{"op":"pong"}``. Refusals name their topic in the text: ``error:handler not found,topic:<topic>``.
    """
    try:
        reply = decode_json(_CONTROL, frame)
        if reply.type == "COMMAND_RESP":
            return _command_reply(decode_json(_COMMAND, reply.data))
    except MalformedFrameError as error:
        return ControlReply("unknown", str(error.fields["reason"]))
    if reply.op == "pong" or (reply.op == "ping" and reply.ret_msg in _PONG_WORDS):
        return ControlReply("pong")
    text = reply.ret_msg or reply.return_message
    if reply.success is False or reply.return_code:
        topic = text.partition("topic:")[2]
        return ControlReply("error", text, (topic.encode(),) if topic else ())
    if reply.success and reply.op:
        return ControlReply("ack", reply.req_id)
    return ControlReply("unknown", "neither an answer nor a pong")


def _command_reply(topics: _Topics) -> ControlReply:
    if topics.fail_topics:
        return ControlReply("error", "refused topics", tuple(topic.encode() for topic in topics.fail_topics))
    return ControlReply("ack", "", tuple(topic.encode() for topic in topics.success_topics))
