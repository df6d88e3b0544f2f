"""Trades between the scanners' rows (``kernels.layout.TRADE_*``) and values."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from bookrunner.core.enums import Side
from bookrunner.kernels.layout import TRADE_WIDTH
from bookrunner.market.events import Trade

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_WORD = 2**64
_SIGN = 2**63


def trades_of_rows(rows: Ints, count: int) -> list[Trade]:
    """Return the first ``count`` rows of a ``(n, TRADE_WIDTH)`` or flat array as trades."""
    taken = rows.reshape(-1, TRADE_WIDTH)[:count].tolist()
    return [
        Trade(trade_id_of(low, high), ticks, lots, Side(side), ts_event, ts_match, flags)
        for ts_event, ts_match, low, high, ticks, lots, side, flags in taken
    ]


def trade_id_of(low: int, high: int) -> str:
    """Return the venue's text of an id: a number where ``high`` is 0, else a UUID of both halves."""
    if high == 0:
        return str(low)
    return str(UUID(int=(high % _WORD) * _WORD + low % _WORD))


def trade_id_words(trade_id: str) -> tuple[int, int]:
    """Return ``(low, high)`` as ``trade_id_of`` reads them, both signed 64-bit.

    Raises:
        ValueError: neither a number nor a UUID.
    """
    if trade_id.isascii() and trade_id.isdigit():
        number = int(trade_id)
        if number >= _SIGN:
            raise ValueError(f"a trade id beyond 64 bits: {trade_id[:40]!r}")
        return number, 0
    high, low = divmod(UUID(trade_id).int, _WORD)
    return _signed(low), _signed(high)


def _signed(word: int) -> int:
    return word - _WORD if word >= _SIGN else word
