"""Market events into columns, table by table; full, old or outdated tables are handed on as batches.

Sans-IO and synchronous, so that the same code records a live process and an import.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.enums import BookState, Side
from bookrunner.engine.ports.catalogue import ColumnBatch, Gap, TableKind
from bookrunner.kernels import columns as kernels
from bookrunner.kernels import layout
from bookrunner.market.book import OrderBook
from bookrunner.market.events import Bar, BookStateChanged, MarkPrice, Quote, Trade
from bookrunner.market.live_book import LiveBook
from bookrunner.services.recorder_settings import RecorderSettings
from bookrunner.services.table_buffers import (
    BlockPool,
    DepthTable,
    EventTable,
    bar_table,
    mark_price_table,
    numeric_id,
    quote_table,
    trade_table,
)

NANOSECONDS_PER_DAY = 86_400 * NANOSECONDS_PER_SECOND
CONTIGUOUS_TRADE_IDS = "binance_"
"""How the venues' names begin that number a symbol's trades, and its aggregate trades, without a hole."""
TRADES_MISSING = "trades_missing"
"""``Gap.reason`` of a hole in such ids."""
_NEVER = 2**62


class BookRecording:
    """The tables of one book."""

    def __init__(self, live: LiveBook, monotonic_ns: int, pool: BlockPool) -> None:
        self.live = live
        self.instrument = live.instrument
        self.book: OrderBook | None = live.book
        """The book that the last whole snapshot was of; another one is recorded whole again."""
        self.depth = DepthTable(pool)
        self.snapshots = DepthTable(pool)
        self.trades = trade_table()
        self.quotes = quote_table()
        self.bars = bar_table()
        self.mark_prices = mark_price_table()
        self.day_end_ns = 0
        self.next_snapshot_ns = _NEVER
        """Receive time from which the next update is followed by a snapshot."""
        self.gap: Gap | None = None
        """The gap that is open now."""
        self.trade_ids_contiguous = live.venue.startswith(CONTIGUOUS_TRADE_IDS)
        self.newest_trade_id = {False: 0, True: 0}
        """By whether trades are aggregates, which have ids of their own."""
        self.flushed_ns = monotonic_ns

    def tables(self) -> dict[TableKind, DepthTable | EventTable]:
        """Return all tables by kind."""
        return {
            TableKind.DEPTH: self.depth,
            TableKind.SNAPSHOTS: self.snapshots,
            TableKind.TRADES: self.trades,
            TableKind.QUOTES: self.quotes,
            TableKind.BARS: self.bars,
            TableKind.MARK_PRICES: self.mark_prices,
        }


class MarketColumns:
    """A ``MarketSink`` that collects rows and emits batches.

    Args:
        emit: takes each batch; must return at once and not raise.
        settings: sizes and intervals.
        clock: for the age of tables only; rows carry the times that events carry.

    Every event gets a number that increases over all tables: its receive time in ns where possible, so that
    rows of different files and runs have one order, and the same recording gives the same numbers again.
    """

    def __init__(self, emit: Callable[[ColumnBatch], None], settings: RecorderSettings, clock: Clock) -> None:
        self.rows = 0
        """Rows emitted."""
        self.updates = 0
        """Depth messages recorded."""
        self.batches = 0
        self._emit = emit
        self._settings = settings
        self._clock = clock
        self._flush_interval_ns = int(settings.flush_interval_s * NANOSECONDS_PER_SECOND)
        self._snapshot_interval_ns = int(settings.snapshot_interval_s * NANOSECONDS_PER_SECOND)
        self._pool = BlockPool()
        self._recordings: dict[LiveBook, BookRecording] = {}
        self._event_number = 0

    # --- MarketSink -------------------------------------------------------------------------------------

    def on_book(self, live: LiveBook, ts_recv_ns: int) -> None:
        """Record an update's levels, and the whole book when that is due."""
        recording = self._recording(live, ts_recv_ns)
        self._event_number = number = max(self._event_number + 1, ts_recv_ns)
        table, words = recording.depth, live.book.words
        used = kernels.append_depth(words, number, ts_recv_ns, table.block, table.used)
        if used < 0:
            if table.rows >= self._settings.flush_rows:
                self._flush(recording, TableKind.DEPTH, table)
            view = live.book.view
            table.begin_block(view[layout.MESSAGE_BIDS] + view[layout.MESSAGE_ASKS] + 1)
            used = kernels.append_depth(words, number, ts_recv_ns, table.block, table.used)
        table.used = used
        self.updates += 1
        if live.book is not recording.book:
            recording.book = live.book  # refreshed from a snapshot: levels came that no update told
            self._snapshot(recording, ts_recv_ns)
        elif ts_recv_ns >= recording.next_snapshot_ns:
            self._snapshot(recording, ts_recv_ns, self._settings.snapshot_levels)

    def on_trades(self, live: LiveBook, trades: list[Trade], ts_recv_ns: int) -> None:
        """Record trades."""
        recording = self._recording(live, ts_recv_ns)
        table = recording.trades
        for trade in trades:
            self._event_number = number = max(self._event_number + 1, ts_recv_ns)
            table.append(
                (
                    number,
                    trade.ts_event_ns,
                    trade.ts_match_ns,
                    ts_recv_ns,
                    trade.side,
                    trade.price_ticks,
                    trade.quantity_lots,
                    trade.flags,
                ),
                trade.trade_id,
            )
            if recording.trade_ids_contiguous:
                _note_trade_gap(recording, trade, ts_recv_ns)
        if table.rows >= self._settings.flush_rows:
            self._flush(recording, TableKind.TRADES, table)

    def on_quote(self, live: LiveBook, quote: Quote, ts_recv_ns: int) -> None:
        """Record a quote."""
        recording = self._recording(live, ts_recv_ns)
        self._event_number = number = max(self._event_number + 1, ts_recv_ns)
        table = recording.quotes
        table.append(
            (
                number,
                quote.ts_event_ns,
                quote.ts_match_ns,
                ts_recv_ns,
                quote.update_id,
                quote.bid_ticks,
                quote.bid_lots,
                quote.ask_ticks,
                quote.ask_lots,
            )
        )
        if table.rows >= self._settings.flush_rows:
            self._flush(recording, TableKind.QUOTES, table)

    def on_bar(self, live: LiveBook, bar: Bar, ts_recv_ns: int) -> None:
        """Record a candle, final or still forming."""
        recording = self._recording(live, ts_recv_ns)
        self._event_number = number = max(self._event_number + 1, ts_recv_ns)
        recording.bars.append(
            (number, bar.ts_event_ns, ts_recv_ns, bar.ts_open_ns, bar.ts_close_ns, int(bar.closed)),
            bar.interval,
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            bar.turnover,
        )
        if recording.bars.rows >= self._settings.flush_rows:
            self._flush(recording, TableKind.BARS, recording.bars)

    def on_mark_price(self, live: LiveBook, mark: MarkPrice, ts_recv_ns: int) -> None:
        """Record mark price and funding."""
        recording = self._recording(live, ts_recv_ns)
        self._event_number = number = max(self._event_number + 1, ts_recv_ns)
        recording.mark_prices.append(
            (number, mark.ts_event_ns, ts_recv_ns, mark.ts_next_funding_ns),
            mark.mark_price,
            mark.index_price,
            mark.funding_rate,
        )
        if recording.mark_prices.rows >= self._settings.flush_rows:
            self._flush(recording, TableKind.MARK_PRICES, recording.mark_prices)

    def on_book_state(self, live: LiveBook, change: BookStateChanged) -> None:
        """Open a gap when a book can no longer be believed; close it with a whole snapshot."""
        recording = self._recording(live, change.ts_ns)
        if change.state is BookState.LIVE:
            if recording.gap is not None:
                before_id = live.book.view[layout.FINAL_ID]
                gap = recording.gap
                recording.depth.gaps.append(Gap(gap.after_id, before_id, gap.reason, gap.ts_recv_ns))
                recording.gap = None
            recording.book = live.book
            self._snapshot(recording, change.ts_ns)
            return
        recording.next_snapshot_ns = _NEVER
        if recording.gap is None:
            recording.gap = Gap(live.last_update_id, 0, change.reason, change.ts_ns)

    # --- flushing ---------------------------------------------------------------------------------------

    def flush_due(self) -> None:
        """Emit the tables of every book whose last flush is older than the interval."""
        now_ns = self._clock.monotonic_ns()
        for recording in self._recordings.values():
            if now_ns - recording.flushed_ns >= self._flush_interval_ns:
                self._flush_book(recording)

    def flush_all(self) -> None:
        """Emit everything; an open gap is told in the last file as not yet closed."""
        for recording in self._recordings.values():
            if recording.gap is not None and recording.depth.rows:
                recording.depth.gaps.append(recording.gap)
            self._flush_book(recording)

    def recycle(self, batch: ColumnBatch) -> None:
        """Take back the memory of a batch that nobody reads any more."""
        self._pool.give(batch.blocks)

    def note_lost(self, batch: ColumnBatch) -> None:
        """Put into the next depth file of a book that a batch of it could not be kept."""
        if batch.kind is not TableKind.DEPTH:
            return
        for live, recording in self._recordings.items():
            if live.venue == batch.instrument.venue and live.symbol == batch.instrument.symbol:
                now_ns = self._clock.wall_ns()
                recording.depth.gaps.append(Gap(batch.first_id, batch.last_id, "lost", now_ns))

    def _recording(self, live: LiveBook, ts_recv_ns: int) -> BookRecording:
        """Return a book's tables, flushed first when the day or the grid has changed."""
        recording = self._recordings.get(live)
        if recording is None:
            recording = self._recordings[live] = BookRecording(live, self._clock.monotonic_ns(), self._pool)
            recording.day_end_ns = _day_end_ns(ts_recv_ns)
        elif live.instrument is not recording.instrument or ts_recv_ns >= recording.day_end_ns:
            self._flush_book(recording)
            grid_changed = recording.instrument.grid != live.instrument.grid
            recording.instrument = live.instrument
            recording.day_end_ns = max(recording.day_end_ns, _day_end_ns(ts_recv_ns))
            if live.state is BookState.LIVE and grid_changed:
                recording.book = None  # ticks mean something else now: begin from a whole book
        return recording

    def _flush_book(self, recording: BookRecording) -> None:
        for kind, table in recording.tables().items():
            self._flush(recording, kind, table)
        recording.flushed_ns = self._clock.monotonic_ns()

    def _flush(self, recording: BookRecording, kind: TableKind, table: DepthTable | EventTable) -> None:
        if not table.rows:
            return
        taken = table.take()
        date = f"{datetime.fromtimestamp((recording.day_end_ns - 1) // NANOSECONDS_PER_SECOND, UTC):%Y-%m-%d}"
        self.rows += taken.rows
        self.batches += 1
        self._emit(ColumnBatch(kind, recording.instrument, date, *taken))

    def _snapshot(self, recording: BookRecording, ts_recv_ns: int, levels: int | None = None) -> None:
        """Record the book as it is after the last update."""
        live, view = recording.live, recording.live.book.view
        self._event_number = number = self._event_number + 1
        bid_ticks, bid_lots, ask_ticks, ask_lots = (side[:levels] for side in live.book.levels())
        partial = kernels.FLAG_PARTIAL if levels is not None else 0
        recording.snapshots.append_levels(
            {
                kernels.EVENT_NUMBER: number,
                kernels.TS_EVENT: view[layout.TS_EVENT],
                kernels.TS_MATCH: view[layout.TS_MATCH],
                kernels.TS_RECV: ts_recv_ns,
                kernels.FIRST_ID: live.last_update_id,
                kernels.FINAL_ID: live.last_update_id,
            },
            ((Side.BUY, bid_ticks, bid_lots), (Side.SELL, ask_ticks, ask_lots)),
            kernels.FLAG_SNAPSHOT | partial,
        )
        recording.next_snapshot_ns = ts_recv_ns + self._snapshot_interval_ns
        if recording.snapshots.rows >= self._settings.flush_rows:
            self._flush(recording, TableKind.SNAPSHOTS, recording.snapshots)


def _note_trade_gap(recording: BookRecording, trade: Trade, ts_recv_ns: int) -> None:
    """Note the ids missing before a trade; one that is not newer than the newest closes nothing."""
    aggregate = bool(trade.flags & layout.TRADE_FLAG_AGGREGATE)
    newest_id, trade_id = recording.newest_trade_id[aggregate], numeric_id(trade.trade_id)
    if trade_id <= newest_id:
        return
    if newest_id and trade_id != newest_id + 1:
        recording.trades.gaps.append(Gap(newest_id, trade_id, TRADES_MISSING, ts_recv_ns))
    recording.newest_trade_id[aggregate] = trade_id


def _day_end_ns(ts_ns: int) -> int:
    return (ts_ns // NANOSECONDS_PER_DAY + 1) * NANOSECONDS_PER_DAY
