"""Rows that wait to become a file: int64 columns filled by a kernel, or rows appended from events."""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np

from bookrunner.engine.ports.catalogue import DEPTH_COLUMNS, Column, Gap, Ints
from bookrunner.kernels import columns as kernels

BLOCK_ROWS = 2_048
"""Rows of depth that a block of memory holds; a larger message gets a larger block of its own.

Every table of every book has a block that is not full: small ones waste less.
"""
POOL_BLOCKS = 64
"""Free blocks kept for use again (160 kB each), so that the loop touches warm memory; more are let go."""


class Taken(NamedTuple):
    """What a table held."""

    rows: int
    columns: dict[str, Column]
    first_id: int
    last_id: int
    gaps: tuple[Gap, ...]
    blocks: tuple[Ints, ...] = ()


class BlockPool:
    """Blocks of depth columns that wait to be filled again."""

    def __init__(self) -> None:
        self._free: list[Ints] = []

    def take(self, rows: int) -> Ints:
        """Return a block with room for ``rows``, its contents undefined."""
        if rows <= BLOCK_ROWS and self._free:
            return self._free.pop()
        return np.empty((kernels.DEPTH_WIDTH, max(rows, BLOCK_ROWS)), np.int64)

    def give(self, blocks: tuple[Ints, ...]) -> None:
        """Take blocks back that nobody reads any more."""
        for block in blocks:
            if block.shape[1] == BLOCK_ROWS and len(self._free) < POOL_BLOCKS:
                self._free.append(block)


class DepthTable:
    """Levels of depth messages or snapshots, in blocks of columns.

    ``block`` is filled up to ``used``; a message never spans two blocks.
    """

    def __init__(self, pool: BlockPool) -> None:
        self.block: Ints = _NO_BLOCK
        self.used = 0
        self.gaps: list[Gap] = []
        self._pool = pool
        self._full: list[Ints] = []
        self._full_rows = 0

    @property
    def rows(self) -> int:
        """Rows in all blocks."""
        return self._full_rows + self.used

    def begin_block(self, rows: int) -> None:
        """Go on in another block that has room for ``rows``."""
        if self.used:
            self._full.append(self.block[:, : self.used])
            self._full_rows += self.used
        self.block = self._pool.take(rows)
        self.used = 0

    def append_levels(
        self, header: dict[int, int], sides: tuple[tuple[int, Ints, Ints], ...], flags: int
    ) -> None:
        """Append the levels of a whole book.

        Args:
            header: value by column index, the same for all rows.
            sides: side, ticks and lots of each.
            flags: ``kernels.columns.FLAG_*``; the last row gets FLAG_LAST too.
        """
        count = sum(len(ticks) for _, ticks, _ in sides)
        room = max(count, 1)
        if self.used + room > self.block.shape[1]:
            self.begin_block(room)
        rows = self.block[:, self.used : self.used + room]
        rows[:] = 0
        for column, value in header.items():
            rows[column] = value
        rows[kernels.FLAGS] = flags if count else flags | kernels.FLAG_EMPTY
        rows[kernels.FLAGS, -1] |= kernels.FLAG_LAST
        row = 0
        for side, ticks, lots in sides:
            end = row + len(ticks)
            rows[kernels.SIDE, row:end] = side
            rows[kernels.PRICE_TICKS, row:end] = ticks
            rows[kernels.QUANTITY_LOTS, row:end] = lots
            row = end
        self.used += room

    def take(self) -> Taken:
        """Return what is held, and begin anew."""
        rows = self.rows
        parts = [*self._full, self.block[:, : self.used]] if self.used else self._full
        columns: dict[str, Column] = {
            name: tuple(part[i] for part in parts) for i, name in enumerate(DEPTH_COLUMNS)
        }
        first_id = int(parts[0][kernels.FIRST_ID, 0]) if parts else 0
        last_id = int(parts[-1][kernels.FINAL_ID, -1]) if parts else 0
        blocks = tuple(part.base if part.base is not None else part for part in parts)
        taken = Taken(rows, columns, first_id, last_id, tuple(self.gaps), blocks)
        self.block, self.used, self._full, self._full_rows, self.gaps = _NO_BLOCK, 0, [], 0, []
        return taken


_NO_BLOCK: Ints = np.empty((kernels.DEPTH_WIDTH, 0), np.int64)


class EventTable:
    """Rows of integers and texts, appended one event at a time.

    Args:
        integers: names of the integer columns.
        texts: names of the text columns.
        id_column: the column that is the venue's id, or ``""``; a text that is no number counts as 0.
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

    def take(self) -> Taken:
        """Return what is held, and begin anew."""
        width = len(self._integer_names)
        table = np.frombuffer(self.integers, np.int64).reshape(self.rows, width)
        named: dict[str, Column] = {name: (table[:, i],) for i, name in enumerate(self._integer_names)}
        named.update(zip(self._text_names, self.texts, strict=True))
        first_id = last_id = 0
        if self._id_column and self.rows:
            if self._id_column in self._text_names:
                ids = self.texts[self._text_names.index(self._id_column)]
                first_id, last_id = numeric_id(ids[0]), numeric_id(ids[-1])
            else:
                numbers = table[:, self._integer_names.index(self._id_column)]
                first_id, last_id = int(numbers[0]), int(numbers[-1])
        taken = Taken(self.rows, named, first_id, last_id, tuple(self.gaps))
        self.integers = array("q")
        self.texts = [[] for _ in self._text_names]
        self.rows, self.gaps = 0, []
        return taken


def numeric_id(text: str) -> int:
    """Return a venue's id as a number; 0 where it is none (a UUID) or does not fit an int64."""
    return int(text) if len(text) <= _MAX_ID_DIGITS and text.isascii() and text.isdigit() else 0


_MAX_ID_DIGITS = 18
"""Decimal digits that always fit an int64."""


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
        id_column="trade_id",
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
