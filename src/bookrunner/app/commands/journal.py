"""``bookrunner journal verify|stat|cat``: look at a journal's files; nothing is ever changed.

Exit codes: 0 sound; 1 something is wrong with the journal; usage errors are raised.
"""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.core.errors import InvalidRequestError, JournalCorruptError, JournalVersionError, StorageError
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal_reader import SegmentReader, read_journal
from bookrunner.storage.journal_recovery import header_is_torn, valid_record_after
from bookrunner.storage.segments import Segment, list_segments
from bookrunner.wire.journal_record import JournalRecord

EXIT_SOUND = 0
EXIT_DAMAGED = 1


MAX_DAMAGED_RANGES = 100
"""Damaged ranges told of one segment; after that many its rest counts as one, for each costs a search."""
OTHER_VERSION = "journal segment of another format"


class DamagedRange(msgspec.Struct, kw_only=True):
    """Bytes of a segment that are no sound records."""

    offset: int
    end: int | None
    """Where the next sound record, or the end of the file, is; ``None`` in a compressed segment."""
    reason: str


class SegmentVerdict(msgspec.Struct, kw_only=True):
    """What verification found in one segment."""

    segment: str
    first_sequence: int
    last_sequence: int
    records: int
    bytes_on_disk: int
    problem: str = ""
    """Empty when the segment is sound."""
    offset: int = 0
    """Where the first problem is, in uncompressed bytes."""
    damaged: list[DamagedRange] = []
    torn_bytes: int = 0
    """Unfinished bytes at the very end of the last segment: a crash, or a writer at work; not damage."""


def verify(directory: Path, *, as_json: bool = False) -> int:
    """Check every CRC, every sequence and the chain of segments; print a report.

    Reading goes on after damage at the next sound record, so that all damage is told at once.

    Returns:
        1 when anything but the unfinished end of the last segment is wrong.
    """
    verdicts = list(_verified(_segments(directory)))
    problems = [verdict for verdict in verdicts if verdict.problem]
    summary = {
        "sound": not problems,
        "segments": len(verdicts),
        "records": sum(verdict.records for verdict in verdicts),
        "torn_bytes": verdicts[-1].torn_bytes if verdicts else 0,
        "problems": [msgspec.to_builtins(verdict) for verdict in problems],
    }
    if as_json:
        _print(json.dumps(summary))
    else:
        for verdict in problems:
            if not any(damage.reason == verdict.problem for damage in verdict.damaged):
                _print(f"{verdict.segment}: at byte {verdict.offset}: {verdict.problem}")
            for damage in verdict.damaged:
                end = "the end" if damage.end is None else f"{damage.end}"
                _print(f"{verdict.segment}: at byte {damage.offset} up to {end}: {damage.reason}")
        if summary["torn_bytes"]:
            _print(_torn_text(verdicts[-1].torn_bytes))
        _print(
            f"{'sound' if not problems else 'DAMAGED'}: "
            f"{summary['records']:,} records in {len(verdicts):,} segments"
        )
    return EXIT_DAMAGED if problems else EXIT_SOUND


def _verified(segments: list[Segment]) -> Iterator[SegmentVerdict]:
    expected = segments[0].first_sequence if segments else 1
    for segment in segments:
        verdict = SegmentVerdict(
            segment=segment.path.name,
            first_sequence=segment.first_sequence,
            last_sequence=segment.first_sequence - 1,
            records=0,
            bytes_on_disk=segment.size_bytes(),
        )
        if segment.first_sequence != expected:
            verdict.problem = f"begins at record {segment.first_sequence}, {expected} should follow"
        _verify_segment(segment, verdict, last=segment is segments[-1])
        expected = verdict.last_sequence + 1
        yield verdict


