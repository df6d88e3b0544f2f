"""One venue's live feed: the asyncio shell around a ``VenueSession``.

It makes the connections, journals every message before it is looked at, fetches snapshots, and keeps house:
silent streams, books that outgrew their snapshot, instruments that changed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import structlog

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.enums import BookState, Channel
from bookrunner.core.errors import (
    BannedError,
    ConfigurationError,
    DiskLowError,
    JournalFullError,
    ProtocolError,
    RateLimitedError,
    StorageError,
    TransportError,
    VenueRejectError,
)
from bookrunner.engine.ports.market_sink import MarketSink
from bookrunner.engine.ports.raw_journal import RawJournal, RecordKind
from bookrunner.engine.ports.transport import RestClient, StreamClient, StreamClientFactory
from bookrunner.engine.ports.venue_feed import ConnectionPlan, ControlReply, RestRequest, Stream, VenueFeed
from bookrunner.market.instrument import Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.venue_session import VenueSession

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]

SNAPSHOT_RETRY_S = 0.5
"""First wait before a snapshot is asked for again; doubles up to ``SNAPSHOT_RETRY_CAP_S``, with jitter."""
SNAPSHOT_RETRY_CAP_S = 30.0
RESUBSCRIBE_AFTER_S = 2.0
"""Time a stream that begins with a snapshot has to send one before it is subscribed again."""
RESUBSCRIBE_ATTEMPTS = 3
"""Resubscriptions before the whole connection is made anew."""
HOUSEKEEPING_S = 1.0
REFRESH_EVERY_NS = 30 * NANOSECONDS_PER_SECOND
"""Least time between two refreshes of one book, however the market runs."""
INSTRUMENTS_EVERY_S = 3600.0
"""How often the instrument list is read again."""


class FeedSettings(msgspec.Struct, frozen=True):
    """What to follow at one venue, and where."""

    websocket_url: str
    symbols: tuple[str, ...]
    channels: frozenset[Channel]
    strict: bool = True


class FeedConnection:
    """One connection's listener: journal, route, remember which streams brought data."""

    def __init__(self, plan: ConnectionPlan, service: FeedService, client: StreamClientFactory) -> None:
        self.plan = plan
        self.seen: set[bytes] = set()
        self.last_data_ns: dict[bytes, int] = {}
        self.connected = False
        self.client: StreamClient = client(plan, service.feed.policy, self)
        self._service = service
        self._feed = service.feed
        self._session_message = service.session.on_message
        self._journal = service.journal
        self._source = service.journal.register_source(plan.name, plan.url) if service.journal else 0
        self._depth_keys = {stream.key for stream in plan.streams if stream.channel is Channel.DEPTH}
        self._wall_ns = service.clock.wall_ns
        self._record_latency = service.record_latency

    def on_connected(self) -> list[bytes]:
        """Begin anew: every stream is owed its first data from now on."""
        self.connected = True
        self._note(RecordKind.CONNECTED, self.plan.url.encode())
        now_ns = self._service.clock.monotonic_ns()
        self.last_data_ns = {stream.key: now_ns for stream in self.plan.streams}
        messages = self._feed.subscribe(self.plan.streams, 1)
        for message in messages:
            self._note(RecordKind.SENT, message)
        return messages

    def on_message(self, message: bytes, ts_recv_ns: int) -> None:
        """Journal first, then route; the hot road."""
        if self._journal is not None:
            try:
                self._journal.append(RecordKind.FRAME, self._source, ts_recv_ns, message)
            except (JournalFullError, DiskLowError) as error:
                self._journal_full(error)
                return
        key = self._session_message(message, ts_recv_ns)
        if key:
            self.seen.add(key)
            if key in self._depth_keys:
                self._record_latency(self._wall_ns() - ts_recv_ns)

    def on_disconnected(self, reason: str) -> None:
        """Mark the connection's books stale."""
        self.connected = False
        self._note(RecordKind.DISCONNECTED, reason.encode())
        self._service.on_disconnected(self, reason)

    def send(self, messages: list[bytes]) -> None:
        """Send, and journal what was sent."""
        for message in messages:
            self._note(RecordKind.SENT, message)
            self.client.send(message)

    def _note(self, kind: RecordKind, payload: bytes) -> None:
        if self._journal is not None:
            try:
                self._journal.append(kind, self._source, self._wall_ns(), payload)
            except (JournalFullError, DiskLowError) as error:
                self._journal_full(error)

    def _journal_full(self, error: StorageError) -> None:
        """Cut the connection: an update that is not in the journal must not change a book."""
        log.error("journal_full", connection=self.plan.name, error=str(error))
        self.client.reconnect("journal_full")

    def silent_streams(self, now_ns: int) -> list[Stream]:
        """Return the streams that have brought nothing for longer than the venue's policy allows."""
        for key in self.seen:
            self.last_data_ns[key] = now_ns
        self.seen.clear()
        if not self.connected:
            return []
        return [
            stream
            for stream in self.plan.streams
            if now_ns - self.last_data_ns.get(stream.key, now_ns) > self._feed.silence_ns(stream.channel)
        ]


