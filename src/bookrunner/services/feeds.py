"""One venue's live feed: the asyncio shell around a ``VenueSession``.

It makes the connections, brings the snapshots that books ask for, and keeps house: silent streams, books that
outgrew their snapshot, instruments that changed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.enums import BookState, Channel, InstrumentStatus
from bookrunner.core.errors import ConfigurationError, ProtocolError
from bookrunner.engine.ports.market_sink import MarketSink
from bookrunner.engine.ports.raw_journal import RawJournal, RecordKind
from bookrunner.engine.ports.transport import RestClient, StreamClientFactory
from bookrunner.engine.ports.venue_feed import ControlReply, RestRequest, Stream, VenueFeed
from bookrunner.market.instrument import Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.feed_connection import FeedConnection
from bookrunner.services.retry_waits import wait_s
from bookrunner.services.snapshots import RETRIED, Sleep, Snapshots
from bookrunner.services.source_journal import REFUSALS, SourceJournal
from bookrunner.services.venue_session import VenueSession

log = structlog.get_logger(__name__)

HOUSEKEEPING_S = 1.0
REFRESH_EVERY_NS = 30 * NANOSECONDS_PER_SECOND
"""Least time between two refreshes of one book, however the market runs."""
INSTRUMENTS_EVERY_S = 3600.0
"""How often the instrument list is read again."""
MAX_INSTRUMENT_PAGES = 100
"""Pages of an instrument list; Bybit's longest takes two."""
SNAPSHOT_PRIORITY, INSTRUMENTS_PRIORITY = 0, 1
"""Of REST requests; the lower goes first."""


class FeedSettings(msgspec.Struct, frozen=True):
    """What to follow at one venue, and where."""

    websocket_url: str
    symbols: tuple[str, ...]
    channels: frozenset[Channel]
    strict: bool = True


