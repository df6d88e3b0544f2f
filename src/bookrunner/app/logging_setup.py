"""Logs: structlog to standard error, as JSON or for people; levels per module; bounded in rate and size."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from bookrunner.app.redaction import redacted, shortened
from bookrunner.app.settings import LogFormat, LoggingSettings, LogLevel
from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock, SystemClock

VALUE_CHARACTERS = 2_000
"""Longest value in a log line; a frame of 10 MB must not become a line of 10 MB."""
NESTING_DEPTH = 4
"""Deepest container that a log line shows."""
REPEAT_WINDOW_NS = 60 * NANOSECONDS_PER_SECOND
REPEAT_KEYS = 1_024
"""Distinct events whose repeats are counted; beyond, the oldest count is forgotten."""

LEVEL_NUMBERS: Mapping[str, int] = logging.getLevelNamesMapping()


class NamedLogger(structlog.WriteLogger):
    """Writes lines to a stream, and knows which module logs.

    A stream that breaks (a closed pipe, a full disk) loses lines; it does not stop the process that logs.
    """

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name
        self._write, self._flush = _lasting(self._write), _lasting(self._flush)


def _lasting(write: Callable[..., object]) -> Callable[..., Any]:
    def attempt(*arguments: object) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
            write(*arguments)

    return attempt


def configure_logging(
    settings: LoggingSettings, *, stream: TextIO | None = None, clock: Clock | None = None
) -> None:
    """Route structlog and the standard library's loggers to one stream.

    Args:
        settings: format, levels and the repeat limit.
        stream: where lines go; when not given, whatever is standard error at the time of each line.
            Standard output is for results.
        clock: stamps the lines.
    """
    clock = clock or SystemClock()
    levels = ModuleLevels(settings.level, settings.modules)
    structlog.configure(
        processors=[
            levels,
            RepeatLimit(settings.repeats_per_minute, clock),
            structlog.contextvars.merge_contextvars,
            _stamp(clock),
            structlog.processors.format_exc_info,
            redact,
            _renderer(settings.format, stream or sys.stderr),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels.lowest),
        logger_factory=lambda *names: NamedLogger(stream or sys.stderr, names[0] if names else "bookrunner"),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [StandardLibraryBridge()]
    root.setLevel(max(levels.lowest, logging.WARNING))


class ModuleLevels:
    """Drops what the most specific configured prefix of the logging module says is too detailed."""

    def __init__(self, level: LogLevel, modules: Mapping[str, LogLevel]) -> None:
        self._default = LEVEL_NUMBERS[level.upper()]
        self._prefixes = sorted(
            ((name, LEVEL_NUMBERS[value.upper()]) for name, value in modules.items()),
            key=lambda item: -len(item[0]),
        )
        self._known: dict[str, int] = {}
        self.lowest = min([self._default, *(number for _, number in self._prefixes)])

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        """Add ``level`` and ``logger``, or drop the event."""
        name = logger.name
        threshold = self._known.get(name)
        if threshold is None:
            threshold = self._known[name] = self._threshold(name)
        level = "error" if method == "exception" else method
        if LEVEL_NUMBERS[level.upper()] < threshold:
            raise structlog.DropEvent
        event["level"] = level
        event["logger"] = name
        return event

    def _threshold(self, name: str) -> int:
        for prefix, number in self._prefixes:
            if name == prefix or name.startswith(prefix + "."):
                return number
        return self._default


class RepeatLimit:
    """Lets so many lines of one event from one module through in a minute, and counts the rest.

    The first line of the next minute says how many were left out, as ``suppressed``. Critical events pass.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._limit = per_minute
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}
        self.suppressed = 0
        """Lines left out since the start."""

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        """Pass, or drop and count."""
        key = (logger.name, str(event.get("event")))
        now_ns = self._clock.monotonic_ns()
        window = self._windows.get(key)
        if window is None or now_ns - window.start_ns >= REPEAT_WINDOW_NS:
            if window is not None and window.suppressed:
                event["suppressed"] = window.suppressed
            elif window is None and len(self._windows) >= REPEAT_KEYS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[key] = _Window(now_ns)
        window.passed += 1
        if window.passed > self._limit and method != "critical":
            window.suppressed += 1
            self.suppressed += 1
            raise structlog.DropEvent
        return event


class _Window:
    __slots__ = ("passed", "start_ns", "suppressed")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.passed = 0
        self.suppressed = 0


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove secrets from every value, and shorten what is too long."""
    for name, value in event.items():
        event[name] = _clean(name, value, NESTING_DEPTH)
    return event


def _clean(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict) and depth:
        return {str(key): _clean(str(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and depth:
        return [_clean(name, item, depth - 1) for item in value]
    text = value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else str(value)
    return redacted(name, shortened(text, VALUE_CHARACTERS))


def _stamp(clock: Clock) -> Processor:
    def stamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
        moment = datetime.fromtimestamp(clock.wall_ns() / NANOSECONDS_PER_SECOND, UTC)
        event["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return event

    return stamp


def _renderer(style: LogFormat, stream: TextIO) -> Processor:
    if style is LogFormat.JSON:
        return structlog.processors.JSONRenderer(
            serializer=lambda event, **_: msgspec.json.encode(event, enc_hook=str).decode()
        )
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


class StandardLibraryBridge(logging.Handler):
    """Hands records of the standard library's loggers (uvicorn, asyncio, httpx) to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record under its own name."""
        structlog.get_logger(record.name).log(
            record.levelno, record.getMessage(), exc_info=record.exc_info or None
        )
