"""No bytes make the journal's decoder lie, hang or fail in an unnamed way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.core.errors import JournalCorruptError, JournalVersionError
from bookrunner.wire.journal_record import (
    JournalRecord,
    RecordDecoder,
    decode_segment_header,
    encode_record,
    find_record_after,
)

payloads = st.lists(st.binary(max_size=60), min_size=1, max_size=12)


def encoded(contents: list[bytes]) -> bytes:
    return b"".join(b"".join(encode_record(i, i * 7, i % 3, 2, p)) for i, p in enumerate(contents, 1))


def decode_in_pieces(data: bytes, cuts: list[int]) -> tuple[list[JournalRecord], JournalCorruptError | None]:
    decoder = RecordDecoder(1)
    records: list[JournalRecord] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        more, damage = decoder.feed(data[start:end])
        records += more
        if damage is not None:
            return records, damage
    return records, None


@given(payloads, st.lists(st.integers(0, 10_000), max_size=5))
def test_round_trip_in_any_pieces(contents: list[bytes], cuts: list[int]) -> None:
    records, damage = decode_in_pieces(encoded(contents), cuts)
    assert damage is None
    assert [record.payload for record in records] == contents


@given(payloads, st.integers(0, 10_000), st.integers(1, 255), st.lists(st.integers(0, 10_000), max_size=3))
def test_one_changed_byte_never_passes(contents: list[bytes], at: int, mask: int, cuts: list[int]) -> None:
    data = bytearray(encoded(contents))
    data[at % len(data)] ^= mask
    records, damage = decode_in_pieces(bytes(data), cuts)
    # Whatever is returned is a prefix of the truth: the changed record and all after it are withheld.
    assert len(records) < len(contents)
    assert [record.payload for record in records] == contents[: len(records)]
    assert damage is None or damage.fields["sequence"] == len(records) + 1


@given(st.binary(max_size=400))
def test_random_bytes_end_in_a_verdict(data: bytes) -> None:
    records, _ = decode_in_pieces(data, [])
    assert records == []
    assert find_record_after(data, 0) == -1


@given(payloads, st.integers(0, 10_000))
def test_a_cut_leaves_a_prefix_and_is_seen_as_torn(contents: list[bytes], cut: int) -> None:
    data = encoded(contents)
    data = data[: cut % len(data)]
    decoder = RecordDecoder(1)
    records, damage = decoder.feed(data)
    assert damage is None
    tail = data[decoder.offset - 32 :]
    assert [record.payload for record in records] == contents[: len(records)]
    assert len(tail) == decoder.pending_bytes
    assert find_record_after(tail, len(records)) == -1


@given(st.binary(min_size=0, max_size=40))
def test_random_segment_headers_are_refused_by_name(data: bytes) -> None:
    with pytest.raises((JournalCorruptError, JournalVersionError)) as caught:
        decode_segment_header(data)
    assert caught.value.fields
