"""Group commit: one thread that writes what the loop appended, forces it to disk, and seals segments."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND, Clock
from bookrunner.core.errors import StorageError
from bookrunner.storage.journal_recovery import RecoveryReport
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.storage.segments import (
    SegmentFile,
    SegmentOpener,
    segment_path,
    storage_error,
    sync_directory,
)
from bookrunner.wire.journal_record import PARTS_PER_RECORD, SegmentHeader, encode_segment_header

BATCH_RECORDS = 2_048
"""Records joined into one write at most; more are written by the next turn of the same commit."""

_log = structlog.get_logger(__name__)


class CommitRequest(msgspec.Struct, frozen=True):
    """Somebody waits for what is appended by now."""

    sync: bool
    """Whether to disk, or only to the operating system."""
    done: Callable[[StorageError | None], None]
    """Called once, in the writer thread."""


class JournalWriter:
    """Takes records from ``pending`` in order; ``pending`` and ``rolls`` are filled by the loop.

    The two threads share no lock: list and deque operations are atomic, every counter has one writer, and a
    roll is announced before the first record behind it is appended.
    """

    def __init__(
        self,
        directory: Path,
        settings: JournalSettings,
        clock: Clock,
        recovery: RecoveryReport,
        open_segment: SegmentOpener,
        on_failure: Callable[[], None],
        on_sealed: Callable[[], None],
    ) -> None:
        self.pending: list[bytes] = []
        """Records to write, ``PARTS_PER_RECORD`` pieces each."""
        self.rolls: deque[SegmentHeader] = deque()
        """Segments to begin, each before the record of its first sequence."""
        self.written_bytes = 0
        """Bytes handed to the operating system by this writer, segment headers not counted."""
        self.written_sequence = recovery.next_sequence - 1
        self.durable_sequence = recovery.next_sequence - 1
        self.commits = 0
        self.syncs = 0
        self.failure: StorageError | None = None
        self._directory = directory
        self._clock = clock
        self._open_segment = open_segment
        self._on_failure = on_failure
        self._on_sealed = on_sealed
        self._commit_interval_s = settings.commit_interval_ms / 1_000
        self._sync_interval_ns = int(settings.fsync_interval_ms * NANOSECONDS_PER_MILLISECOND)
        self._last_sync_ns = clock.monotonic_ns()
        self._file: SegmentFile | None = None
        if recovery.segment is not None:
            self._file = open_segment(recovery.segment.path)
            self._file.sync()  # what a killed process wrote may still be in memory only
        self._requests: deque[CommitRequest] = deque()
        self._stopping = False
        self._ended = False
        self._wake = threading.Lock()
        self._wake.acquire()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, request: CommitRequest) -> None:
        """Commit at once and call ``request.done``; after a failure, or the end, it is called at once."""
        self._requests.append(request)
        self._kick()
        if self._ended:
            self._answer(self._take_requests(), self.failure)

    def stop(self) -> None:
        """Write and sync everything, close the file and end the thread."""
        self._stopping = True
        self._kick()
        self._thread.join()

    def _kick(self) -> None:
        with contextlib.suppress(RuntimeError):  # already awake
            self._wake.release()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.acquire(timeout=self._commit_interval_s)
                self._commit(force_sync=False)
            self._commit(force_sync=True)
            if self._file is not None:
                self._file.close()
        except OSError as error:
            self._fail(storage_error("write the journal", error))
        except Exception as error:  # noqa: BLE001 - a writer that died for any reason must be seen by append
            self._fail(StorageError("the journal's writer stopped", reason=repr(error)))
        self._ended = True
        self._answer(self._take_requests(), self.failure)

    def _commit(self, *, force_sync: bool) -> None:
        requests = self._take_requests()
        try:
            self._write_and_sync(force_sync=force_sync or any(request.sync for request in requests))
        except Exception:
            self._requests.extendleft(reversed(requests))  # answered with the failure
            raise
        self._answer(requests, None)

    def _write_and_sync(self, *, force_sync: bool) -> None:
        self._write_pending()
        if self.durable_sequence < self.written_sequence:
            now_ns = self._clock.monotonic_ns()
            due = now_ns - self._last_sync_ns >= self._sync_interval_ns
            if due or force_sync:
                self._sync()
                self._last_sync_ns = now_ns

    def _write_pending(self) -> None:
        pending = self.pending
        while pending:
            records = min(len(pending) // PARTS_PER_RECORD, BATCH_RECORDS)
            if self.rolls:
                before_roll = self.rolls[0].first_sequence - 1 - self.written_sequence
                if before_roll <= 0:
                    self._roll(self.rolls.popleft())
                    continue
                records = min(records, before_roll)
            parts = records * PARTS_PER_RECORD
            data = b"".join(pending[:parts])
            del pending[:parts]
            assert self._file is not None  # noqa: S101 - the first record of a new journal is behind a roll
            self._file.write(data)
            self.written_bytes += len(data)
            self.written_sequence += records
            self.commits += 1

    def _sync(self) -> None:
        assert self._file is not None  # noqa: S101 - something was written
        written_sequence = self.written_sequence
        self._file.sync()
        self.durable_sequence = written_sequence
        self.syncs += 1

    def _roll(self, header: SegmentHeader) -> None:
        if self._file is not None:
            self._sync()
            self._file.close()
        self._file = self._open_segment(segment_path(self._directory, header.first_sequence))
        self._file.write(encode_segment_header(header))
        self._file.sync()
        sync_directory(self._directory)
        self._on_sealed()

    def _take_requests(self) -> list[CommitRequest]:
        taken: list[CommitRequest] = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._requests.popleft())
        return taken

    def _answer(self, requests: list[CommitRequest], failure: StorageError | None) -> None:
        for request in requests:
            request.done(failure)

    def _fail(self, failure: StorageError) -> None:
        self.failure = failure
        self._on_failure()
        _log.error(
            "journal_writer_failed",
            error=str(failure),
            written_sequence=self.written_sequence,
            durable_sequence=self.durable_sequence,
        )
