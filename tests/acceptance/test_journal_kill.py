"""``kill -9`` while recording, at seeded random moments: whatever was reported is there, the tail is clean.

The recorder is a real process that appends, and reports both watermarks after the fact on a pipe. A kill
takes the process, not the machine, so both watermarks must hold; bytes in the page cache survive it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bookrunner.core.clock import SystemClock
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.storage.segments import list_segments

KILLS = 20
LONGEST_RUN_REPORTS = 120
"""Moves of the watermark that the parent sees before it kills, at most."""

RECORDER = """
import os
import sys
import time
from pathlib import Path
from bookrunner.core.clock import SystemClock
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_settings import JournalSettings

settings = JournalSettings(
    commit_interval_ms=1, fsync_interval_ms=3, segment_bytes=200_000, disk_low_bytes=0, disk_minimum_bytes=0
)
journal = Journal(Path(sys.argv[1]), settings, SystemClock())
source = journal.register_source("recorder", "ws://127.0.0.1")
reported = 0
number = 0
while True:
    for _ in range(20):
        number += 1
        journal.append(RecordKind.FRAME, source, number, b"%d:" % number + b"x" * (number * 7919 % 900))
    written, durable = journal.written_sequence, journal.durable_sequence
    if written != reported:
        reported = written
        os.write(int(sys.argv[2]), b"%d %d\\n" % (written, durable))
    time.sleep(0.0002)  # the pace of the market, not a wait for anything
"""


def record_until_killed(directory: Path, reports: int) -> tuple[int, int]:
    """Run the recorder, read ``reports`` reports, kill it; return the last watermarks reported."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(directory), str(writer)],
        pass_fds=[writer],
        stdout=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        try:
            lines = [pipe.readline() for _ in range(reports)]
        finally:
            os.kill(process.pid, signal.SIGKILL)
        # Reports already in the pipe when the process died were made too; the last may be cut short.
        lines += pipe.readlines()
        process.wait()
    assert b"" not in lines[:reports], "the recorder died by itself"
    whole = [line for line in lines if line.endswith(b"\n")]
    written, durable = map(int, whole[-1].split())
    return written, durable


@pytest.mark.parametrize("seed", [20240808])
def test_every_record_reported_is_there_after_kill_9(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    settings = JournalSettings(disk_low_bytes=0, disk_minimum_bytes=0)
    for _ in range(KILLS):
        before = sum(1 for _ in read_journal(tmp_path))
        written, durable = record_until_killed(tmp_path, chance.randrange(1, LONGEST_RUN_REPORTS))
        with Journal(tmp_path, settings, SystemClock()) as journal:
            assert before < written
            assert durable <= written <= journal.last_sequence
            assert journal.durable_sequence == journal.last_sequence
        sequences = []
        for record in read_journal(tmp_path):
            sequences.append(record.sequence)
            if record.kind == 2:
                assert record.payload.startswith(b"%d:" % record.ts_recv_ns)
                assert len(record.payload) == len(b"%d:" % record.ts_recv_ns) + record.ts_recv_ns * 7919 % 900
        assert sequences == list(range(1, len(sequences) + 1))
        assert len(sequences) >= written
        with Journal(tmp_path, settings, SystemClock()) as journal:
            assert journal.recovery.torn_tails == ()
    assert len(list_segments(tmp_path)) > 1
    assert list(tmp_path.glob("*.zst")), "kills should also have met compression"
