"""What venues say about their limits in HTTP headers and bodies.

Sources: Binance general information (``Retry-After``, ``X-MBX-USED-WEIGHT-1M``, error -1003), Bybit v5 rate
limit (``X-Bapi-Limit-Status``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from bookrunner.core.clock import NANOSECONDS_PER_SECOND

MAX_RETRY_AFTER_S = 3 * 24 * 3600.0
"""The longest ban that a venue documents; a header that says more is not believed."""

_SECONDS = re.compile(r"\s*(\d{1,9})(?:\.\d{1,9})?\s*", re.ASCII)
_COUNT = re.compile(r"\s*(\d{1,9})\s*", re.ASCII)
_BANNED_UNTIL_MS = re.compile(rb"banned until (\d{13})\b")
_MILLISECONDS_PER_SECOND = 1_000


def retry_after_s(headers: Mapping[str, str], now_ns: int) -> float | None:
    """Return how long ``Retry-After`` asks to wait, as seconds or an HTTP date; ``None`` if it is neither.

    Args:
        headers: with case-insensitive or lower-case keys.
        now_ns: wall time, which a date is compared with.
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _until_s(moment.timestamp(), now_ns)


def banned_for_s(body: bytes, now_ns: int) -> float | None:
    """Return how long the body says that this address is banned (``IP banned until <ms>``), else ``None``."""
    match = _BANNED_UNTIL_MS.search(body)
    return None if match is None else _until_s(int(match[1]) / _MILLISECONDS_PER_SECOND, now_ns)


def remaining_weight(headers: Mapping[str, str], usable_weight: int) -> int | None:
    """Return how much the venue says may still be used in its window, else ``None``.

    Args:
        headers: with case-insensitive or lower-case keys.
        usable_weight: what we allow ourselves of the venue's window.
    """
    used = _count(headers, "x-mbx-used-weight-1m")
    if used is not None:
        return usable_weight - used
    return _count(headers, "x-bapi-limit-status")


def _count(headers: Mapping[str, str], name: str) -> int | None:
    match = _COUNT.fullmatch(headers.get(name, ""))
    return int(match[1]) if match else None


def _until_s(moment_s: float, now_ns: int) -> float:
    return min(max(0.0, moment_s - now_ns / NANOSECONDS_PER_SECOND), MAX_RETRY_AFTER_S)
