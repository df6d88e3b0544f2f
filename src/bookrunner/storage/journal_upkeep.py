"""A journal's slow work, beside the writer: compression, retention and the watch over free disk."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import structlog

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import JournalCorruptError, StorageError
from bookrunner.storage.journal_reader import ByteSource, open_segment_reader, segment_header
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.storage.segments import (
    COMPRESSED_SUFFIX,
    RAW_SUFFIX,
    TEMPORARY_SUFFIX,
    Segment,
    list_segments,
    sync_directory,
)

CHUNK_BYTES = 1024 * 1024
NICENESS = 10
"""Scheduling priority given up by the upkeep thread (Linux: per thread)."""

_log = structlog.get_logger(__name__)

FreeBytes = Callable[[Path], int]


def free_disk_bytes(directory: Path) -> int:
    """Bytes that this user may still write on the disk of ``directory``."""
    return shutil.disk_usage(directory).free


class JournalUpkeep:
    """Runs by itself every ``upkeep_interval_s`` and after each sealed segment; errors are retried then."""

    def __init__(
        self,
        directory: Path,
        settings: JournalSettings,
        clock: Clock,
        free_bytes: FreeBytes = free_disk_bytes,
        on_disk_low: Callable[[int], None] | None = None,
    ) -> None:
        self.segments_compressed = 0
        self.segments_deleted = 0
        self.disk_low_alarms = 0
        self.failures = 0
        self.disk_low = False
        """Free disk is below ``disk_low_bytes``."""
        self.disk_exhausted = False
        """Free disk is below ``disk_minimum_bytes``: appends are refused."""
        self.free_bytes = 0
        self.on_round: Callable[[], None] = lambda: None
        """Called in the upkeep thread after each disk check."""
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._read_free_bytes = free_bytes
        self._on_disk_low = on_disk_low
        self._one_round = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal-upkeep", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Run a round soon."""
        self._wake.set()

    def stop(self) -> None:
        """End after the piece of work in hand; an unfinished compression is dropped and redone later."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a courtesy; not every system allows it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._stopping:
            self._wake.wait(self._settings.upkeep_interval_s)
            self._wake.clear()
            try:
                self.run_once()
            except (OSError, StorageError) as error:
                self.failures += 1
                _log.error("journal_upkeep_failed", error=str(error))
            except Exception:  # noqa: BLE001 - logged with its trace; the next round tries again
                self.failures += 1
                _log.exception("journal_upkeep_failed")

    def run_once(self) -> None:
        """Do one round: disk check, compression, retention; rounds never overlap.

        Raises:
            OSError, StorageError: a file could not be handled; nothing is lost, the next round tries again.
        """
        with self._one_round:
            self.check_disk()
            try:
                if self._settings.compress:
                    self._compress_sealed()
            finally:
                self.retain()

    def _compress_sealed(self) -> None:
        for segment in list_segments(self._directory)[:-1]:
            if not segment.compressed and not self._stopping:
                self.compress(segment)

    def check_disk(self) -> None:
        """Compare free disk with the two thresholds and raise or clear the alarms."""
        settings = self._settings
        self.free_bytes = free = self._read_free_bytes(self._directory)
        was_low, was_exhausted = self.disk_low, self.disk_exhausted
        self.disk_low = free < settings.disk_low_bytes
        self.disk_exhausted = free < settings.disk_minimum_bytes
        if self.disk_low and not was_low:
            self.disk_low_alarms += 1
            _log.error("journal_disk_low", free_bytes=free, threshold_bytes=settings.disk_low_bytes)
            if self._on_disk_low is not None:
                self._on_disk_low(free)
        elif was_low and not self.disk_low:
            _log.info("journal_disk_recovered", free_bytes=free)
        if self.disk_exhausted and not was_exhausted:
            _log.error("journal_disk_exhausted", free_bytes=free, minimum_bytes=settings.disk_minimum_bytes)
        self.on_round()

    def retain(self) -> None:
        """Delete sealed segments, oldest first, until age and total size are within the settings."""
        settings = self._settings
        segments = list_segments(self._directory)
        total_bytes = sum(segment.size_bytes() for segment in segments)
        now_ns = self._clock.wall_ns()
        for segment, following in itertools.pairwise(segments):
            over_size = settings.retention_bytes is not None and total_bytes > settings.retention_bytes
            if not over_size and not self._too_old(following, now_ns):
                return
            size_bytes = segment.size_bytes()
            segment.path.unlink(missing_ok=True)
            total_bytes -= size_bytes
            self.segments_deleted += 1
            _log.info(
                "journal_segment_deleted",
                segment=segment.path.name,
                bytes=size_bytes,
                reason="size" if over_size else "age",
            )

    def _too_old(self, following: Segment, now_ns: int) -> bool:
        """Whether ``following`` began, so that the one before it ended, longer ago than retention allows."""
        if self._settings.retention_age_s is None:
            return False
        header = segment_header(following)
        if header is None:
            return False
        return now_ns - header.created_ns > self._settings.retention_age_s * NANOSECONDS_PER_SECOND

    def compress(self, segment: Segment) -> None:
        """Replace a sealed segment by its zstd form, read back and compared before the raw one is deleted."""
        import zstandard

        raw_bytes = segment.size_bytes()
        target = segment.path.with_name(segment.path.name.removesuffix(RAW_SUFFIX) + COMPRESSED_SUFFIX)
        temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
        compressor = zstandard.ZstdCompressor(
            level=self._settings.compression_level, write_checksum=True, write_content_size=True
        )
        stream = compressor.compressobj(size=raw_bytes)
        crc = 0
        with segment.path.open("rb") as raw, temporary.open("wb") as out:
            while chunk := raw.read(CHUNK_BYTES):
                crc = crc32(chunk, crc)
                out.write(stream.compress(chunk))
                if self._stopping:
                    temporary.unlink()
                    return
            out.write(stream.flush())
            out.flush()
            os.fsync(out.fileno())
        if _checksum(open_segment_reader(Segment(segment.first_sequence, temporary, compressed=True))) != crc:
            raise JournalCorruptError(
                "a compressed segment does not read back", segment=temporary.name, offset=0, reason="compare"
            )
        temporary.rename(target)
        sync_directory(self._directory)
        segment.path.unlink()
        self.segments_compressed += 1
        _log.info(
            "journal_segment_compressed",
            segment=target.name,
            raw_bytes=raw_bytes,
            bytes=target.stat().st_size,
        )


def _checksum(source: ByteSource) -> int:
    crc = 0
    try:
        while chunk := source.read(CHUNK_BYTES):
            crc = crc32(chunk, crc)
    finally:
        source.close()
    return crc
