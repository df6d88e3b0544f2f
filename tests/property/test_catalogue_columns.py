"""The column kernel against its naive twin."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.kernels import columns as kernels
from bookrunner.kernels import layout
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid
from naive.columns import depth_rows

levels = st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 2**62)), max_size=40)
numbers = st.integers(0, 2**62)
BOOK = OrderBook("X", layout.RULE_BYBIT, Grid(0, 1, 0, 1))


@given(
    numbers, st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers), levels, levels, st.booleans()
)
def test_rows_equal_the_naive_twin(
    event_number: int,
    times: tuple[int, int, int],
    ids: tuple[int, int],
    bids: list[tuple[int, int]],
    asks: list[tuple[int, int]],
    snapshot: bool,  # noqa: FBT001 - Hypothesis passes by position
) -> None:
    words = BOOK.words
    words[layout.TS_EVENT], words[layout.TS_MATCH] = times[:2]
    words[layout.FIRST_ID], words[layout.FINAL_ID] = ids
    words[layout.MESSAGE_KIND] = layout.KIND_SNAPSHOT if snapshot else layout.KIND_DELTA
    words[layout.MESSAGE_BIDS], words[layout.MESSAGE_ASKS] = len(bids), len(asks)
    for i, (tick, lots) in enumerate(bids):
        words[layout.BID_TICKS_AT + i], words[layout.BID_LOTS_AT + i] = tick, lots
    for i, (tick, lots) in enumerate(asks):
        words[layout.ASK_TICKS_AT + i], words[layout.ASK_LOTS_AT + i] = tick, lots
    expected = depth_rows(event_number, times, ids, bids, asks, snapshot=snapshot)
    first = 3
    columns = np.full((kernels.DEPTH_WIDTH, first + len(expected)), -7, np.int64)
    # One row too few: nothing is written.
    assert kernels.append_depth(words, event_number, times[2], columns[:, :-1].copy(), first) == -1
    assert kernels.append_depth(words, event_number, times[2], columns, first) == columns.shape[1]
    assert [tuple(row) for row in columns[:, first:].T.tolist()] == expected
    assert (columns[:, :first] == -7).all()
