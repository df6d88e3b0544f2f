"""What every venue's typed decoders share: strict JSON into structs, with errors that say what was wrong."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_MICROSECOND, NANOSECONDS_PER_MILLISECOND
from bookrunner.core.errors import MalformedFrameError
from bookrunner.core.fixed import parse_decimal
from bookrunner.market.levels import malformed_decimal

T = TypeVar("T")

MAX_ID = 2**63 - 1
"""Largest id that fits a word."""
FIRST_MICROSECOND = 10**14
"""Venue times below this are milliseconds (until the year 5138), the others microseconds (from 1973 on)."""
MAX_MILLISECONDS = 9_223_372_036_854
MAX_MICROSECONDS = 9_223_372_036_854_775
"""Largest venue times that fit int64 nanoseconds (year 2262)."""

Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_MICROSECONDS)]
Levels = list[tuple[str, str]]


def decode_json(decoder: msgspec.json.Decoder[T], frame: bytes | msgspec.Raw) -> T:
    """Decode strictly.

    Raises:
        MalformedFrameError: ``reason`` is ``not_utf8``, ``not_json``, ``too_deep``, ``missing_field``,
            ``out_of_range`` or ``wrong_type``; ``detail`` names the place.
    """
    try:
        return decoder.decode(frame)
    except msgspec.ValidationError as error:
        raise malformed(_reason(str(error)), str(error)) from error
    except msgspec.DecodeError as error:
        raise malformed("not_json", str(error)) from error
    except UnicodeDecodeError as error:
        raise malformed("not_utf8", error.reason) from error
    except RecursionError as error:
        raise malformed("too_deep", "nested too deeply") from error


def malformed(reason: str, detail: str) -> MalformedFrameError:
    """Return the error of a frame that is not in the venue's format."""
    return MalformedFrameError("not in the venue's format", reason=reason, detail=detail)


def _reason(message: str) -> str:
    if "missing required field" in message:
        return "missing_field"
    if "` >= " in message or "` <= " in message:
        return "out_of_range"
    return "wrong_type"


def time_ns(venue_time: int) -> int:
    """Return nanoseconds of a venue's time in milliseconds or, by its size, microseconds.

    Raises:
        MalformedFrameError: milliseconds beyond int64 nanoseconds.
    """
    if venue_time >= FIRST_MICROSECOND:
        return venue_time * NANOSECONDS_PER_MICROSECOND
    if venue_time > MAX_MILLISECONDS:
        raise malformed("out_of_range", "a time beyond the year 2262")
    return venue_time * NANOSECONDS_PER_MILLISECOND


def checked_decimal(text: str, field: str, *, signed: bool = False) -> str:
    """Return ``text`` when it is a decimal.

    Raises:
        MalformedFrameError: it is not, or is negative and ``signed`` is not set.
    """
    try:
        parse_decimal(text.removeprefix("-") if signed else text)
    except ValueError as error:
        raise malformed_decimal(text, field) from error
    return text
