"""The Binance venues as data: what differs between them, and what changed when.

Sources: developers.binance.com, USD-M ``websocket-market-streams``, ``general-info``, ``Order-Book`` and the
derivatives change log (BND, BNC); ``binance-spot-api-docs`` ``web-socket-streams.md``, ``rest-api.md`` and
``CHANGELOG.md`` (BNS). What no document states is marked "ours": a policy, not a fact.
"""

from __future__ import annotations

from datetime import date

import msgspec

from bookrunner.core.enums import Channel, InstrumentKind
from bookrunner.kernels.layout import RULE_BINANCE_FUTURES, RULE_BINANCE_SPOT
from bookrunner.venues.formats import Dated, FieldNames, History

Paths = dict[Channel, str]
"""WebSocket path that serves each channel; channels of different paths need connections of their own."""

USDM_ROUTED = date(2026, 4, 23)
"""Since then USD-M streams are split over ``/public`` and ``/market``; the wrong one acks and stays mute."""
INTEGRATED = date(2026, 6, 30)
"""Since then USD-M and COIN-M payloads carry ``ps`` (pair) and ``st`` (1 USD-M, 2 COIN-M)."""

_UNROUTED: Paths = dict.fromkeys(Channel, "/stream")
_ROUTED: Paths = {
    Channel.DEPTH: "/public/stream",
    Channel.QUOTES: "/public/stream",
    Channel.TRADES: "/market/stream",
    Channel.BARS: "/market/stream",
    Channel.MARK_PRICE: "/market/stream",
}
_ALL = frozenset(Channel)


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One Binance venue."""

    venue: str
    rule: int
    """``kernels.layout.RULE_*``."""
    hosts: tuple[str, ...]
    """Names under which recordings of this venue were made; a leading dot matches subdomains."""
    paths: History[Paths]
    channels: frozenset[Channel]
    trade_stream: str
    """Default trade stream: ``trade`` is undocumented on futures, so ``aggTrade`` there."""
    depth_path: str
    depth_limit: int
    depth_weight: int
    instruments_path: str
    instruments_weight: int
    default_kind: InstrumentKind | None
    """Kind of every instrument, or ``None`` where the list says it."""
    request_weight_per_minute: int
    messages_per_second: int
    events: dict[str, History[FieldNames]]
    """Keys of each event's payload over time; the decoders read all of them."""


_NOW = None
_TRADE = ("e", "E", "T", "s", "t", "p", "q", "X", "m")
_AGGREGATE = ("e", "E", "a", "s", "p", "q", "f", "l", "T", "m")
_AGGREGATE_RPI = ("e", "E", "a", "s", "p", "q", "nq", "f", "l", "T", "m")
_USDM_DEPTH = ("e", "E", "T", "s", "U", "u", "pu", "b", "a")
_COINM_DEPTH = ("e", "E", "T", "s", "ps", "U", "u", "pu", "b", "a")
_USDM_QUOTE = ("e", "u", "s", "b", "B", "a", "A", "T", "E")
_COINM_QUOTE = ("u", "e", "s", "ps", "b", "B", "a", "A", "T", "E")