def _verify_segment(segment: Segment, verdict: SegmentVerdict, *, last: bool) -> None:
    """Read a segment to its end, going on after each damaged range at the next valid record."""
    try:
        reader = SegmentReader(segment)
    except (StorageError, FileNotFoundError) as error:
        verdict.problem = verdict.problem or str(error)
        return
    try:
        while reason := _read_sound(reader, verdict):
            offset = reader.offset
            resumable = not segment.compressed and len(verdict.damaged) < MAX_DAMAGED_RANGES
            following = -1
            if resumable and reason != OTHER_VERSION:
                following = valid_record_after(segment, offset, verdict.last_sequence)
            if following < 0 and last and resumable and (offset or header_is_torn(segment)):
                verdict.torn_bytes = segment.size_bytes() - offset
                return
            if following != offset:  # else the writer has finished the record meanwhile
                end = None if segment.compressed else segment.size_bytes() if following < 0 else following
                verdict.damaged.append(DamagedRange(offset=offset, end=end, reason=reason))
                if not verdict.problem:
                    verdict.problem, verdict.offset = reason, offset
            if following < 0:
                return
            reader.resume(following)
    finally:
        reader.close()


def _read_sound(reader: SegmentReader, verdict: SegmentVerdict) -> str:
    """Count records up to the end or to what is wrong; return what that is, ``""`` for a sound end."""
    try:
        for record in reader.read():
            verdict.last_sequence = record.sequence
            verdict.records += 1
    except JournalVersionError:
        return OTHER_VERSION
    except JournalCorruptError as error:
        return str(error.fields.get("reason", error.message))
    return "a record is cut short, or its length is damaged" if reader.pending_bytes else ""


def _read_up_to_torn_end(
    directory: Path, from_sequence: int, torn: list[SegmentVerdict]
) -> Iterator[JournalRecord]:
    """Yield records; where the journal ends torn, as ``verify`` understands it, append that to ``torn``.

    Raises:
        JournalCorruptError, JournalVersionError: anything else is wrong.
    """
    damage: JournalCorruptError | None = None
    try:
        yield from read_journal(directory, from_sequence)
    except JournalCorruptError as error:
        damage = error
    segments = list_segments(directory)
    if damage is not None and damage.fields.get("segment") != segments[-1].path.name:
        raise damage
    for verdict in _verified(segments[-1:]):
        if damage is not None and (verdict.problem or not verdict.torn_bytes):
            raise damage
        if verdict.torn_bytes:
            torn.append(verdict)
            sys.stderr.write(f"{verdict.segment}: {_torn_text(verdict.torn_bytes)}\n")


def _torn_text(torn_bytes: int) -> str:
    return f"unfinished end: {torn_bytes} bytes, cut off when the journal is next opened"


def stat(directory: Path, *, as_json: bool = False) -> int:
    """Print counts of records, bytes and segments, the time covered, and shares by source and kind.

    Raises:
        JournalCorruptError, JournalVersionError: damage before a torn end; ``verify`` tells more.
    """
    segments = _segments(directory)
    names: dict[int, str] = {}
    records, payload_bytes = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    first_ns = last_ns = first_sequence = last_sequence = 0
    torn: list[SegmentVerdict] = []
    for record in _read_up_to_torn_end(directory, 1, torn):
        _learn_source(record, names)
        records[record.source, record.kind] += 1
        payload_bytes[record.source, record.kind] += len(record.payload)
        first_sequence = first_sequence or record.sequence
        last_sequence = record.sequence
        if record.ts_recv_ns > 0:
            first_ns = min(first_ns or record.ts_recv_ns, record.ts_recv_ns)
            last_ns = max(last_ns, record.ts_recv_ns)
    summary: dict[str, Any] = {
        "records": records.total(),
        "payload_bytes": payload_bytes.total(),
        "bytes_on_disk": sum(segment.size_bytes() for segment in segments),
        "torn_bytes": sum(verdict.torn_bytes for verdict in torn),
        "segments": len(segments),
        "segments_compressed": sum(segment.compressed for segment in segments),
        "first_sequence": first_sequence,
        "last_sequence": last_sequence,
        "first_time": _time_text(first_ns),
        "last_time": _time_text(last_ns),
        "by_source_and_kind": [
            {
                "source": source,
                "name": names.get(source, ""),
                "kind": _kind_name(kind),
                "records": records[source, kind],
                "payload_bytes": payload_bytes[source, kind],
            }
            for source, kind in sorted(records)
        ],
    }
    if as_json:
        _print(json.dumps(summary))
        return EXIT_SOUND
    shares = summary.pop("by_source_and_kind")
    for name, value in summary.items():
        _print(f"{name:<20} {value:,}" if isinstance(value, int) else f"{name:<20} {value}")
    for share in shares:
        _print(
            f"{share['source']:>6} {share['name']:<32} {share['kind']:<14} "
            f"{share['records']:>12,} records {share['payload_bytes']:>16,} bytes"
        )
    return EXIT_SOUND


