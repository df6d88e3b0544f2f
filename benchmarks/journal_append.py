"""The journal's cost to the loop: ns per append of a 740-byte frame, writer thread and fsyncs running.

Two loads: appends back to back (throughput), and paced at 5,000/s (the live road's rate), where every append
is timed by itself. Also: from append to durable, through ``wait_durable``.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from bookrunner.core.clock import SystemClock
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.journal_settings import JournalSettings

FRAME = b'{"stream":"btcusdt@depth@0ms","data":{' + b"x" * 702
SETTINGS = JournalSettings(compress=False, disk_low_bytes=0, disk_minimum_bytes=0)


def percentiles(samples: list[int]) -> str:
    ordered = sorted(samples)
    picked = {p: ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in (50, 95, 99, 99.9)}
    return "  ".join(f"p{p} {value / 1_000:.2f} us" for p, value in picked.items())


def back_to_back(directory: Path, count: int) -> None:
    with Journal(directory, SETTINGS, SystemClock()) as journal:
        append = journal.append
        for round_number in range(3):
            start_ns = time.perf_counter_ns()
            for i in range(count):
                append(RecordKind.FRAME, 1, i, FRAME)
            per_append_ns = (time.perf_counter_ns() - start_ns) / count
            start_ns = time.perf_counter_ns()
            journal.sync()
            drained_ms = (time.perf_counter_ns() - start_ns) / 1e6
            print(
                f"  back to back, round {round_number + 1}: {per_append_ns:.0f} ns an append, "
                f"then {drained_ms:.0f} ms until all {count:,} are durable"
            )
    assert sum(1 for _ in read_journal(directory)) == count * 3


def paced(directory: Path, rate: int, seconds: int) -> None:
    samples: list[int] = []
    with Journal(directory, SETTINGS, SystemClock()) as journal:
        append, clock = journal.append, time.perf_counter_ns
        begin_ns = clock()
        for i in range(rate * seconds):
            due_ns = begin_ns + i * 1_000_000_000 // rate
            ahead_ns = due_ns - clock()
            if ahead_ns > 50_000:
                time.sleep((ahead_ns - 50_000) / 1e9)
            start_ns = clock()
            append(RecordKind.FRAME, 1, i, FRAME)
            samples.append(clock() - start_ns)
        counters = journal.counters()
    print(f"  paced at {rate:,}/s: {percentiles(samples)}")
    print(
        f"    {counters.commits:,} commits, {counters.syncs:,} fsyncs, buffer {counters.buffered_bytes:,} B"
    )


async def durable(directory: Path, count: int) -> None:
    to_disk: list[int] = []
    to_system: list[int] = []
    with Journal(directory, SETTINGS, SystemClock()) as journal:
        for samples, wait in ((to_system, journal.wait_written), (to_disk, journal.wait_durable)):
            for i in range(count):
                start_ns = time.perf_counter_ns()
                journal.append(RecordKind.FRAME, 1, i, FRAME)
                await wait()
                samples.append(time.perf_counter_ns() - start_ns)
    print(f"  append to written (kill -9): {percentiles(to_system)}")
    print(f"  append to durable (fsync):   {percentiles(to_disk)}")


def main() -> None:
    quick = "--quick" in sys.argv
    print(
        f"journal append, {len(FRAME)}-byte frames, commit {SETTINGS.commit_interval_ms} ms, "
        f"fsync {SETTINGS.fsync_interval_ms} ms"
    )
    with tempfile.TemporaryDirectory() as folder:
        back_to_back(Path(folder, "a"), 20_000)
        paced(Path(folder, "b"), 5_000, 1 if quick else 4)
        asyncio.run(durable(Path(folder, "c"), 200 if quick else 1_000))


if __name__ == "__main__":
    main()
