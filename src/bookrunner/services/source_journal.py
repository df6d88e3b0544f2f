"""One source's way into the journal."""

from __future__ import annotations

import structlog

from bookrunner.core.clock import Clock
from bookrunner.core.errors import DiskLowError, JournalFullError
from bookrunner.engine.ports.raw_journal import RawJournal, RecordKind

log = structlog.get_logger(__name__)

REFUSALS = (JournalFullError, DiskLowError)
"""The journal has no room now and may have later; any other ``StorageError`` means that it is broken."""


class SourceJournal:
    """Appends one source's records; what the journal refuses is counted and logged here.

    The source is registered with its first record, so that a full journal stops records, not the start.

    Args:
        journal: ``None`` in tests and tools: every record is then accepted and forgotten.
        name, url: what the source is called.
        clock: stamps the registration's own records and those without a time.
    """

    def __init__(self, journal: RawJournal | None, name: str, url: str, clock: Clock) -> None:
        self.refused = 0
        """Records for which there was no room."""
        self._journal = journal
        self._name = name
        self._url = url
        self._wall_ns = clock.wall_ns
        self._source = 0

    def append(self, kind: RecordKind, payload: bytes, ts_ns: int = 0) -> None:
        """Append a record, stamped now when no time is given.

        Raises:
            JournalFullError, DiskLowError: no room (``REFUSALS``); counted and logged.
            StorageError: the journal is broken.
        """
        journal = self._journal
        if journal is None:
            return
        try:
            if not self._source:
                self._source = journal.register_source(self._name, self._url)
            journal.append(kind, self._source, ts_ns or self._wall_ns(), payload)
        except REFUSALS as error:
            self.refused += 1
            log.error("journal_refused", source=self._name, code=error.code, error=str(error))  # noqa: TRY400 - a full disk needs no traceback
            raise
