"""The journal: every raw frame, appended by the loop in under a microsecond and durable soon after.

What *durable* means, by watermark:

* ``written_sequence``: handed to the operating system. Survives ``kill -9`` and any crash of this process.
  Moves every ``commit_interval_ms``.
* ``durable_sequence``: forced to stable storage. Survives power loss too. Moves every ``fsync_interval_ms``.

Neither moves before its write or fsync has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import msgspec
import structlog

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import (
    DiskLowError,
    JournalCorruptError,
    JournalFullError,
    JournalLockedError,
    JournalVersionError,
    StorageError,
)
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal_recovery import mark_clean, recover
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.storage.journal_upkeep import FreeBytes, JournalUpkeep, free_disk_bytes
from bookrunner.storage.journal_writer import CommitRequest, JournalWriter
from bookrunner.storage.segments import SegmentFile, SegmentOpener, storage_error
from bookrunner.wire.journal_record import (
    MAX_PAYLOAD_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    encode_record,
)

LOCK_NAME = "journal.lock"
MAX_SOURCES = 65_536
"""Sources that one process may register."""
HINTS: dict[type[StorageError], str] = {
    StorageError: "journal.path must be a folder that this user may write, on a disk with space",
    JournalLockedError: "stop the process that holds it, or give this one another journal.path",
    JournalCorruptError: "no record was changed; see bookrunner journal verify, or give another journal.path",
    JournalVersionError: "use the Bookrunner that wrote it, or give another journal.path",
}
"""What an operator can do about a journal that does not open; field ``hint``."""
_MAX_RECORD_BYTES = RECORD_HEADER_BYTES + MAX_PAYLOAD_BYTES
_NO_ROOM = -1

_log = structlog.get_logger(__name__)
_encode_json = msgspec.json.Encoder().encode


class JournalCounters(msgspec.Struct, frozen=True):
    """What a journal has done since it was opened, and where it stands."""

    state: Literal["open", "failed", "closed"]
    records: int
    bytes: int
    written_sequence: int
    durable_sequence: int
    buffered_bytes: int
    commits: int
    syncs: int
    segments_begun: int
    segments_compressed: int
    segments_deleted: int
    refused_full: int
    refused_disk_low: int
    disk_low_alarms: int
    disk_low: bool
    """Free disk is below ``disk_low_bytes`` now."""
    disk_exhausted: bool
    """It is below ``disk_minimum_bytes`` now: appends are refused."""
    disk_free_bytes: int
    upkeep_failures: int


class Journal:
    """An append-only log in a directory of its own; one process writes it at a time.

    ``append`` and ``register_source`` belong to one thread (the loop's). The counters and watermarks may be
    read from any.
    """

    def __init__(
        self,
        directory: Path,
        settings: JournalSettings,
        clock: Clock,
        *,
        open_segment: SegmentOpener = SegmentFile,
        free_bytes: FreeBytes = free_disk_bytes,
        on_disk_low: Callable[[int], None] | None = None,
    ) -> None:
        """Lock the directory, recover what is in it and start the threads.

        Args:
            directory: made when missing.
            settings: limits and policies.
            clock: ages and intervals.
            open_segment: opens the file to write.
            free_bytes: reads the free disk.
            on_disk_low: told the free bytes, in the upkeep thread, when the alarm is raised.

        Raises:
            JournalLockedError: another process writes it.
            JournalCorruptError, JournalVersionError: see ``journal_recovery.recover``.
            StorageError: the directory or a file cannot be used.

            All carry the journal's ``path`` and a ``hint`` for the operator.
        """
        self.directory = directory
        self._settings = settings
        self._clock = clock
        self._lock = _lock_directory(directory)
        try:
            self.recovery = recover(directory)
            self._upkeep = JournalUpkeep(directory, settings, clock, free_bytes, on_disk_low)
            self._upkeep.check_disk()
            self._upkeep.on_round = self._close_gate
            self._writer = JournalWriter(
                directory, settings, clock, self.recovery, open_segment, self._close_gate, self._upkeep.wake
            )
        except OSError as error:
            os.close(self._lock)
            raise _told(storage_error("open the journal", error), directory) from error
        except StorageError as error:
            os.close(self._lock)
            raise _told(error, directory) from error.__cause__
        self._pending = self._writer.pending
        self._sources: dict[tuple[str, str], int] = {}
        self._next_source = self.recovery.next_source
        self._first_sequence = self.recovery.next_sequence
        self._sequence = self.recovery.next_sequence - 1
        self._appended_bytes = 0
        # Appends up to this many bytes need no second look; see _make_room.
        self._gate_bytes = _NO_ROOM
        self._segment_end_bytes = _NO_ROOM
        self._segment_created_ns = self.recovery.segment_created_ns
        self._segment_first_sequence = 0
        if self.recovery.segment is not None:
            self._segment_first_sequence = self.recovery.segment.first_sequence
            self._segment_end_bytes = settings.segment_bytes - self.recovery.segment_bytes
        self._segments_begun = 0
        self._refused_full = 0
        self._refused_disk_low = 0
        self._closed = False
        self._writer.start()
        self._upkeep.start()

    def register_source(self, name: str, url: str) -> int:
        """Return the id that records of this connection carry, journaling a SOURCE record for it.

        The same name and URL get the same id again. Every segment begins with the records of all sources, so
        that each can be read alone.

        Raises:
            StorageError: ``MAX_SOURCES`` are registered; or as ``append``.
        """
        known = self._sources.get((name, url))
        if known is not None:
            return known
        if len(self._sources) >= MAX_SOURCES:
            raise StorageError("too many journal sources", sources=len(self._sources), limit=MAX_SOURCES)
        source = self._next_source
        self.append(RecordKind.SOURCE, source, self._clock.wall_ns(), _source_payload(source, name, url))
        self._sources[name, url] = source
        self._next_source += 1
        return source

    def append(self, kind: int, source: int, ts_recv_ns: int, payload: bytes) -> int:
        """Append one record and return its sequence number (gapless, from 1). Never blocks.

        Raises:
            JournalFullError: ``buffer_bytes`` wait to be written: the disk does not keep up.
            DiskLowError: less free disk than ``disk_minimum_bytes``; appends work again when there is more.
            StorageError: the writer failed (disk full, I/O error), the journal is closed, or the payload is
                over ``MAX_PAYLOAD_BYTES``.
        """
        size_bytes = RECORD_HEADER_BYTES + len(payload)
        appended_bytes = self._appended_bytes + size_bytes
        if appended_bytes > self._gate_bytes or size_bytes > _MAX_RECORD_BYTES:
            appended_bytes = self._make_room(size_bytes)
        sequence = self._sequence + 1
        self._pending += encode_record(sequence, ts_recv_ns, source, kind, payload)
        self._sequence = sequence
        self._appended_bytes = appended_bytes
        return sequence

    @property
    def last_sequence(self) -> int:
        """The record last appended; 0 in an empty journal."""
        return self._sequence

    @property
    def written_sequence(self) -> int:
        """Every record up to this one survives ``kill -9``."""
        return self._writer.written_sequence

    @property
    def durable_sequence(self) -> int:
        """Every record up to this one survives power loss."""
        return self._writer.durable_sequence

    def counters(self) -> JournalCounters:
        """Return the present counts."""
        writer, upkeep = self._writer, self._upkeep
        state: Literal["open", "failed", "closed"] = "closed" if self._closed else "open"
        return JournalCounters(
            state="failed" if writer.failure else state,
            records=self._sequence + 1 - self._first_sequence,
            bytes=self._appended_bytes,
            written_sequence=writer.written_sequence,
            durable_sequence=writer.durable_sequence,
            buffered_bytes=self._appended_bytes - writer.written_bytes,
            commits=writer.commits,
            syncs=writer.syncs,
            segments_begun=self._segments_begun,
            segments_compressed=upkeep.segments_compressed,
            segments_deleted=upkeep.segments_deleted,
            refused_full=self._refused_full,
            refused_disk_low=self._refused_disk_low,
            disk_low_alarms=upkeep.disk_low_alarms,
            disk_low=upkeep.disk_low,
            disk_exhausted=upkeep.disk_exhausted,
            disk_free_bytes=upkeep.free_bytes,
            upkeep_failures=upkeep.failures,
        )

    async def wait_written(self) -> int:
        """Commit now; return a sequence up to which everything survives ``kill -9``.

        Covers at least every record appended before the call. Cancelling is safe.

        Raises:
            StorageError: the writer failed.
        """
        await self._wait(sync=False)
        return self.written_sequence

    async def wait_durable(self, sequence: int | None = None) -> int:
        """Return once ``sequence`` (default: the last appended) is on stable storage, forcing an fsync.

        Waiters that arrive during one fsync share the next. Cancelling is safe.

        Raises:
            StorageError: the writer failed.
        """
        if self.durable_sequence < (self._sequence if sequence is None else sequence):
            await self._wait(sync=True)
        return self.durable_sequence

    def sync(self) -> int:
        """Block until every record appended so far is on stable storage; return the watermark.

        Raises:
            StorageError: the writer failed.
        """
        done = threading.Event()
        failures: list[StorageError | None] = []

        def answer(failure: StorageError | None) -> None:
            failures.append(failure)
            done.set()

        self._writer.request(CommitRequest(sync=True, done=answer))
        done.wait()
        if failures[0] is not None:
            raise failures[0]
        return self.durable_sequence

    def run_upkeep(self) -> None:
        """Do one round of compression, retention and disk check now, in the calling thread.

        Raises:
            OSError, StorageError: see ``JournalUpkeep.run_once``.
        """
        self._upkeep.run_once()

    def close(self) -> None:
        """Write and sync what is appended, end the threads and give the lock back. Idempotent.

        Raises:
            StorageError: the writer had failed, so that appended records may be missing.
        """
        if self._closed:
            return
        self._closed = True
        self._close_gate()
        self._writer.stop()
        self._upkeep.stop()
        try:
            if self._writer.failure is not None:
                raise self._writer.failure
            mark_clean(self.directory, self._sequence + 1, self._next_source)
        except OSError as error:
            _log.warning("journal_not_marked_clean", error=str(error))
        finally:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def _wait(self, *, sync: bool) -> None:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[StorageError | None] = loop.create_future()

        def settle(failure: StorageError | None) -> None:
            if not answered.done():
                answered.set_result(failure)

        def done(failure: StorageError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(settle, failure)

        self._writer.request(CommitRequest(sync, done))
        failure = await answered
        if failure is not None:
            raise failure

    def _close_gate(self) -> None:
        """Make the next append take the second look. Called from any thread."""
        self._gate_bytes = _NO_ROOM

    def _make_room(self, size_bytes: int) -> int:
        """Refuse a record of ``size_bytes``, or open the gate for it, beginning a new segment when due."""
        if size_bytes > _MAX_RECORD_BYTES:
            raise StorageError("payload is over the journal's limit", limit_bytes=MAX_PAYLOAD_BYTES)
        self._refuse_if_shut(size_bytes)
        age_ns = self._clock.wall_ns() - self._segment_created_ns
        too_old = age_ns >= self._settings.segment_age_s * NANOSECONDS_PER_SECOND
        full = self._appended_bytes + size_bytes > self._segment_end_bytes
        if (full or too_old) and self._segment_first_sequence <= self._sequence:
            self._begin_segment()
        appended_bytes = self._appended_bytes + size_bytes
        # Set first, checked after: a failure noted in between shuts the gate again.
        self._gate_bytes = max(
            min(self._segment_end_bytes, self._writer.written_bytes + self._settings.buffer_bytes),
            appended_bytes,
        )
        self._refuse_if_shut(size_bytes)
        return appended_bytes

    def _refuse_if_shut(self, size_bytes: int) -> None:
        refusal: StorageError
        buffered_bytes = self._appended_bytes - self._writer.written_bytes
        if self._writer.failure is not None:
            refusal = self._writer.failure
        elif self._closed:
            refusal = StorageError("the journal is closed")
        elif self._upkeep.disk_exhausted:
            self._refused_disk_low += 1
            refusal = DiskLowError(
                "too little free disk for the journal",
                free_bytes=self._upkeep.free_bytes,
                minimum_bytes=self._settings.disk_minimum_bytes,
            )
        elif buffered_bytes + size_bytes > self._settings.buffer_bytes:
            self._refused_full += 1
            refusal = JournalFullError(
                "the journal's buffer is full",
                buffered_bytes=buffered_bytes,
                limit_bytes=self._settings.buffer_bytes,
            )
        else:
            return
        self._gate_bytes = _NO_ROOM
        raise refusal

    def _begin_segment(self) -> None:
        """Announce a segment to the writer and open it with the records of all sources."""
        now_ns = self._clock.wall_ns()
        self._segment_first_sequence = self._sequence + 1
        self._writer.rolls.append(SegmentHeader(self._segment_first_sequence, now_ns, self._next_source))
        self._segment_created_ns = now_ns
        self._segments_begun += 1
        self._segment_end_bytes = self._appended_bytes + self._settings.segment_bytes - SEGMENT_HEADER_BYTES
        for (name, url), source in self._sources.items():
            payload = _source_payload(source, name, url)
            self._pending += encode_record(self._sequence + 1, now_ns, source, RecordKind.SOURCE, payload)
            self._sequence += 1
            self._appended_bytes += RECORD_HEADER_BYTES + len(payload)


def _source_payload(source: int, name: str, url: str) -> bytes:
    return _encode_json({"source": source, "name": name, "url": url})


def _told(error: StorageError, directory: Path) -> StorageError:
    """Return the error with what its operator needs: where the journal is, and what to do."""
    error.fields.setdefault("path", str(directory))
    error.fields.setdefault("hint", HINTS.get(type(error), HINTS[StorageError]))
    return error


def _lock_directory(directory: Path) -> int:
    """Return a descriptor that holds the journal's lock until it is closed, or the process dies."""
    refusal: StorageError
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        refusal = storage_error("use the journal's directory", error)
        raise _told(refusal, directory) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        refusal = JournalLockedError("another process writes this journal", holder=holder)
        raise _told(refusal, directory) from error
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock
