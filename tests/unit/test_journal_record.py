"""The layout of the journal's bytes is a contract with files already written."""

from __future__ import annotations

import struct
import zlib

import pytest

from bookrunner.core.errors import JournalCorruptError, JournalVersionError
from bookrunner.wire.journal_record import (
    PARTS_PER_RECORD,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    RecordDecoder,
    SegmentHeader,
    decode_segment_header,
    encode_record,
    encode_segment_header,
    find_record_after,
)


def encoded(
    sequence: int, payload: bytes = b"payload", ts_recv_ns: int = 5, source: int = 3, kind: int = 2
) -> bytes:
    return b"".join(encode_record(sequence, ts_recv_ns, source, kind, payload))


def test_record_sizes_and_offsets() -> None:
    parts = encode_record(0x0102030405060708, -2, 0x0A0B0C0D, 0x2A, b"xyz", 0x11)
    data = b"".join(parts)
    assert len(parts) == PARTS_PER_RECORD
    assert RECORD_HEADER_BYTES == 32
    assert len(data) == 32 + 3
    assert struct.unpack_from("<I", data, 0)[0] == zlib.crc32(data[4:])
    assert struct.unpack_from("<I", data, 4)[0] == 3
    assert data[8:16] == bytes([8, 7, 6, 5, 4, 3, 2, 1])
    assert struct.unpack_from("<q", data, 16)[0] == -2
    assert data[24:28] == bytes([0x0D, 0x0C, 0x0B, 0x0A])
    assert (data[28], data[29], data[30:32]) == (0x2A, 0x11, b"\0\0")
    assert data[32:] == b"xyz"


def test_a_record_of_version_1_is_these_bytes() -> None:
    data = encoded(1, b"{}", ts_recv_ns=1_700_000_000_000_000_000, source=1, kind=2)
    fields = "0304a661 02000000 0100000000000000 00002a36fe9c9717 01000000 02 00 0000 7b7d"
    assert data.hex() == fields.replace(" ", "")


def test_segment_header_sizes_and_offsets() -> None:
    data = encode_segment_header(SegmentHeader(9, -7, 4))
    assert len(data) == SEGMENT_HEADER_BYTES == 32
    assert data[:4] == b"BRJL"
    assert struct.unpack_from("<HHQqI", data, 4) == (1, 32, 9, -7, 4)
    assert struct.unpack_from("<I", data, 28)[0] == zlib.crc32(data[:28])
    assert decode_segment_header(data) == SegmentHeader(9, -7, 4)


def test_another_version_is_named_as_such() -> None:
    data = encode_segment_header(SegmentHeader(1, 0, 1, version=2))
    with pytest.raises(JournalVersionError) as caught:
        decode_segment_header(data)
    assert caught.value.fields == {"version": 2, "reads": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "short header"),
        (b"BRJL", "short header"),
        (b"\x28\xb5\x2f\xfd" + bytes(28), "bad magic"),
        (b"BRJL\x01\x00" + bytes(26), "header crc"),
    ],
)
def test_what_is_no_segment_header(data: bytes, reason: str) -> None:
    with pytest.raises(JournalCorruptError) as caught:
        decode_segment_header(data)
    assert caught.value.fields["reason"] == reason


def test_records_come_out_whole_however_the_bytes_arrive() -> None:
    data = b"".join(encoded(i, b"p" * i) for i in range(1, 20))
    decoder = RecordDecoder(1)
    seen = []
    for i in range(len(data)):
        records, damage = decoder.feed(data[i : i + 1])
        assert damage is None
        seen += records
    assert [(record.sequence, record.payload) for record in seen] == [(i, b"p" * i) for i in range(1, 20)]
    assert decoder.pending_bytes == 0
    assert decoder.offset == SEGMENT_HEADER_BYTES + len(data)


def test_records_before_the_damage_are_returned_with_it() -> None:
    data = bytearray(encoded(1) + encoded(2) + encoded(3))
    data[len(encoded(1)) + 33] ^= 1
    records, damage = RecordDecoder(1).feed(bytes(data))
    assert [record.sequence for record in records] == [1]
    assert damage is not None
    assert damage.fields == {"offset": 32 + len(encoded(1)), "sequence": 2, "reason": "crc"}


def test_a_length_over_the_limit_is_damage_not_an_allocation() -> None:
    data = bytearray(encoded(1))
    struct.pack_into("<I", data, 4, 0xFFFF_FFFF)
    _, damage = RecordDecoder(1).feed(bytes(data))
    assert damage is not None
    assert damage.fields["reason"] == "length over the limit"


def test_a_skipped_sequence_is_damage() -> None:
    _, damage = RecordDecoder(1).feed(encoded(1) + encoded(3))
    assert damage is not None
    assert damage.fields["reason"] == "sequence out of order"


@pytest.mark.parametrize("shift", range(9))
def test_a_valid_record_is_found_behind_damage_at_any_alignment(shift: int) -> None:
    assert find_record_after(b"\xee" * shift + encoded(6), last_sequence=4) == shift


def test_torn_bytes_zeros_and_older_records_are_not_taken_for_later_ones() -> None:
    assert find_record_after(encoded(5)[:-1], last_sequence=4) == -1
    assert find_record_after(bytes(100_000), last_sequence=0) == -1
    assert find_record_after(encoded(4), last_sequence=4) == -1
    assert find_record_after(b"", last_sequence=4) == -1
