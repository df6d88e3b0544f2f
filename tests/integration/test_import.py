"""``bookrunner import``: recordings into a journal and the catalogue."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bookrunner.app.commands.import_recording import import_recordings, run_import
from bookrunner.core.clock import ManualClock
from bookrunner.core.errors import InvalidRequestError, StorageError
from bookrunner.engine.ports.catalogue import TableKind
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.catalogue_reader import files_of, rebuild
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.parquet import read_file

CLOCK = ManualClock()


def depth(symbol: str, first: int, final: int, previous: int, bids: list[list[str]]) -> str:
    data = {"e": "depthUpdate", "E": 1617647797599, "T": 1617647797571, "s": symbol}
    data |= {"U": first, "u": final, "pu": previous, "b": bids, "a": [["101.00", "2.000"]]}
    return json.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": data}, separators=(",", ":"))


def snapshot(last_id: int) -> str:
    body = {"lastUpdateId": last_id, "E": 1617647797886, "T": 1617647797881}
    body |= {"bids": [["100.00", "1.000"]], "asks": [["101.00", "1.000"]]}  # type: ignore[dict-item]
    return json.dumps(body, separators=(",", ":"))


SOCKET = "wss://fstream.binance.com/stream?streams=btcusdt@depth@100ms"
REST = "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"


@pytest.fixture
def cfraw(tmp_path: Path) -> Path:
    lines = [
        'configuration: {"l2_book":["BTC-USDT"]}',
        f"{SOCKET} <-> 1617647797.1",
        f"1617647797.2: {depth('BTCUSDT', 1, 5, 0, [['99.50', '1.000']])}",
        f"{REST} -> 1617647797.3: {snapshot(3)}",
        "this line is damaged",
        f"1617647797.4: {depth('BTCUSDT', 6, 8, 5, [['99.00', '0.500']])}",
    ]
    path = tmp_path / "session.cfraw.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture
def ndlogs(tmp_path: Path) -> list[Path]:
    """Two symbols recorded at once, a file each, with snapshots that do not say whose they are."""
    paths = []
    for i, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        lines = [
            f"172316125503031466{i} {depth(symbol, 1, 5, 0, [['99.50', '1.000']])}",
            f"172316125503031566{i} {snapshot(3)}",
            f"172316125503031666{i} {depth(symbol, 6, 8, 5, [[f'9{i}.00', '0.500']])}",
        ]
        path = tmp_path / f"usdm_{symbol}.ndlog"
        path.write_text("\n".join(lines))
        paths.append(path)
    return paths


def test_a_session_into_journal_and_catalogue(cfraw: Path, tmp_path: Path) -> None:
    report, problems = run_import([cfraw], tmp_path / "catalogue", tmp_path / "journal", None, CLOCK)
    assert (report.messages, report.bad_lines, report.unrecognised, report.books) == (4, 1, 0, 1)
    assert problems[0][1].problems[0].line == 5
    book = rebuild(tmp_path / "catalogue", "binance_usdm", "BTCUSDT")
    assert book.bids == {"100": "1", "99.5": "1", "99": "0.5"}
    assert (book.asks, book.last_id) == ({"101": "2"}, 8)
    records = [record for record in read_journal(tmp_path / "journal") if record.kind != RecordKind.SOURCE]
    assert [record.kind for record in records] == [
        RecordKind.CONNECTED,
        RecordKind.FRAME,
        RecordKind.REST_RESPONSE,
        RecordKind.FRAME,
    ]
    assert records[1].payload.decode() == depth("BTCUSDT", 1, 5, 0, [["99.50", "1.000"]])
    assert records[1].ts_recv_ns == 1617647797_200_000_000
    assert records[2].payload.decode() == f"/fapi/v1/depth?symbol=BTCUSDT&limit=1000\n{snapshot(3)}"
    assert report.journal_records == len(list(read_journal(tmp_path / "journal")))


def test_recordings_are_played_together_and_each_snapshot_finds_its_book(
    ndlogs: list[Path], tmp_path: Path
) -> None:
    report, _ = run_import(ndlogs, tmp_path / "catalogue", tmp_path / "journal", None, CLOCK)
    assert (report.books, report.unrecognised) == (2, 0)
    assert rebuild(tmp_path / "catalogue", "binance_usdm", "BTCUSDT").bids["90"] == "0.5"
    assert rebuild(tmp_path / "catalogue", "binance_usdm", "ETHUSDT").bids["91"] == "0.5"
    times = [
        record.ts_recv_ns for record in read_journal(tmp_path / "journal") if record.kind != RecordKind.SOURCE
    ]
    assert times == sorted(times)
    names = {
        json.loads(record.payload)["name"]
        for record in read_journal(tmp_path / "journal")
        if record.kind == RecordKind.SOURCE
    }
    assert names == {"import/usdm_BTCUSDT.ndlog", "import/usdm_ETHUSDT.ndlog"}


def test_importing_again_changes_no_file_of_the_catalogue(cfraw: Path, tmp_path: Path) -> None:
    files = []
    for _ in range(2):
        run_import([cfraw], tmp_path / "catalogue", None, None, CLOCK)
        files.append({path.name for path in (tmp_path / "catalogue").rglob("*.parquet")})
    assert files[0] == files[1]
    depth_files = files_of(tmp_path / "catalogue", "binance_usdm", "BTCUSDT", TableKind.DEPTH)
    assert sum(read_file(path)[0].rows for path in depth_files) == 4


def test_only_a_journal_needs_no_known_venue(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"channel":"nobody knows"}\n')
    report, _ = run_import([path], None, tmp_path / "journal", None, CLOCK)
    assert (report.journal_records, report.files) == (2, 0)


def test_frames_of_no_known_venue_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"channel":"nobody knows"}\n')
    report, _ = run_import([path], tmp_path / "catalogue", None, None, CLOCK)
    assert (report.unrecognised, report.files) == (1, 0)


def test_what_did_not_reach_the_catalogue_is_counted(ndlogs: list[Path], tmp_path: Path) -> None:
    sound, _ = run_import(ndlogs, tmp_path / "catalogue", None, None, CLOCK)
    assert (sound.books, sound.books_not_live, sound.gaps, sound.unrecorded) == (2, 0, 0, 0)
    with ndlogs[0].open("a") as recording:
        recording.write(f"\n1723161255040314660 {depth('BTCUSDT', 20, 22, 19, [['90.00', '1.000']])}")
    broken, _ = run_import(ndlogs, tmp_path / "broken", None, None, CLOCK)
    assert (broken.books, broken.books_not_live, broken.gaps, broken.unrecorded) == (2, 1, 1, 1)


def test_the_command_prints_totals_and_names_bad_lines(
    cfraw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_recordings([cfraw], tmp_path / "catalogue", None, "binance_usdm") == 0
    printed = capsys.readouterr()
    for name in ("messages", "gaps", "books_not_live", "unrecorded"):
        assert name in printed.out
    assert "session.cfraw.gz, line 5" in printed.err


@pytest.mark.parametrize("name", ["missing.ndlog", "table.csv"])
def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(InvalidRequestError) as caught:
        run_import([tmp_path / name], tmp_path / "catalogue", None, None, CLOCK)
    assert str(caught.value.fields["value"]).endswith(name)


def test_an_unknown_venue_or_nowhere_to_go_is_refused(cfraw: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        run_import([cfraw], tmp_path / "catalogue", None, "nowhere", CLOCK)
    assert caught.value.fields["field"] == "venue"
    with pytest.raises(InvalidRequestError):
        run_import([cfraw], None, None, None, CLOCK)


def test_a_recording_cut_short_is_an_error_and_what_came_before_is_in_the_journal(
    cfraw: Path, tmp_path: Path
) -> None:
    cfraw.write_bytes(cfraw.read_bytes()[:-12])
    with pytest.raises(StorageError, match="recording is damaged"):
        run_import([cfraw], None, tmp_path / "journal", None, CLOCK)
    list(read_journal(tmp_path / "journal"))