class FeedService:
    """Follows one venue until stopped.

    Args:
        feed: the venue's protocol.
        settings: what to follow.
        books: where the venue's books are registered.
        sinks: told of every event.
        rest: the venue's REST side; closed at the end.
        connect: makes stream connections.
        journal: where raw messages go first; ``None`` in tests and tools.
        clock: time.
        jitter: seeds the waits.
        record_latency: given receive-to-book nanoseconds for each depth message.
        sleep: ``asyncio.sleep``, or a fake.
    """

    def __init__(
        self,
        feed: VenueFeed,
        settings: FeedSettings,
        books: LiveBooks,
        sinks: list[MarketSink],
        rest: RestClient,
        connect: StreamClientFactory,
        journal: RawJournal | None,
        clock: Clock,
        jitter: random.Random,
        record_latency: Callable[[int], None],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.feed = feed
        self.session = VenueSession(feed, books, sinks, self, strict=settings.strict)
        self.connections: list[FeedConnection] = []
        self._settings = settings
        self._rest = rest
        self._connect = connect
        self._journal = journal
        self._notes = SourceJournal(journal, f"{feed.venue}/rest", "", clock)
        self._clock = clock
        self._jitter = jitter
        self._record_latency = record_latency
        self._sleep = sleep
        self._snapshots = Snapshots(
            feed, lambda request: self._get(request, SNAPSHOT_PRIORITY), clock, jitter, sleep
        )
        self._live: dict[str, LiveBook] = {}
        self._home: dict[str, tuple[FeedConnection, Stream]] = {}
        self._refresh_due_ns: dict[str, int] = {}
        self._group: asyncio.TaskGroup | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._fetching: set[str] = set()
        self._stopping = asyncio.Event()

    @property
    def venue(self) -> str:
        """Venue id."""
        return self.feed.venue

    @property
    def name(self) -> str:
        """Name in logs and health."""
        return f"feed/{self.venue}"

    @property
    def awaited(self) -> list[str]:
        """Symbols that have no book yet: the venue has not listed them so far."""
        return [symbol for symbol in self._settings.symbols if symbol not in self._live]

    @property
    def reconnects(self) -> int:
        """Reconnections of all this venue's connections."""
        return sum(connection.client.reconnects for connection in self.connections)

    @property
    def silences(self) -> int:
        """Times that acknowledged streams were found to bring nothing."""
        return sum(connection.silences for connection in self.connections)

    @property
    def snapshot_failures(self) -> int:
        """Requests that brought no usable snapshot."""
        return self._snapshots.failures

    @property
    def journal_refusals(self) -> int:
        """Records for which the journal had no room; each cost a connection, an answer or a note."""
        return self._notes.refused + sum(connection.journal.refused for connection in self.connections)

    # --- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Do nothing: a feed is ready when its books are live, which is for health to say."""

    async def run(self) -> None:
        """Follow the venue until ``stop``; raise when it cannot go on.

        Raises:
            ConfigurationError: the venue lists none of the symbols.
            ConnectionLostError: a connection's ``max_retries`` are spent.
            StorageError: the journal is broken.
        """
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    self._group = group
                    self._begin(self._serve(), self.name)
                    await self._stopping.wait()
                finally:
                    self._group = None  # nothing is begun any more
                for chore in self._chores:
                    chore.cancel()
                await asyncio.gather(*(connection.client.close() for connection in self.connections))
        except ExceptionGroup as failures:
            raise _first(failures) from failures
        finally:
            await self._rest.close()

    async def stop(self) -> None:
        """Take nothing more in: ``run`` closes the connections and ends."""
        self._stopping.set()

    async def _serve(self) -> None:
        """Learn what there is to follow, and begin to."""
        self._follow(await self._instruments())
        for connection in self.connections:
            if self._group is not None:  # closed by ``run``, and so not one of the chores
                self._group.create_task(connection.client.run(), name=connection.plan.name)
        self._begin(self._keep_house(), f"{self.venue}/housekeeping")
        self._begin(self._watch_instruments(), f"{self.venue}/instruments")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin a task that the stop may cancel anywhere."""
        if self._group is None:
            work.close()
            return
        chore = self._group.create_task(work, name=name)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    def _follow(self, instruments: list[Instrument]) -> None:
        listed = {instrument.symbol: instrument for instrument in instruments}
        streams: list[Stream] = []
        for symbol in self._settings.symbols:
            instrument = listed.get(symbol)
            if instrument is None or instrument.status is InstrumentStatus.CLOSED:
                log.error("unknown_symbol", venue=self.venue, symbol=symbol, delisted=instrument is not None)
                continue
            live = self._live[symbol] = self.session.follow(instrument)
            for stream in self.feed.streams(symbol, self._settings.channels):
                self.session.route(stream, live)
                streams.append(stream)
        if not streams:
            raise ConfigurationError(
                "the venue lists none of the symbols",
                field=f"venues.{self.venue}.symbols",
                value=list(self._settings.symbols),
                rule="at least one symbol that the venue trades",
            )
        for plan in self.feed.plan(streams, self._settings.websocket_url):
            connection = FeedConnection(
                plan,
                self.session,
                self._connect,
                self._journal,
                self._clock,
                self._connection_lost,
            )
            self.connections.append(connection)
            for stream in plan.streams:
                if stream.channel is Channel.DEPTH:
                    self._home[stream.symbol] = (connection, stream)

    # --- REST -------------------------------------------------------------------------------------------

    async def _instruments(self) -> list[Instrument]:
        """Read the instrument list, however long it takes."""
        attempt = 0
        while True:
            try:
                return await self._read_instruments()
            except RETRIED as error:
                attempt += 1
                log.warning(
                    "instruments_failed", venue=self.venue, code=error.code, error=str(error), attempt=attempt
                )
                await self._sleep(wait_s(attempt, error, self._jitter))

    async def _read_instruments(self) -> list[Instrument]:
        request = self.feed.instruments_request()
        instruments: list[Instrument] = []
        for _ in range(MAX_INSTRUMENT_PAGES):
            body = await self._get(request, INSTRUMENTS_PRIORITY)
            instruments += self.feed.decode_instruments(body)
            following = self.feed.next_instruments_request(body)
            if following is None:
                return instruments
            request = following
        raise ProtocolError("the instrument list does not end", pages=MAX_INSTRUMENT_PAGES)

    async def _get(self, request: RestRequest, priority: int) -> bytes:
        """Return the answer once it is in the journal."""
        body = await self._rest.get(request, priority=priority)
        query = "&".join(f"{name}={value}" for name, value in request.params)
        self._notes.append(RecordKind.REST_RESPONSE, f"{request.path}?{query}\n".encode() + body)
        return body

    # --- SessionOwner -----------------------------------------------------------------------------------

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        """Time the road from receipt to changed book, before the sinks take their time."""
        if live.state is BookState.LIVE:  # else it waited for a snapshot
            self._record_latency(self._clock.wall_ns() - ts_recv_ns)

    def needs_snapshot(self, live: LiveBook) -> None:
        """Fetch a snapshot, or subscribe again where the stream begins with one; one task a book."""
        if live.symbol not in self._fetching:
            self._fetching.add(live.symbol)
            self._begin(self._bring_snapshot(live), f"{self.venue}/snapshot/{live.symbol}")

    async def _bring_snapshot(self, live: LiveBook) -> None:
        try:
            if self.feed.depth_rule.snapshot_from_rest:
                await self._snapshots.fetch(live)
            else:
                await self._snapshots.resubscribe(live, *self._home[live.symbol])
        finally:
            self._fetching.discard(live.symbol)

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        """Journal and log what went wrong with a book."""
        about = {**fields, "venue": self.venue, "symbol": live.symbol}
        log.warning("book_evidence", evidence=event, **about)
        note = msgspec.json.encode({**about, "event": event}, enc_hook=str)
        with suppress(*REFUSALS):  # counted and logged; the book does not depend on it
            self._notes.append(RecordKind.NOTE, note)

    def on_control(self, reply: ControlReply, frame: bytes) -> None:
        """Log what the venue refused."""
        del frame
        if reply.kind in {"error", "notice"}:
            log.warning("venue_message", kind=reply.kind, venue=self.venue, detail=reply.detail)

    def _connection_lost(self, connection: FeedConnection, reason: str) -> None:
        """Mark the books of a lost connection stale."""
        now_ns = self._clock.wall_ns()
        for home, stream in self._home.values():
            if home is connection:
                self._live[stream.symbol].on_disconnected(reason, now_ns)

    # --- housekeeping -----------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        while True:
            await self._sleep(HOUSEKEEPING_S)
            self.keep_house()

    def keep_house(self) -> None:
        """Revive silent streams, refresh outgrown books, forgive books that hold."""
        for connection in self.connections:
            for stream in connection.revive(self._may_be_silent):
                if stream.channel is Channel.DEPTH:
                    self._live[stream.symbol].suspect("silence", self._clock.wall_ns())
        now_ns = self._clock.monotonic_ns()
        for symbol, live in self._live.items():
            if live.state is BookState.LIVE and not live.awaiting_snapshot:
                self._snapshots.forgive(symbol)
            if live.covered_badly and now_ns >= self._refresh_due_ns.get(symbol, now_ns):
                self._refresh_due_ns[symbol] = now_ns + REFRESH_EVERY_NS
                live.refresh()

    def _may_be_silent(self, stream: Stream) -> bool:
        live = self._live[stream.symbol]
        return live.state is BookState.CLOSED or live.instrument.status is InstrumentStatus.HALTED

    async def _watch_instruments(self) -> None:
        """Read the instrument list now and then."""
        while True:
            await self._sleep(INSTRUMENTS_EVERY_S)
            self.take_instruments(await self._instruments())

    def take_instruments(self, instruments: list[Instrument]) -> None:
        """Take what changed: ticks and lots, halts, delistings and listings.

        Venues stop listing what they no longer trade. A book whose symbol is gone from the list is closed,
        unless it is live: then it is the list that cannot be believed.
        """
        now_ns = self._clock.wall_ns()
        listed = {instrument.symbol: instrument for instrument in instruments}
        for symbol, live in self._live.items():
            instrument = listed.get(symbol)
            if instrument is not None:
                live.on_instrument(instrument, now_ns)
            elif live.state is not BookState.LIVE:
                live.close("delisted", now_ns)


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """Return the first thing that went wrong; the others are its consequences, or come again."""
    failure: Exception = failures
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    return failure
