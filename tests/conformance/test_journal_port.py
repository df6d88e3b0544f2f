"""What every raw journal promises; the in-memory twin and the real one run the same checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bookrunner.core.clock import ManualClock
from bookrunner.engine.ports.raw_journal import RawJournal, RecordKind
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.wire.journal_record import JournalRecord
from naive.journal import MemoryJournal

ReadBack = Callable[[], list[JournalRecord]]


@pytest.fixture(params=["memory", "files"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RawJournal, ReadBack]]:
    if request.param == "memory":
        memory = MemoryJournal()
        yield memory, lambda: memory.records
        return
    with Journal(tmp_path, JournalSettings(disk_low_bytes=0, disk_minimum_bytes=0), ManualClock()) as journal:

        def read_back() -> list[JournalRecord]:
            journal.sync()
            return list(read_journal(tmp_path))

        yield journal, read_back


def test_sequences_are_gapless_from_one(subject: tuple[RawJournal, ReadBack]) -> None:
    journal, read_back = subject
    appended = [journal.append(RecordKind.FRAME, 1, 10 + i, b"x" * i) for i in range(50)]
    assert appended == list(range(1, 51))
    assert [record.sequence for record in read_back()] == appended


def test_what_is_read_is_what_was_appended(subject: tuple[RawJournal, ReadBack]) -> None:
    journal, read_back = subject
    payloads = [b"", b"\x00\xff\n", b'{"stream":"btcusdt@depth"}', bytes(range(256)) * 40]
    for i, payload in enumerate(payloads):
        journal.append(RecordKind.REST_RESPONSE, 7, -5 + i, payload)
    records = read_back()
    assert [record.payload for record in records] == payloads
    assert {(record.kind, record.source) for record in records} == {(RecordKind.REST_RESPONSE, 7)}
    assert [record.ts_recv_ns for record in records] == [-5, -4, -3, -2]


def test_a_source_is_named_once_and_before_its_records(subject: tuple[RawJournal, ReadBack]) -> None:
    journal, read_back = subject
    first = journal.register_source("binance_usdm/public/0", "ws://127.0.0.1/stream")
    second = journal.register_source("bybit_linear/public/0", "ws://127.0.0.1/v5")
    assert journal.register_source("binance_usdm/public/0", "ws://127.0.0.1/stream") == first
    assert first != second
    names = {
        record.source: json.loads(record.payload)
        for record in read_back()
        if record.kind == RecordKind.SOURCE
    }
    assert names[first] == {"source": first, "name": "binance_usdm/public/0", "url": "ws://127.0.0.1/stream"}
    assert names[second]["name"] == "bybit_linear/public/0"


def test_the_durable_watermark_covers_what_was_read_back(subject: tuple[RawJournal, ReadBack]) -> None:
    journal, read_back = subject
    last = [journal.append(RecordKind.FRAME, 1, 0, b"frame") for _ in range(10)][-1]
    read_back()
    assert journal.durable_sequence == last
