"""Port: normalised market data at rest, as columns in files by venue, symbol and day."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bookrunner.market.instrument import Instrument

Ints = npt.NDArray[np.int64]
Column = tuple[Ints, ...] | list[str]
"""Integers in pieces, one after the other, or texts."""


class TableKind(StrEnum):
    """What the rows of a file are. Values are part of file names."""

    DEPTH = "depth"
    """One row a level of a depth update."""
    SNAPSHOTS = "snapshots"
    """One row a level of a whole book, taken when a book becomes live and now and then."""
    TRADES = "trades"
    QUOTES = "quotes"
    BARS = "bars"
    MARK_PRICES = "mark_prices"


DEPTH_COLUMNS = (
    "event_number",
    "ts_event_ns",
    "ts_match_ns",
    "ts_recv_ns",
    "first_id",
    "final_id",
    "side",
    "price_ticks",
    "quantity_lots",
    "flags",
)
"""Columns of DEPTH and SNAPSHOTS, in the order of ``kernels.columns``; so are their flags."""


class Gap(msgspec.Struct, frozen=True):
    """Where a chain of ids is broken: levels, or trades, between the two are unknown."""

    after_id: int
    """Last update, or trade, before the gap; 0 when there was none."""
    before_id: int
    """Update that the book was live again with, 0 while it is not; or first trade after the gap."""
    reason: str
    """As in ``BookStateChanged``, ``trades_missing``, or ``lost`` where recorded rows could not be kept."""
    ts_recv_ns: int
    """When it was noticed."""


class ColumnBatch(msgspec.Struct, frozen=True):
    """Rows of one kind, symbol and UTC day, ready to be written as one file."""

    kind: TableKind
    instrument: Instrument
    """As it was for all rows: its grid gives ticks and lots their meaning."""
    date: str
    """UTC day of the receive times, ``YYYY-MM-DD``."""
    rows: int
    columns: dict[str, Column]
    """Equally long; ``event_number`` is among them and increases."""
    first_id: int
    """Venue's id of the first row; 0 where rows have none, or one that is no number."""
    last_id: int
    gaps: tuple[Gap, ...] = ()
    blocks: tuple[Ints, ...] = ()
    """Memory under the columns, to be used again by whoever emitted the batch once nobody reads them."""


class CatalogueFile(msgspec.Struct, frozen=True):
    """An encoded batch."""

    path: str
    """Relative to the catalogue: ``venue=…/symbol=…/date=…/<kind>-<first>-<last>-<hash>.parquet``."""
    data: bytes
    rows: int


class CatalogueEncoder(Protocol):
    """Turns columns into a file. Called in a worker thread."""

    def prepare(self) -> None:
        """Load what encoding needs, which takes long, before the first batch is waiting for it."""
        ...

    def encode(self, batch: ColumnBatch) -> CatalogueFile:
        """Return the file; the same batch gives the same path.

        Raises:
            CatalogueError: the columns cannot be written.
        """
        ...


class CatalogueTarget(Protocol):
    """Where files go. Called in a worker thread; may block."""

    def put(self, path: str, data: bytes) -> None:
        """Store a whole file at ``path``, replacing one of the same name; a reader never sees a part.

        Raises:
            CatalogueError: it is not stored; trying again may help.
        """
        ...


class CatalogueSpool(Protocol):
    """Files that wait for a target that refuses them. Called in a worker thread."""

    def put(self, path: str, data: bytes) -> None:
        """Keep a file.

        Raises:
            CatalogueError: the spool's bound is reached, or its disk refuses.
        """
        ...

    def waiting(self) -> list[str]:
        """Return the paths kept, oldest first."""
        ...

    def read(self, path: str) -> bytes:
        """Return a kept file.

        Raises:
            CatalogueError: it cannot be read.
        """
        ...

    def remove(self, path: str) -> None:
        """Forget a file that has reached the target."""
        ...
