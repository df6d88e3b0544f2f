"""A journal on a temporary disk, and records to put into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bookrunner.core.clock import ManualClock
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_settings import JournalSettings

FRAME = RecordKind.FRAME


def open_journal(directory: Path, clock: ManualClock | None = None, **settings: Any) -> Journal:
    given = {"disk_low_bytes": 0, "disk_minimum_bytes": 0, "compress": False, **settings}
    return Journal(directory, JournalSettings(**given), clock or ManualClock())


def fill(journal: Journal, count: int, size: int = 100) -> None:
    for i in range(count):
        journal.append(FRAME, 1, i, (b"%d " % journal.last_sequence).ljust(size, b"."))
