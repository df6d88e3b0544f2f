"""``bookrunner run`` as a user starts it: a process of its own, in a folder of its own, on free ports."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import pytest

COMMAND = (sys.executable, "-m", "bookrunner.app.cli")
PATIENCE_S = 90.0
"""A bound for hanging tests; nothing waits for it."""
STOP_S = 5.0
"""Promised from a signal to the exit."""
FIRST_LIVE = "first_book_live"
Process = subprocess.Popen[bytes]


class BookFigures(msgspec.Struct, forbid_unknown_fields=True):
    venue: str
    symbol: str
    state: str
    messages: int
    updates: int
    gaps: int
    resyncs: int
    last_update_id: int
    best_bid: str
    best_ask: str


class JournalFigures(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    records: int
    bytes: int


class RecordedFigures(msgspec.Struct, forbid_unknown_fields=True):
    rows: int
    files: int


class Summary(msgspec.Struct, forbid_unknown_fields=True):
    duration_s: float
    rss_mb: float
    books: list[BookFigures]
    latency_us: dict[str, dict[str, float]]
    journal: JournalFigures
    recorded: RecordedFigures


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return this environment with free ports and these settings."""
    chosen = {"FANOUT__PORT": "0", "API__PORT": "0", "LOGGING__FORMAT": "json"} | settings
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BOOKRUNNER_")}
    return kept | {f"BOOKRUNNER_{name}": value for name, value in chosen.items()}