def cat(
    directory: Path,
    *,
    first: int = 1,
    last: int | None = None,
    limit: int | None = None,
    source: str | None = None,
    kind: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> int:
    """Print records, one JSON object a line; ``payload_base64`` stands in where a payload is no UTF-8.

    Args:
        directory: the journal.
        first: first sequence.
        last: last sequence.
        limit: most records to print.
        source: only this source, by id or by name.
        kind: only this kind, such as ``frame``.
        since: earliest receive time, ISO 8601 (UTC unless it says otherwise) or ns.
        until: first receive time not printed, likewise.

    Raises:
        InvalidRequestError: a filter cannot be read.
        JournalCorruptError, JournalVersionError: what comes before has been printed.
    """
    _segments(directory)
    only_kind = None if kind is None else _kind_number(kind)
    since_ns = None if since is None else _time_ns("since", since)
    until_ns = None if until is None else _time_ns("until", until)
    names: dict[int, str] = {}
    printed = 0
    # From the start of the segment that holds ``first``: its SOURCE records name the sources.
    for record in _read_up_to_torn_end(directory, _segment_start(directory, first), []):
        _learn_source(record, names)
        if last is not None and record.sequence > last:
            break
        name = names.get(record.source, "")
        if (
            record.sequence < first
            or (source is not None and source not in {name, str(record.source)})
            or (only_kind is not None and record.kind != only_kind)
            or (since_ns is not None and record.ts_recv_ns < since_ns)
            or (until_ns is not None and record.ts_recv_ns >= until_ns)
        ):
            continue
        _print(_record_line(record, name))
        printed += 1
        if limit is not None and printed >= limit:
            break
    return EXIT_SOUND


def _record_line(record: JournalRecord, source_name: str) -> str:
    line: dict[str, Any] = {
        "sequence": record.sequence,
        "ts_recv_ns": record.ts_recv_ns,
        "source": record.source,
        "name": source_name,
        "kind": _kind_name(record.kind),
    }
    try:
        line["payload"] = record.payload.decode()
    except UnicodeDecodeError:
        line["payload_base64"] = base64.b64encode(record.payload).decode("ascii")
    return json.dumps(line, ensure_ascii=False)


def _segments(directory: Path) -> list[Segment]:
    if not directory.is_dir():
        raise InvalidRequestError(
            "no such journal", field="path", value=str(directory), rule="an existing folder"
        )
    return list_segments(directory)


def _segment_start(directory: Path, sequence: int) -> int:
    starts = [segment.first_sequence for segment in list_segments(directory)]
    return max((start for start in starts if start <= sequence), default=1)


def _learn_source(record: JournalRecord, names: dict[int, str]) -> None:
    if record.kind == RecordKind.SOURCE:
        try:
            names[record.source] = str(msgspec.json.decode(record.payload)["name"])
        except (msgspec.DecodeError, KeyError, TypeError):
            names[record.source] = ""  # its CRC holds, so it was written so; the id still tells it apart


def _kind_name(kind: int) -> str:
    try:
        return RecordKind(kind).name.lower()
    except ValueError:
        return str(kind)


def _kind_number(name: str) -> int:
    try:
        return RecordKind[name.upper()]
    except KeyError:
        rule = ", ".join(kind.name.lower() for kind in RecordKind)
        raise InvalidRequestError("no such kind", field="kind", value=name, rule=rule) from None


def _time_ns(field: str, text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        rule = "ISO 8601, or nanoseconds since the epoch"
        raise InvalidRequestError("not a time", field=field, value=text, rule=rule) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = elapsed.days * 86_400 + elapsed.seconds
    return seconds * NANOSECONDS_PER_SECOND + elapsed.microseconds * 1_000


def _time_text(ts_ns: int) -> str:
    if not ts_ns:
        return ""
    seconds, fraction_ns = divmod(ts_ns, NANOSECONDS_PER_SECOND)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return str(ts_ns)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction_ns:09d}Z"


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
