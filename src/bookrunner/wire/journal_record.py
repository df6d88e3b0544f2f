"""The journal's bytes: segments of records. Version 1, little-endian, no padding.

A segment is a header of 32 bytes, then records until its end::

    offset size  segment header              offset size  record
    0      4     magic "BRJL"                0      4     crc32 of bytes [4, 32 + length)
    4      2     format version              4      4     length of the payload
    6      2     header size (32)            8      8     sequence
    8      8     first sequence              16     8     ts_recv_ns (signed)
    16     8     created, ns UTC             24     4     source id
    24     4     next free source id         28     1     kind (``RecordKind``)
    28     4     crc32 of bytes [0, 28)      29     1     flags (0 in version 1)
                                             30     2     reserved (0)
                                             32     …     payload, exactly as received

Sequences are gapless and start at 1. The CRC is the zlib/IEEE one. Nothing here does I/O.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

import msgspec

from bookrunner.core.errors import JournalCorruptError, JournalVersionError

MAGIC = b"BRJL"
VERSION = 1
SEGMENT_HEADER_BYTES = 32
RECORD_HEADER_BYTES = 32
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
"""Largest payload of a record; a larger length in a file is damage, a larger append is refused."""
PARTS_PER_RECORD = 3
"""Pieces that ``encode_record`` returns."""

_segment_head = Struct("<4sHHQqI")
_crc = Struct("<I")
_record_tail = Struct("<IQqIBBH")
_record = Struct("<IIQqIBBH")
_pack_tail = _record_tail.pack
_pack_crc = _crc.pack
_unpack_record = _record.unpack_from

_CRC_END = _crc.size


class SegmentHeader(msgspec.Struct, frozen=True):
    """What a segment says about itself."""

    first_sequence: int
    created_ns: int
    next_source: int
    """The first source id that was unused when the segment was made."""
    version: int = VERSION


class JournalRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as read back."""

    sequence: int
    ts_recv_ns: int
    source: int
    kind: int
    flags: int
    payload: bytes

    @property
    def size_bytes(self) -> int:
        """Bytes that the record takes in its segment."""
        return RECORD_HEADER_BYTES + len(self.payload)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the 32 bytes that open a segment."""
    head = _segment_head.pack(
        MAGIC,
        header.version,
        SEGMENT_HEADER_BYTES,
        header.first_sequence,
        header.created_ns,
        header.next_source,
    )
    return head + _pack_crc(crc32(head))


def decode_segment_header(data: bytes) -> SegmentHeader:
    """Read the first 32 bytes of a segment.

    Raises:
        JournalCorruptError: not a segment, cut short, or the header fails its check.
        JournalVersionError: a later format.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise JournalCorruptError("segment header is cut short", offset=0, reason="short header")
    head = data[: _segment_head.size]
    magic, version, _, first_sequence, created_ns, next_source = _segment_head.unpack(head)
    if magic != MAGIC:
        raise JournalCorruptError("not a journal segment", offset=0, reason="bad magic")
    if version != VERSION:
        raise JournalVersionError("journal segment of another format", version=version, reads=VERSION)
    if data[_segment_head.size : SEGMENT_HEADER_BYTES] != _pack_crc(crc32(head)):
        raise JournalCorruptError("segment header fails its check", offset=0, reason="header crc")
    return SegmentHeader(first_sequence, created_ns, next_source)


def encode_record(
    sequence: int, ts_recv_ns: int, source: int, kind: int, payload: bytes, flags: int = 0
) -> tuple[bytes, bytes, bytes]:
    """Return a record as ``PARTS_PER_RECORD`` pieces to be written one after the other.

    The payload is handed through, not copied. The caller has checked its size.
    """
    tail = _pack_tail(len(payload), sequence, ts_recv_ns, source, kind, flags, 0)
    return _pack_crc(crc32(payload, crc32(tail))), tail, payload


def record_sequence(header: bytes) -> int:
    """Return the sequence that a record's header names; nothing is checked."""
    sequence: int = _unpack_record(header)[2]
    return sequence


class RecordDecoder:
    """Bytes of a segment in (after its header), records out; every sequence and every CRC is checked.

    Memory is bounded by one record of ``max_payload_bytes`` and one chunk.
    """

    def __init__(
        self,
        first_sequence: int,
        *,
        offset: int = SEGMENT_HEADER_BYTES,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self.next_sequence = first_sequence
        self.offset = offset
        """Where in the segment the first record not yet returned begins."""
        self._max_payload_bytes = max_payload_bytes
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes fed that do not yet make a whole record; at the end of a segment, its torn tail."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> tuple[list[JournalRecord], JournalCorruptError | None]:
        """Return the whole records that ``chunk`` completes, and the damage that ends them, if any.

        Damage is returned rather than raised, so that the records before it are not lost. After damage the
        decoder stays at the offset of the damaged record and must not be fed again.
        """
        buffer = self._buffer
        buffer += chunk
        records: list[JournalRecord] = []
        damage: JournalCorruptError | None = None
        position, available, start = 0, len(buffer), self.offset
        with memoryview(buffer) as view:
            while available - position >= RECORD_HEADER_BYTES:
                crc, length, sequence, ts_recv_ns, source, kind, flags, _ = _unpack_record(view, position)
                if length > self._max_payload_bytes:
                    damage = self._damage("length over the limit")
                    break
                if sequence != self.next_sequence:
                    damage = self._damage("sequence out of order")
                    break
                end = position + RECORD_HEADER_BYTES + length
                if end > available:
                    break
                if crc32(view[position + _CRC_END : end]) != crc:
                    damage = self._damage("crc")
                    break
                payload = bytes(view[position + RECORD_HEADER_BYTES : end])
                records.append(JournalRecord(sequence, ts_recv_ns, source, kind, flags, payload))
                position = end
                self.offset = start + position
                self.next_sequence += 1
        del buffer[:position]
        return records, damage

    def _damage(self, reason: str) -> JournalCorruptError:
        return JournalCorruptError(
            "journal record fails its check", offset=self.offset, sequence=self.next_sequence, reason=reason
        )


def find_record_after(data: bytes, last_sequence: int) -> int:
    """Return the offset in ``data`` of a whole, valid record with a later sequence, or -1.

    This tells a torn tail (nothing valid follows) from damage in the middle of a segment.
    """
    last_possible = last_sequence + 1 + len(data) // RECORD_HEADER_BYTES
    view = memoryview(data)
    for offset in _candidates(data, last_sequence, last_possible):
        crc, length, *_ = _unpack_record(data, offset)
        end = offset + RECORD_HEADER_BYTES + length
        if end <= len(data) and crc32(view[offset + _CRC_END : end]) == crc:
            return offset
    return -1


def _candidates(data: bytes, last_sequence: int, last_possible: int) -> list[int]:
    """Offsets whose sequence field lies in ``(last_sequence, last_possible]``."""
    import numpy as np  # only recovery of a damaged tail pays for it

    sequence_at = 8
    found: list[int] = []
    for shift in range(8):
        words = (len(data) - sequence_at - shift) // 8
        if words <= 0:
            break
        values = np.frombuffer(data, dtype="<u8", count=words, offset=sequence_at + shift)
        hits = np.flatnonzero((values > last_sequence) & (values <= last_possible))
        found.extend((hits * 8 + shift).tolist())
    return sorted(offset for offset in found if offset + RECORD_HEADER_BYTES <= len(data))
