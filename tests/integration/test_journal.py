"""The journal over real files: commits, segments, recovery, faults."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, ManualClock
from bookrunner.core.errors import (
    ConfigurationError,
    DiskLowError,
    JournalCorruptError,
    JournalFullError,
    JournalLockedError,
    JournalVersionError,
    StorageError,
)
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal import LOCK_NAME, Journal
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.storage.segments import SegmentFile, list_segments, segment_path
from bookrunner.wire.journal_record import JournalRecord, SegmentHeader, encode_record, encode_segment_header

FRAME = RecordKind.FRAME


def open_journal(directory: Path, clock: ManualClock | None = None, **settings: Any) -> Journal:
    given = {"disk_low_bytes": 0, "disk_minimum_bytes": 0, "compress": False, **settings}
    return Journal(directory, JournalSettings(**given), clock or ManualClock())


def fill(journal: Journal, count: int, size: int = 100) -> None:
    for i in range(count):
        journal.append(FRAME, 1, i, (b"%d " % journal.last_sequence).ljust(size, b"."))


def names(directory: Path) -> list[str]:
    return [segment.path.name for segment in list_segments(directory)]


def test_segments_roll_by_size_and_are_named_by_their_first_sequence(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 100)
    firsts = [segment.first_sequence for segment in list_segments(tmp_path)]
    # 30 records of 132 bytes and the header of 32 fit 4096.
    assert firsts == [1, 31, 61, 91]
    assert names(tmp_path)[1] == "00000000000000000031.brj"
    assert all(segment.size_bytes() <= 4096 for segment in list_segments(tmp_path))
    assert [record.sequence for record in read_journal(tmp_path)] == list(range(1, 101))


def test_a_record_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096, buffer_bytes=100_000) as journal:
        fill(journal, 1, size=20_000)
        fill(journal, 1)
        fill(journal, 1, size=20_000)
    assert [segment.first_sequence for segment in list_segments(tmp_path)] == [1, 2, 3]


def test_an_old_segment_is_sealed_by_the_next_append(tmp_path: Path) -> None:
    clock = ManualClock()
    with open_journal(tmp_path, clock, segment_age_s=60) as journal:
        fill(journal, 3)
        clock.advance(61 * NANOSECONDS_PER_SECOND)
        journal.run_upkeep()
        fill(journal, 1)
    assert [segment.first_sequence for segment in list_segments(tmp_path)] == [1, 4]


def test_every_segment_names_all_sources(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096) as journal:
        sources = [journal.register_source(f"venue/{i}", "ws://x") for i in range(3)]
        fill(journal, 100)
    for segment in list_segments(tmp_path):
        records = read_journal(tmp_path, segment.first_sequence)
        assert [next(records).source for _ in sources] == sources


def test_reopening_goes_on_in_the_same_segment_with_new_source_ids(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        first = journal.register_source("venue/0", "ws://x")
        fill(journal, 4)
    with open_journal(tmp_path) as journal:
        assert journal.last_sequence == 5
        assert journal.durable_sequence == 5
        assert journal.recovery.torn_tails == ()
        assert journal.register_source("venue/0", "ws://x") > first
        fill(journal, 1)
    assert names(tmp_path) == ["00000000000000000001.brj"]
    assert [record.sequence for record in read_journal(tmp_path)] == list(range(1, 8))


def test_source_ids_are_not_reused_after_segments_without_sources(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        first = journal.register_source("venue/0", "ws://x")
    with open_journal(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 100)
    with open_journal(tmp_path) as journal:
        assert journal.register_source("venue/1", "ws://x") > first


def test_reading_from_a_sequence(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 100)
        journal.sync()
        assert [record.sequence for record in read_journal(tmp_path, 60)] == list(range(60, 101))
        assert list(read_journal(tmp_path, 101)) == []


def test_a_reader_follows_a_writer_across_rolls_and_compression(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096, compress=True) as journal:
        fill(journal, 35)
        journal.sync()
        reader = read_journal(tmp_path)
        seen = [next(reader).sequence for _ in range(10)]
        fill(journal, 100)
        journal.sync()
        journal.run_upkeep()
        seen += [record.sequence for record in reader]
        assert seen == list(range(1, 136))
        assert [segment.compressed for segment in list_segments(tmp_path)] == [True] * 4 + [False]


def test_compressed_segments_read_back_and_a_journal_may_end_in_one(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096, compress=True) as journal:
        journal.register_source("venue/0", "ws://x")
        fill(journal, 100)
        journal.sync()
        journal.run_upkeep()
        expected = list(read_journal(tmp_path))
    list_segments(tmp_path)[-1].path.unlink()
    with open_journal(tmp_path) as journal:
        kept = list(read_journal(tmp_path))
        assert kept == expected[: len(kept)]
        assert journal.last_sequence == kept[-1].sequence
        fill(journal, 1)
    assert [record.sequence for record in read_journal(tmp_path)] == list(range(1, len(kept) + 2))


def test_a_leftover_of_an_interrupted_compression_is_replaced(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096) as journal:
        fill(journal, 100)
    (tmp_path / "00000000000000000001.brj.zst.tmp").write_bytes(b"half")
    (tmp_path / "00000000000000000031.brj.zst").write_bytes(b"renamed, but the raw one was not deleted yet")
    with open_journal(tmp_path, segment_bytes=4096, compress=True) as journal:
        journal.run_upkeep()
        assert [record.sequence for record in read_journal(tmp_path)] == list(range(1, 101))
        assert not list(tmp_path.glob("*.tmp"))
        assert len(list(tmp_path.glob("*.brj.zst"))) == 3


def test_retention_by_size_deletes_oldest_sealed_segments_only(tmp_path: Path) -> None:
    with open_journal(tmp_path, segment_bytes=4096, retention_bytes=9_000) as journal:
        fill(journal, 100)
        journal.sync()
        journal.run_upkeep()
        assert [segment.first_sequence for segment in list_segments(tmp_path)] == [61, 91]
        assert [record.sequence for record in read_journal(tmp_path)] == list(range(61, 101))
        assert journal.counters().segments_deleted == 2
    with open_journal(tmp_path, retention_bytes=0) as journal:
        journal.run_upkeep()
        assert [segment.first_sequence for segment in list_segments(tmp_path)] == [91]
        assert journal.last_sequence == 100


def test_retention_by_age_counts_from_when_a_segment_was_sealed(tmp_path: Path) -> None:
    clock = ManualClock()
    with open_journal(tmp_path, clock, segment_bytes=4096, retention_age_s=100) as journal:
        fill(journal, 31)
        clock.advance(60 * NANOSECONDS_PER_SECOND)
        fill(journal, 30)
        journal.sync()
        clock.advance(60 * NANOSECONDS_PER_SECOND)
        journal.run_upkeep()
        assert [segment.first_sequence for segment in list_segments(tmp_path)] == [31, 61]


# --- recovery ---------------------------------------------------------------------------------------------


def written(directory: Path, count: int = 10) -> tuple[Path, bytes]:
    with open_journal(directory) as journal:
        fill(journal, count)
    path = segment_path(directory, 1)
    return path, path.read_bytes()


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


# --- refusals and failures --------------------------------------------------------------------------------


def test_two_writers_cannot_share_a_journal(tmp_path: Path) -> None:
    with open_journal(tmp_path), pytest.raises(JournalLockedError) as caught:
        open_journal(tmp_path)
    assert caught.value.fields["holder"] == str(os.getpid())
    open_journal(tmp_path).close()


def test_the_lock_is_free_after_a_failed_opening(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(encode_segment_header(SegmentHeader(2, 0, 1)))
    with pytest.raises(JournalCorruptError):
        open_journal(tmp_path)
    with (tmp_path / LOCK_NAME).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_directory_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        open_journal(tmp_path / "file")
    assert caught.value.fields["errno"] in {errno.EEXIST, errno.ENOTDIR}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")
def test_permission_denied_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError) as caught:
        open_journal(tmp_path / "journal")
    assert caught.value.fields["errno"] == errno.EACCES


class GatedFile(SegmentFile):
    """Writes wait until the test opens the gate; then they fail if it says so."""

    gate: threading.Event
    failure: OSError | None = None

    def write(self, data: bytes) -> None:
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        super().write(data)


def gated(gate: threading.Event, failure: OSError | None = None) -> Callable[[Path], SegmentFile]:
    def open_segment(path: Path) -> SegmentFile:
        file = GatedFile(path)
        file.gate, file.failure = gate, failure
        return file

    return open_segment


SMALL = JournalSettings(buffer_bytes=4096, disk_low_bytes=0, disk_minimum_bytes=0)


def test_a_full_buffer_refuses_and_nothing_refused_is_numbered(tmp_path: Path) -> None:
    gate = threading.Event()
    with Journal(tmp_path, SMALL, ManualClock(), open_segment=gated(gate)) as journal:
        with pytest.raises(JournalFullError) as caught:
            fill(journal, 1000)
        accepted = journal.last_sequence
        assert accepted == 4096 // 132
        assert caught.value.fields["limit_bytes"] == 4096
        assert journal.written_sequence == 0
        gate.set()
        journal.sync()
        fill(journal, 1)
        assert journal.counters().refused_full == 1
    assert [record.sequence for record in read_journal(tmp_path)] == list(range(1, accepted + 2))


def test_a_failed_write_is_raised_by_append_wait_and_close(tmp_path: Path) -> None:
    gate = threading.Event()
    full = OSError(errno.ENOSPC, "No space left on device")
    journal = Journal(tmp_path, SMALL, ManualClock(), open_segment=gated(gate, full))
    fill(journal, 3)
    gate.set()
    with pytest.raises(StorageError, match="No space left"):
        journal.sync()
    assert journal.counters().state == "failed"
    assert journal.durable_sequence == 0
    with pytest.raises(StorageError, match="No space left"):
        journal.append(FRAME, 1, 0, b"x")
    with pytest.raises(StorageError, match="No space left"):
        journal.sync()
    with pytest.raises(StorageError, match="No space left"):
        journal.close()
    journal.close()


def test_a_failed_fsync_never_moves_the_durable_watermark(tmp_path: Path) -> None:
    class Unsyncable(SegmentFile):
        syncs = 0

        def sync(self) -> None:
            Unsyncable.syncs += 1
            if Unsyncable.syncs > 1:
                raise OSError(errno.EIO, "Input/output error")
            super().sync()

    journal = Journal(tmp_path, SMALL, ManualClock(), open_segment=Unsyncable)
    fill(journal, 3)
    with pytest.raises(StorageError, match="Input/output error"):
        journal.sync()
    assert (journal.written_sequence, journal.durable_sequence) == (3, 0)
    with pytest.raises(StorageError):
        journal.close()


def test_an_unexpected_fault_of_the_writer_is_not_silent(tmp_path: Path) -> None:
    class Broken(SegmentFile):
        def write(self, data: bytes) -> None:
            raise RuntimeError(f"bug over {len(data)} bytes")

    journal = Journal(tmp_path, SMALL, ManualClock(), open_segment=Broken)
    fill(journal, 1)
    with pytest.raises(StorageError, match="bug over"):
        journal.sync()
    with pytest.raises(StorageError):
        journal.close()


def test_low_disk_alarms_once_and_the_hard_minimum_refuses_until_there_is_space(tmp_path: Path) -> None:
    free = [1_000]
    alarms: list[int] = []
    settings = JournalSettings(disk_low_bytes=500, disk_minimum_bytes=100)
    with Journal(
        tmp_path, settings, ManualClock(), free_bytes=lambda _: free[0], on_disk_low=alarms.append
    ) as journal:
        fill(journal, 1)
        for free_bytes in (400, 300):
            free[0] = free_bytes
            journal.run_upkeep()
            fill(journal, 1)
        assert alarms == [400]
        free[0] = 99
        journal.run_upkeep()
        with pytest.raises(DiskLowError) as caught:
            fill(journal, 1)
        assert caught.value.fields == {"free_bytes": 99, "minimum_bytes": 100}
        free[0] = 600
        journal.run_upkeep()
        fill(journal, 1)
        free[0] = 400
        journal.run_upkeep()
        assert alarms == [400, 400]
        counters = journal.counters()
        assert (counters.disk_low_alarms, counters.refused_disk_low, counters.records) == (2, 1, 4)


def test_appending_to_a_closed_journal_is_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    fill(journal, 1)
    journal.close()
    with pytest.raises(StorageError, match="closed"):
        fill(journal, 1)
    with pytest.raises(StorageError, match="limit"), open_journal(tmp_path) as reopened:
        reopened.append(FRAME, 1, 0, bytes(33 * 1024 * 1024))


async def test_waiting_for_a_sequence_to_be_durable(tmp_path: Path) -> None:
    with open_journal(tmp_path, fsync_interval_ms=3_600_000) as journal:
        sequence = journal.append(FRAME, 1, 0, b"order")
        assert await journal.wait_durable(sequence) >= sequence
        assert journal.durable_sequence >= sequence
        syncs = journal.counters().syncs
        await journal.wait_durable(sequence)
        assert journal.counters().syncs == syncs
        later = journal.append(FRAME, 1, 0, b"order")
        assert await journal.wait_written() >= later


async def test_waiting_on_a_failed_journal_raises(tmp_path: Path) -> None:
    gate = threading.Event()
    gate.set()
    failing = gated(gate, OSError(errno.EIO, "Input/output error"))
    journal = Journal(tmp_path, SMALL, ManualClock(), open_segment=failing)
    sequence = journal.append(FRAME, 1, 0, b"order")
    with pytest.raises(StorageError, match="Input/output"):
        await journal.wait_durable(sequence)
    with pytest.raises(StorageError, match="Input/output"):
        await journal.wait_written()
    with pytest.raises(StorageError):
        journal.close()


def test_fsync_at_every_commit_when_the_interval_is_zero(tmp_path: Path) -> None:
    with open_journal(tmp_path, fsync_interval_ms=0) as journal:
        fill(journal, 5)
        journal.sync()
        counters = journal.counters()
        assert counters.durable_sequence == counters.written_sequence == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [("commit_interval_ms", 0), ("buffer_bytes", 1), ("compression_level", 20), ("disk_low_bytes", 1)],
)
def test_bad_settings_say_field_value_and_rule(field: str, value: float) -> None:
    with pytest.raises(ConfigurationError) as caught:
        JournalSettings(**{field: value})  # type: ignore[arg-type]
    assert caught.value.fields["field"] == f"journal.{field}"
    assert caught.value.fields["value"] == value
    assert caught.value.fields["rule"]


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
