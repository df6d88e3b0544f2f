"""What a journal makes of the files that a crash, a fault or a stranger left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bookrunner.core.errors import (
    JournalCorruptError,
    JournalVersionError,
)
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.journal_recovery import CLEAN_NAME
from bookrunner.storage.segments import list_segments, segment_path
from bookrunner.wire.journal_record import (
    JournalRecord,
    SegmentHeader,
    encode_record,
    encode_segment_header,
)
from journal_files import FRAME, fill, open_journal


def names(directory: Path) -> list[str]:
    return [segment.path.name for segment in list_segments(directory)]


def written(directory: Path, count: int = 10) -> tuple[Path, bytes]:
    with open_journal(directory) as journal:
        fill(journal, count)
    (directory / CLEAN_NAME).unlink()  # as after a crash
    path = segment_path(directory, 1)
    return path, path.read_bytes()


def test_an_orderly_close_is_marked_and_the_mark_holds_once(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        source = journal.register_source("venue/0", "ws://x")
        fill(journal, 4)
    assert (tmp_path / CLEAN_NAME).exists()
    journal = open_journal(tmp_path)
    assert not (tmp_path / CLEAN_NAME).exists()
    assert journal.last_sequence == 5
    assert journal.register_source("venue/0", "ws://x") == source + 1
    fill(journal, 1)
    journal.close()
    assert [record.sequence for record in read_journal(tmp_path)] == list(range(1, 8))


@pytest.mark.parametrize("mark", [b"", b"{}", b'{"segment":"x","bytes":1}', b"\xff"])
def test_a_mark_that_does_not_fit_is_not_believed(tmp_path: Path, mark: bytes) -> None:
    path, data = written(tmp_path)
    path.write_bytes(data[:-1])
    (tmp_path / CLEAN_NAME).write_bytes(mark)
    with open_journal(tmp_path) as journal:
        assert journal.last_sequence == 9


def test_a_segment_that_changed_after_the_mark_is_scanned(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        fill(journal, 10)
    path = segment_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-1])
    with open_journal(tmp_path) as journal:
        assert len(journal.recovery.torn_tails) == 1
        assert journal.last_sequence == 9


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 100, 131])
def test_a_torn_record_is_cut_off_with_a_report(tmp_path: Path, cut: int) -> None:
    path, data = written(tmp_path)
    path.write_bytes(data[:-cut])
    with open_journal(tmp_path) as journal:
        (tail,) = journal.recovery.torn_tails
        assert (tail.segment, tail.offset, tail.bytes) == (path.name, 32 + 9 * 132, 132 - cut)
        assert tail.reason == "record is cut short"
        assert journal.last_sequence == 9
        fill(journal, 1)
    assert [record.sequence for record in read_journal(tmp_path)] == list(range(1, 11))


@pytest.mark.parametrize("garbage", [bytes(5000), b"\xff" * 5000, b"BRJL" + bytes(40)])
def test_bytes_that_were_never_a_record_are_cut_off(tmp_path: Path, garbage: bytes) -> None:
    path, data = written(tmp_path)
    path.write_bytes(data + garbage)
    with open_journal(tmp_path) as journal:
        assert journal.recovery.torn_tails[0].bytes == len(garbage)
        assert journal.last_sequence == 10
    assert path.read_bytes() == data


def test_damage_before_the_tail_is_refused_and_not_touched(tmp_path: Path) -> None:
    path, data = written(tmp_path)
    damaged = bytearray(data)
    damaged[32 + 4 * 132 + 50] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(JournalCorruptError) as caught:
        open_journal(tmp_path)
    assert caught.value.fields["segment"] == path.name
    assert caught.value.fields["offset"] == 32 + 4 * 132
    assert caught.value.fields["next_valid_offset"] == 32 + 5 * 132
    assert path.read_bytes() == damaged


def test_a_length_damaged_in_the_middle_is_not_taken_for_a_torn_tail(tmp_path: Path) -> None:
    path, data = written(tmp_path)
    damaged = bytearray(data)
    damaged[32 + 4 * 132 + 6] = 1  # 65,536 bytes longer: past the end of the file
    path.write_bytes(damaged)
    with pytest.raises(JournalCorruptError):
        open_journal(tmp_path)


@pytest.mark.parametrize("header", [b"", b"BRJL\x01", bytes(32), bytes(4096)])
def test_a_segment_that_was_never_finished_being_made_is_removed(tmp_path: Path, header: bytes) -> None:
    _, data = written(tmp_path)
    segment_path(tmp_path, 11).write_bytes(header)
    with open_journal(tmp_path) as journal:
        (tail,) = journal.recovery.torn_tails
        assert tail.reason == "segment header is cut short"
        assert journal.last_sequence == 10
    assert segment_path(tmp_path, 1).read_bytes() == data
    assert names(tmp_path) == [segment_path(tmp_path, 1).name]


def test_an_unfinished_segment_that_does_not_follow_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    segment_path(tmp_path, 15).write_bytes(b"")
    with pytest.raises(JournalCorruptError) as caught:
        open_journal(tmp_path)
    assert caught.value.fields["expected"] == 11
    assert segment_path(tmp_path, 15).exists()


def test_a_header_without_records_is_gone_on_with(tmp_path: Path) -> None:
    segment_path(tmp_path, 7).write_bytes(encode_segment_header(SegmentHeader(7, 0, 3)))
    with open_journal(tmp_path, segment_age_s=1) as journal:
        assert journal.append(FRAME, 1, 0, b"x") == 7
    assert [record.sequence for record in read_journal(tmp_path)] == [7]


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(encode_segment_header(SegmentHeader(1, 0, 1, version=9)) + b"new")
    with pytest.raises(JournalVersionError) as caught:
        open_journal(tmp_path)
    assert caught.value.fields["version"] == 9
    assert caught.value.fields["segment"] == segment_path(tmp_path, 1).name


@pytest.mark.parametrize("damage", ["cut", "flip", "not zstd"])
def test_damaged_compressed_segments_are_named(tmp_path: Path, damage: str) -> None:
    with open_journal(tmp_path, segment_bytes=4096, compress=True) as journal:
        fill(journal, 100)
        journal.sync()
        journal.run_upkeep()
    path = list_segments(tmp_path)[1].path
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-20:]
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
    else:
        data = bytearray(b"plain text")
    path.write_bytes(data)
    with pytest.raises(JournalCorruptError) as caught:
        list(read_journal(tmp_path))
    assert caught.value.fields["segment"] == path.name


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 100)
    segment_path(tmp_path, 31).unlink()
    with pytest.raises(JournalCorruptError) as caught:
        list(read_journal(tmp_path))
    assert (caught.value.fields["expected"], caught.value.fields["received"]) == (31, 61)


def test_a_name_that_disagrees_with_its_header_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    shutil.move(path, segment_path(tmp_path, 5))
    with pytest.raises(JournalCorruptError, match="name and header disagree"):
        open_journal(tmp_path)


def test_damage_anywhere_is_reported_or_the_records_are_a_prefix(tmp_path: Path) -> None:
    """Plant every kind of single-bit damage and see it caught, wherever it lies."""
    with open_journal(tmp_path / "whole", segment_bytes=4096) as journal:
        fill(journal, 40)
    truth = list(read_journal(tmp_path / "whole"))
    first = segment_path(tmp_path / "whole", 1).read_bytes()
    for at in range(0, len(first), 37):
        copy = tmp_path / f"damaged{at}"
        shutil.copytree(tmp_path / "whole", copy)
        damaged = bytearray(first)
        damaged[at] ^= 1 << (at % 8)
        segment_path(copy, 1).write_bytes(damaged)
        seen: list[JournalRecord] = []
        with pytest.raises((JournalCorruptError, JournalVersionError)):
            seen.extend(read_journal(copy))
        assert seen == truth[: len(seen)]


def test_an_encoded_record_longer_than_declared_is_two_records_or_damage(tmp_path: Path) -> None:
    record = b"".join(encode_record(1, 0, 1, 2, b"abc"))
    segment_path(tmp_path, 1).write_bytes(encode_segment_header(SegmentHeader(1, 0, 1)) + record + b"d")
    with open_journal(tmp_path) as journal:
        assert journal.recovery.torn_tails[0].bytes == 1
