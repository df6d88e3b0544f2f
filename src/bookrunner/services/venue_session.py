"""One venue's market data, from raw messages to events: everything but the sockets.

A session routes each message by its stream key to a book, a trade scanner or a decoder, and passes what
came of it to the sinks. It is sans-IO: the same session serves live connections and recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import structlog

from bookrunner.core.enums import Channel
from bookrunner.core.errors import BookrunnerError, MalformedFrameError, OffGridError, UnknownSymbolError
from bookrunner.engine.ports.market_sink import MarketSink
from bookrunner.engine.ports.venue_feed import ControlReply, Stream, VenueFeed
from bookrunner.kernels import layout
from bookrunner.market.events import BookStateChanged, Quote
from bookrunner.market.instrument import Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.market.quotes import quote_of_row
from bookrunner.market.trades import trades_of_rows

log = structlog.get_logger(__name__)

Route = Callable[[bytes, int], object]

MAX_REFINEMENTS = 8
"""Times one message may refine the grid: once per finer value in it is rarely needed."""
LOGGED_BYTES = 200
"""Bytes of a bad message that a log line shows."""


class SessionOwner(Protocol):
    """What a session asks of whoever owns its connections."""

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        """An update was applied; the sinks are told next."""
        ...

    def needs_snapshot(self, live: LiveBook) -> None:
        """Fetch a snapshot, or resubscribe where the stream begins with one."""
        ...

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        """Journal and log what went wrong with a book."""
        ...

    def on_control(self, reply: ControlReply, frame: bytes) -> None:
        """A message that is not market data."""
        ...


class SessionCounters:
    """Counts of one venue's session, beside those that live in the books."""

    __slots__ = ("bad_messages", "control", "trades", "unknown_keys")

    def __init__(self) -> None:
        self.bad_messages = 0
        self.control = 0
        self.trades = 0
        self.unknown_keys = 0


