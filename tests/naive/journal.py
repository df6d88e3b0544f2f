"""The plainest thing that keeps the raw journal's contract: a list."""

from __future__ import annotations

import json

from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.wire.journal_record import JournalRecord


class MemoryJournal:
    def __init__(self) -> None:
        self.records: list[JournalRecord] = []
        self._sources: dict[tuple[str, str], int] = {}

    def register_source(self, name: str, url: str) -> int:
        if (name, url) not in self._sources:
            source = len(self._sources) + 1
            self._sources[name, url] = source
            payload = json.dumps({"source": source, "name": name, "url": url}, separators=(",", ":"))
            self.append(RecordKind.SOURCE, source, 0, payload.encode())
        return self._sources[name, url]

    def append(self, kind: int, source: int, ts_recv_ns: int, payload: bytes) -> int:
        sequence = len(self.records) + 1
        self.records.append(JournalRecord(sequence, ts_recv_ns, source, kind, 0, payload))
        return sequence

    @property
    def durable_sequence(self) -> int:
        return len(self.records)