_USDM_EVENTS: dict[str, History[FieldNames]] = {
    "depthUpdate": (
        Dated(INTEGRATED, _USDM_DEPTH),
        Dated(_NOW, (*_USDM_DEPTH, "ps", "st"), "BNC 2026-06-30; BNSDK 12.0.0"),
    ),
    "aggTrade": (
        Dated(date(2025, 12, 31), _AGGREGATE),
        Dated(INTEGRATED, _AGGREGATE_RPI, "BNC 2025-12-31"),
        Dated(_NOW, (*_AGGREGATE_RPI, "ps", "st"), "BNC 2026-06-30"),
    ),
    "trade": (Dated(_NOW, _TRADE, "undocumented; JKorf/Binance.Net#1218"),),
    "bookTicker": (Dated(INTEGRATED, _USDM_QUOTE), Dated(_NOW, (*_USDM_QUOTE, "ps", "st"), "BNC 2026-06-30")),
    "markPriceUpdate": (
        Dated(date(2026, 3, 16), ("e", "E", "s", "p", "P", "i", "r", "T")),
        Dated(_NOW, ("e", "E", "s", "p", "ap", "P", "i", "r", "T"), "BNC 2026-03-16"),
    ),
}
_COINM_EVENTS: dict[str, History[FieldNames]] = {
    "depthUpdate": (
        Dated(INTEGRATED, _COINM_DEPTH),
        Dated(_NOW, (*_COINM_DEPTH, "st"), "BNC 2026-06-30; place of st uncertain"),
    ),
    "aggTrade": (Dated(_NOW, ("e", "E", "a", "s", "p", "q", "f", "l", "T", "m")),),
    "trade": (Dated(_NOW, _TRADE),),
    "bookTicker": (Dated(_NOW, _COINM_QUOTE),),
    "markPriceUpdate": (Dated(_NOW, ("e", "E", "s", "p", "P", "r", "T")),),
}
_SPOT_EVENTS: dict[str, History[FieldNames]] = {
    "depthUpdate": (Dated(_NOW, ("e", "E", "s", "U", "u", "b", "a")),),
    "aggTrade": (Dated(_NOW, ("e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "M")),),
    "trade": (
        # b and a were the orders' ids: not the book's sides, and a is not the aggregate's id.
        Dated(date(2024, 6, 5), ("e", "E", "s", "t", "p", "q", "b", "a", "T", "m", "M")),
        Dated(_NOW, ("e", "E", "s", "t", "p", "q", "T", "m", "M"), "BNS CHANGELOG 2024-06-05"),
    ),
    "bookTicker": (Dated(_NOW, ("u", "s", "b", "B", "a", "A")),),
}

USDM = Variant(
    venue="binance_usdm",
    rule=RULE_BINANCE_FUTURES,
    hosts=("fstream.binance.com", "fapi.binance.com", "fstream.binancefuture.com", "demo-fapi.binance.com"),
    paths=(Dated(USDM_ROUTED, _UNROUTED), Dated(_NOW, _ROUTED, "BND Important-WebSocket-Change-Notice")),
    channels=_ALL,
    trade_stream="aggTrade",
    depth_path="/fapi/v1/depth",
    depth_limit=1000,
    depth_weight=20,
    instruments_path="/fapi/v1/exchangeInfo",
    instruments_weight=1,
    default_kind=None,
    request_weight_per_minute=2400,
    messages_per_second=10,
    events=_USDM_EVENTS,
)

COINM = Variant(
    venue="binance_coinm",
    rule=RULE_BINANCE_FUTURES,
    hosts=("dstream.binance.com", "dapi.binance.com", "dstream.binancefuture.com"),
    paths=(Dated(_NOW, _UNROUTED),),
    channels=_ALL,
    trade_stream="aggTrade",
    depth_path="/dapi/v1/depth",
    depth_limit=1000,
    depth_weight=20,
    instruments_path="/dapi/v1/exchangeInfo",
    instruments_weight=1,
    default_kind=None,
    request_weight_per_minute=2400,
    messages_per_second=10,
    events=_COINM_EVENTS,
)

SPOT = Variant(
    venue="binance_spot",
    rule=RULE_BINANCE_SPOT,
    hosts=("stream.binance.com", "api.binance.com", "www.binance.com", ".binance.vision"),
    paths=(Dated(_NOW, _UNROUTED),),
    channels=_ALL - {Channel.MARK_PRICE},
    trade_stream="trade",
    depth_path="/api/v3/depth",
    depth_limit=5000,
    depth_weight=250,
    instruments_path="/api/v3/exchangeInfo",
    instruments_weight=20,
    default_kind=InstrumentKind.SPOT,
    request_weight_per_minute=6000,
    messages_per_second=5,
    events=_SPOT_EVENTS,
)

US = msgspec.structs.replace(
    SPOT,
    venue="binance_us",
    hosts=(".binance.us",),
    # Ours: the spot documents are Binance.com's; a smaller snapshot and budget stay safe on either.
    depth_limit=1000,
    depth_weight=50,
    request_weight_per_minute=1200,
)

VARIANTS: dict[str, Variant] = {variant.venue: variant for variant in (USDM, COINM, SPOT, US)}
