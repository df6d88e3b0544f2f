"""Ways to spoil one message: payload in, spoilt payload out.

A payload is Binance's ``data`` object, or a Bybit frame after its topic; both end in ``}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bookrunner.venues.simulated.faults import FaultKind

ID_ERROR = 7
"""How far a broken id is off."""
UNKNOWN_SYMBOL = b"NOSUCHUSDT"

_PREVIOUS_ID = re.compile(rb'"pu":(\d+)')
_FIRST_ID = re.compile(rb'"U":(\d+)')
_FINAL_ID = re.compile(rb'"u":(\d+)')
_SYMBOL = re.compile(rb'"s":"[^"]+"')
_LEVELS = re.compile(rb'"b":\[')


def _moved(pattern: re.Pattern[bytes], payload: bytes, by: int) -> bytes:
    def move(match: re.Match[bytes]) -> bytes:
        field = match[0].partition(b":")[0]
        return b"%b:%d" % (field, int(match[1]) + by)

    return pattern.sub(move, payload, count=1)


def broken_previous_id(payload: bytes) -> bytes:
    """Break what ties the message to the one before: ``pu``, else ``U``, else ``u``."""
    if _PREVIOUS_ID.search(payload):
        return _moved(_PREVIOUS_ID, payload, -ID_ERROR)
    pattern = _FIRST_ID if _FIRST_ID.search(payload) else _FINAL_ID
    return _moved(pattern, payload, ID_ERROR)


def broken_final_id(payload: bytes) -> bytes:
    """Break ``u``."""
    return _moved(_FINAL_ID, payload, ID_ERROR)


def with_bids(payload: bytes, levels: bytes) -> bytes:
    """Put JSON levels in front of the bids."""

    def insert(match: re.Match[bytes]) -> bytes:
        following = payload[match.end() : match.end() + 1]
        return match[0] + levels + (b"" if following == b"]" else b",")

    return _LEVELS.sub(insert, payload, count=1)


def off_tick(payload: bytes, price: str) -> bytes:
    """Set and remove a level at ``price`` in front of the bids."""
    text = price.encode()
    return with_bids(payload, b'["%b","1"],["%b","0"]' % (text, text))


def oversized(payload: bytes, size: int) -> bytes:
    """Pad with blanks, which JSON allows."""
    return payload[:-1] + b" " * max(0, size - len(payload)) + payload[-1:]


def _invalid_utf8(payload: bytes) -> bytes:
    middle = len(payload) // 2
    return payload[:middle] + b"\xff\xfe" + payload[middle:]


SPOILERS: dict[FaultKind, Callable[[bytes], bytes]] = {
    FaultKind.BROKEN_PREVIOUS_ID: broken_previous_id,
    FaultKind.BROKEN_FINAL_ID: broken_final_id,
    FaultKind.BAD_JSON: lambda payload: payload[: len(payload) // 2],
    FaultKind.INVALID_UTF8: _invalid_utf8,
    FaultKind.WRONG_TYPE: lambda payload: _FINAL_ID.sub(b'"u":"many"', payload, count=1),
    FaultKind.NEGATIVE_NUMBER: lambda payload: with_bids(payload, b'["-1.0","1"]'),
    FaultKind.NOT_A_NUMBER: lambda payload: with_bids(payload, b'["NaN","1"]'),
    FaultKind.UNKNOWN_SYMBOL: lambda payload: _SYMBOL.sub(b'"s":"%b"' % UNKNOWN_SYMBOL, payload, count=1),
}
"""Kinds whose message is replaced by a spoilt one, whatever the market's state."""
