"""``bookrunner journal verify|stat|cat`` over small journals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bookrunner.app.commands import journal as command
from bookrunner.core.clock import ManualClock
from bookrunner.core.errors import InvalidRequestError, JournalCorruptError
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.storage.segments import list_segments, segment_path
from journal_files import fill, open_journal

START_NS = 1_723_161_255_000_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    settings = JournalSettings(segment_bytes=4096, disk_low_bytes=0, disk_minimum_bytes=0)
    with Journal(tmp_path, settings, ManualClock(START_NS)) as journal:
        first = journal.register_source("binance_usdm/public/0", "ws://127.0.0.1/a")
        second = journal.register_source("bybit_linear/public/0", "ws://127.0.0.1/b")
        for i in range(60):
            source = second if i % 3 == 0 else first
            kind = RecordKind.REST_RESPONSE if i % 10 == 0 else RecordKind.FRAME
            journal.append(kind, source, START_NS + i * 1_000_000_000, b'{"n":%d}' % i + b" " * 90)
        journal.append(RecordKind.FRAME, first, START_NS + 60_000_000_000, b"\xff\x00")
        journal.sync()
        journal.run_upkeep()
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_sound_journal(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(segment.compressed for segment in list_segments(directory))
    assert command.verify(directory, as_json=True) == 0
    (report,) = lines(capsys)
    assert report["sound"]
    assert report["segments"] == len(list_segments(directory))
    assert report["problems"] == []
    assert command.verify(directory) == 0
    assert "sound" in capsys.readouterr().out


def test_an_unfinished_end_is_said_and_is_not_damage(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = list_segments(directory)[-1].path
    whole = last.read_bytes()
    for torn in (whole[:-1], whole + bytes(700)):
        last.write_bytes(torn)
        assert command.verify(directory, as_json=True) == 0
        (report,) = lines(capsys)
        assert report["torn_bytes"] > 0
        assert last.read_bytes() == torn


@pytest.mark.parametrize("tail", [b"", bytes(700), b"\xee" * 50])
def test_stat_and_cat_tell_a_torn_end_and_print_the_rest(
    directory: Path, tail: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    last = list_segments(directory)[-1].path
    command.cat(directory)
    before = capsys.readouterr()
    assert "unfinished" not in before.err
    printed = before.out.splitlines()
    whole = last.read_bytes()
    last.write_bytes(whole + tail if tail else whole[:-1])
    kept = printed if tail else printed[:-1]
    assert command.cat(directory) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == kept
    assert "unfinished end" in told.err
    assert command.stat(directory, as_json=True) == 0
    (report,) = lines(capsys)
    assert report["records"] == len(kept)
    assert report["torn_bytes"] > 0


@pytest.mark.parametrize("header", [b"BRJL", bytes(32), bytes(4096)])
def test_a_segment_that_was_never_begun_is_a_torn_end(
    directory: Path, header: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    command.stat(directory, as_json=True)
    (sound,) = lines(capsys)
    segment_path(directory, sound["last_sequence"] + 1).write_bytes(header)
    assert command.verify(directory, as_json=True) == 0
    assert command.stat(directory, as_json=True) == 0
    verified, counted = lines(capsys)
    assert verified["torn_bytes"] == counted["torn_bytes"] == len(header)
    assert verified["records"] == counted["records"] == sound["records"]


def test_stat_and_cat_still_refuse_damage_in_the_middle(directory: Path) -> None:
    last = list_segments(directory)[-1].path
    data = bytearray(last.read_bytes())
    data[70] ^= 0x40
    last.write_bytes(data)
    for look in (command.stat, command.cat):
        with pytest.raises(JournalCorruptError):
            look(directory)


def test_verify_goes_on_after_every_damaged_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_journal(tmp_path) as journal:
        fill(journal, 20)
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    record_bytes = 132
    at = [32 + record_bytes * number for number in range(20)]
    data[at[3] + 60] ^= 1
    data[at[4] + 8] ^= 1  # its neighbour, in its sequence: one range with it
    data[at[9] + 6] = 1  # a length past the end of the file
    data[at[15]] ^= 1
    path.write_bytes(data)
    assert command.verify(tmp_path, as_json=True) == 1
    (report,) = lines(capsys)
    assert report["records"] == 16
    (problem,) = report["problems"]
    assert problem["last_sequence"] == 20
    ranges = [(damage["offset"], damage["end"]) for damage in problem["damaged"]]
    assert ranges == [(at[3], at[5]), (at[9], at[10]), (at[15], at[16])]
    assert command.verify(tmp_path) == 1
    assert capsys.readouterr().out.count("up to") == 3


@pytest.mark.parametrize("which", [0, 1, -1])
def test_damage_is_located_and_fails(directory: Path, which: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = list_segments(directory)[which].path
    data = bytearray(path.read_bytes())
    data[60] ^= 0x40
    path.write_bytes(data)
    assert command.verify(directory, as_json=True) == 1
    (report,) = lines(capsys)
    assert not report["sound"]
    assert report["problems"][0]["segment"] == path.name
    assert command.verify(directory) == 1
    assert "DAMAGED" in capsys.readouterr().out


def test_a_missing_segment_fails(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_segments(directory)[1].path.unlink()
    assert command.verify(directory, as_json=True) == 1
    (report,) = lines(capsys)
    assert "should follow" in report["problems"][0]["problem"]


def test_stat_counts_by_source_and_kind(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.stat(directory, as_json=True) == 0
    (report,) = lines(capsys)
    shares = {(share["name"], share["kind"]): share["records"] for share in report["by_source_and_kind"]}
    assert shares["binance_usdm/public/0", "frame"] == 37
    assert shares["bybit_linear/public/0", "rest_response"] == 2
    assert report["records"] == report["last_sequence"] == sum(shares.values())
    assert report["first_time"] == "2024-08-08T23:54:15.000000000Z"
    assert report["last_time"] == "2024-08-08T23:55:15.000000000Z"
    assert command.stat(directory) == 0
    assert "binance_usdm/public/0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"limit": 2, "kind": "frame"}, [1, 2]),
        ({"kind": "rest_response", "source": "bybit_linear/public/0"}, [0, 30]),
        ({"since": "2024-08-08T23:55:12", "until": "2024-08-08T23:55:14Z"}, [57, 58]),
        ({"since": str(START_NS + 59_000_000_000), "until": str(START_NS + 60_000_000_000)}, [59]),
    ],
)
def test_cat_filters(
    directory: Path, filters: dict[str, Any], numbers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.cat(directory, **filters) == 0
    assert [json.loads(line["payload"])["n"] for line in lines(capsys)] == numbers


def test_cat_by_sequence_names_sources_of_segments_begun_before(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.cat(directory, first=50, last=52) == 0
    printed = lines(capsys)
    assert [line["sequence"] for line in printed] == [50, 51, 52]
    assert all(line["name"] for line in printed)


def test_cat_keeps_bytes_that_are_no_text(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.cat(directory, since=str(START_NS + 60_000_000_000))
    (line,) = lines(capsys)
    assert line["payload_base64"] == "/wA="


@pytest.mark.parametrize("filters", [{"kind": "frames"}, {"since": "yesterday"}, {"until": "12:00"}])
def test_cat_refuses_filters_it_cannot_read(directory: Path, filters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        command.cat(directory, **filters)
    assert caught.value.fields["field"] == next(iter(filters))


def test_no_such_journal(tmp_path: Path) -> None:
    for look in (command.verify, command.stat, command.cat):
        with pytest.raises(InvalidRequestError):
            look(tmp_path / "none")
    assert not segment_path(tmp_path, 1).exists()
