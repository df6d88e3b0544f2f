"""The composition root: the only place that knows every part and joins them.

``build`` makes objects; sockets and tasks begin when the services are started. ``Application.services`` is in
starting order: sinks first, intake last.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bookrunner.app.garbage_collection import GarbageCollection
from bookrunner.app.health_checks import disk_health, fanout_health, journal_health, recorder_health
from bookrunner.app.lifecycle import Service
from bookrunner.app.settings import Settings, TransportSettings, VenueSettings
from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.clock import Clock, SystemClock
from bookrunner.engine.ports.transport import RateLimit
from bookrunner.engine.ports.venue_feed import VenueFeed
from bookrunner.market.live_book import LiveBooks
from bookrunner.services.feeds import FeedService, FeedSettings
from bookrunner.services.health import HealthBoard, books_check
from bookrunner.services.market_stream import STREAM_COUNTERS, MarketStream
from bookrunner.services.metrics import (
    BOOK_TO_SENT,
    CONNECTIONS,
    PARSED_TO_BOOK,
    RECEIVE_TO_BOOK,
    RECEIVE_TO_PARSED,
    TRADES,
    MetricsCollector,
    MetricsService,
)
from bookrunner.services.stages import STAGES, SampledRule, stage_counter
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_settings import DAY_S, JournalSettings
from bookrunner.venues.transport.admission import Admission
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.rest import RestSettings, VenueRestClient
from bookrunner.venues.transport.websocket import WebSocketFactory, WebSocketSettings
from bookrunner.wire.journal_record import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from bookrunner.api.server import ApiService
    from bookrunner.fanout.service import FanoutService
    from bookrunner.services.recorder import Recorder

MAX_BODY_BYTES = MAX_PAYLOAD_BYTES - 4_096
"""Largest REST answer taken: with its path and query, it must fit a record of the journal."""


class JournalService:
    """Opens the journal before anything runs and closes it after everything has stopped."""

    name = "journal"

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Do nothing: the journal was opened when it was built, so that recovery precedes everything."""

    async def run(self) -> None:
        """Wait for the end; the writer is a thread, and its failure is raised by the next append."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Write, sync and close, off the loop."""
        try:
            await asyncio.to_thread(self._journal.close)
        finally:
            self._stopping.set()


