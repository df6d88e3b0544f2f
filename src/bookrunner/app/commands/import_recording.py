"""``bookrunner import``: recorded sessions into a journal and the catalogue.

The catalogue's rows come from the connectors' own code: the frames are played through the same sessions and
books as live ones, and recorded by the same columns. Importing a recording again writes the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from heapq import merge
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from bookrunner.core.clock import Clock, SystemClock
from bookrunner.core.errors import InvalidRequestError, JournalFullError
from bookrunner.engine.ports.catalogue import ColumnBatch
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.recordings import open_recording
from bookrunner.wire.journal_record import MAX_PAYLOAD_BYTES
from bookrunner.wire.recording import (
    RecordedKind,
    RecordedMessage,
    RecordingReport,
    format_of,
    read_messages,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from bookrunner.storage.journal import Journal

RECORD_KINDS = {
    RecordedKind.FRAME: RecordKind.FRAME,
    RecordedKind.REST: RecordKind.REST_RESPONSE,
    RecordedKind.SENT: RecordKind.SENT,
    RecordedKind.CONNECT: RecordKind.CONNECTED,
}


class ImportReport(msgspec.Struct):
    """What an import read and wrote."""

    messages: int = 0
    bad_lines: int = 0
    unrecognised: int = 0
    """Messages of no known venue."""
    unread: int = 0
    """REST answers that are not what the venue sends."""
    books: int = 0
    books_not_live: int = 0
    """Books that could not be believed at the end."""
    gaps: int = 0
    """Updates found missing while a book was live."""
    unrecorded: int = 0
    """Depth frames that reached no row: older than the snapshot, without one, after a gap, or unreadable."""
    rows: int = 0
    files: int = 0
    journal_records: int = 0
    oversized: int = 0
    """Messages too large for a journal record."""


def import_recordings(
    recordings: list[Path], catalogue: Path | str | None, journal: Path | None, venue: str | None
) -> int:
    """Import recordings together, in the order of their receive times, and print what came of it.

    Args:
        recordings: the files.
        catalogue: folder or URL of the catalogue, or ``None``: only the journal.
        journal: folder of the journal to append to, or ``None``: only the catalogue.
        venue: the venue of all frames, where they do not tell.

    Raises:
        InvalidRequestError: a file is missing or no recording, or the venue is unknown.
        StorageError: the journal, the catalogue or a recording failed.
    """
    report, problems = run_import(recordings, catalogue, journal, venue, SystemClock())
    for path, lines in problems:
        for problem in lines.problems:
            sys.stderr.write(f"{path.name}, line {problem.line}: {problem.reason}\n")
        if lines.bad_lines > len(lines.problems):
            sys.stderr.write(f"{path.name}: {lines.bad_lines:,} bad lines in all\n")
    for name, value in msgspec.structs.asdict(report).items():
        sys.stdout.write(f"{name:<16} {value:>12,}\n")
    return 0


def run_import(
    recordings: list[Path],
    catalogue: Path | str | None,
    journal: Path | None,
    venue: str | None,
    clock: Clock,
) -> tuple[ImportReport, list[tuple[Path, RecordingReport]]]:
    """Do the import; see ``import_recordings``. Returns the totals and each file's own report."""
    if catalogue is None and journal is None:
        raise InvalidRequestError(
            "nowhere to import to", field="catalogue", value=None, rule="a catalogue or a journal"
        )
    report = ImportReport()
    with ExitStack() as stack:
        progress = stack.enter_context(_progress())
        opened = [_open(stack, progress, path) for path in recordings]
        streams = [zip(repeat(i), stream) for i, (stream, _) in enumerate(opened)]
        messages: Messages = merge(*streams, key=lambda item: item[1].ts_recv_ns)
        if journal is not None:
            target = _open_journal(stack, journal, clock)
            messages = _journaled(messages, [path.name for path in recordings], target, report)
        if catalogue is not None:
            _record(messages, catalogue, venue, clock, report)
        for _ in messages:
            pass  # where nothing else draws them
        if journal is not None:
            report.journal_records = target.counters().records
    report.messages = sum(lines.messages for _, lines in opened)
    report.bad_lines = sum(lines.bad_lines for _, lines in opened)
    return report, [(path, lines) for path, (_, lines) in zip(recordings, opened, strict=True)]


