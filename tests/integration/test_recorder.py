"""From frames to files and back: the book that the catalogue tells is the live one."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from bookrunner.app.venue_feeds import detect_venue, make_feed
from bookrunner.core.clock import NANOSECONDS_PER_SECOND, ManualClock
from bookrunner.core.enums import InstrumentKind, Side
from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import Column, ColumnBatch, Gap, TableKind
from bookrunner.kernels.columns import FLAG_LAST, FLAG_PARTIAL, FLAG_SNAPSHOT
from bookrunner.kernels.layout import TRADE_FLAG_AGGREGATE
from bookrunner.market.events import Bar, MarkPrice, Quote, Trade
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.market_columns import MarketColumns
from bookrunner.services.recorder import Recorder
from bookrunner.services.recorder_settings import RecorderSettings
from bookrunner.services.recording_player import RecordingPlayer
from bookrunner.services.venue_session import VenueSession
from bookrunner.storage.catalogue import LocalCatalogue, LocalSpool
from bookrunner.storage.catalogue_reader import files_of, rebuild
from bookrunner.storage.parquet import ParquetEncoder, read_file
from bookrunner.storage.recordings import open_recording
from bookrunner.venues import simulated
from bookrunner.wire.recording import (
    RecordedKind,
    RecordedMessage,
    RecordingReport,
    format_of,
    read_messages,
)

SAMPLE = Path(simulated.__file__).parent / "sample"
NOW_NS = 1_723_161_255_000_000_000
MESSAGES = 4_000


class Written:
    """Columns played straight into a catalogue folder, as an import does."""

    def __init__(self, root: Path, **settings: float) -> None:
        self.root = root
        self.batches: list[ColumnBatch] = []
        self.columns = MarketColumns(self._write, RecorderSettings(**settings), ManualClock())  # type: ignore[arg-type]
        self.player = RecordingPlayer(make_feed, detect_venue, sinks=[self.columns])

    def _write(self, batch: ColumnBatch) -> None:
        self.batches.append(batch)
        file = ParquetEncoder().encode(batch)
        self.columns.recycle(batch)
        LocalCatalogue(self.root).put(file.path, file.data)

    def frames(self, *frames: str, step_ns: int = 1_000_000) -> None:
        for frame in frames:
            self.now_ns = getattr(self, "now_ns", NOW_NS) + step_ns
            kind = RecordedKind.REST if '"lastUpdateId"' in frame[:20] else RecordedKind.FRAME
            self.player.take(RecordedMessage(kind, self.now_ns, "", frame.encode()))

    def live(self, venue: str = "bybit_linear", symbol: str = "BTCUSDT") -> LiveBook:
        live = self.player.books.get(venue, symbol)
        assert live is not None
        return live

    def assert_rebuilt(self, venue: str = "bybit_linear", symbol: str = "BTCUSDT") -> None:
        self.columns.flush_all()
        live = self.live(venue, symbol)
        rebuilt = rebuild(self.root, venue, symbol)
        bids, asks = levels_of(live)
        assert rebuilt.bids == bids
        assert rebuilt.asks == asks
        assert rebuilt.last_id == live.last_update_id


def levels_of(live: LiveBook) -> tuple[dict[str, str], dict[str, str]]:
    grid = live.instrument.grid
    bid_ticks, bid_lots, ask_ticks, ask_lots = (side.tolist() for side in live.book.levels())
    return (
        {grid.price(t): grid.quantity(q) for t, q in zip(bid_ticks, bid_lots, strict=True)},
        {grid.price(t): grid.quantity(q) for t, q in zip(ask_ticks, ask_lots, strict=True)},
    )


def bybit(kind: str, update_id: int, bids: list[list[str]], asks: list[list[str]]) -> str:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": update_id, "seq": update_id + 7}
    frame = {
        "topic": "orderbook.50.BTCUSDT",
        "type": kind,
        "ts": 1723161255100,
        "data": data,
        "cts": 1723161255099,
    }
    return json.dumps(frame, separators=(",", ":"))


SNAPSHOT = bybit("snapshot", 10, [["100.1", "1"], ["100", "2"]], [["100.2", "3"], ["100.4", "4"]])


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def test_the_packaged_sample_rebuilds_from_its_files(tmp_path: Path) -> None:
    written = Written(tmp_path, flush_rows=5_000, snapshot_interval_s=20)
    for origin, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        with open_recording(SAMPLE / f"usdm_{symbol}_20240808.ndlog.gz") as lines:
            messages = read_messages(lines, format_of("x.ndlog"), RecordingReport())
            for message in islice(messages, MESSAGES):
                written.player.take(message, origin)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        written.assert_rebuilt("binance_usdm", symbol)
        # From the first snapshot alone, over every update, the same book comes out.
        for path in files_of(tmp_path, "binance_usdm", symbol, TableKind.SNAPSHOTS)[1:]:
            path.unlink()
        written.assert_rebuilt("binance_usdm", symbol)
    kinds = {batch.kind for batch in written.batches}
    assert kinds == {TableKind.DEPTH, TableKind.SNAPSHOTS, TableKind.TRADES, TableKind.QUOTES}
    assert sum(batch.rows for batch in written.batches) == written.columns.rows
    for symbol in ("BTCUSDT", "ETHUSDT"):
        numbers: list[int] = []
        for path in files_of(tmp_path, "binance_usdm", symbol, TableKind.DEPTH):
            metadata, columns = read_file(path)
            assert metadata.rows == len(columns["event_number"])
            assert (metadata.first_event, metadata.last_event) == (
                columns["event_number"][0],
                columns["event_number"][-1],
            )
            numbers += np.unique(columns["event_number"]).tolist()
        assert numbers == sorted(set(numbers))


def test_a_stream_snapshot_replaces_and_an_empty_update_moves_the_id(written: Written) -> None:
    written.frames(
        SNAPSHOT,
        bybit("delta", 11, [["100.1", "0"]], [["100.2", "5"]]),
        bybit("delta", 12, [], []),
        bybit("snapshot", 13, [["99", "1"]], [["99.5", "1"]]),
        bybit("delta", 14, [["98", "7"]], []),
    )
    written.assert_rebuilt()
    assert written.live().last_update_id == 14


def test_a_gap_is_in_the_metadata_and_the_book_is_whole_again(written: Written) -> None:
    written.frames(
        SNAPSHOT,
        bybit("delta", 11, [["100", "9"]], []),
        bybit("delta", 14, [["100", "8"]], []),
        bybit("snapshot", 20, [["101", "1"]], [["102", "2"]]),
        bybit("delta", 21, [["101", "3"]], []),
    )
    written.assert_rebuilt()
    (path,) = files_of(written.root, "bybit_linear", "BTCUSDT", TableKind.DEPTH)
    metadata, columns = read_file(path)
    assert [(gap.after_id, gap.before_id, gap.reason) for gap in metadata.gaps] == [(11, 20, "gap")]
    assert (metadata.first_id, metadata.last_id) == (10, 21)
    final_ids = columns["final_id"]
    assert 14 not in list(final_ids)


def test_a_gap_still_open_at_the_end_is_told(written: Written) -> None:
    written.frames(SNAPSHOT, bybit("delta", 13, [], [["100.2", "1"]]))
    written.columns.flush_all()
    depth = [batch for batch in written.batches if batch.kind is TableKind.DEPTH]
    assert [(gap.after_id, gap.before_id, gap.reason) for gap in depth[-1].gaps] == [(10, 0, "gap")]


def test_a_finer_grid_begins_new_files_that_stay_exact(written: Written) -> None:
    written.frames(
        SNAPSHOT,
        bybit("delta", 11, [["100.05", "1.5"]], []),
        bybit("delta", 12, [["100.025", "0.25"]], [["100.2", "0"]]),
    )
    written.assert_rebuilt()
    depth = [batch for batch in written.batches if batch.kind is TableKind.DEPTH]
    assert [batch.instrument.grid.tick_size for batch in depth] == ["0.1", "0.05", "0.025"]
    assert len({batch.instrument.version for batch in depth}) == 3
    # Only the files on the finest grid are needed: they begin with a whole book.
    for path in written.root.rglob("*.parquet"):
        if read_file(path)[0].instrument.grid.tick_size != "0.025":
            path.unlink()
    written.assert_rebuilt()


def test_a_new_day_begins_new_files(written: Written) -> None:
    day_ns = 86_400 * NANOSECONDS_PER_SECOND
    written.frames(SNAPSHOT)
    written.frames(bybit("delta", 11, [["100", "9"]], []), step_ns=day_ns)
    written.frames(bybit("delta", 12, [["100", "8"]], []))
    written.assert_rebuilt()
    dates = [path.parent.name for path in files_of(written.root, "bybit_linear", "BTCUSDT", TableKind.DEPTH)]
    assert dates == ["date=2024-08-08", "date=2024-08-09"]


def test_a_message_larger_than_the_table_grows_it(written: Written) -> None:
    many = [[f"{50 + i / 100:.2f}", "1"] for i in range(3_000)]
    written.frames(bybit("snapshot", 1, many, [["100", "1"]]))
    written.frames(*(bybit("delta", 2 + i, [[price, "2"] for price, _ in many], []) for i in range(5)))
    written.assert_rebuilt()


def test_periodic_snapshots_of_the_best_levels_are_marked_partial(tmp_path: Path) -> None:
    written = Written(tmp_path, snapshot_interval_s=1, snapshot_levels=1)
    written.frames(
        SNAPSHOT, *(bybit("delta", 11 + i, [["99", str(i + 1)]], []) for i in range(4)), step_ns=10**9
    )
    written.assert_rebuilt()
    (path,) = files_of(tmp_path, "bybit_linear", "BTCUSDT", TableKind.SNAPSHOTS)
    _, columns = read_file(path)
    flags = np.asarray(columns["flags"])
    partial = flags & FLAG_PARTIAL != 0
    assert (flags & FLAG_SNAPSHOT != 0).all()
    assert partial.sum() == 4 * 2
    assert (flags & FLAG_LAST != 0).sum() == 1 + 4


@pytest.mark.parametrize(
    ("venue", "flags", "gaps"),
    [
        ("binance_spot", 0, [(11, 15), (15, 17)]),
        ("binance_usdm", TRADE_FLAG_AGGREGATE, [(11, 15), (15, 17)]),
        ("bybit_spot", 0, []),
    ],
)
def test_trade_files_tell_their_ids_and_the_missing_ones(
    written: Written, venue: str, flags: int, gaps: list[tuple[int, int]]
) -> None:
    instrument = Instrument(
        venue=venue,
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        kind=InstrumentKind.SPOT,
        grid=Grid.of("0.1", "0.001"),
    )
    live = VenueSession(make_feed(venue), LiveBooks(), [], written.player).follow(instrument)
    ids = [10, 11, 11, 15, 14, 15, 17]
    trades = [Trade(str(number), 1, 1, Side.BUY, 1, 1, flags) for number in ids]
    written.columns.on_trades(live, trades[:3], NOW_NS)
    written.columns.flush_all()  # a gap is seen across files too
    written.columns.on_trades(live, trades[3:], NOW_NS + 1)
    other = Trade("900", 1, 1, Side.BUY, 1, 1, flags ^ TRADE_FLAG_AGGREGATE)
    written.columns.on_trades(live, [other], NOW_NS + 2)
    written.columns.flush_all()
    first, second = (
        read_file(path)[0] for path in files_of(written.root, venue, "BTCUSDT", TableKind.TRADES)
    )
    assert (first.first_id, first.last_id, first.gaps) == (10, 11, ())
    assert (second.first_id, second.last_id) == (15, 900)
    assert [(gap.after_id, gap.before_id) for gap in second.gaps] == gaps
    assert {gap.reason for gap in second.gaps} <= {"trades_missing"}


def test_other_events_come_back_as_they_were(written: Written) -> None:
    written.frames(SNAPSHOT)
    live, ts = written.live(), NOW_NS + 5
    trade = Trade("2290000000061666-a", 1_001, 25, Side.SELL, 11, 12, 1)
    quote = Quote(77, 1_001, 5, 1_002, 6, 21, 22)
    bar = Bar("1m", 1, 59, "1.10", "2", "0.5", "1.5", "100", "150.5", closed=True, ts_event_ns=60)
    mark = MarkPrice("61800.12", "", "0.0001", 99, 98)
    written.columns.on_trades(live, [trade, trade], ts)
    written.columns.on_quote(live, quote, ts)
    written.columns.on_bar(live, bar, ts)
    written.columns.on_mark_price(live, mark, ts)
    written.columns.flush_all()
    read = {batch.kind: read_file(next(written.root.rglob(f"{batch.kind}-*"))) for batch in written.batches}
    metadata, trades = read[TableKind.TRADES]
    assert (metadata.first_id, metadata.last_id, metadata.gaps) == (0, 0, ())
    assert trades["trade_id"] == ["2290000000061666-a"] * 2
    stored = {name: int(trades[name][0]) for name in ("side", "price_ticks", "quantity_lots", "flags")}
    assert stored == {"side": -1, "price_ticks": 1_001, "quantity_lots": 25, "flags": 1}
    assert (int(trades["ts_event_ns"][0]), int(trades["ts_match_ns"][0])) == (11, 12)
    metadata, quotes = read[TableKind.QUOTES]
    assert (metadata.first_id, metadata.last_id) == (77, 77)
    assert int(quotes["ask_lots"][0]) == 6
    _, bars = read[TableKind.BARS]
    assert (bars["open"], bars["turnover"], list(bars["closed"])) == (["1.10"], ["150.5"], [1])
    _, marks = read[TableKind.MARK_PRICES]
    assert (marks["mark_price"], marks["index_price"]) == (["61800.12"], [""])


def test_the_same_recording_writes_the_same_files(tmp_path: Path) -> None:
    frames = [SNAPSHOT, *(bybit("delta", 11 + i, [["99", str(i + 1)]], []) for i in range(20))]
    contents = []
    for name in ("first", "second"):
        written = Written(tmp_path / name)
        written.frames(*frames)
        written.columns.flush_all()
        contents.append({str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*.parquet")})
    assert contents[0] == contents[1]


# --- files ------------------------------------------------------------------------------------------------


def one_file(written: Written) -> Path:
    written.frames(SNAPSHOT)
    written.columns.flush_all()
    return files_of(written.root, "bybit_linear", "BTCUSDT", TableKind.DEPTH)[0]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_file_is_refused(written: Written, damage: str) -> None:
    path = one_file(written)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        for at in range(8, 200):
            data[at] ^= 0xFF
    elif damage == "cut":
        del data[-10:]
    else:
        data[:] = b"" if damage == "empty" else b"PAR1 not really PAR1"
    path.write_bytes(data)
    with pytest.raises(CatalogueError) as caught:
        read_file(path)
    assert caught.value.fields["file"] == path.name


def test_values_that_were_changed_do_not_match_the_hash(written: Written) -> None:
    import pyarrow.parquet as pq

    path = one_file(written)
    table = pq.read_table(path.open("rb"))
    lots = table.column("quantity_lots").to_pylist()
    changed = table.set_column(8, "quantity_lots", [[lot + 1 for lot in lots]])
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(CatalogueError, match="hash"):
        read_file(path)


def test_a_parquet_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"event_number": [1]}), tmp_path / "x.parquet")
    with pytest.raises(CatalogueError, match="not a catalogue file"):
        read_file(tmp_path / "x.parquet")


def test_a_book_without_a_whole_snapshot_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError):
        rebuild(tmp_path, "bybit_linear", "BTCUSDT")


def test_symbols_that_mean_something_in_paths_are_encoded() -> None:
    instrument = Instrument(
        venue="x",
        symbol="../BTC/USD",
        base="BTC",
        quote="USD",
        kind=InstrumentKind.SPOT,
        grid=Grid(0, 1, 0, 1),
    )
    numbers = np.array([1], np.int64)
    batch = ColumnBatch(TableKind.QUOTES, instrument, "2024-08-08", 1, {"event_number": (numbers,)}, 1, 1)
    assert (
        ParquetEncoder()
        .encode(batch)
        .path.startswith("venue=x/symbol=..%2FBTC%2FUSD/date=2024-08-08/quotes-")
    )


def test_columns_of_unequal_length_are_a_catalogue_error() -> None:
    instrument = Instrument(
        venue="x", symbol="X", base="X", quote="Y", kind=InstrumentKind.SPOT, grid=Grid(0, 1, 0, 1)
    )
    one, two = np.array([1], np.int64), np.array([1, 2], np.int64)
    columns: dict[str, Column] = {"event_number": (two,), "flags": (one,)}
    batch = ColumnBatch(TableKind.DEPTH, instrument, "2024-08-08", 2, columns, 1, 1)
    with pytest.raises(CatalogueError):
        ParquetEncoder().encode(batch)


# --- the service ------------------------------------------------------------------------------------------


async def test_the_service_flushes_by_age_and_at_its_stop(tmp_path: Path) -> None:
    clock = ManualClock()
    target, spool = LocalCatalogue(tmp_path / "catalogue"), LocalSpool(tmp_path / "spool", 10**9)
    settings = RecorderSettings(flush_interval_s=60)
    recorder = Recorder(ParquetEncoder(), target, spool, settings, clock, random.Random(1))
    player = RecordingPlayer(make_feed, detect_venue, sinks=[recorder.sink])
    played = Written(tmp_path / "unused")
    played.player = player

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the writer's thread is at work meanwhile
                await asyncio.sleep(0)

    await recorder.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run())
        played.frames(SNAPSHOT)
        recorder.sink.flush_due()
        assert recorder.counters().rows == 0
        clock.advance(61 * NANOSECONDS_PER_SECOND)
        recorder.sink.flush_due()
        await until(lambda: recorder.counters().files == 2)
        played.frames(bybit("delta", 11, [["100", "9"]], []))
        await recorder.stop()
    counters = recorder.counters()
    assert (counters.files, counters.waiting_rows, counters.lost_rows) == (3, 0, 0)
    live = player.books.get("bybit_linear", "BTCUSDT")
    assert live is not None
    rebuilt = rebuild(tmp_path / "catalogue", "bybit_linear", "BTCUSDT")
    assert (rebuilt.bids, rebuilt.asks) == levels_of(live)


async def test_a_lost_depth_batch_is_a_gap_in_the_next_file(tmp_path: Path) -> None:
    class Refusing:
        def put(self, path: str, data: bytes) -> None:
            raise CatalogueError("refused", path=path, bytes=len(data))

    alarms: list[ColumnBatch] = []
    recorder = Recorder(
        ParquetEncoder(),
        Refusing(),
        LocalSpool(tmp_path, 0),
        RecorderSettings(retry_first_s=0),
        ManualClock(),
        random.Random(1),
        on_lost=alarms.append,
    )
    played = Written(tmp_path / "unused")
    played.player = RecordingPlayer(make_feed, detect_venue, sinks=[recorder.sink])
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run())
        played.frames(SNAPSHOT, bybit("delta", 11, [], []))
        await recorder.stop()
    assert {batch.kind for batch in alarms} == {TableKind.DEPTH, TableKind.SNAPSHOTS}
    assert recorder.counters().lost_rows == sum(batch.rows for batch in alarms)
    (gap,) = [gap for gap in played_gaps(recorder) if gap.reason == "lost"]
    assert (gap.after_id, gap.before_id) == (10, 11)


def played_gaps(recorder: Recorder) -> list[Gap]:
    return [gap for recording in recorder.sink._recordings.values() for gap in recording.depth.gaps]