class Application:
    """Everything that one process runs, wired and not yet started.

    Args:
        settings: what to run.
        clock: time.
        generator: seeds jitter.
        faces: whether to serve clients (fan-out and API) or only to record.
    """

    def __init__(self, settings: Settings, clock: Clock, generator: random.Random, *, faces: bool) -> None:
        self.settings = settings
        self.clock = clock
        self.books = LiveBooks()
        self.stream = MarketStream()
        self.metrics = MetricsCollector(self.books, clock)
        self.health = HealthBoard(clock)
        self.services: list[Service] = [GarbageCollection()]
        self._generator = generator
        self.journal = self._journal()
        self.recorder = self._recorder()
        self.fanout = self._fanout() if faces and settings.fanout.enabled else None
        self._connect = WebSocketFactory(clock, generator, _websocket_settings(settings.transport))
        self._admissions: dict[tuple[str, RateLimit], Admission] = {}
        self.feeds = [self._feed(venue, of) for venue, of in settings.venues.enabled().items()]
        self.services.append(MetricsService(self.metrics))
        self.services.extend(self.feeds)
        self.api = self._api() if faces and settings.api.enabled else None
        self._count_stream()
        self._count_stages()

    # --- sinks ------------------------------------------------------------------------------------------

    def _journal(self) -> Journal | None:
        given = self.settings.journal
        if not given.enabled:
            return None
        journal = Journal(
            Path(given.path),
            JournalSettings(
                segment_bytes=given.segment_bytes,
                buffer_bytes=given.buffer_bytes,
                commit_interval_ms=given.commit_interval_ms,
                fsync_interval_ms=given.fsync_interval_ms,
                compress=given.compress,
                retention_age_s=given.retention_days * DAY_S,
                retention_bytes=given.retention_bytes,
                disk_low_bytes=given.low_disk_bytes,
                disk_minimum_bytes=min(JournalSettings().disk_minimum_bytes, given.low_disk_bytes),
            ),
            self.clock,
        )
        self.services.append(JournalService(journal))
        self.metrics.add_counter("journal_records", lambda: journal.counters().records, "Records appended.")
        self.metrics.add_counter("journal_bytes", lambda: journal.counters().bytes, "Bytes appended.")
        self.health.add("journal", partial(journal_health, journal))
        self.health.add("disk", partial(disk_health, journal), needed=False)
        return journal

    def _recorder(self) -> Recorder | None:
        given = self.settings.recorder
        if not given.enabled:
            return None
        from bookrunner.services.recorder import Recorder
        from bookrunner.services.recorder_settings import RecorderSettings
        from bookrunner.storage.catalogue import LocalSpool, catalogue_at
        from bookrunner.storage.parquet import ParquetEncoder

        recorder = Recorder(
            ParquetEncoder(),
            catalogue_at(given.path),
            LocalSpool(Path(given.spool_path), given.spool_bytes_max),
            RecorderSettings(flush_rows=given.flush_rows, flush_interval_s=given.flush_interval_s),
            self.clock,
            self._generator,
        )
        self.stream.subscribe(recorder.sink)
        self.services.append(recorder)
        for counter in ("rows", "files", "retries", "spooled", "lost_rows"):
            read = partial(_field, recorder.counters, counter)
            self.metrics.add_counter(f"recorder_{counter}", read, f"Recorder: {counter.replace('_', ' ')}.")
        self.health.add("recorder", partial(recorder_health, recorder), needed=False)
        return recorder

    def _fanout(self) -> FanoutService:
        from bookrunner.fanout.service import FanoutService
        from bookrunner.fanout.settings import FanoutSettings

        given, book = self.settings.fanout, self.settings.book
        fanout = FanoutService(
            self.books,
            self.metrics.snapshot,
            FanoutSettings(
                host=given.host,
                port=given.port,
                compression=given.compression,
                depth=book.display_levels,
                depth_max=book.levels,
                throttle_ms=given.throttle_ms,
                throttle_min_ms=given.throttle_min_ms,
                queue_messages=given.queue_messages,
                resume_messages=given.resume_messages,
                heartbeat_s=given.heartbeat_s,
                clients_max=given.clients_max,
                request_bytes_max=given.request_bytes_max,
            ),
            self.clock,
            random.SystemRandom(),
            self.metrics.latency[BOOK_TO_SENT].record,
        )
        self.stream.subscribe(fanout.publisher)
        self.services.append(fanout)
        self.metrics.add_gauge(
            CONNECTIONS, lambda: fanout.websocket_connections_active, "Market-data clients connected."
        )
        counters = fanout.publisher.counters
        for counter in counters.__struct_fields__:
            read = partial(getattr, counters, counter)
            self.metrics.add_counter(f"fanout_{counter}", read, f"Fan-out: {counter.replace('_', ' ')}.")
        self.health.add("fanout", partial(fanout_health, fanout), needed=False)
        return fanout

    # --- intake -----------------------------------------------------------------------------------------

    def _feed(self, venue: str, given: VenueSettings) -> FeedService:
        feed = make_feed(venue)
        rule = SampledRule(
            feed.depth_rule,
            self.clock,
            self.metrics.latency[RECEIVE_TO_PARSED].record,
            self.metrics.latency[PARSED_TO_BOOK].record,
            self.metrics.latency[RECEIVE_TO_BOOK].record,
        )
        feed.depth_rule = rule
        service = FeedService(
            feed,
            FeedSettings(
                websocket_url=given.websocket_url,
                symbols=given.symbols,
                channels=frozenset(given.channels),
                strict=given.strict_sequence,
            ),
            self.books,
            [self.stream],
            self._rest(feed, given),
            self._connect,
            self.journal,
            self.clock,
            self._generator,
            rule.on_latency,
        )
        self.health.add(service.name, books_check(self.books, venue))
        self.metrics.add_counter(
            "websocket_reconnects", lambda: service.reconnects, "Connections made anew.", venue=venue
        )
        self.metrics.add_counter(
            TRADES, lambda: service.session.counters.trades, "Trades received.", venue=venue
        )
        self.metrics.add_counter(
            "bad_messages", lambda: service.session.counters.bad_messages, "Messages refused.", venue=venue
        )
        self.metrics.add_counter(
            "snapshot_failures", lambda: service.snapshot_failures, "Snapshots that failed.", venue=venue
        )
        self.metrics.add_counter(
            "channel_silences", lambda: service.silences, "Times that streams were silent.", venue=venue
        )
        self.metrics.add_counter(
            "journal_refusals", lambda: service.journal_refusals, "Records without room.", venue=venue
        )
        return service

    def _rest(self, feed: VenueFeed, given: VenueSettings) -> VenueRestClient:
        transport = self.settings.transport
        # Venues limit an address: what two feeds ask of one host counts together.
        of_host = (given.rest_url, feed.request_limit)
        if of_host not in self._admissions:
            self._admissions[of_host] = Admission(feed.venue, feed.request_limit, self.clock)
        return VenueRestClient(
            given.rest_url,
            self._admissions[of_host],
            settings=RestSettings(
                connect_timeout_s=transport.connect_timeout_s,
                read_timeout_s=transport.request_timeout_s,
                total_timeout_s=2 * transport.request_timeout_s,
                max_body_bytes=MAX_BODY_BYTES,
            ),
            clock=self.clock,
            generator=self._generator,
        )

    # --- faces and figures ------------------------------------------------------------------------------

    def _api(self) -> ApiService:
        from bookrunner.api.server import ApiService

        def make_app() -> ASGIApp:
            from bookrunner.api.application import create_app

            return create_app(
                self.books, self.metrics, self.health, self.clock, levels_max=self.settings.book.levels
            )

        given = self.settings.api
        api = ApiService(make_app, given.host, given.port, after=self.stream.first_live)
        self.services.append(api)
        return api

    def _count_stream(self) -> None:
        for counter in STREAM_COUNTERS:
            read = partial(getattr, self.stream, counter)
            self.metrics.add_counter(f"stream_{counter}", read, f"Published: {counter.replace('_', ' ')}.")

    def _count_stages(self) -> None:
        for stage, counters in STAGES.items():
            for counter in counters:
                read = partial(stage_counter, self.books, stage, counter)
                self.metrics.add_counter(f"stage_{stage}_{counter}", read, f"Stage {stage}: {counter}.")


def _websocket_settings(given: TransportSettings) -> WebSocketSettings:
    return WebSocketSettings(
        max_retries=given.max_retries,
        backoff=Backoff(base_s=given.backoff_base_s, cap_s=given.backoff_cap_s),
        connect_timeout_s=given.connect_timeout_s,
        max_message_bytes=given.message_bytes_max,
        receive_buffer_bytes=given.receive_buffer_bytes,
    )


def _field(counters: Callable[[], object], name: str) -> int:
    value: int = getattr(counters(), name)
    return value


def build(settings: Settings, *, faces: bool = True) -> Application:
    """Wire an application on the machine's clock."""
    return Application(settings, SystemClock(), random.Random(), faces=faces)  # noqa: S311 - jitter, no secret
