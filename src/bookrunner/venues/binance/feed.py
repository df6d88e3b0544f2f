"""The Binance venues as feeds: ``protocol``, ``rest`` and ``sequencing`` joined over one ``Variant``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import partial
from urllib.parse import urlsplit

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.core.enums import Channel, InstrumentKind
from bookrunner.engine.ports.venue_feed import (
    ConnectionPlan,
    ConnectionPolicy,
    ControlReply,
    DepthRule,
    RateLimit,
    RestRequest,
    Stream,
    VenueFeed,
    Words,
)
from bookrunner.kernels.binance import scan_quote, scan_trades
from bookrunner.market.events import Bar, DepthSnapshot, MarkPrice, Quote, Trade
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.venues.binance import protocol, rest
from bookrunner.venues.binance.sequencing import BinanceDepthRule
from bookrunner.venues.binance.variants import VARIANTS, Variant
from bookrunner.venues.formats import value_on

LIFETIME_S = 24 * 3600.0
"""The venue cuts every connection at 24 hours."""
PING_INTERVAL_S = 30.0
"""Ours: protocol pings, beside the server's own; each counts as one outgoing message."""
PONG_TIMEOUT_S = 10.0
"""Ours."""
SILENCE_S = {
    Channel.DEPTH: 10.0,
    Channel.QUOTES: 60.0,
    Channel.BARS: 120.0,
    Channel.MARK_PRICE: 15.0,
    Channel.TRADES: 600.0,
}
"""Ours: a live symbol's book moves every second; trades of a thin one may pause for minutes."""

DEPTH_STREAM = "depth@100ms"
BAR_INTERVAL = "1m"
_SUFFIXES = {Channel.QUOTES: "bookTicker", Channel.MARK_PRICE: "markPrice@1s"}


