"""The journal over real files: segments, sources, reading beside writing, compression, retention."""

from __future__ import annotations

from pathlib import Path

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, ManualClock
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.segments import list_segments
from journal_files import fill, open_journal


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