class VenueSession:
    """Routes one venue's messages.

    Args:
        feed: the venue's protocol.
        books: where the session's books are registered.
        sinks: told of every event, in this order.
        owner: asked for snapshots.
        strict: see ``LiveBook``.
    """

    def __init__(
        self,
        feed: VenueFeed,
        books: LiveBooks,
        sinks: list[MarketSink],
        owner: SessionOwner,
        *,
        strict: bool = True,
    ) -> None:
        self.feed = feed
        self.counters = SessionCounters()
        self._books = books
        self._sinks = sinks
        self._owner = owner
        self._strict = strict
        self._routes: dict[bytes, Route] = {}
        self._prefix = len(feed.key_prefix)
        self._trade_rows = np.zeros((layout.MAX_TRADES, layout.TRADE_WIDTH), dtype=np.int64)
        self._quote_row = np.zeros(layout.QUOTE_WIDTH, dtype=np.int64)

    # --- what is followed -------------------------------------------------------------------------------

    def follow(self, instrument: Instrument, *, grid_inferred: bool = False) -> LiveBook:
        """Start a book for an instrument; frames reach it once its streams are routed."""
        live = LiveBook(
            instrument, self.feed.depth_rule, self, grid_inferred=grid_inferred, strict=self._strict
        )
        self._books.add(live)
        return live

    def route(self, stream: Stream, live: LiveBook) -> None:
        """Send the frames of ``stream`` to ``live``."""
        self._routes[stream.key] = self._handler(stream, live)

    def _handler(self, stream: Stream, live: LiveBook) -> Route:
        if stream.channel is Channel.DEPTH:
            return live.on_frame
        handlers: dict[Channel, Callable[[LiveBook, bytes, int], None]] = {
            Channel.TRADES: self._on_trades,
            Channel.QUOTES: self._on_quote,
            Channel.BARS: self._on_bar,
            Channel.MARK_PRICE: self._on_mark_price,
        }
        handle = handlers[stream.channel]

        def guarded(frame: bytes, ts_recv_ns: int) -> None:
            try:
                self._on_grid(handle, live, frame, ts_recv_ns)
            except BookrunnerError as error:
                self._bad(error, frame)

        return guarded

    @staticmethod
    def _on_grid(
        handle: Callable[[LiveBook, bytes, int], None], live: LiveBook, frame: bytes, ts_recv_ns: int
    ) -> None:
        """Handle a message, refining the book's grid when the message holds a finer value."""
        for _ in range(MAX_REFINEMENTS):
            try:
                handle(live, frame, ts_recv_ns)
            except OffGridError as error:
                live.refine(
                    str(error.fields.get("price", "")), str(error.fields.get("quantity", "")), ts_recv_ns
                )
            else:
                return
        handle(live, frame, ts_recv_ns)

    def is_routed(self, key: bytes) -> bool:
        """Whether messages of this stream key have somewhere to go."""
        return key in self._routes

    def key_of(self, frame: bytes) -> bytes:
        """Return the stream key that a message announces itself with; nonsense for control messages."""
        return frame[self._prefix : frame.find(b'"', self._prefix)]

    # --- messages ---------------------------------------------------------------------------------------

    def on_message(self, frame: bytes, ts_recv_ns: int) -> bytes:
        """Take one whole message; return its stream key (empty for control messages)."""
        start = self._prefix
        key = frame[start : frame.find(b'"', start)]
        route = self._routes.get(key)
        if route is None:
            return self._unrouted(key, frame, ts_recv_ns)
        route(frame, ts_recv_ns)
        return key

    def _unrouted(self, key: bytes, frame: bytes, ts_recv_ns: int) -> bytes:
        if frame.startswith(self.feed.key_prefix):
            self.counters.unknown_keys += 1
            self._bad(
                UnknownSymbolError("a stream that nobody subscribed to", key=key[:80].decode("latin-1")),
                frame,
            )
            return b""
        stream = self.feed.identify(frame)
        if stream is not None and stream.key in self._routes:
            self._routes[stream.key](frame, ts_recv_ns)
            return stream.key
        self.counters.control += 1
        reply = self.feed.control(frame)
        if reply.kind == "unknown":
            self._bad(
                MalformedFrameError("neither market data nor a control message", reason=reply.detail), frame
            )
        self._owner.on_control(reply, frame)
        return b""

    def _bad(self, error: BookrunnerError, frame: bytes) -> None:
        self.counters.bad_messages += 1
        log.warning(
            "bad_message",
            venue=self.feed.venue,
            code=error.code,
            error=str(error),
            length=len(frame),
            frame=frame[:LOGGED_BYTES].decode("utf-8", "replace"),
        )

    def _on_trades(self, live: LiveBook, frame: bytes, ts_recv_ns: int) -> None:
        count = self.feed.scan_trades(frame, live.book.words, self._trade_rows)
        if count >= 0:
            trades = trades_of_rows(self._trade_rows, count)
        else:
            trades = self.feed.decode_trades(frame, live.instrument.grid)
        self.counters.trades += len(trades)
        for sink in self._sinks:
            sink.on_trades(live, trades, ts_recv_ns)

    def _on_quote(self, live: LiveBook, frame: bytes, ts_recv_ns: int) -> None:
        quote: Quote | None
        if self.feed.scan_quote(frame, live.book.words, self._quote_row) > 0:
            quote = quote_of_row(self._quote_row)
        else:
            quote = self.feed.decode_quote(frame, live.instrument.grid)
        if quote is not None:
            for sink in self._sinks:
                sink.on_quote(live, quote, ts_recv_ns)

    def _on_bar(self, live: LiveBook, frame: bytes, ts_recv_ns: int) -> None:
        bar = self.feed.decode_bar(frame)
        for sink in self._sinks:
            sink.on_bar(live, bar, ts_recv_ns)

    def _on_mark_price(self, live: LiveBook, frame: bytes, ts_recv_ns: int) -> None:
        mark = self.feed.decode_mark_price(frame)
        if mark is not None:
            for sink in self._sinks:
                sink.on_mark_price(live, mark, ts_recv_ns)

    # --- BookOwner --------------------------------------------------------------------------------------

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        """Pass an applied update to the sinks."""
        self._owner.on_applied(live, ts_recv_ns)
        for sink in self._sinks:
            sink.on_book(live, ts_recv_ns)

    def on_state(self, live: LiveBook, change: BookStateChanged) -> None:
        """Pass a change of state to the sinks."""
        for sink in self._sinks:
            sink.on_book_state(live, change)

    def needs_snapshot(self, live: LiveBook) -> None:
        """Pass the book's need on."""
        self._owner.needs_snapshot(live)

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        """Pass evidence on."""
        self._owner.on_evidence(live, event, fields)
