"""The Bybit v5 venues as feeds: ``protocol``, ``rest`` and ``sequencing`` joined over one ``Variant``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import partial
from urllib.parse import urlsplit

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.core.enums import Channel, InstrumentKind
from bookrunner.core.errors import ConfigurationError
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
from bookrunner.kernels.bybit import scan_trades
from bookrunner.kernels.layout import UNEXPECTED
from bookrunner.market.events import Bar, DepthSnapshot, MarkPrice, Quote, Trade
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.venues.bybit import protocol, rest
from bookrunner.venues.bybit.sequencing import BybitDepthRule
from bookrunner.venues.bybit.variants import VARIANTS, Variant
from bookrunner.venues.formats import value_on

LIFETIME_S = 24 * 3600.0
"""Ours: the venue states no bound."""
PING_INTERVAL_S = 20.0
"""The venue asks for ``{"op":"ping"}`` every 20 s and cuts after 10 idle minutes."""
PONG_TIMEOUT_S = 10.0
REQUEST_LIMIT = RateLimit(weight=600, window_s=5)
"""Requests from one address; every request weighs 1."""
MESSAGES_PER_SECOND = 10
"""Ours: the venue bounds connections, not messages."""
REQUESTS, REQUESTS_WINDOW_S = 600, 5
"""BB rate-limit: requests per window of one address; every request weighs 1."""
SILENCE_S = {
    Channel.DEPTH: 10.0,
    # Unchanged, it is repeated every 3 s.
    Channel.QUOTES: 15.0,
    Channel.BARS: 120.0,
    Channel.MARK_PRICE: 60.0,
    Channel.TRADES: 600.0,
}
"""Ours."""

DEPTH = 200
"""Levels a side that the book stream holds."""
QUOTE_DEPTH = 1
"""``orderbook.1`` is the quote stream: every 10 ms, where tickers come every 50 to 100 ms."""
BAR_INTERVAL = "1m"


class BybitFeed:
    """One Bybit category.

    Args:
        variant: which one.
        depth: levels a side of the book stream; with 1, ``orderbook.1`` is the book and there are no quotes.
        bar_interval: such as ``1m``.
        as_of: check ``depth`` against what the venue offered on this day; ``None``: now.

    Raises:
        ConfigurationError: the venue offers no such depth or interval.
    """

    key_prefix = protocol.KEY_PREFIX

    def __init__(
        self,
        variant: Variant,
        *,
        depth: int = DEPTH,
        bar_interval: str = BAR_INTERVAL,
        as_of: date | None = None,
    ) -> None:
        depths = value_on(variant.depths, as_of)
        if depth not in depths:
            raise ConfigurationError("no such depth", field="depth", value=depth, rule=f"one of {depths}")
        intervals = protocol.BAR_INTERVALS
        if bar_interval not in intervals:
            raise ConfigurationError(
                "no such interval",
                field="bar_interval",
                value=bar_interval,
                rule=f"one of {tuple(intervals)}",
            )
        self.variant = variant
        self.venue = variant.venue
        self.usual_kind = InstrumentKind.SPOT if variant.category == "spot" else InstrumentKind.PERPETUAL
        self.depth_rule: DepthRule = BybitDepthRule()
        self.request_limit = RateLimit(REQUESTS, REQUESTS_WINDOW_S)
        self.policy = ConnectionPolicy(
            ping_message=protocol.PING,
            ping_interval_s=PING_INTERVAL_S,
            pong_timeout_s=PONG_TIMEOUT_S,
            lifetime_s=LIFETIME_S,
            messages_per_second=MESSAGES_PER_SECOND,
            silence_s=SILENCE_S[Channel.DEPTH],
        )
        self.request_limit = REQUEST_LIMIT
        self._quote_depth = 0 if depth == QUOTE_DEPTH else QUOTE_DEPTH
        self._topics = {
            Channel.DEPTH: f"orderbook.{depth}.",
            Channel.TRADES: "publicTrade.",
            Channel.BARS: f"kline.{intervals[bar_interval]}.",
            Channel.MARK_PRICE: "tickers.",
        }
        if self._quote_depth:
            self._topics[Channel.QUOTES] = f"orderbook.{QUOTE_DEPTH}."
        self._tickers = protocol.Tickers()

    # --- streams ----------------------------------------------------------------------------------------

    def streams(self, symbol: str, channels: frozenset[Channel]) -> list[Stream]:
        """Return one stream a channel; channels that the venue lacks are left out."""
        wanted = channels & self.variant.channels & self._topics.keys()
        topics = [self._topics[channel] + symbol for channel in Channel if channel in wanted]
        found = (protocol.stream_of_topic(topic, self._quote_depth) for topic in topics)
        return [stream for stream in found if stream is not None]

    def stream_of(self, key: bytes) -> Stream | None:
        """Read a topic back."""
        return protocol.stream_of_topic(key.decode("utf-8", "replace"), self._quote_depth)

    def identify(self, frame: bytes) -> Stream | None:
        """Tell the stream of a frame whose topic does not stand first."""
        topic = protocol.topic_of(frame)
        return None if topic is None else protocol.stream_of_topic(topic, self._quote_depth)

    def plan(self, streams: list[Stream], websocket_url: str) -> list[ConnectionPlan]:
        """Fill connections up to the venue's total of topic characters."""
        groups: list[list[Stream]] = []
        characters = protocol.ARGUMENT_CHARACTERS_PER_CONNECTION
        for stream in streams:
            if characters + len(stream.key) > protocol.ARGUMENT_CHARACTERS_PER_CONNECTION:
                groups.append([])
                characters = 0
            groups[-1].append(stream)
            characters += len(stream.key)
        url = f"{websocket_url.rstrip('/')}/v5/public/{self.variant.category}"
        return [
            ConnectionPlan(name=f"{self.venue}/{number}", url=url, streams=tuple(group))
            for number, group in enumerate(groups)
        ]

    def subscribe(self, streams: tuple[Stream, ...], request_id: int) -> list[bytes]:
        """Return ``subscribe`` messages."""
        return protocol.operation_messages(
            "subscribe", streams, request_id, self.variant.arguments_per_request
        )

    def unsubscribe(self, streams: tuple[Stream, ...], request_id: int) -> list[bytes]:
        """Return ``unsubscribe`` messages."""
        return protocol.operation_messages(
            "unsubscribe", streams, request_id, self.variant.arguments_per_request
        )

    def control(self, frame: bytes) -> ControlReply:
        """Read an answer or a pong."""
        return protocol.control(frame)

    def silence_ns(self, channel: Channel) -> int:
        """How long a stream of this kind may bring nothing."""
        return int(SILENCE_S[channel] * NANOSECONDS_PER_SECOND)

    # --- REST -------------------------------------------------------------------------------------------

    def snapshot_request(self, symbol: str) -> RestRequest:
        """Ask for the order book; not used to sync, see ``rest.snapshot_request``."""
        return rest.snapshot_request(self.variant, symbol)

    def decode_snapshot(self, symbol: str, body: bytes) -> DepthSnapshot:
        """Read an order-book answer."""
        return rest.decode_snapshot(symbol, body)

    def instruments_request(self) -> RestRequest:
        """Ask for the first page of instruments."""
        return rest.instruments_request(self.variant)

    def next_instruments_request(self, body: bytes) -> RestRequest | None:
        """Ask for the page after ``body``."""
        return rest.next_instruments_request(self.variant, body)

    def decode_instruments(self, body: bytes) -> list[Instrument]:
        """Read a page of instruments."""
        return rest.decode_instruments(self.variant, body)

    # --- frames -----------------------------------------------------------------------------------------

    def scan_trades(self, frame: bytes, words: Words, out: Words) -> int:
        """Scan with the kernel."""
        count: int = scan_trades(frame, words, out)
        return count

    def decode_trades(self, frame: bytes, grid: Grid) -> list[Trade]:
        """Read ``publicTrade``."""
        return protocol.decode_trades(frame, grid)

    def scan_quote(self, frame: bytes, words: Words, out: Words) -> int:
        """Leave it to the typed decoder: ``orderbook.1`` has no scanner of its own."""
        del frame, words, out
        return -UNEXPECTED

    def decode_quote(self, frame: bytes, grid: Grid) -> Quote | None:
        """Read ``orderbook.1``."""
        return protocol.decode_quote(frame, grid)

    def decode_bar(self, frame: bytes) -> Bar:
        """Read ``kline``."""
        return protocol.decode_bar(frame)

    def decode_mark_price(self, frame: bytes) -> MarkPrice | None:
        """Read ``tickers``, remembering what deltas leave out."""
        return self._tickers.mark_price(frame)


