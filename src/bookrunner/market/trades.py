"""Trades out of the scanner's rows."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import numpy.typing as npt

from bookrunner.core.enums import Side
from bookrunner.market.events import Trade

_WORD = 2**64


def trades_of_rows(rows: npt.NDArray[np.int64], count: int) -> list[Trade]:
    """Return the first ``count`` rows of a trade scanner (``kernels.layout.TRADE_*``) as trades."""
    return [
        Trade(
            trade_id=str(UUID(int=(high % _WORD << 64) | low % _WORD)) if high else str(low),
            price_ticks=ticks,
            quantity_lots=lots,
            side=Side.BUY if side > 0 else Side.SELL,
            ts_event_ns=ts_event,
            ts_match_ns=ts_match,
            flags=flags,
        )
        for ts_event, ts_match, low, high, ticks, lots, side, flags in rows[:count].tolist()
    ]