class BinanceFeed:
    """One Binance venue.

    Args:
        variant: which one.
        depth_stream: ``depth@100ms``, ``depth``, ``depth@500ms`` or the undocumented ``depth@0ms``.
        trade_stream: ``trade`` or ``aggTrade``; ``None`` takes the venue's documented one.
        bar_interval: such as ``1m``.
        as_of: speak as the venue did on this day (unrouted URLs before 2026-04-23); ``None``: today's way.
    """

    key_prefix = protocol.KEY_PREFIX

    def __init__(
        self,
        variant: Variant,
        *,
        depth_stream: str = DEPTH_STREAM,
        trade_stream: str | None = None,
        bar_interval: str = BAR_INTERVAL,
        as_of: date | None = None,
    ) -> None:
        self.variant = variant
        self.venue = variant.venue
        self.usual_kind = variant.default_kind or InstrumentKind.PERPETUAL
        self.depth_rule: DepthRule = BinanceDepthRule(variant.rule)
        self.request_limit = RateLimit(variant.request_weight_per_minute, 60)
        self.policy = ConnectionPolicy(
            ping_message=None,
            ping_interval_s=PING_INTERVAL_S,
            pong_timeout_s=PONG_TIMEOUT_S,
            lifetime_s=LIFETIME_S,
            messages_per_second=variant.messages_per_second,
            silence_s=SILENCE_S[Channel.DEPTH],
        )
        self.request_limit = RateLimit(weight=variant.request_weight_per_minute, window_s=60)
        self._suffixes = {
            **_SUFFIXES,
            Channel.DEPTH: depth_stream,
            Channel.TRADES: trade_stream or variant.trade_stream,
            Channel.BARS: f"kline_{bar_interval}",
        }
        self._paths = value_on(variant.paths, as_of)

    # --- streams ----------------------------------------------------------------------------------------

    def streams(self, symbol: str, channels: frozenset[Channel]) -> list[Stream]:
        """Return one stream a channel; channels that the venue lacks are left out."""
        wanted = (channel for channel in Channel if channel in channels & self.variant.channels)
        return [protocol.stream_of(symbol, channel, self._suffixes[channel]) for channel in wanted]

    def stream_of(self, key: bytes) -> Stream | None:
        """Read a stream name back."""
        return protocol.stream_of_name(key.decode("utf-8", "replace"))

    def identify(self, frame: bytes) -> Stream | None:
        """Tell the stream of a raw-mode or oddly ordered frame."""
        return protocol.identify(frame)

    def plan(self, streams: list[Stream], websocket_url: str) -> list[ConnectionPlan]:
        """One connection a path and 1,024 streams: a connection cannot mix paths."""
        by_path: dict[str, list[Stream]] = {}
        for stream in streams:
            by_path.setdefault(self._paths[stream.channel], []).append(stream)
        most = protocol.STREAMS_PER_CONNECTION
        return [
            ConnectionPlan(
                name=f"{self.venue}{path.removesuffix('/stream')}/{number}",
                url=websocket_url.rstrip("/") + path,
                streams=tuple(members[number * most : (number + 1) * most]),
            )
            for path, members in by_path.items()
            for number in range(-(-len(members) // most))
        ]

    def subscribe(self, streams: tuple[Stream, ...], request_id: int) -> list[bytes]:
        """Return ``SUBSCRIBE`` messages."""
        return protocol.method_messages("SUBSCRIBE", streams, request_id)

    def unsubscribe(self, streams: tuple[Stream, ...], request_id: int) -> list[bytes]:
        """Return ``UNSUBSCRIBE`` messages."""
        return protocol.method_messages("UNSUBSCRIBE", streams, request_id)

    def control(self, frame: bytes) -> ControlReply:
        """Read an answer or a notice."""
        return protocol.control(frame)

    def silence_ns(self, channel: Channel) -> int:
        """How long a stream of this kind may bring nothing."""
        return int(SILENCE_S[channel] * NANOSECONDS_PER_SECOND)

    # --- REST -------------------------------------------------------------------------------------------

    def snapshot_request(self, symbol: str) -> RestRequest:
        """Ask for the deepest snapshot."""
        return rest.snapshot_request(self.variant, symbol)

    def decode_snapshot(self, symbol: str, body: bytes) -> DepthSnapshot:
        """Read a depth answer."""
        return rest.decode_snapshot(symbol, body)

    def instruments_request(self) -> RestRequest:
        """Ask for every instrument."""
        return rest.instruments_request(self.variant)

    def next_instruments_request(self, body: bytes) -> RestRequest | None:
        """There is one page only."""
        del body
        return None

    def decode_instruments(self, body: bytes) -> list[Instrument]:
        """Read an ``exchangeInfo`` answer."""
        return rest.decode_instruments(self.variant, body)

    # --- frames -----------------------------------------------------------------------------------------

    def scan_trades(self, frame: bytes, words: Words, out: Words) -> int:
        """Scan with the kernel."""
        count: int = scan_trades(frame, words, out)
        return count

    def decode_trades(self, frame: bytes, grid: Grid) -> list[Trade]:
        """Read ``trade`` or ``aggTrade``."""
        return protocol.decode_trades(frame, grid)

    def scan_quote(self, frame: bytes, words: Words, out: Words) -> int:
        """Scan with the kernel."""
        verdict: int = scan_quote(frame, words, out)
        return verdict

    def decode_quote(self, frame: bytes, grid: Grid) -> Quote | None:
        """Read ``bookTicker``."""
        return protocol.decode_quote(frame, grid)

    def decode_bar(self, frame: bytes) -> Bar:
        """Read ``kline``."""
        return protocol.decode_bar(frame)

    def decode_mark_price(self, frame: bytes) -> MarkPrice | None:
        """Read ``markPriceUpdate``."""
        return protocol.decode_mark_price(frame)


FEEDS: dict[str, Callable[..., VenueFeed]] = {
    venue: partial(BinanceFeed, variant) for venue, variant in VARIANTS.items()
}
"""Makes the feed of each venue id; keyword arguments as ``BinanceFeed``'s."""

_DETECT_BYTES = 400
"""Leading bytes that tell the venue: everything but the levels."""
_COINM_SYMBOL = re.compile(rb'"s(?:ymbol)?": ?"[A-Z0-9]+USD_(?:PERP|\d{6})"')
_STREAM_TYPE = re.compile(rb'"st": ?(\d)')
_EVENT = re.compile(rb'"e": ?"(depthUpdate|aggTrade|trade|bookTicker|kline|markPriceUpdate)"')
_BARE_QUOTE = re.compile(rb'\{"u": ?\d+, ?"s": ?"[^"]+", ?"b": ?"')
_SNAPSHOT = re.compile(rb'^\{"lastUpdateId": ?\d+, ?"')
_STREAM_TYPES = {b"1": "binance_usdm", b"2": "binance_coinm"}


def detect_venue(frame: bytes, url: str | None = None) -> str | None:
    """Tell which Binance venue a recorded frame is from, by its URL or else by its shape.

    Binance.US looks like spot: without a URL it is told as ``binance_spot``, whose rules are the same.
    Returns ``None`` when it is none of them, or when the frame does not say.
    """
    host = urlsplit(url).hostname if url else None
    if host:
        for variant in VARIANTS.values():
            if any(host == name or (name[0] == "." and host.endswith(name)) for name in variant.hosts):
                return variant.venue
    return _venue_of_shape(frame)


def _venue_of_shape(frame: bytes) -> str | None:
    head = frame[:_DETECT_BYTES]
    stated = _STREAM_TYPE.search(frame[-_DETECT_BYTES:])
    if stated and stated[1] in _STREAM_TYPES and _EVENT.search(head):
        return _STREAM_TYPES[stated[1]]
    if _COINM_SYMBOL.search(head):
        return "binance_coinm"
    if _SNAPSHOT.search(head):
        return "binance_usdm" if b'"E"' in head else "binance_spot"
    event = _EVENT.search(head)
    if event is None:
        return "binance_spot" if _BARE_QUOTE.search(head) else None
    futures_only = {
        b"depthUpdate": b'"pu"' in head,
        b"trade": b'"X"' in head,
        b"aggTrade": b'"M"' not in head,
        b"bookTicker": True,
        b"markPriceUpdate": True,
    }
    # A candle is the same everywhere.
    futures = futures_only.get(event[1])
    return None if futures is None else "binance_usdm" if futures else "binance_spot"
