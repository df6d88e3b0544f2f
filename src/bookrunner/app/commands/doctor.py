"""``bookrunner doctor``: is this machine fit to run it, with these settings, now?

Exit code 1 when something is wrong; a warning is not.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from bookrunner.app.settings import Settings
from bookrunner.app.settings_sources import load_settings
from bookrunner.core.clock import (
    NANOSECONDS_PER_MILLISECOND,
    NANOSECONDS_PER_SECOND,
    Clock,
    SystemClock,
)
from bookrunner.core.errors import ConfigurationError

PYTHON_MINIMUM = (3, 11)
CORES_ADVISED = 2
MEMORY_ADVISED_BYTES = 10**9
"""The demo keeps within 300 MB; the rest is for the machine."""
OPEN_FILES_ADVISED = 4_096
"""One for each client of the fan-out, and then some."""
FSYNC_TRIALS = 20
FSYNC_ADVISED_MS = 50.0
CLOCK_TRIAL_NS = 20 * NANOSECONDS_PER_MILLISECOND
CLOCK_DRIFT_ADVISED = 0.01
"""Wall and monotonic time may differ by this part over a trial; more means that something steps the clock."""
CLOCK_EARLIEST_NS = 1_767_225_600 * NANOSECONDS_PER_SECOND
"""2026-01-01: a wall clock before it has not been set."""
VENUE_OFFSET_ADVISED_MS = 500.0
VENUE_TIMEOUT_S = 5.0
VENUE_TIMES = {
    "binance_usdm": ("/fapi/v1/time", "serverTime"),
    "binance_spot": ("/api/v3/time", "serverTime"),
    "bybit_linear": ("/v5/market/time", "time"),
    "bybit_spot": ("/v5/market/time", "time"),
}
"""Where venues tell their time, and the key of the answer that holds it in ms."""


class Outcome(StrEnum):
    """Of one check."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """What one check found."""

    check: str
    outcome: Outcome
    found: str
    advice: str = ""
    """What to do; empty when all is well."""


def doctor(config: Path | None, *, as_json: bool, only_table: bool = False, ask_venues: bool = False) -> int:
    """Examine the machine and the settings, print the findings, and return the exit code."""
    if only_table:
        from bookrunner.app.settings_table import settings_table

        sys.stdout.write(settings_table() + "\n")
        return 0
    findings = list(examine(config, SystemClock(), ask_venues=ask_venues))
    healthy = all(finding.outcome is not Outcome.WRONG for finding in findings)
    if as_json:
        document = {"healthy": healthy, "findings": findings}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        _print_table(findings)
    return 0 if healthy else 1


def examine(config: Path | None, clock: Clock, *, ask_venues: bool = False) -> Iterator[Finding]:
    """Make every check in turn; those that need settings are left out when the settings are wrong."""
    yield _python()
    yield _cores()
    yield _memory()
    yield _open_files()
    yield _kernel_cache()
    yield from _clock(clock)
    settings, finding = _settings(config)
    yield finding
    if settings is None:
        return
    yield from _ports(settings)
    for name, path in (
        ("journal", settings.journal.path if settings.journal.enabled else None),
        ("catalogue", settings.recorder.path if settings.recorder.enabled else None),
    ):
        if path is not None:
            yield from _disk(name, Path(path), settings.journal.low_disk_bytes, clock)
    if ask_venues:
        yield from _venue_clocks(settings, clock)


def _judged(
    check: str, found: str, *, fine: bool, advice: str, otherwise: Outcome = Outcome.WARNING
) -> Finding:
    return Finding(check, Outcome.OK, found) if fine else Finding(check, otherwise, found, advice)


def _python() -> Finding:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    minimum = ".".join(map(str, PYTHON_MINIMUM))
    fine = sys.version_info >= PYTHON_MINIMUM
    return _judged("python", found, fine=fine, advice=f"{minimum} or later", otherwise=Outcome.WRONG)


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _judged(
        "cores",
        str(cores),
        fine=cores >= CORES_ADVISED,
        advice="one for the loop and one for the disk's threads",
    )


def _memory() -> Finding:
    import psutil

    available = psutil.virtual_memory().available
    return _judged(
        "memory",
        f"{available / 10**9:.1f} GB available",
        fine=available >= MEMORY_ADVISED_BYTES,
        advice=f"{MEMORY_ADVISED_BYTES / 10**9:.0f} GB or more",
    )


def _open_files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _judged(
        "open_files",
        f"{soft} (hard limit {hard})",
        fine=soft >= OPEN_FILES_ADVISED or soft == resource.RLIM_INFINITY,
        advice=f"ulimit -n {OPEN_FILES_ADVISED}, for that many clients",
    )


def _kernel_cache() -> Finding:
    """Compiled kernels are kept in a folder; without one every start compiles for seconds."""
    try:
        from bookrunner.kernels.jit import CACHE_FOLDER
    except ImportError as error:
        return Finding("kernel_cache", Outcome.WRONG, str(error), "reinstall: the kernels cannot be imported")
    return _judged(
        "kernel_cache",
        CACHE_FOLDER or "no writable place",
        fine=CACHE_FOLDER is not None,
        advice="set NUMBA_CACHE_DIR to a writable folder, or every start compiles",
    )


def _clock(clock: Clock) -> Iterator[Finding]:
    wall_ns, start_ns = clock.wall_ns(), clock.monotonic_ns()
    readings = 0
    while (elapsed_ns := clock.monotonic_ns() - start_ns) < CLOCK_TRIAL_NS:
        readings += 1
    drift = abs(clock.wall_ns() - wall_ns - elapsed_ns) / elapsed_ns
    yield _judged(
        "clock_steadiness",
        f"wall and monotonic time differ by {100 * drift:.3f} %; one reading {elapsed_ns / readings:.0f} ns",
        fine=drift <= CLOCK_DRIFT_ADVISED,
        advice="something steps the clock: slew it instead (chrony, or ntpd -x)",
    )
    yield _judged(
        "clock_date",
        f"{wall_ns // NANOSECONDS_PER_SECOND} s since 1970",
        fine=wall_ns >= CLOCK_EARLIEST_NS,
        advice="set the clock: receive times would be nonsense",
        otherwise=Outcome.WRONG,
    )


def _settings(config: Path | None) -> tuple[Settings | None, Finding]:
    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        problems: Any = error.fields["problems"]
        found = "; ".join(f"{problem.field} = {problem.value}" for problem in problems)
        advice = "; ".join(f"{problem.field} must be {problem.rule}" for problem in problems)
        return None, Finding("settings", Outcome.WRONG, found, advice)
    venues = ", ".join(
        f"{name} ({len(venue.symbols)} symbols)" for name, venue in settings.venues.enabled().items()
    )
    return settings, Finding("settings", Outcome.OK, venues)


def _ports(settings: Settings) -> Iterator[Finding]:
    for name, face in (("fanout", settings.fanout), ("api", settings.api)):
        if not face.enabled:
            continue
        found, fine = f"{face.host}:{face.port} free", True
        try:
            family = socket.AF_INET6 if ":" in face.host else socket.AF_INET
            socket.create_server((face.host, face.port), family=family).close()
        except OSError as error:
            found, fine = f"{face.host}:{face.port}: {error.strerror}", False
        advice = f"stop what listens there, or set {name}.port"
        yield _judged(f"port_{name}", found, fine=fine, advice=advice, otherwise=Outcome.WRONG)


def _disk(name: str, folder: Path, low_disk_bytes: int, clock: Clock) -> Iterator[Finding]:
    existing = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    yield _judged(
        f"disk_{name}",
        f"{free / 10**9:.1f} GB free at {folder}",
        fine=free > low_disk_bytes,
        advice=f"more than journal.low_disk_bytes ({low_disk_bytes / 10**9:.1f} GB)",
        otherwise=Outcome.WRONG,
    )
    try:
        worst_ms = max(_fsync_ms(existing, clock))
    except OSError as error:
        advice = f"make {folder} writable, or choose another folder"
        yield Finding(f"fsync_{name}", Outcome.WRONG, f"cannot write: {error.strerror}", advice)
        return
    yield _judged(
        f"fsync_{name}",
        f"{worst_ms:.2f} ms, the slowest of {FSYNC_TRIALS}",
        fine=worst_ms <= FSYNC_ADVISED_MS,
        advice=f"a disk that is done within {FSYNC_ADVISED_MS:.0f} ms, or a longer journal.fsync_interval_ms",
    )


def _fsync_ms(folder: Path, clock: Clock) -> list[float]:
    from tempfile import TemporaryFile

    times_ms = []
    with TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(FSYNC_TRIALS):
            file.write(bytes(4_096))
            start_ns = clock.monotonic_ns()
            os.fsync(file.fileno())
            times_ms.append((clock.monotonic_ns() - start_ns) / NANOSECONDS_PER_MILLISECOND)
    return times_ms


def _venue_clocks(settings: Settings, clock: Clock) -> Iterator[Finding]:
    import httpx

    for name, venue in settings.venues.enabled().items():
        path, key = VENUE_TIMES[name]
        try:
            start_ns = clock.wall_ns()
            answer = httpx.get(venue.rest_url + path, timeout=VENUE_TIMEOUT_S).raise_for_status().json()
            middle_ms = (start_ns + clock.wall_ns()) / 2 / NANOSECONDS_PER_MILLISECOND
            offset_ms = float(answer[key]) - middle_ms
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            advice = f"check the network and venues.{name}.rest_url"
            yield Finding(f"venue_{name}", Outcome.WARNING, type(error).__name__, advice)
            continue
        yield _judged(
            f"venue_{name}",
            f"its clock is {offset_ms:+.0f} ms from ours",
            fine=abs(offset_ms) <= VENUE_OFFSET_ADVISED_MS,
            advice="synchronise the clock (NTP)",
        )


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    style = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.WRONG: "red"}
    table = Table("check", "", "found", "advice", box=None, pad_edge=False)
    for finding in findings:
        outcome = f"[{style[finding.outcome]}]{finding.outcome}[/]"
        table.add_row(finding.check, outcome, escape(finding.found), escape(finding.advice))
    Console().print(table)