Messages = Iterator[tuple[int, RecordedMessage]]
"""Messages with the number of the recording that each is from."""


def _open(
    stack: ExitStack, progress: Progress, path: Path
) -> tuple[Iterator[RecordedMessage], RecordingReport]:
    report = RecordingReport()
    try:
        task = progress.add_task(path.name, total=path.stat().st_size)
        on_progress = partial(_advance, progress, task)
        lines = stack.enter_context(open_recording(path, on_progress))
        messages = read_messages(lines, format_of(path.name), report)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(
            "cannot read the recording", field="recordings", value=str(path), rule=str(error)
        ) from error
    return messages, report


def _advance(progress: Progress, task: int, completed: int) -> None:
    from rich.progress import TaskID

    progress.update(TaskID(task), completed=completed)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _open_journal(stack: ExitStack, directory: Path, clock: Clock) -> Journal:
    from bookrunner.storage.journal import Journal
    from bookrunner.storage.journal_settings import JournalSettings

    # Old recordings are imported to stay: age says nothing about them.
    return stack.enter_context(Journal(directory, JournalSettings(retention_age_s=None), clock))


def _journaled(messages: Messages, names: list[str], journal: Journal, report: ImportReport) -> Messages:
    """Append every message before it is passed on, as the live road does."""
    for origin, message in messages:
        source = journal.register_source(f"import/{names[origin]}", message.url)
        payload = message.payload
        if message.kind is RecordedKind.REST:
            url = urlsplit(message.url)
            payload = b"%b\n%b" % (url._replace(scheme="", netloc="").geturl().encode(), payload)
        if len(payload) > MAX_PAYLOAD_BYTES:
            report.oversized += 1
        else:
            _append(journal, RECORD_KINDS[message.kind], source, message.ts_recv_ns, payload)
        yield origin, message


def _append(journal: Journal, kind: int, source: int, ts_recv_ns: int, payload: bytes) -> None:
    try:
        journal.append(kind, source, ts_recv_ns, payload)
    except JournalFullError:
        journal.sync()  # an import has no loop to keep free: wait for the disk
        journal.append(kind, source, ts_recv_ns, payload)


def _record(
    messages: Messages,
    catalogue: Path | str,
    venue: str | None,
    clock: Clock,
    report: ImportReport,
) -> None:
    """Play the messages through the connectors' own code and write the columns as files at once."""
    from bookrunner.app.venue_feeds import detect_venue, make_feed
    from bookrunner.core.enums import BookState
    from bookrunner.services.market_columns import MarketColumns
    from bookrunner.services.recorder_settings import RecorderSettings
    from bookrunner.services.recording_player import RecordingPlayer
    from bookrunner.storage.catalogue import catalogue_at
    from bookrunner.storage.parquet import ParquetEncoder

    target, encoder = catalogue_at(str(catalogue)), ParquetEncoder()

    def write(batch: ColumnBatch) -> None:
        file = encoder.encode(batch)
        columns.recycle(batch)
        target.put(file.path, file.data)
        report.files += 1
        report.rows += file.rows

    columns = MarketColumns(write, RecorderSettings(), clock)
    player = RecordingPlayer(make_feed, detect_venue, venue=venue, sinks=[columns])
    for origin, message in messages:
        player.take(message, origin)
    columns.flush_all()
    books = list(player.books)
    report.books = len(books)
    report.books_not_live = sum(live.state is not BookState.LIVE for live in books)
    report.gaps = sum(live.gaps for live in books)
    report.unrecorded = sum(live.messages for live in books) - columns.updates
    report.unread = player.unread
    report.unrecognised = player.unrecognised
