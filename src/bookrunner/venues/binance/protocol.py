"""Binance's WebSocket messages: what we send, and what its frames mean. Pure.

Sources: BND ``Live-Subscribing-Unsubscribing-to-streams`` and the page of each stream; BNS
``web-socket-streams.md``. Frames come wrapped, ``{"stream":"btcusdt@depth","data":{...}}``, from ``/stream``
and raw, the payload alone, from ``/ws/...``; every decoder here reads both, in any key order, and ignores
keys that it does not know. The keys of each payload over time are data, in ``variants``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bookrunner.core.enums import Channel, Side
from bookrunner.core.errors import MalformedFrameError
from bookrunner.engine.ports.venue_feed import ControlReply, Stream
from bookrunner.kernels.layout import TRADE_FLAG_AGGREGATE, TRADE_FLAG_NOT_MARKET
from bookrunner.market.events import Bar, DepthUpdate, MarkPrice, Quote, Trade
from bookrunner.market.instrument import Grid
from bookrunner.market.levels import price_ticks, quantity_lots, traded_lots
from bookrunner.venues.decoding import Id, Levels, Time, checked_decimal, decode_json, malformed, time_ns

KEY_PREFIX = b'{"stream":"'
STREAMS_PER_CONNECTION = 1024
"""BND websocket-market-streams; 200 until 2025-07-02."""
STREAMS_PER_MESSAGE = 100
"""Ours: keeps a SUBSCRIBE frame small; the venue states no bound."""

Json = msgspec.json

# --- streams ----------------------------------------------------------------------------------------------

_EVENT_CHANNELS = {
    "depthUpdate": Channel.DEPTH,
    "aggTrade": Channel.TRADES,
    "trade": Channel.TRADES,
    "bookTicker": Channel.QUOTES,
    "kline": Channel.BARS,
    "markPriceUpdate": Channel.MARK_PRICE,
}
_SUFFIX_CHANNELS = {
    "depth": Channel.DEPTH,
    "aggTrade": Channel.TRADES,
    "trade": Channel.TRADES,
    "bookTicker": Channel.QUOTES,
    "markPrice": Channel.MARK_PRICE,
}
_EVENT_SUFFIXES = {"depthUpdate": "depth", "markPriceUpdate": "markPrice"}
_BAR_PREFIX = "kline_"


def stream_of_name(name: str) -> Stream | None:
    """Read a stream name such as ``btcusdt@depth@100ms``; ``None`` when it is none that we follow.

    Partial depth (``@depth20``) is none: it replaces the top and does not chain.
    """
    symbol, mark, suffix = name.partition("@")
    if not symbol or not mark:
        return None
    kind, _, speed = suffix.partition("@")
    key = name.encode()
    if kind.startswith(_BAR_PREFIX):
        return Stream(key, Channel.BARS, symbol.upper(), kind.removeprefix(_BAR_PREFIX))
    channel = _SUFFIX_CHANNELS.get(kind)
    return None if channel is None else Stream(key, channel, symbol.upper(), speed)


def stream_of(symbol: str, channel: Channel, suffix: str) -> Stream:
    """Return the stream ``<symbol>@<suffix>``; stream symbols are lower case."""
    detail = suffix.removeprefix(_BAR_PREFIX) if channel is Channel.BARS else suffix.partition("@")[2]
    return Stream(f"{symbol.lower()}@{suffix}".encode(), channel, symbol.upper(), detail)


def method_messages(method: str, streams: tuple[Stream, ...], request_id: int) -> list[bytes]:
    """Return ``SUBSCRIBE`` or ``UNSUBSCRIBE`` messages, numbered from ``request_id``."""
    names = [stream.key.decode() for stream in streams]
    parts = [names[at : at + STREAMS_PER_MESSAGE] for at in range(0, len(names), STREAMS_PER_MESSAGE)]
    return [
        Json.encode({"method": method, "params": part, "id": request_id + number})
        for number, part in enumerate(parts)
    ]


# --- the envelope -----------------------------------------------------------------------------------------


class _Envelope(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Peek(msgspec.Struct):
    """Enough of a payload to tell which stream it came from."""

    symbol: str = msgspec.field(name="s")
    event: str = msgspec.field(name="e", default="bookTicker")
    bar: dict[str, msgspec.Raw] = msgspec.field(name="k", default_factory=dict)


_ENVELOPE = Json.Decoder(_Envelope)
_PEEK = Json.Decoder(_Peek)


def payload_of(frame: bytes) -> tuple[str, bytes | msgspec.Raw]:
    """Return ``(stream name, payload)`` of a wrapped frame, ``("", frame)`` of a raw one.

    Raises:
        MalformedFrameError: not a JSON object.
    """
    envelope = decode_json(_ENVELOPE, frame)
    if envelope.stream and bytes(envelope.data):
        return envelope.stream, envelope.data
    return "", frame


def identify(frame: bytes) -> Stream | None:
    """Tell which stream a frame belongs to, wherever its keys stand; a raw one by its event and symbol.

    A raw frame does not say its speed, and raw futures ``@depth20`` looks like the diff stream.
    """
    try:
        name, payload = payload_of(frame)
        if name:
            return stream_of_name(name)
        peek = decode_json(_PEEK, payload)
        channel = _EVENT_CHANNELS.get(peek.event)
        if channel is None or not peek.symbol:
            return None
        suffix = _EVENT_SUFFIXES.get(peek.event, peek.event)
        if channel is Channel.BARS:
            suffix = _BAR_PREFIX + Json.decode(peek.bar["i"], type=str)
        return stream_of(peek.symbol, channel, suffix)
    except (MalformedFrameError, msgspec.DecodeError, KeyError):
        return None


# --- payloads ---------------------------------------------------------------------------------------------


class _Depth(msgspec.Struct):
    event: Literal["depthUpdate"] = msgspec.field(name="e")
    sent: Time = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    first_id: Id = msgspec.field(name="U")
    final_id: Id = msgspec.field(name="u")
    bids: Levels = msgspec.field(name="b")
    asks: Levels = msgspec.field(name="a")
    previous_id: Id = msgspec.field(name="pu", default=-1)
    """Futures only."""
    matched: Time = msgspec.field(name="T", default=0)
    """Futures only."""


class _Trade(msgspec.Struct, tag_field="e", tag="trade"):
    sent: Time = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    trade_id: Id = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    matched: Time = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    kind: str = msgspec.field(name="X", default="MARKET")
    """Futures only; anything but MARKET is the insurance fund or ADL."""


class _AggregateTrade(msgspec.Struct, tag_field="e", tag="aggTrade"):
    sent: Time = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    trade_id: Id = msgspec.field(name="a")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    matched: Time = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")


class _Quote(msgspec.Struct):
    update_id: Id = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")
    event: Literal["bookTicker"] = msgspec.field(name="e", default="bookTicker")
    """Spot sends neither event nor times."""
    sent: Time = msgspec.field(name="E", default=0)
    matched: Time = msgspec.field(name="T", default=0)


class _Candle(msgspec.Struct):
    opened: Time = msgspec.field(name="t")
    closes: Time = msgspec.field(name="T")
    interval: str = msgspec.field(name="i")
    open: str = msgspec.field(name="o")
    high: str = msgspec.field(name="h")
    low: str = msgspec.field(name="l")
    close: str = msgspec.field(name="c")
    volume: str = msgspec.field(name="v")
    turnover: str = msgspec.field(name="q")
    closed: bool = msgspec.field(name="x")


class _Kline(msgspec.Struct):
    event: Literal["kline"] = msgspec.field(name="e")
    sent: Time = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    candle: _Candle = msgspec.field(name="k")


class _MarkPrice(msgspec.Struct):
    event: Literal["markPriceUpdate"] = msgspec.field(name="e")
    sent: Time = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    mark: str = msgspec.field(name="p")
    index: str = msgspec.field(name="i", default="")
    funding: str = msgspec.field(name="r", default="")
    """Empty on contracts that expire."""
    next_funding: Time = msgspec.field(name="T", default=0)


_DEPTH = Json.Decoder(_Depth)
_TRADE = Json.Decoder(_Trade | _AggregateTrade)
_QUOTE = Json.Decoder(_Quote)
_KLINE = Json.Decoder(_Kline)
_MARK_PRICE = Json.Decoder(_MarkPrice)


def _require_stream(name: str, symbol: str) -> None:
    """Refuse a wrapper that names another symbol than its payload; a raw frame has no name."""
    if name and name.partition("@")[0].upper() != symbol:
        raise malformed("wrong_stream", f"{symbol[:40]} in {name[:80]}")


def decode_depth(frame: bytes, *, chained: bool) -> DepthUpdate:
    """Read a diff depth frame; ``chained``: the venue sends ``pu`` (futures).

    Raises:
        MalformedFrameError: it is none, or lacks ``pu`` where it must have it.
    """
    name, payload = payload_of(frame)
    depth = decode_json(_DEPTH, payload)
    _require_stream(name, depth.symbol)
    if name and name.partition("@")[2].partition("@")[0] != "depth":
        raise malformed("wrong_stream", f"not a diff stream: {name[:80]}")
    if chained and depth.previous_id < 0:
        raise malformed("missing_field", "a futures update without pu")
    return DepthUpdate(
        symbol=depth.symbol,
        snapshot=False,
        first_id=depth.first_id,
        final_id=depth.final_id,
        previous_id=depth.previous_id if chained else -1,
        ts_event_ns=time_ns(depth.sent),
        ts_match_ns=time_ns(depth.matched),
        cross_sequence=0,
        bids=depth.bids,
        asks=depth.asks,
    )


def decode_trades(frame: bytes, grid: Grid) -> list[Trade]:
    """Read a ``trade`` or ``aggTrade`` frame: always one trade.

    Raises:
        MalformedFrameError: it is neither.
        OffGridError: a value finer than the grid.
    """
    name, payload = payload_of(frame)
    trade = decode_json(_TRADE, payload)
    _require_stream(name, trade.symbol)
    flags = 0
    if isinstance(trade, _AggregateTrade):
        flags = TRADE_FLAG_AGGREGATE
    elif trade.kind != "MARKET":
        flags = TRADE_FLAG_NOT_MARKET
    return [
        Trade(
            trade_id=str(trade.trade_id),
            price_ticks=price_ticks(trade.price, grid),
            quantity_lots=traded_lots(trade.quantity, grid),
            # The maker was the buyer, so the taker sold.
            side=Side.SELL if trade.buyer_is_maker else Side.BUY,
            ts_event_ns=time_ns(trade.sent),
            ts_match_ns=time_ns(trade.matched),
            flags=flags,
        )
    ]


def decode_quote(frame: bytes, grid: Grid) -> Quote:
    """Read a ``bookTicker`` frame.

    Raises:
        MalformedFrameError: it is none.
        OffGridError: a value finer than the grid.
    """
    name, payload = payload_of(frame)
    quote = decode_json(_QUOTE, payload)
    _require_stream(name, quote.symbol)
    return Quote(
        update_id=quote.update_id,
        bid_ticks=price_ticks(quote.bid, grid),
        bid_lots=quantity_lots(quote.bid_quantity, grid),
        ask_ticks=price_ticks(quote.ask, grid),
        ask_lots=quantity_lots(quote.ask_quantity, grid),
        ts_event_ns=time_ns(quote.sent),
        ts_match_ns=time_ns(quote.matched),
    )


def decode_bar(frame: bytes) -> Bar:
    """Read a ``kline`` frame; the close time is the first instant of the next bar.

    Raises:
        MalformedFrameError: it is none.
    """
    name, payload = payload_of(frame)
    kline = decode_json(_KLINE, payload)
    _require_stream(name, kline.symbol)
    candle = kline.candle
    return Bar(
        interval=candle.interval,
        ts_open_ns=time_ns(candle.opened),
        # Sent as the bar's last millisecond or microsecond.
        ts_close_ns=time_ns(candle.closes + 1),
        open=checked_decimal(candle.open, "open"),
        high=checked_decimal(candle.high, "high"),
        low=checked_decimal(candle.low, "low"),
        close=checked_decimal(candle.close, "close"),
        volume=checked_decimal(candle.volume, "volume"),
        turnover=checked_decimal(candle.turnover, "turnover"),
        closed=candle.closed,
        ts_event_ns=time_ns(kline.sent),
    )


def decode_mark_price(frame: bytes) -> MarkPrice:
    """Read a ``markPriceUpdate`` frame.

    Raises:
        MalformedFrameError: it is none.
    """
    name, payload = payload_of(frame)
    mark = decode_json(_MARK_PRICE, payload)
    _require_stream(name, mark.symbol)
    return MarkPrice(
        mark_price=checked_decimal(mark.mark, "mark_price"),
        index_price=checked_decimal(mark.index, "index_price") if mark.index else "",
        funding_rate=checked_decimal(mark.funding, "funding_rate", signed=True) if mark.funding else "",
        ts_next_funding_ns=time_ns(mark.next_funding),
        ts_event_ns=time_ns(mark.sent),
    )


# --- control ----------------------------------------------------------------------------------------------


class _Fault(msgspec.Struct):
    code: int
    msg: str = ""


class _Control(msgspec.Struct):
    """Whatever is not market data; ``result`` may be anything, so only its presence is read."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    code: int | None = None
    msg: str = ""
    error: _Fault | None = None
    event: str = msgspec.field(name="e", default="")


_CONTROL = Json.Decoder(_Control)


def control(frame: bytes) -> ControlReply:
    """Read an answer to a request or a notice such as ``serverShutdown``; never raises.

    Error codes: 0 unknown property, 1 bad value type, 2 invalid request, 3 invalid JSON.
    """
    try:
        reply = decode_json(_CONTROL, frame)
    except MalformedFrameError as error:
        return ControlReply("unknown", str(error.fields["reason"]))
    fault = reply.error
    if fault is None and reply.code is not None:
        fault = _Fault(reply.code, reply.msg)
    if fault is not None:
        return ControlReply("error", f"{fault.code}: {fault.msg}")
    if bytes(reply.result):
        return ControlReply("ack", "" if reply.id is None else str(reply.id))
    if reply.event and reply.event not in _EVENT_CHANNELS:
        return ControlReply("notice", reply.event)
    return ControlReply("unknown", "neither an answer nor a notice")