FEEDS: dict[str, Callable[..., VenueFeed]] = {
    venue: partial(BybitFeed, variant) for venue, variant in VARIANTS.items()
}
"""Makes the feed of each venue id; keyword arguments as ``BybitFeed``'s."""

_SHAPES = {
    # What follows the topic differs by product; candles look the same everywhere.
    b"type": "bybit_linear",
    b"ts": "bybit_spot",
}
_TOPIC_FIRST = re.compile(rb'^\{"topic": ?"(?:orderbook\.\d+|publicTrade|tickers)\.[^"]+", ?"(type|ts)":')


def detect_venue(frame: bytes, url: str | None = None) -> str | None:
    """Tell which Bybit v5 venue a recorded frame is from, by its URL or else by its order of keys.

    Returns ``None`` for other venues, for the protocols before v5, and when the frame does not say.
    """
    parts = urlsplit(url) if url else None
    if parts is not None and parts.hostname:
        for variant in VARIANTS.values():
            if parts.hostname.endswith(variant.hosts):
                stated = f"/v5/public/{variant.category}" == parts.path.rstrip("/")
                if stated or f"category={variant.category}" in parts.query.split("&"):
                    return variant.venue
        return None
    shape = _TOPIC_FIRST.match(frame)
    return _SHAPES[shape[1]] if shape else None
