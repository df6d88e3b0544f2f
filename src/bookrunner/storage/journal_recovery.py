"""What a journal finds when it is opened: where to go on, and what had to be cut off."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import structlog

from bookrunner.core.errors import JournalCorruptError
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal_reader import SegmentReader, segment_header
from bookrunner.storage.segments import TEMPORARY_SUFFIX, Segment, list_segments, sync_directory
from bookrunner.wire.journal_record import SEGMENT_HEADER_BYTES, find_record_after

CLEAN_NAME = "journal.clean"

_log = structlog.get_logger(__name__)


class TornTail(msgspec.Struct, frozen=True):
    """Bytes that a crash left unfinished, and that recovery cut off."""

    segment: str
    """File name."""
    offset: int
    """Where the file now ends."""
    bytes: int
    reason: str


class RecoveryReport(msgspec.Struct, frozen=True):
    """What was found and done when the journal was opened."""

    next_sequence: int = 1
    next_source: int = 1
    segment: Segment | None = None
    """The raw segment to go on writing, or ``None`` to begin a new one."""
    segment_bytes: int = 0
    segment_created_ns: int = 0
    torn_tails: tuple[TornTail, ...] = ()
    """Empty when the tail was clean."""


class CleanMark(msgspec.Struct, frozen=True):
    """Left by an orderly close, so that the next opening need not scan the last segment."""

    segment: str
    bytes: int
    created_ns: int
    next_sequence: int
    next_source: int


def mark_clean(directory: Path, next_sequence: int, next_source: int) -> None:
    """Say that everything is written and synced. The next ``recover`` takes the mark away again.

    Raises:
        OSError: the mark cannot be written; the next opening scans, nothing else is lost.
    """
    segments = list_segments(directory)
    if not segments or segments[-1].compressed:
        return
    header = segment_header(segments[-1])
    if header is not None:
        path, size_bytes = segments[-1].path, segments[-1].size_bytes()
        mark = CleanMark(path.name, size_bytes, header.created_ns, next_sequence, next_source)
        (directory / CLEAN_NAME).write_bytes(msgspec.json.encode(mark))


def _take_mark(directory: Path) -> CleanMark | None:
    """Return the mark of an orderly close, removing it: from now on only a scan can tell."""
    path = directory / CLEAN_NAME
    try:
        mark = msgspec.json.decode(path.read_bytes(), type=CleanMark)
    except (FileNotFoundError, msgspec.DecodeError):
        mark = None
    path.unlink(missing_ok=True)
    sync_directory(directory)
    return mark


def recover(directory: Path) -> RecoveryReport:
    """Scan the last segment, cut off a torn tail, and say where writing goes on.

    After an orderly close (its mark names the last segment and its size) there is nothing to scan for.

    A tail is torn when its first bad record has no valid record of a later sequence after it: its write was
    cut short by a crash. Anything else is damage and is not touched.

    Raises:
        JournalCorruptError: damage before the tail of the last segment.
        JournalVersionError: the last segment is of another format.
        StorageError, OSError: the files cannot be read or cut.
    """
    for leftover in directory.glob(f"*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)
    mark = _take_mark(directory)
    segments = list_segments(directory)
    if mark is not None and segments:
        last = segments[-1]
        if last.path.name == mark.segment and last.size_bytes() == mark.bytes:
            return RecoveryReport(mark.next_sequence, mark.next_source, last, mark.bytes, mark.created_ns)
    unborn: Segment | None = None
    torn_tails: list[TornTail] = []
    if segments and header_is_torn(segments[-1]):
        unborn = segments.pop()
        torn_tails.append(TornTail(unborn.path.name, 0, unborn.size_bytes(), "segment header is cut short"))
    report = RecoveryReport(next_sequence=unborn.first_sequence if unborn else 1)
    if segments:
        report = _recover_segment(segments[-1], torn_tails, sealed=unborn is not None)
    if unborn is not None:
        _check_follows(report, unborn)
        unborn.path.unlink()
        sync_directory(directory)
    for tail in torn_tails:
        fields = msgspec.structs.asdict(tail)
        _log.warning("journal_tail_truncated", next_sequence=report.next_sequence, **fields)
    return msgspec.structs.replace(report, torn_tails=tuple(torn_tails))


def _recover_segment(segment: Segment, torn_tails: list[TornTail], *, sealed: bool) -> RecoveryReport:
    reader = SegmentReader(segment)
    reason = ""
    try:
        header = reader.header()
        assert header is not None  # noqa: S101 - a torn header has been dealt with
        next_source = header.next_source
        try:
            for record in reader.read():
                if record.kind == RecordKind.SOURCE:
                    next_source = max(next_source, record.source + 1)
        except JournalCorruptError as damage:
            if sealed or segment.compressed:
                raise
            reason = str(damage.fields["reason"])
        if reader.pending_bytes and not reason:
            reason = "record is cut short"
        offset, next_sequence = reader.offset, reader.next_sequence
    finally:
        reader.close()
    if segment.compressed:
        return RecoveryReport(next_sequence, next_source)
    if reason:
        torn_tails.append(_cut_tail(segment, offset, next_sequence - 1, reason))
    return RecoveryReport(next_sequence, next_source, segment, offset, header.created_ns)


def _check_follows(report: RecoveryReport, unborn: Segment) -> None:
    if report.next_sequence != unborn.first_sequence:
        raise JournalCorruptError(
            "records are missing before the last segment",
            segment=unborn.path.name,
            offset=0,
            reason="segment missing",
            expected=report.next_sequence,
            received=unborn.first_sequence,
        )


def header_is_torn(segment: Segment) -> bool:
    """Whether the file ends within its header, or is zeros there, with no record after it."""
    if segment.compressed:
        return False
    with segment.path.open("rb") as file:
        head = file.read(SEGMENT_HEADER_BYTES)
        if len(head) == SEGMENT_HEADER_BYTES and any(head):
            return False
        return find_record_after(file.read(), segment.first_sequence - 1) < 0


def valid_record_after(segment: Segment, offset: int, last_sequence: int) -> int:
    """Return where, past a bad record at ``offset``, a valid later one begins in a raw segment; -1 for none.

    None means that the bad record is a torn tail; otherwise the segment is damaged in the middle.
    """
    with segment.path.open("rb") as file:
        file.seek(offset)
        following = find_record_after(file.read(), last_sequence)
    return offset + following if following >= 0 else -1


def _cut_tail(segment: Segment, offset: int, last_sequence: int, reason: str) -> TornTail:
    following = valid_record_after(segment, offset, last_sequence)
    if following >= 0:
        raise JournalCorruptError(
            "journal is damaged before its tail",
            segment=segment.path.name,
            offset=offset,
            reason=reason,
            next_valid_offset=following,
        )
    torn_bytes = segment.size_bytes() - offset
    with segment.path.open("r+b") as file:
        file.truncate(offset)
        file.flush()
        os.fsync(file.fileno())
    return TornTail(segment.path.name, offset, torn_bytes, reason)
