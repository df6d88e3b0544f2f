"""What a terminal shows, and where the log goes meanwhile."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from book_frames import live_usdm, new_book
from bookrunner.app.live_table import LiveTable, book_line, table_lines
from bookrunner.app.log_file import LogFile

METRICS: dict[str, Any] = {
    "uptime_s": 61.4,
    "rates": {"messages_per_s": 1234.5, "updates_per_s": 1200.0, "trades_per_s": 7.0},
    "process": {"rss_mb": 231.7, "cpu_percent": 12.3},
    "latency_us": {
        "receive_to_book": {"count": 5, "p50": 9.1, "p95": 20.0, "p99": 1_030.25, "p99.9": 2_000.0},
        "book_to_sent": {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "p99.9": 0.0},
    },
}


def test_a_row_shows_both_bests_exactly_and_the_state() -> None:
    live, _ = live_usdm()
    assert book_line(live).split() == [
        "binance_usdm", "BTCUSDT", "live", "1", "100", "101", "2", "99.50", "1", "0",
    ]  # fmt: skip


def test_a_book_without_levels_or_not_live_shows_dashes() -> None:
    empty, _ = new_book()
    assert book_line(empty).split()[2:] == ["syncing", "-", "-", "-", "-", "-", "0", "0"]
    stale, _ = live_usdm()
    stale.on_disconnected("lost", 5)
    assert book_line(stale).split()[2:8] == ["stale", "1", "100", "101", "2", "-"]


def test_the_picture_has_books_rates_latencies_and_where_to_connect() -> None:
    live, _ = live_usdm()
    lines = table_lines([live, live], METRICS, ["market data  ws://here"], colour=False)
    text = "\n".join(lines)
    assert lines[0] == (
        "bookrunner  up 61 s   1,234 messages/s   1,200 updates/s   7 trades/s   232 MB   12 % of a core"
    )
    assert text.count("BTCUSDT") == 2
    assert lines[-1] == "market data  ws://here"
    assert "receive to book" in text
    assert "1,030.2" in text
    assert "book to sent" not in text  # nothing was sent yet
    assert "\x1b" not in text


def test_columns_stand_under_their_headings() -> None:
    live, _ = live_usdm()
    _, _, heading, row, *_ = table_lines([live], METRICS, [], colour=False)
    assert len(row) == len(heading)
    for name, value in (("spread bps", "99.50"), (" ask", " 101"), ("gaps", "0")):
        assert re.search(rf"{value}\b", row[: heading.index(name) + len(name)])
        assert row[: heading.index(name) + len(name)].endswith(value)


@pytest.mark.parametrize("rows", [6, 200])
def test_drawing_is_in_place_and_never_taller_or_wider_than_the_terminal(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", str(rows))
    monkeypatch.setenv("COLUMNS", "40")
    live, _ = live_usdm()
    out = io.StringIO()
    table = LiveTable(out)
    table.draw([live] * 50, METRICS, ["end"])
    first = out.getvalue()
    assert first.count("\n") == min(rows - 1, len(table_lines([live] * 50, METRICS, ["end"], colour=True)))
    assert first.startswith("\x1b[?7l\x1b[2J\x1b[H")  # no wrapping, and then again
    assert first.endswith("\x1b[?7h")
    table.draw([live], METRICS, ["end"])
    assert "\x1b[2J" not in out.getvalue()[len(first) :]


def test_the_log_is_moved_aside_once_full_and_bounded_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "app.log"
    log = LogFile(path, limit_bytes=100)
    for number in range(50):
        log.write(f"line {number:02} é\n")  # 11 bytes
        log.flush()
    assert path.stat().st_size <= 100
    old = path.with_name("app.log.1")
    assert old.stat().st_size <= 100
    lines = (old.read_text() + path.read_text()).splitlines()
    assert lines == [f"line {number:02} é" for number in range(50 - len(lines), 50)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["app.log", "app.log.1"]


def test_the_log_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    LogFile(path, limit_bytes=10).write("12345\n")
    again = LogFile(path, limit_bytes=10)
    again.write("x" * 50)
    again.flush()
    assert path.read_text() == "x" * 50  # a line of its own is never cut
    assert path.with_name("app.log.1").read_text() == "12345\n"
    assert not again.isatty()
