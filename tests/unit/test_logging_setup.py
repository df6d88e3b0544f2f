import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bookrunner.app.logging_setup import REPEAT_KEYS, RepeatLimit, configure_logging
from bookrunner.app.settings import LogFormat, LoggingSettings, LogLevel
from bookrunner.core.clock import NANOSECONDS_PER_SECOND, ManualClock


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


class Log:
    """Configured logging with its lines."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.stream = io.StringIO()
        settings.setdefault("format", LogFormat.JSON)
        configure_logging(LoggingSettings(**settings), stream=self.stream, clock=self.clock)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_a_json_line_has_time_level_module_event_and_fields() -> None:
    log = Log()
    structlog.get_logger("bookrunner.services.feeds").warning("gap_found", symbol="BTCUSDT", expected=5)
    assert log.lines == [
        {
            "timestamp": "2023-11-14T22:13:20.000Z",
            "level": "warning",
            "logger": "bookrunner.services.feeds",
            "event": "gap_found",
            "symbol": "BTCUSDT",
            "expected": 5,
        }
    ]


def test_levels_go_by_the_most_specific_module() -> None:
    log = Log(
        level=LogLevel.WARNING,
        modules={"bookrunner.venues": LogLevel.DEBUG, "bookrunner.venues.bybit": LogLevel.ERROR},
    )
    for name in ("bookrunner.venues.binance", "bookrunner.venues.bybit.feed", "bookrunner.venuesque"):
        logger = structlog.get_logger(name)
        logger.debug("debug_event")
        logger.error("error_event")
    assert [(line["logger"], line["event"]) for line in log.lines] == [
        ("bookrunner.venues.binance", "debug_event"),
        ("bookrunner.venues.binance", "error_event"),
        ("bookrunner.venues.bybit.feed", "error_event"),
        ("bookrunner.venuesque", "error_event"),
    ]


def test_secrets_do_not_reach_the_log() -> None:
    log = Log()
    structlog.get_logger("x").info(
        "connecting",
        api_key="hunter2",
        url="wss://me:hunter2@host/ws?listenKey=hunter2&streams=a",
        headers={"Authorization": "hunter2", "nested": [{"secret": "hunter2"}]},
    )
    assert "hunter2" not in log.stream.getvalue()
    assert "streams=a" in log.stream.getvalue()


def test_a_huge_value_is_cut_and_bytes_are_shown_as_text() -> None:
    log = Log()
    structlog.get_logger("x").info("malformed", frame=b"\xff" * 10_000_000, deep=[[[[[[1]]]]]])
    assert len(log.stream.getvalue()) < 3_000
    assert log.lines[0]["frame"].startswith("b'\\xff")


def test_an_exception_is_logged_with_its_traceback() -> None:
    log = Log()
    try:
        int("bug")
    except ValueError:
        structlog.get_logger("x").exception("died")
    assert log.lines[0]["level"] == "error"
    assert "ValueError: invalid literal" in log.lines[0]["exception"]


def test_a_flood_is_bounded_and_counted() -> None:
    log = Log(repeats_per_minute=3)
    flooded, other = structlog.get_logger("bookrunner.venues"), structlog.get_logger("bookrunner.fanout")
    for number in range(1_000):
        flooded.error("malformed_frame", number=number)
    other.error("malformed_frame")
    flooded.error("another_event")
    flooded.critical("malformed_frame")
    assert len(log.lines) == 3 + 3
    log.clock.advance(60 * NANOSECONDS_PER_SECOND)
    flooded.error("malformed_frame")
    assert log.lines[-1]["suppressed"] == 997
    flooded.error("malformed_frame")
    assert "suppressed" not in log.lines[-1]


def test_the_memory_of_repeats_is_bounded() -> None:
    limit = RepeatLimit(1, ManualClock())

    class Logger:
        name = "x"

    for number in range(3 * REPEAT_KEYS):
        limit(Logger(), "info", {"event": f"event_{number}"})
    assert len(limit._windows) == REPEAT_KEYS


def test_other_libraries_log_the_same_way() -> None:
    log = Log()
    logging.getLogger("uvicorn.error").warning("port %d taken", 3000)
    logging.getLogger("uvicorn.error").info("chatter")
    assert [(line["logger"], line["event"]) for line in log.lines] == [("uvicorn.error", "port 3000 taken")]


def test_the_console_format_is_text() -> None:
    log = Log(format=LogFormat.CONSOLE)
    structlog.get_logger("x").info("hello", answer=42)
    assert "hello" in log.stream.getvalue()
    assert "answer=42" in log.stream.getvalue()
