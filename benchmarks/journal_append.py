"""The journal's cost to the loop: ns per append of a 740-byte frame, writer thread and fsyncs running.

    python benchmarks/journal_append.py [--quick] [--json]

Two loads: appends back to back (throughput), and paced at 5,000/s (the live road's rate), where every append
is timed by itself. Also: from append to written (safe against ``kill -9``) and to durable (an fsync).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bookrunner.core.clock import SystemClock
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_reader import read_journal
from bookrunner.storage.journal_settings import JournalSettings

FRAME = b'{"stream":"btcusdt@depth@0ms","data":{' + b"x" * 702
SETTINGS = JournalSettings(compress=False, disk_low_bytes=0, disk_minimum_bytes=0)
RATE = 5_000
"""Appends a second of the paced load: what the live road is measured at."""
ROUNDS = 3


def percentiles_us(samples_ns: list[int]) -> dict[str, float]:
    ordered = sorted(samples_ns)
    picked = {
        f"p{p:g}": ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in (50, 95, 99, 99.9)
    }
    return {name: round(value / 1_000, 2) for name, value in picked.items()}


def back_to_back(directory: Path, count: int) -> dict[str, Any]:
    """Append as fast as it goes, then wait for the disk."""
    append_ns, drain_ms = [], []
    with Journal(directory, SETTINGS, SystemClock()) as journal:
        append = journal.append
        for _ in range(ROUNDS):
            start_ns = time.perf_counter_ns()
            for i in range(count):
                append(RecordKind.FRAME, 1, i, FRAME)
            append_ns.append((time.perf_counter_ns() - start_ns) / count)
            start_ns = time.perf_counter_ns()
            journal.sync()
            drain_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    assert sum(1 for _ in read_journal(directory)) == count * ROUNDS
    return {
        "records": count,
        "append_ns": round(statistics.median(append_ns)),
        "then_durable_ms": round(statistics.median(drain_ms), 1),
    }


def paced(directory: Path, seconds: int) -> dict[str, Any]:
    """Append at a fixed rate, each timed by itself."""
    samples: list[int] = []
    with Journal(directory, SETTINGS, SystemClock()) as journal:
        append, clock = journal.append, time.perf_counter_ns
        begin_ns = clock()
        for i in range(RATE * seconds):
            due_ns = begin_ns + i * 1_000_000_000 // RATE
            ahead_ns = due_ns - clock()
            if ahead_ns > 50_000:
                time.sleep((ahead_ns - 50_000) / 1e9)
            start_ns = clock()
            append(RecordKind.FRAME, 1, i, FRAME)
            samples.append(clock() - start_ns)
        counters = journal.counters()
    return {
        "rate": RATE,
        "append_us": percentiles_us(samples),
        "commits": counters.commits,
        "fsyncs": counters.syncs,
    }


async def durability(directory: Path, count: int) -> dict[str, Any]:
    """Append one record at a time and wait until it is safe."""
    written: list[int] = []
    durable: list[int] = []
    with Journal(directory, SETTINGS, SystemClock()) as journal:
        for samples, wait in ((written, journal.wait_written), (durable, journal.wait_durable)):
            for i in range(count):
                start_ns = time.perf_counter_ns()
                journal.append(RecordKind.FRAME, 1, i, FRAME)
                await wait()
                samples.append(time.perf_counter_ns() - start_ns)
    return {"written_us": percentiles_us(written), "durable_us": percentiles_us(durable)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer records")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "frame_bytes": len(FRAME),
            "commit_interval_ms": SETTINGS.commit_interval_ms,
            "fsync_interval_ms": SETTINGS.fsync_interval_ms,
            "back_to_back": back_to_back(Path(folder, "a"), 20_000),
            "paced": paced(Path(folder, "b"), 1 if options.quick else 4),
            "one_at_a_time": asyncio.run(durability(Path(folder, "c"), 200 if options.quick else 1_000)),
        }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"  {name:20} {value}")


if __name__ == "__main__":
    main()
