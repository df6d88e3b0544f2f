"""Rows that wait to become a file: int64 columns filled by a kernel, or rows appended from events."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from bookrunner.engine.ports.catalogue import DEPTH_COLUMNS, Column, Gap
from bookrunner.kernels import columns as kernels

FIRST_CAPACITY = 4_096
"""Rows that a depth table has room for at first; it doubles as it fills."""


class DepthTable:
    """Levels of depth messages or snapshots in preallocated columns."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns = _new_columns(FIRST_CAPACITY)
        self.gaps: list[Gap] = []

    def grow(self, rows: int) -> None:
        """Make room for ``rows`` more."""
        capacity = max(self.rows + rows, 2 * self.columns.shape[1])
        grown = _new_columns(capacity)
        grown[:, : self.rows] = self.columns[:, : self.rows]
        self.columns = grown

    def append_levels(
        self,
        header: dict[int, int],
        sides: tuple[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]], ...],
        flags: int,
    ) -> None:
        """Append the levels of a whole book.

        Args:
            header: value by column index, the same for all rows.
            sides: side, ticks and lots of each.
            flags: ``kernels.columns.FLAG_*``; the last row gets FLAG_LAST too.
        """
        count = sum(len(ticks) for _, ticks, _ in sides)
        end = self.rows + max(count, 1)
        if end > self.columns.shape[1]:
            self.grow(max(count, 1))
        columns, row = self.columns, self.rows
        columns[:, row:end] = 0
        for column, value in header.items():
            columns[column, row:end] = value
        columns[kernels.FLAGS, row:end] = flags if count else flags | kernels.FLAG_EMPTY
        columns[kernels.FLAGS, end - 1] |= kernels.FLAG_LAST
        for side, ticks, lots in sides:
            columns[kernels.SIDE, row : row + len(ticks)] = side
            columns[kernels.PRICE_TICKS, row : row + len(ticks)] = ticks
            columns[kernels.QUANTITY_LOTS, row : row + len(ticks)] = lots
            row += len(ticks)
        self.rows = end

    def take(self) -> tuple[int, dict[str, Column], int, int, tuple[Gap, ...]]:
        """Return rows, columns, first and last id and gaps, and begin anew."""
        rows, taken, gaps = self.rows, self.columns, tuple(self.gaps)
        self.rows, self.gaps = 0, []
        self.columns = _new_columns(FIRST_CAPACITY)
        named: dict[str, Column] = {name: taken[i, :rows] for i, name in enumerate(DEPTH_COLUMNS)}
        first_id = int(taken[kernels.FIRST_ID, 0]) if rows else 0
        last_id = int(taken[kernels.FINAL_ID, rows - 1]) if rows else 0
        return rows, named, first_id, last_id, gaps


def _new_columns(capacity: int) -> npt.NDArray[np.int64]:
    return np.empty((kernels.DEPTH_WIDTH, capacity), np.int64)


class EventTable:
    """Rows of integers and texts, appended one event at a time.

    Args:
        integers: names of the integer columns.
        texts: names of the text columns.
        id_column: the integer column that is the venue's id, or ``""``.
    """

    def __init__(self, integers: tuple[str, ...], texts: tuple[str, ...] = (), id_column: str = "") -> None:
        self._integer_names = integers
        self._text_names = texts
        self._id_column = id_column
        self.integers = array("q")
        self.texts: list[list[str]] = [[] for _ in texts]
        self.rows = 0
        self.gaps: list[Gap] = []

    def append(self, integers: tuple[int, ...], *texts: str) -> None:
        """Append one row; values in the order of the names."""
        self.integers.extend(integers)
        for column, text in zip(self.texts, texts, strict=True):
            column.append(text)
        self.rows += 1

    def take(self) -> tuple[int, dict[str, Column], int, int, tuple[Gap, ...]]:
        """Return rows, columns, first and last id and gaps, and begin anew."""
        width = len(self._integer_names)
        table = np.frombuffer(self.integers, np.int64).reshape(self.rows, width)
        named: dict[str, Column] = {name: table[:, i] for i, name in enumerate(self._integer_names)}
        named.update(zip(self._text_names, self.texts, strict=True))
        first_id = last_id = 0
        if self._id_column and self.rows:
            ids = named[self._id_column]
            first_id, last_id = int(ids[0]), int(ids[-1])
        rows, gaps = self.rows, tuple(self.gaps)
        self.integers = array("q")
        self.texts = [[] for _ in self._text_names]
        self.rows, self.gaps = 0, []
        return rows, named, first_id, last_id, gaps


def trade_table() -> EventTable:
    """Trades; ``trade_id`` is the venue's text, which need not be a number."""
    return EventTable(
        (
            "event_number",
            "ts_event_ns",
            "ts_match_ns",
            "ts_recv_ns",
            "side",
            "price_ticks",
            "quantity_lots",
            "flags",
        ),
        ("trade_id",),
    )


def quote_table() -> EventTable:
    """Best bids and asks as the venue states them."""
    return EventTable(
        (
            "event_number",
            "ts_event_ns",
            "ts_match_ns",
            "ts_recv_ns",
            "update_id",
            "bid_ticks",
            "bid_lots",
            "ask_ticks",
            "ask_lots",
        ),
        id_column="update_id",
    )


def bar_table() -> EventTable:
    """Candles; prices and volumes are exact decimal text, as the venue sent them."""
    return EventTable(
        ("event_number", "ts_event_ns", "ts_recv_ns", "ts_open_ns", "ts_close_ns", "closed"),
        ("interval", "open", "high", "low", "close", "volume", "turnover"),
    )


def mark_price_table() -> EventTable:
    """Mark prices and funding; decimal text."""
    return EventTable(
        ("event_number", "ts_event_ns", "ts_recv_ns", "ts_next_funding_ns"),
        ("mark_price", "index_price", "funding_rate"),
    )
