"""Depth messages into columns: one call a message, no Python object per level."""

from __future__ import annotations

from bookrunner.kernels import layout
from bookrunner.kernels.jit import kernel

EVENT_NUMBER = 0
TS_EVENT = 1
TS_MATCH = 2
TS_RECV = 3
FIRST_ID = 4
FINAL_ID = 5
SIDE = 6  # 1 bid, -1 ask, 0 in the one row of a message without levels
PRICE_TICKS = 7
QUANTITY_LOTS = 8  # 0: the level is gone
FLAGS = 9
DEPTH_WIDTH = 10

FLAG_SNAPSHOT = 1  # the message (or table row) replaces the book
FLAG_LAST = 2  # last row of its message or snapshot
FLAG_EMPTY = 4  # the message had no level: only its ids count
FLAG_PARTIAL = 8  # a snapshot of the best levels only


@kernel
def append_depth(words, event_number, ts_recv_ns, columns, row):
    """Copy the message in a book's scratch into rows of ``columns``, one row a level, bids first.

    Args:
        words: the book, see ``layout``.
        event_number: goes into every row.
        ts_recv_ns: likewise.
        columns: int64, ``DEPTH_WIDTH`` rows (one a column) of as many words as there is room.
        row: the first free row.

    Returns:
        The row after the message; -1, with nothing written, when there is not enough room.
    """
    bids = words[layout.MESSAGE_BIDS]
    asks = words[layout.MESSAGE_ASKS]
    end = row + max(bids + asks, 1)
    if end > columns.shape[1]:
        return -1
    flags = FLAG_SNAPSHOT if words[layout.MESSAGE_KIND] == layout.KIND_SNAPSHOT else 0
    columns[EVENT_NUMBER, row:end] = event_number
    columns[TS_EVENT, row:end] = words[layout.TS_EVENT]
    columns[TS_MATCH, row:end] = words[layout.TS_MATCH]
    columns[TS_RECV, row:end] = ts_recv_ns
    columns[FIRST_ID, row:end] = words[layout.FIRST_ID]
    columns[FINAL_ID, row:end] = words[layout.FINAL_ID]
    columns[FLAGS, row:end] = flags
    columns[FLAGS, end - 1] = flags | FLAG_LAST
    if bids + asks == 0:
        columns[SIDE, row] = 0
        columns[PRICE_TICKS, row] = 0
        columns[QUANTITY_LOTS, row] = 0
        columns[FLAGS, row] = flags | FLAG_LAST | FLAG_EMPTY
        return end
    first_ask = row + bids
    columns[SIDE, row:first_ask] = 1
    columns[SIDE, first_ask:end] = -1
    for i in range(bids):
        columns[PRICE_TICKS, row + i] = words[layout.BID_TICKS_AT + i]
        columns[QUANTITY_LOTS, row + i] = words[layout.BID_LOTS_AT + i]
    for i in range(asks):
        columns[PRICE_TICKS, first_ask + i] = words[layout.ASK_TICKS_AT + i]
        columns[QUANTITY_LOTS, first_ask + i] = words[layout.ASK_LOTS_AT + i]
    return end
