"""Plays recordings through the connectors' own code, without a socket.

Symbols are discovered from the frames. An instrument list is used when the recording holds one; otherwise
each book's tick and lot are the greatest common divisors of its snapshot's values, refined when a finer
value comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import merge
from itertools import repeat
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import structlog

from bookrunner.core.enums import Channel
from bookrunner.core.errors import BookrunnerError, InvalidRequestError
from bookrunner.engine.ports.market_sink import MarketSink
from bookrunner.engine.ports.venue_feed import ControlReply, Stream, VenueFeed
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.venue_session import VenueSession
from bookrunner.wire.recording import RecordedKind, RecordedMessage

log = structlog.get_logger(__name__)

UNKNOWN_GRID = Grid(0, 1, 0, 1)
"""Stands in until the first snapshot tells the grid."""
ONE_LEVEL = "1"
"""``Stream.detail`` of a quote stream whose messages are books of one level (Bybit ``orderbook.1``)."""
_SNAPSHOT_MARK = b'"lastUpdateId"'
_MARK_WITHIN = 20
"""A Binance snapshot names its id within its first bytes."""
_KEYED = (b'{"stream":"', b'{"topic":"')
"""How frames begin that announce their stream."""
_KEY_END_FROM = 11
"""Where to look for the quote that closes the key of a keyed frame."""


class RecordingPlayer:
    """Feeds recorded messages to one session per venue.

    Args:
        make_feed: venue id to protocol; raises ``KeyError`` for unknown ids.
        detect_venue: tells a frame's venue from the frame and the URL it was recorded from, or ``None``.
        venue: the venue of all frames, where they do not tell.
        sinks: told of every event.
    """

    def __init__(
        self,
        make_feed: Callable[[str], VenueFeed],
        detect_venue: Callable[[bytes, str], str | None],
        *,
        venue: str | None = None,
        sinks: Iterable[MarketSink] = (),
    ) -> None:
        self.books = LiveBooks()
        self.unrecognised = 0
        """Messages whose venue or book could not be told, or that are no venue's."""
        self.unread = 0
        """Recorded answers that are not what the venue sends."""
        self._make_feed = make_feed
        self._detect = detect_venue
        self._venue = venue
        self._sinks = list(sinks)
        self._sessions: dict[str, VenueSession] = {}
        self._session_of: dict[tuple[int, str, bytes], VenueSession] = {}
        self._venue_of_url: dict[str, str | None] = {}
        self._listed: dict[tuple[str, str], Instrument] = {}
        self._origin = 0
        self._seen_in: dict[int, list[LiveBook]] = {}
        self._early_snapshots: dict[int, RecordedMessage] = {}
        self._deep: set[tuple[str, str]] = set()
        self._shallow: dict[tuple[str, str], Stream] = {}

    def play(self, *recordings: Iterable[RecordedMessage]) -> None:
        """Play recordings together, in the order of their receive times."""
        tagged = [zip(repeat(origin), messages) for origin, messages in enumerate(recordings)]
        for origin, message in merge(*tagged, key=lambda item: item[1].ts_recv_ns):
            self.take(message, origin)

    def take(self, message: RecordedMessage, origin: int = 0) -> None:
        """Play one message of the recording numbered ``origin``."""
        self._origin = origin
        if message.kind is RecordedKind.FRAME:
            self._frame(message)
        elif message.kind is RecordedKind.REST:
            self._rest(message)
        if self._early_snapshots:
            self._offer_early_snapshot()

    # --- frames -----------------------------------------------------------------------------------------

    def _frame(self, message: RecordedMessage) -> None:
        frame = message.payload
        if _SNAPSHOT_MARK in frame[:_MARK_WITHIN]:
            self._rest(message)
            return
        # Within one recording and URL a stream's name belongs to one venue: it is told once.
        known = (self._origin, message.url, frame[: frame.find(b'"', _KEY_END_FROM)])
        session = self._session_of.get(known)
        if session is None:
            session = self._session_for(frame, message.url)
            if session is None:
                self.unrecognised += 1
                return
            if not session.is_routed(session.key_of(frame)):
                self._discover(session, message)
            if frame.startswith(_KEYED) and session.is_routed(session.key_of(frame)):
                self._session_of[known] = session
        session.on_message(frame, message.ts_recv_ns)

    def _session_for(self, frame: bytes, url: str) -> VenueSession | None:
        venue = self._venue
        if venue is None and url:
            if url not in self._venue_of_url:
                self._venue_of_url[url] = self._detect(frame, url)
            venue = self._venue_of_url[url]
        if venue is None:
            venue = self._detect(frame, url)
        return self._session(venue) if venue is not None else self._only_session()

    def _only_session(self) -> VenueSession | None:
        """Return the session when there is but one: quiet frames then belong to it."""
        return next(iter(self._sessions.values())) if len(self._sessions) == 1 else None

    def _session(self, venue: str) -> VenueSession:
        session = self._sessions.get(venue)
        if session is None:
            try:
                feed = self._make_feed(venue)
            except KeyError:
                raise InvalidRequestError(
                    "unknown venue", field="venue", value=venue, rule="a venue that Bookrunner speaks"
                ) from None
            session = self._sessions[venue] = VenueSession(feed, self.books, self._sinks, self)
        return session

    def _discover(self, session: VenueSession, message: RecordedMessage) -> None:
        """Start following the stream that a frame belongs to, if it is one."""
        frame = message.payload
        stream = session.feed.stream_of(session.key_of(frame)) or session.feed.identify(frame)
        if stream is None or session.is_routed(stream.key):
            return
        live = self._live(session, stream.symbol)
        self._seen_in.setdefault(self._origin, []).append(live)
        if stream.channel is Channel.QUOTES and stream.detail == ONE_LEVEL:
            # Where a recording holds nothing deeper, the one-level book is the book.
            if (live.venue, live.symbol) in self._deep:
                session.route(stream, live)
                return
            self._shallow[live.venue, live.symbol] = stream
            stream = msgspec.structs.replace(stream, channel=Channel.DEPTH)
        elif stream.channel is Channel.DEPTH:
            self._deep.add((live.venue, live.symbol))
            shallow = self._shallow.pop((live.venue, live.symbol), None)
            if shallow is not None:
                session.route(shallow, live)
                live.invalidate("deeper_stream", message.ts_recv_ns)
        session.route(stream, live)

    def _live(self, session: VenueSession, symbol: str) -> LiveBook:
        venue = session.feed.venue
        live = self.books.get(venue, symbol)
        if live is None:
            listed = self._listed.get((venue, symbol))
            instrument = listed or Instrument(
                venue=venue,
                symbol=symbol,
                base=symbol,
                quote="",
                kind=session.feed.usual_kind,
                grid=UNKNOWN_GRID,
            )
            live = session.follow(instrument, grid_inferred=listed is None)
        return live

    # --- REST answers -----------------------------------------------------------------------------------

    def _rest(self, message: RecordedMessage) -> None:
        session = self._session_for(message.payload, message.url) or self._session_waiting()
        if session is None:
            self.unrecognised += 1
            return
        feed, path = session.feed, urlsplit(message.url).path
        try:
            if path and path == feed.instruments_request().path:
                self._list(feed.decode_instruments(message.payload), message.ts_recv_ns)
                return
            live = self._snapshot_target(session, message)
            if live is not None:
                live.on_snapshot(feed.decode_snapshot(live.symbol, message.payload), message.ts_recv_ns)
            elif not self._seen_in.get(self._origin) and self._origin not in self._early_snapshots:
                self._early_snapshots[self._origin] = message  # whose it is, the first frames will tell
            else:
                self.unrecognised += 1
        except BookrunnerError as error:
            self.unread += 1
            log.warning("recorded_answer_unread", venue=feed.venue, code=error.code, error=str(error))

    def _list(self, instruments: list[Instrument], ts_ns: int) -> None:
        for instrument in instruments:
            self._listed[instrument.venue, instrument.symbol] = instrument
            live = self.books.get(instrument.venue, instrument.symbol)
            if live is not None:
                live.on_instrument(instrument, ts_ns)

    def _offer_early_snapshot(self) -> None:
        """Give the snapshot that came before all frames to the book that asks for one.

        That is a book of the same recording; or of another, where this is the only early snapshot.
        """
        origin = self._origin if self._origin in self._early_snapshots else next(iter(self._early_snapshots))
        alone = len(self._early_snapshots) == 1 and not self._seen_in.get(origin)
        if (alone or origin == self._origin) and self._waiting():
            self._rest(self._early_snapshots.pop(origin))

    def _snapshot_target(self, session: VenueSession, message: RecordedMessage) -> LiveBook | None:
        """Tell whose snapshot an answer is: by its URL, or as the only book here that waits for one."""
        symbols = parse_qs(urlsplit(message.url).query).get("symbol")
        if symbols:
            return self._live(session, symbols[0].upper())
        waiting = {live for live in self._waiting() if live.venue == session.feed.venue}
        return waiting.pop() if len(waiting) == 1 else None

    def _session_waiting(self) -> VenueSession | None:
        venues = {live.venue for live in self._waiting()}
        return self._sessions[venues.pop()] if len(venues) == 1 else None

    def _waiting(self) -> list[LiveBook]:
        """Return the books that wait for a snapshot, of the recording being played where it has any."""
        books = self._seen_in.get(self._origin) or self.books
        return [live for live in books if live.awaiting_snapshot]

    # --- SessionOwner -----------------------------------------------------------------------------------

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        """Nothing is timed: a recording's receive times are another machine's."""

    def needs_snapshot(self, live: LiveBook) -> None:
        """Nothing can be asked of a recording; its own snapshots are taken as they come."""

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        """Log it."""
        log.warning("book_evidence", evidence=event, **{**fields, "venue": live.venue, "symbol": live.symbol})

    def on_control(self, reply: ControlReply, frame: bytes) -> None:
        """Pass over: acknowledgements change no book."""
