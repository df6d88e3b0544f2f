"""Real recordings through the importer: the book that the catalogue tells is the one that the frames make."""

from __future__ import annotations

from pathlib import Path

import pytest

from bookrunner.app.commands.books import play_books
from bookrunner.app.commands.import_recording import run_import
from bookrunner.core.clock import ManualClock
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.catalogue_reader import rebuild
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.recordings import open_recording
from bookrunner.wire.recording import RecordingReport, format_of, read_messages

DATA = Path(__file__).parents[3] / "shared" / "data"
RECORDINGS = {
    "cfraw, three symbols": ["ws/binance/spot_BTC-ETH-DOT_20210404.cfraw.gz"],
    "cfraw, five symbols": ["ws/binance/usdm_5sym_20210405.cfraw.gz"],
    "cf3": ["agpl/bybit_v5_linear_20260809.jsonl.gz"],
    "ndlog, two days": [
        "ws/binance/spot_BTCUSDT_20240808.ndlog.gz",
        "ws/binance/spot_BTCUSDT_20240809.ndlog.gz",
    ],
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_an_imported_recording_is_all_there(name: str, tmp_path: Path) -> None:
    paths = [DATA / recording for recording in RECORDINGS[name]]
    for path in paths:
        if not path.exists():
            pytest.skip(f"no recording {path.name} on this machine")
    report, _ = run_import(paths, tmp_path / "catalogue", tmp_path / "journal", None, ManualClock())
    assert (report.bad_lines, report.oversized) == (0, 0)
    books, _ = play_books(paths, None)
    assert report.books == len(books) > 0
    for live in books:
        grid = live.instrument.grid
        rebuilt = rebuild(tmp_path / "catalogue", live.venue, live.symbol)
        bid_ticks, bid_lots, ask_ticks, ask_lots = (side.tolist() for side in live.book.levels())
        assert rebuilt.last_id == live.last_update_id
        assert rebuilt.bids == {
            grid.price(t): grid.quantity(q) for t, q in zip(bid_ticks, bid_lots, strict=True)
        }
        assert rebuilt.asks == {
            grid.price(t): grid.quantity(q) for t, q in zip(ask_ticks, ask_lots, strict=True)
        }
    # The journal holds every payload byte, in order of receipt.
    expected: list[bytes] = []
    for path in paths:
        with open_recording(path) as lines:
            messages = read_messages(lines, format_of(path.name), RecordingReport())
            expected += [message.payload for message in messages if message.kind == "frame"]
    journaled = [r.payload for r in read_journal(tmp_path / "journal") if r.kind == RecordKind.FRAME]
    assert journaled == expected