class FeedService:
    """Follows one venue until cancelled.

    Args:
        feed: the venue's protocol.
        settings: what to follow.
        books: where the venue's books are registered.
        sinks: told of every event.
        rest: the venue's REST side.
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
        self.clock = clock
        self.journal = journal
        self.record_latency = record_latency
        self.session = VenueSession(feed, books, sinks, self, strict=settings.strict)
        self.connections: list[FeedConnection] = []
        self.snapshot_failures = 0
        self.silences = 0
        self._settings = settings
        self._rest = rest
        self._connect = connect
        self._jitter = jitter
        self._sleep = sleep
        self._rest_source = journal.register_source(f"{feed.venue}/rest", "") if journal else 0
        self._attempts: dict[str, int] = {}
        self._live: dict[str, LiveBook] = {}
        self._refresh_due_ns: dict[str, int] = {}
        self._home: dict[str, tuple[FeedConnection, Stream]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    @property
    def venue(self) -> str:
        """Venue id."""
        return self.feed.venue

    @property
    def reconnects(self) -> int:
        """Reconnections of all this venue's connections."""
        return sum(connection.client.reconnects for connection in self.connections)

    # --- life -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name in logs and health."""
        return f"feed/{self.venue}"

    async def start(self) -> None:
        """Do nothing: a feed is ready when its books are live, which is for health to say."""

    async def run(self) -> None:
        """Follow the venue until ``stop``; raise when it cannot go on.

        Raises:
            ConfigurationError: the venue lists none of the symbols.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            serving = group.create_task(self._serve(group), name=self.name)
            await self._stopping.wait()
            self._group = None
            serving.cancel()
            for connection in self.connections:
                await connection.client.close()
            for task in self._tasks:
                task.cancel()

    async def stop(self) -> None:
        """Take nothing more in: close the connections and end ``run``."""
        self._stopping.set()

    async def _serve(self, group: asyncio.TaskGroup) -> None:
        self._follow(await self._instruments())
        for connection in self.connections:
            self._spawn(group, connection.client.run(), connection.plan.name)
        self._spawn(group, self._keep_house(), f"{self.venue}/housekeeping")
        self._spawn(group, self._watch_instruments(), f"{self.venue}/instruments")

    def _spawn(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> None:
        task = group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _follow(self, instruments: list[Instrument]) -> None:
        listed = {instrument.symbol: instrument for instrument in instruments}
        streams: list[Stream] = []
        for symbol in self._settings.symbols:
            instrument = listed.get(symbol)
            if instrument is None:
                log.error("unknown_symbol", venue=self.venue, symbol=symbol)
                continue
            live = self.session.follow(instrument)
            self._live[symbol] = live
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
            connection = FeedConnection(plan, self, self._connect)
            self.connections.append(connection)
            for stream in plan.streams:
                if stream.channel is Channel.DEPTH:
                    self._home[stream.symbol] = (connection, stream)

    async def _instruments(self) -> list[Instrument]:
        """Read the instrument list, however long it takes."""
        attempt = 0
        while True:
            try:
                return await self._read_instruments()
            except (TransportError, ProtocolError, VenueRejectError) as error:
                attempt += 1
                log.warning(
                    "instruments_failed", venue=self.venue, code=error.code, error=str(error), attempt=attempt
                )
                await self._sleep(self._wait_s(attempt, error))

    async def _read_instruments(self) -> list[Instrument]:
        request: RestRequest | None = self.feed.instruments_request()
        instruments: list[Instrument] = []
        while request is not None:
            body = await self._get(request, priority=1)
            instruments += self.feed.decode_instruments(body)
            request = self.feed.next_instruments_request(body)
        return instruments

    async def _get(self, request: RestRequest, *, priority: int) -> bytes:
        body = await self._rest.get(request, priority=priority)
        if self.journal is not None:
            query = "&".join(f"{name}={value}" for name, value in request.params)
            head = f"{request.path}?{query}\n".encode()
            self.journal.append(
                RecordKind.REST_RESPONSE, self._rest_source, self.clock.wall_ns(), head + body
            )
        return body

    def _wait_s(self, attempt: int, error: Exception | None) -> float:
        """Full-jitter exponential wait, or what the venue asked for."""
        if isinstance(error, RateLimitedError | BannedError):
            return float(str(error.fields.get("retry_after_s", SNAPSHOT_RETRY_CAP_S)))
        ceiling = min(SNAPSHOT_RETRY_CAP_S, SNAPSHOT_RETRY_S * 2 ** (attempt - 1))
        return self._jitter.uniform(0, ceiling)

    # --- SessionOwner -----------------------------------------------------------------------------------

    def needs_snapshot(self, live: LiveBook) -> None:
        """Fetch a snapshot, or subscribe again where the stream begins with one."""
        if self._group is None:
            return
        work = self._fetch_snapshot if self.feed.depth_rule.snapshot_from_rest else self._resubscribe
        self._spawn(self._group, work(live), f"{self.venue}/snapshot/{live.symbol}")

    async def _fetch_snapshot(self, live: LiveBook) -> None:
        """Fetch until the book has a snapshot to try; a book that asks again soon waits longer."""
        while live.awaiting_snapshot:
            attempt = self._attempts.get(live.symbol, 0)
            self._attempts[live.symbol] = attempt + 1
            error: Exception | None = None
            if attempt:
                await self._sleep(self._wait_s(attempt, None))
            try:
                request = self.feed.snapshot_request(live.symbol)
                body = await self._get(request, priority=0)
                snapshot = self.feed.decode_snapshot(live.symbol, body)
                live.on_snapshot(snapshot, self.clock.wall_ns())
            except (TransportError, ProtocolError, VenueRejectError) as failure:
                error = failure
                self.snapshot_failures += 1
                log.warning(
                    "snapshot_failed",
                    venue=self.venue,
                    symbol=live.symbol,
                    code=failure.code,
                    error=str(failure),
                )
            else:
                return
            await self._sleep(self._wait_s(attempt + 1, error))

    async def _resubscribe(self, live: LiveBook) -> None:
        """Subscribe again until the stream has begun anew; then, make the connection anew."""
        connection, stream = self._home[live.symbol]
        urgent = live.state is BookState.STALE
        for _ in range(RESUBSCRIBE_ATTEMPTS):
            if not urgent:
                await self._sleep(RESUBSCRIBE_AFTER_S)
            urgent = False
            if not live.awaiting_snapshot or not connection.connected:
                return
            connection.send(self.feed.unsubscribe((stream,), 2) + self.feed.subscribe((stream,), 3))
        await self._sleep(RESUBSCRIBE_AFTER_S)
        if live.awaiting_snapshot and connection.connected:
            connection.client.reconnect("no_snapshot")

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        """Journal and log what went wrong with a book."""
        log.warning("book_evidence", evidence=event, venue=live.venue, symbol=live.symbol, **fields)
        if self.journal is not None:
            note = {"event": event, "venue": live.venue, "symbol": live.symbol, **fields}
            self.journal.append(
                RecordKind.NOTE, self._rest_source, self.clock.wall_ns(), msgspec.json.encode(note)
            )

    def on_control(self, reply: ControlReply, frame: bytes) -> None:
        """Log what the venue refused."""
        del frame
        if reply.kind in {"error", "notice"}:
            log.warning("venue_message", kind=reply.kind, venue=self.venue, detail=reply.detail)

    def on_disconnected(self, connection: FeedConnection, reason: str) -> None:
        """Mark the books of a lost connection stale."""
        now_ns = self.clock.wall_ns()
        for home, stream in self._home.values():
            if home is connection:
                self._live[stream.symbol].on_disconnected(reason, now_ns)

    # --- housekeeping -----------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        while True:
            await self._sleep(HOUSEKEEPING_S)
            self.keep_house()

    def keep_house(self) -> None:
        """Cut connections with silent streams, refresh outgrown books, forgive books that hold."""
        now_ns = self.clock.monotonic_ns()
        for connection in self.connections:
            silent = connection.silent_streams(now_ns)
            if silent:
                self.silences += 1
                names = [stream.key.decode() for stream in silent[:5]]
                log.error("channel_silent", connection=connection.plan.name, streams=names, count=len(silent))
                connection.client.reconnect("silence")
        for symbol, live in self._live.items():
            if live.state is BookState.LIVE:
                self._attempts.pop(symbol, None)
            if live.covered_badly and now_ns >= self._refresh_due_ns.get(symbol, now_ns):
                self._refresh_due_ns[symbol] = now_ns + REFRESH_EVERY_NS
                live.refresh()

    async def _watch_instruments(self) -> None:
        """Read the instrument list now and then: ticks and lots change, symbols are delisted."""
        while True:
            await self._sleep(INSTRUMENTS_EVERY_S)
            now_ns = self.clock.wall_ns()
            for instrument in await self._instruments():
                live = self._live.get(instrument.symbol)
                if live is not None and live.state is not BookState.CLOSED:
                    live.on_instrument(instrument, now_ns)
