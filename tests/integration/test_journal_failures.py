"""Full buffers, failing and full disks, two writers: refused or failed loudly, never silent."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bookrunner.core.clock import ManualClock
from bookrunner.core.errors import (
    ConfigurationError,
    DiskLowError,
    JournalCorruptError,
    JournalFullError,
    JournalLockedError,
    StorageError,
)
from bookrunner.storage.journal import LOCK_NAME, Journal
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.storage.segments import SegmentFile, segment_path
from bookrunner.wire.journal_record import (
    MAX_PAYLOAD_BYTES,
    SegmentHeader,
    encode_segment_header,
)
from journal_files import FRAME, fill, open_journal


def test_two_writers_cannot_share_a_journal(tmp_path: Path) -> None:
    with open_journal(tmp_path), pytest.raises(JournalLockedError) as caught:
        open_journal(tmp_path)
    assert caught.value.fields["holder"] == str(os.getpid())
    assert caught.value.fields["path"] == str(tmp_path)
    assert "another journal.path" in str(caught.value)
    open_journal(tmp_path).close()


def test_the_lock_is_free_after_a_failed_opening(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(encode_segment_header(SegmentHeader(2, 0, 1)))
    with pytest.raises(JournalCorruptError) as caught:
        open_journal(tmp_path)
    assert caught.value.fields["path"] == str(tmp_path)
    assert "journal verify" in str(caught.value.fields["hint"])
    with (tmp_path / LOCK_NAME).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_directory_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        open_journal(tmp_path / "file")
    assert caught.value.fields["errno"] in {errno.EEXIST, errno.ENOTDIR}
    assert caught.value.fields["path"] == str(tmp_path / "file")
    assert "journal.path" in str(caught.value.fields["hint"])


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


def test_a_payload_over_the_limit_is_refused_and_the_journal_goes_on(tmp_path: Path) -> None:
    largest = bytes(MAX_PAYLOAD_BYTES)
    with open_journal(tmp_path) as journal:
        for _ in range(2):
            fill(journal, 1)
            with pytest.raises(StorageError, match="limit"):
                journal.append(FRAME, 1, 0, largest + b"!")
        journal.append(FRAME, 1, 0, largest)
    assert [len(record.payload) for record in read_journal(tmp_path)] == [100, 100, MAX_PAYLOAD_BYTES]


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
