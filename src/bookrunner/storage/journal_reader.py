"""Reading a journal: across raw and compressed segments, also while it is being written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from bookrunner.core.errors import JournalCorruptError, JournalVersionError
from bookrunner.storage.segments import Segment, list_segments, storage_error
from bookrunner.wire.journal_record import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    JournalRecord,
    RecordDecoder,
    SegmentHeader,
    decode_segment_header,
    record_sequence,
)

CHUNK_BYTES = 256 * 1024
"""Bytes read at a time."""
_ZSTD_HEADER_BYTES = 18
"""Longest header of a zstd frame (RFC 8878, 3.1.1.1)."""


class ByteSource(Protocol):
    """A file to read from its start."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the present end."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


def open_segment_reader(segment: Segment) -> ByteSource:
    """Open a segment's uncompressed bytes.

    Raises:
        FileNotFoundError: it has been compressed or deleted meanwhile.
        StorageError: it cannot be read.
    """
    try:
        raw = segment.path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error("read a journal segment", error) from error
    if not segment.compressed:
        return raw
    try:
        return _Decompressed(raw, segment.path.name)
    except JournalCorruptError:
        raw.close()
        raise


class SegmentReader:
    """One segment from its start: its header, then its records as far as they go."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._file = open_segment_reader(segment)
        self._decoder: RecordDecoder | None = None
        self._head = b""

    @property
    def offset(self) -> int:
        """Where the first record not yet returned begins."""
        return self._decoder.offset if self._decoder else 0

    @property
    def next_sequence(self) -> int:
        """The sequence expected next."""
        return self._decoder.next_sequence if self._decoder else self.segment.first_sequence

    @property
    def pending_bytes(self) -> int:
        """Bytes at the end so far that are not a whole record or header."""
        return self._decoder.pending_bytes if self._decoder else len(self._head)

    def header(self) -> SegmentHeader | None:
        """Return the header, or ``None`` while it is not yet written in full.

        Raises:
            JournalCorruptError, JournalVersionError: it is not a header that this program reads.
        """
        self._head += self._file.read(SEGMENT_HEADER_BYTES - len(self._head))
        if len(self._head) < SEGMENT_HEADER_BYTES:
            return None
        try:
            header = decode_segment_header(self._head)
        except (JournalCorruptError, JournalVersionError) as error:
            error.fields["segment"] = self.segment.path.name
            raise
        if header.first_sequence != self.segment.first_sequence:
            raise JournalCorruptError(
                "segment's name and header disagree",
                segment=self.segment.path.name,
                offset=0,
                reason="first sequence",
            )
        self._decoder = self._decoder or RecordDecoder(header.first_sequence)
        return header

    def read(self) -> Iterator[JournalRecord]:
        """Yield records up to the present end of the segment; may be called again for what came since.

        Raises:
            JournalCorruptError: a record fails its check; everything before it has been yielded.
        """
        if self._decoder is None and self.header() is None:
            return
        decoder = self._decoder
        assert decoder is not None  # noqa: S101 - header() made it
        while chunk := self._file.read(CHUNK_BYTES):
            records, damage = decoder.feed(chunk)
            yield from records
            if damage is not None:
                damage.fields["segment"] = self.segment.path.name
                raise damage

    def resume(self, offset: int) -> None:
        """Go on reading a raw segment at a record that is known to be valid, past damage.

        Args:
            offset: where the record begins, as ``journal_recovery.valid_record_after`` tells.
        """
        assert not self.segment.compressed  # noqa: S101 - the content of a zstd frame cannot be sought
        self._file.close()
        raw = self.segment.path.open("rb")
        raw.seek(offset)
        sequence = record_sequence(raw.read(RECORD_HEADER_BYTES))
        raw.seek(offset)
        self._file, self._decoder = raw, RecordDecoder(sequence, offset=offset)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def read_journal(directory: Path, from_sequence: int = 1) -> Iterator[JournalRecord]:
    """Yield the records from ``from_sequence`` on, up to the present end.

    Records that retention deleted are passed over: the first one yielded may be later than asked. Safe
    beside a running writer, which only appends: an unfinished record at the very end is not yielded.

    Raises:
        JournalCorruptError: a record fails its check, or a segment is missing or cut short in the middle.
        JournalVersionError: a segment of another format.
        StorageError: a file cannot be read.
    """
    segment = _segment_holding(directory, from_sequence)
    while segment is not None:
        try:
            reader = SegmentReader(segment)
        except FileNotFoundError:
            # Compressed between the listing and the opening, or gone by retention.
            segment = _segment_holding(directory, max(from_sequence, segment.first_sequence))
            continue
        try:
            # Two passes: what was there before the next segment appeared, then the rest of this one.
            following = None
            while True:
                for record in reader.read():
                    if record.sequence >= from_sequence:
                        yield record
                if following is not None:
                    break
                following = _segment_after(directory, segment)
                if following is None:
                    return
            _check_chain(reader, following)
            segment = following
        finally:
            reader.close()


def segment_header(segment: Segment) -> SegmentHeader | None:
    """Read only the header of a segment; ``None`` when the file has gone or holds no whole header."""
    try:
        reader = SegmentReader(segment)
    except FileNotFoundError:
        return None
    try:
        return reader.header()
    finally:
        reader.close()


def _check_chain(reader: SegmentReader, following: Segment) -> None:
    if reader.pending_bytes:
        raise JournalCorruptError(
            "a sealed segment is cut short",
            segment=reader.segment.path.name,
            offset=reader.offset,
            reason="cut short",
        )
    if reader.next_sequence != following.first_sequence:
        raise JournalCorruptError(
            "records are missing between two segments",
            segment=reader.segment.path.name,
            offset=reader.offset,
            reason="segment missing",
            expected=reader.next_sequence,
            received=following.first_sequence,
        )


def _segment_holding(directory: Path, sequence: int) -> Segment | None:
    """The last segment that begins at or before ``sequence``, else the oldest kept."""
    segments = list_segments(directory)
    holding = [segment for segment in segments if segment.first_sequence <= sequence]
    return holding[-1] if holding else (segments[0] if segments else None)


def _segment_after(directory: Path, segment: Segment) -> Segment | None:
    later = (other for other in list_segments(directory) if other.first_sequence > segment.first_sequence)
    return next(later, None)


class _Decompressed:
    """A zstd file's content; damage and truncation of the frame are journal corruption."""

    def __init__(self, raw: BinaryIO, name: str) -> None:
        import zstandard

        self._errors = zstandard.ZstdError
        self._raw = raw
        self._name = name
        self._produced = 0
        try:
            frame = zstandard.get_frame_parameters(raw.read(_ZSTD_HEADER_BYTES))
        except zstandard.ZstdError as error:
            raise self._corrupt("not a zstd frame") from error
        self._content_bytes = frame.content_size
        raw.seek(0)
        self._stream = zstandard.ZstdDecompressor().stream_reader(raw)

    def read(self, size: int, /) -> bytes:
        try:
            chunk = self._stream.read(size)
        except self._errors as error:
            raise self._corrupt("zstd frame is damaged") from error
        self._produced += len(chunk)
        if not chunk and size and self._produced != self._content_bytes:
            raise self._corrupt("zstd frame is cut short")
        return chunk

    def close(self) -> None:
        self._raw.close()

    def _corrupt(self, reason: str) -> JournalCorruptError:
        return JournalCorruptError(
            "compressed segment is damaged", segment=self._name, offset=self._produced, reason=reason
        )
