"""Port: what a venue family must say about its market data, without touching a socket."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bookrunner.core.enums import Channel, InstrumentKind
from bookrunner.market.book_rule import BookRule
from bookrunner.market.events import Bar, DepthSnapshot, MarkPrice, Quote, Trade
from bookrunner.market.instrument import Grid, Instrument

Words = npt.NDArray[np.int64]
"""A book's memory, see ``kernels.layout``."""


class Stream(msgspec.Struct, frozen=True):
    """One subscribable stream: ``key`` is how its frames announce themselves (stream name or topic)."""

    key: bytes
    channel: Channel
    symbol: str
    detail: str = ""
    """Bar interval, depth speed: whatever the venue adds."""


class ConnectionPlan(msgspec.Struct, frozen=True):
    """One WebSocket connection to make: where, and which streams on it."""

    name: str
    """Stable short name for logs, metrics and the journal, such as ``binance_usdm/public/0``."""
    url: str
    streams: tuple[Stream, ...]


class ConnectionPolicy(msgspec.Struct, frozen=True):
    """What the venue asks of a connection, and what we add; durations in seconds."""

    ping_message: bytes | None
    """Application ping to send, or ``None`` where protocol ping/pong is enough."""
    ping_interval_s: float
    pong_timeout_s: float
    lifetime_s: float
    """Age at which the venue cuts; we reconnect before, staggered."""
    messages_per_second: int
    """Outgoing messages allowed."""
    silence_s: float
    """A stream without data for longer is an error, even when its subscription was acknowledged."""


class RateLimit(msgspec.Struct, frozen=True):
    """What a venue allows one address: ``weight`` per ``window_s``, over all requests together."""

    weight: int
    window_s: int


class RestRequest(msgspec.Struct, frozen=True):
    """A GET to make; the transport adds the base URL, the limits and the retries."""

    path: str
    params: tuple[tuple[str, str], ...]
    weight: int


class ControlReply(msgspec.Struct, frozen=True):
    """A frame that is not market data."""

    kind: str
    """``ack``, ``error``, ``pong``, ``notice`` or ``unknown``."""
    detail: str = ""
    keys: tuple[bytes, ...] = ()
    """Streams that it concerns, where the venue says."""


class DepthRule(BookRule, Protocol):
    """A venue's sequencing rule: what a live book needs of it, and the compiled road's two halves."""

    def scan_frame(self, frame: bytes, words: Words) -> int:
        """First half of ``apply_frame``: bytes into the scratch of ``words``."""
        ...

    def sequence_apply(self, words: Words) -> int:
        """Second half of ``apply_frame``: check the scanned message's sequence and apply it."""
        ...


class VenueFeed(Protocol):
    """One venue (such as ``binance_usdm``): pure translation between its protocol and ours."""

    venue: str
    key_prefix: bytes
    """Leading bytes of a data frame, up to the quote that opens its stream key: ``{"stream":"``."""
    depth_rule: DepthRule
    policy: ConnectionPolicy
    usual_kind: InstrumentKind
    """What most of its instruments are; for recordings without an instrument list."""
    request_limit: RateLimit
    """What the venue allows one address on REST."""

    def streams(self, symbol: str, channels: frozenset[Channel]) -> list[Stream]:
        """Return the streams that bring these channels of a symbol."""
        ...

    def stream_of(self, key: bytes) -> Stream | None:
        """Read a frame's key back into a stream; ``None`` when it is none of ours."""
        ...

    def identify(self, frame: bytes) -> Stream | None:
        """Tell which stream a frame without a key (raw mode) belongs to; slow, ``None`` when unknown."""
        ...

    def plan(self, streams: list[Stream], websocket_url: str) -> list[ConnectionPlan]:
        """Spread streams over connections by the venue's routes and limits."""
        ...

    def subscribe(self, streams: tuple[Stream, ...], request_id: int) -> list[bytes]:
        """Return the messages that subscribe to ``streams``, split by the venue's limits."""
        ...

    def unsubscribe(self, streams: tuple[Stream, ...], request_id: int) -> list[bytes]:
        """Return the messages that end the subscriptions."""
        ...

    def control(self, frame: bytes) -> ControlReply:
        """Read a frame that carries no stream key. Never raises on bad bytes: answers ``unknown``."""
        ...

    def snapshot_request(self, symbol: str) -> RestRequest:
        """Return the request for a depth snapshot."""
        ...

    def decode_snapshot(self, symbol: str, body: bytes) -> DepthSnapshot:
        """Read the answer.

        Raises:
            MalformedFrameError: not a snapshot.
            VenueRejectError: the body is the venue's error form.
        """
        ...

    def instruments_request(self) -> RestRequest:
        """Return the request for the instrument list."""
        ...

    def next_instruments_request(self, body: bytes) -> RestRequest | None:
        """Return the request for the page after ``body``, or ``None`` after the last."""
        ...

    def silence_ns(self, channel: Channel) -> int:
        """How long a stream of this kind may bring nothing before its connection is suspect."""
        ...

    def decode_instruments(self, body: bytes) -> list[Instrument]:
        """Read the answer; symbols that cannot be read are left out, not fatal.

        Raises:
            MalformedFrameError: not an instrument list.
            VenueRejectError: the body is the venue's error form.
        """
        ...

    def scan_trades(self, frame: bytes, words: Words, out: Words) -> int:
        """Scan trades into rows of ``out`` (``TRADE_*``), on the grid in ``words``.

        Returns the row count, or a negative verdict (``-UNEXPECTED``, ``-OFF_GRID``).
        """
        ...

    def decode_trades(self, frame: bytes, grid: Grid) -> list[Trade]:
        """Typed twin of ``scan_trades``.

        Raises:
            MalformedFrameError: not a trade message.
            OffGridError: a value finer than the grid.
        """
        ...

    def scan_quote(self, frame: bytes, words: Words, out: Words) -> int:
        """Scan a best bid/ask message into ``out`` (``QUOTE_*``), on the grid in ``words``.

        Returns 1, or a negative verdict: then ``decode_quote`` is to read it.
        """
        ...

    def decode_quote(self, frame: bytes, grid: Grid) -> Quote | None:
        """Read a best bid/ask message; ``None`` when it states nothing new (partial ticker)."""
        ...

    def decode_bar(self, frame: bytes) -> Bar:
        """Read a candle."""
        ...

    def decode_mark_price(self, frame: bytes) -> MarkPrice | None:
        """Read mark price and funding; ``None`` when the message states neither."""
        ...
