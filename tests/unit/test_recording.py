"""Recorded sessions: what crossed the wire comes out byte for byte, whatever the text around it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from bookrunner.core.errors import StorageError
from bookrunner.storage.recordings import open_recording
from bookrunner.wire.recording import (
    MAX_LINE_BYTES,
    MAX_PROBLEMS,
    RecordedKind,
    RecordedMessage,
    RecordingFormat,
    RecordingReport,
    format_of,
    read_messages,
)

FRAME, REST, SENT, CONNECT = RecordedKind.FRAME, RecordedKind.REST, RecordedKind.SENT, RecordedKind.CONNECT


def read(
    text: bytes, fmt: RecordingFormat
) -> tuple[list[tuple[RecordedKind, int, str, bytes]], RecordingReport]:
    report = RecordingReport()
    messages = list(read_messages(text.splitlines(keepends=True), fmt, report))
    return [(m.kind, m.ts_recv_ns, m.url, m.payload) for m in messages], report


def test_ndlog_times_in_ns_and_in_us_and_the_snapshot() -> None:
    messages, report = read(
        b'1723161255030314667 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate"}}\n'
        b'1680652700204196 {"stream":"btcusdt@trade","data":{}}\n'
        b'1723161255088169167 {"lastUpdateId":5123107832006,"bids":[],"asks":[]}\n',
        RecordingFormat.NDLOG,
    )
    assert messages == [
        (FRAME, 1723161255030314667, "", b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate"}}'),
        (FRAME, 1680652700204196000, "", b'{"stream":"btcusdt@trade","data":{}}'),
        (REST, 1723161255088169167, "", b'{"lastUpdateId":5123107832006,"bids":[],"asks":[]}'),
    ]
    assert (report.lines, report.messages, report.bad_lines) == (3, 3, 0)
    assert (report.first_ts_ns, report.last_ts_ns) == (1723161255030314667, 1723161255088169167)


def test_cfraw_knows_frames_connects_sent_messages_and_answers() -> None:
    messages, report = read(
        b'configuration: {"l2_book":["BTC-USDT"]}\n'
        b"wss://stream.example/v5 <-> 1617648073.1530728\n"
        b'wss://stream.example/v5 <- 1617648073.614412: {"op":"subscribe","args":["a: b"]}\n'
        b'1617647797.5963788: {"topic":"x","note":"a -> b: c"}\n'
        b"\n"
        b'https://api.example/depth?symbol=BTC&limit=5 -> 1617648074.2: {"lastUpdateId":1}\n'
        b"1617647798: [1]",
        RecordingFormat.CFRAW,
    )
    url = "wss://stream.example/v5"
    assert messages == [
        (CONNECT, 1617648073153072800, url, b""),
        (SENT, 1617648073614412000, url, b'{"op":"subscribe","args":["a: b"]}'),
        (FRAME, 1617647797596378800, url, b'{"topic":"x","note":"a -> b: c"}'),
        (REST, 1617648074200000000, "https://api.example/depth?symbol=BTC&limit=5", b'{"lastUpdateId":1}'),
        (FRAME, 1617647798000000000, url, b"[1]"),
    ]
    assert report.ignored_lines == 2


def test_cf3_takes_the_raw_text_out_of_its_string() -> None:
    messages, report = read(
        b'{"t":"header","format":2,"exchange":"BYBIT","config":{}}\n'
        b'{"t":"http","conn":"h","ts":1786310817.601629,"url":"https://api.example/i","data":"{\\"retCode\\":0}"}\n'
        b'{"t":"connect","conn":"w","ts":1786310818.2235148,"addr":"wss://stream.example/v5"}\n'
        b'{"t":"send","conn":"w","ts":1786310819.228447,"addr":"wss://stream.example/v5","data":"{}"}\n'
        b'{"t":"recv","conn":"w","ts":1786310819.5,"data":"{\\"topic\\":\\"\\u00fc\\"}"}\n',
        RecordingFormat.JSONL,
    )
    assert messages == [
        (REST, 1786310817601629000, "https://api.example/i", b'{"retCode":0}'),
        (CONNECT, 1786310818223514800, "wss://stream.example/v5", b""),
        (SENT, 1786310819228447000, "wss://stream.example/v5", b"{}"),
        (FRAME, 1786310819500000000, "wss://stream.example/v5", '{"topic":"ü"}'.encode()),
    ]
    assert (report.ignored_lines, report.bad_lines) == (1, 0)


def test_plain_json_lines_are_frames_without_a_time() -> None:
    messages, _ = read(b'{"e": "depthUpdate", "E": 1}\n\n[1, 2]\n', RecordingFormat.JSONL)
    assert messages == [(FRAME, 0, "", b'{"e": "depthUpdate", "E": 1}'), (FRAME, 0, "", b"[1, 2]")]


@pytest.mark.parametrize(
    ("fmt", "line", "reason"),
    [
        (RecordingFormat.NDLOG, b"hello", "no receive time"),
        (RecordingFormat.NDLOG, b"1723161255030314667", "no message"),
        (RecordingFormat.NDLOG, b"17231 {}", "neither ns nor"),
        (RecordingFormat.NDLOG, b"\xef\xbc\x911723161255030314667 {}", "no receive time"),
        (RecordingFormat.CFRAW, b"1617647797.59", "no frame"),
        (RecordingFormat.CFRAW, b"1e9: {}", "decimal seconds"),
        (RecordingFormat.CFRAW, b"wss://x <-> soon", "decimal seconds"),
        (RecordingFormat.CFRAW, b"wss://x == 1: {}", "arrow"),
        (RecordingFormat.CFRAW, b"wss://x -> 1617647797.5:", "no message"),
        (RecordingFormat.CFRAW, b"\xff\xfe <-> 1617647797.5", "ascii"),
        (RecordingFormat.JSONL, b"text", "not a JSON"),
    ],
)
def test_a_bad_line_is_reported_by_number_and_the_rest_is_read(
    fmt: RecordingFormat, line: bytes, reason: str
) -> None:
    good = {
        RecordingFormat.NDLOG: b"1723161255030314667 {}\n",
        RecordingFormat.CFRAW: b"1617647797.5: {}\n",
        RecordingFormat.JSONL: b"{}\n",
    }[fmt]
    messages, report = read(good + line + b"\n" + good, fmt)
    assert len(messages) == 2
    assert report.bad_lines == 1
    assert report.problems[0].line == 2
    assert reason in report.problems[0].reason


def test_bad_cf3_lines() -> None:
    header = b'{"t":"header"}\n'
    lines = (
        b'{"t":"recv","ts":1.5}\n{"t":"what","ts":1.5}\n{"t":"recv","ts":"x","data":"d"}\n{"t":\n\xff\xff\n'
    )
    messages, report = read(header + lines, RecordingFormat.JSONL)
    assert messages == []
    assert report.bad_lines == 5


def test_a_line_over_the_limit_is_bad_not_fatal() -> None:
    report = RecordingReport()
    long = b"1723161255030314667 " + bytes(MAX_LINE_BYTES)
    lines = [long, b"1723161255030314667 {}"]
    assert len(list(read_messages(lines, RecordingFormat.NDLOG, report))) == 1
    assert report.problems[0].reason == "line too long"


def test_many_bad_lines_are_counted_and_the_first_described() -> None:
    _, report = read(b"bad\n" * 1000, RecordingFormat.NDLOG)
    assert report.bad_lines == 1000
    assert len(report.problems) == MAX_PROBLEMS


def test_an_empty_recording_has_no_messages() -> None:
    for fmt in RecordingFormat:
        assert read(b"", fmt)[0] == []


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("usdm_BTCUSDT_20240808.ndlog.gz", RecordingFormat.NDLOG),
        ("x.cfraw", RecordingFormat.CFRAW),
        ("x.JSONL.zst", RecordingFormat.JSONL),
    ],
)
def test_format_by_name(name: str, fmt: RecordingFormat) -> None:
    assert format_of(name) is fmt


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not a recording"):
        format_of("bars.csv.gz")


LINES = [b"1723161255030314667 {}\n", b"1723161255030314668 {}\n"]


def packed(suffix: str, data: bytes) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data)
    if suffix == ".zst":
        return zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return data


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_files_open_plain_or_packed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.ndlog{suffix}"
    path.write_bytes(packed(suffix, b"".join(LINES)))
    with open_recording(path) as lines:
        assert list(lines) == LINES


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_a_damaged_packed_file_is_a_storage_error(tmp_path: Path, suffix: str, damage: str) -> None:
    data = bytearray(packed(suffix, b"".join(LINES) * 5000))
    if damage == "cut":
        del data[-20:]
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
        data[len(data) // 2 + 1] ^= 0xFF
    else:
        data[:] = b"plain text, not packed at all"
    path = tmp_path / f"x.ndlog{suffix}"
    path.write_bytes(data)
    with open_recording(path) as lines, pytest.raises(StorageError) as caught:
        list(lines)
    assert caught.value.fields["file"] == path.name


def test_zstd_frames_one_after_the_other_are_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "x.ndlog.zst"
    path.write_bytes(packed(".zst", LINES[0][:7]) + packed(".zst", LINES[0][7:] + LINES[1]))
    with open_recording(path) as lines:
        assert list(lines) == LINES


def recorded(name: str) -> Path:
    path = Path(__file__).parents[2].parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"no recording {name} on this machine")
    return path


@pytest.mark.parametrize(
    ("name", "messages", "frames"),
    [
        ("ws/binance/usdm_BTCUSDT_20240808.ndlog.gz", 93_954, 93_953),
        ("ws/binance/spot_BTC-ETH-DOT_20210404.cfraw.gz", 4_720, 4_716),
        ("agpl/bybit_v5_linear_20260809.jsonl.gz", 2_565, 2_546),
        ("ws/binance/usdm_ETHUSDT_20231230_ws.jsonl.gz", 50, 50),
        ("ws/bybit/v5_spot_orderbook1_20250613.cfraw.gz", 152, 145),
    ],
)
def test_real_recordings_read_whole(name: str, messages: int, frames: int) -> None:
    path, report = recorded(name), RecordingReport()
    with open_recording(path) as lines:
        seen: list[RecordedMessage] = list(read_messages(lines, format_of(path.name), report))
    assert (report.messages, report.bad_lines) == (messages, 0)
    assert sum(message.kind is FRAME for message in seen) == frames
