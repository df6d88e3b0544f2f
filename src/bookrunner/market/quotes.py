"""Quotes out of the scanner's row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bookrunner.market.events import Quote


def quote_of_row(row: npt.NDArray[np.int64]) -> Quote:
    """Return the row of a quote scanner (``kernels.layout.QUOTE_*``) as a quote."""
    ts_event, ts_match, update_id, bid_ticks, bid_lots, ask_ticks, ask_lots = row.tolist()
    return Quote(
        update_id=update_id,
        bid_ticks=bid_ticks,
        bid_lots=bid_lots,
        ask_ticks=ask_ticks,
        ask_lots=ask_lots,
        ts_event_ns=ts_event,
        ts_match_ns=ts_match,
    )