@contextmanager
def started(
    folder: Path,
    *arguments: str,
    settings: dict[str, str] | None = None,
    variables: dict[str, str] | None = None,
    stderr: int = subprocess.PIPE,
) -> Iterator[Process]:
    """Start the demo; end it whatever happens."""
    with subprocess.Popen(
        [*COMMAND, "run", "--demo", *arguments],
        cwd=folder,
        env=environment(settings or {}) | (variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(folder: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run to the end; return exit code, standard output and standard error."""
    with started(folder, *arguments, settings=settings) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out.decode(), err.decode()


def read_until(stream: IO[bytes] | None, mark: str) -> str:
    """Read lines until one holds ``mark``."""
    assert stream is not None
    text = ""
    for line in stream:
        text += line.decode()
        if mark in text:
            return text
    raise AssertionError(f"ended without {mark!r}: {text}")


def left(process: Process, limit_s: float = STOP_S) -> tuple[int, str]:
    """Return exit code and standard error of a process that must end within the limit."""
    _, err = process.communicate(timeout=limit_s)
    return process.returncode, err.decode()


def test_the_main_job(tmp_path: Path) -> None:
    code, out, err = ended(tmp_path, "--for", "3s", "--summary", "json")
    assert code == 0, err
    assert out.endswith("\n")
    assert out.count("\n") == 1
    summary = msgspec.json.decode(out, type=Summary)
    assert len(summary.books) >= 9
    assert {book.venue for book in summary.books} == {"binance_usdm", "bybit_linear"}
    for book in summary.books:
        assert (book.state, book.gaps, book.resyncs) == ("live", 0, 0), book
        assert 0 < book.updates <= book.messages
        assert book.last_update_id > 0
        assert all(re.fullmatch(r"\d+(\.\d+)?", price) for price in (book.best_bid, book.best_ask))
        assert float(book.best_bid) < float(book.best_ask)
    assert {"receive_to_parsed", "parsed_to_book", "receive_to_book"} <= summary.latency_us.keys()
    for hop in summary.latency_us.values():
        assert {"p50", "p95", "p99", "p99.9"} <= hop.keys()
    assert summary.latency_us["receive_to_book"]["count"] > 0
    assert summary.duration_s >= 3
    assert summary.rss_mb > 0
    frames = sum(book.messages for book in summary.books)
    assert summary.journal.records > frames
    written = sum(file.stat().st_size for file in (tmp_path / summary.journal.path).iterdir())
    assert written >= summary.journal.bytes > 0
    files = list((tmp_path / "var/demo/catalogue").rglob("*.parquet"))
    assert len(files) == summary.recorded.files > 0
    assert summary.recorded.rows > frames
    assert all(msgspec.json.decode(line)["level"] for line in err.splitlines() if line.startswith("{"))
    assert "Traceback" not in err
    code, out, _ = _journal(tmp_path / summary.journal.path)
    assert code == 0
    assert msgspec.json.decode(out)["records"] == summary.journal.records


def _journal(path: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, "journal", "stat", str(path), "--json"],
        env=environment({}), capture_output=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_time_with_everything_flushed(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "--summary", "json") as process:
        read_until(process.stderr, FIRST_LIVE)
        process.send_signal(number)
        out, err = process.communicate(timeout=STOP_S)
        assert process.returncode == 0, err.decode()
    summary = msgspec.json.decode(out)
    assert summary["recorded"]["files"] > 0
    assert (tmp_path / summary["journal"]["path"] / "journal.clean").exists()
    assert b"Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_compiles_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, variables={"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}) as process:
        read_until(process.stderr, "compiling kernel")
        process.send_signal(number)
        code, err = left(process)
    assert code == 0
    assert "Traceback" not in err


def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        read_until(process.stderr, FIRST_LIVE)
        (simulator,) = _children(process.pid)
        os.kill(simulator, signal.SIGSTOP)  # so that the orderly stop has to wait for it
        try:
            process.send_signal(signal.SIGTERM)
            read_until(process.stderr, "stopping")
            process.send_signal(signal.SIGINT)
            assert process.wait(STOP_S) == 128 + signal.SIGINT
        finally:
            os.kill(simulator, signal.SIGKILL)


@pytest.mark.parametrize("face", ["FANOUT", "API"])
def test_an_occupied_port_is_said_readably(tmp_path: Path, face: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = ended(tmp_path, "--for", "20s", **{f"{face}__PORT": str(port)})
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if "service_start_failed" in line]
    said = msgspec.json.decode(line)
    assert said["code"] == "CONFIGURATION_INVALID"
    assert f"{face.lower()}.port" in said["error"]
    assert "in use" in said["error"]
    assert "Traceback" not in err


def test_the_simulators_own_port_being_occupied_is_said_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = ended(tmp_path, "--for", "20s", SIMULATOR__PORT=str(port))
    assert code == 1
    assert err.splitlines()[-1].startswith("error: VENUE_START_FAILED")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FANOUT__PORT": "x"}, "error: fanout.port = x: must be"),
        ({"BOOK__LEVELS": "0"}, "error: book.levels = 0: must be"),
        ({"NO__SUCH": "1"}, "error: BOOKRUNNER_NO__SUCH"),
    ],
)
def test_a_wrong_setting_is_refused_with_field_value_and_rule(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    code, out, err = ended(tmp_path, "--for", "20s", **settings)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_second_process_on_the_same_journal_is_told_who_holds_it(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        read_until(first.stderr, FIRST_LIVE)
        code, out, err = ended(tmp_path, "--for", "20s")
        assert (code, out) == (1, "")
        said = err.splitlines()[-1]
        assert said.startswith("error: JOURNAL_LOCKED")
        assert str(first.pid) in said
        assert "Traceback" not in err
        first.send_signal(signal.SIGTERM)
        assert left(first)[0] == 0


def test_a_dead_simulator_ends_it_loudly(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        read_until(process.stderr, FIRST_LIVE)
        for child in _children(process.pid):
            os.kill(child, signal.SIGKILL)
        code, err = left(process, 2 * STOP_S)
    assert code == 1
    assert "the venue simulator has failed" in err
    assert "Traceback" not in err


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_a_reader_of_standard_error_that_goes_away_stops_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "--for", "2s", "--summary", "json") as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        process.stderr = None
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    assert msgspec.json.decode(out, type=Summary).books[0].updates > 0


def test_a_terminal_gets_the_table_and_the_log_gets_a_file(tmp_path: Path) -> None:
    terminal, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    try:
        with started(tmp_path, "--for", "2s", stderr=inner) as process:
            os.close(inner)
            screen = _read_all(terminal)
            assert process.wait(PATIENCE_S) == 0
    finally:
        os.close(terminal)
    assert "BTCUSDT" in screen
    assert "market data  ws://127.0.0.1:" in screen
    assert FIRST_LIVE not in screen
    assert FIRST_LIVE in (tmp_path / "var/bookrunner.log").read_text()


def test_on_a_terminal_the_reason_of_a_failure_is_on_the_screen(tmp_path: Path) -> None:
    terminal, inner = pty.openpty()
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            with started(tmp_path, "--for", "20s", settings={"FANOUT__PORT": port}, stderr=inner) as process:
                os.close(inner)
                screen = _read_all(terminal)
                assert process.wait(PATIENCE_S) == 1
    finally:
        os.close(terminal)
    assert screen.splitlines()[-1].startswith("error: fanout: cannot listen")


def _read_all(terminal: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # the other side is closed
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)
