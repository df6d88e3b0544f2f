"""Reading the catalogue back: files of a book in order, and the book rebuilt from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import Ints, TableKind
from bookrunner.kernels.columns import FLAG_EMPTY, FLAG_PARTIAL, FLAG_SNAPSHOT
from bookrunner.storage.parquet import FileMetadata, Table, read_file


class RebuiltBook:
    """A book as the catalogue tells it."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        """Quantity by price, exact decimal text."""
        self.asks: dict[str, str] = {}
        self.last_id = 0


def files_of(root: Path, venue: str, symbol: str, kind: TableKind) -> list[Path]:
    """Return a book's files of one kind, in time order."""
    return sorted(root.glob(f"venue={venue}/symbol={symbol}/date=*/{kind}-*.parquet"))


def rebuild(root: Path, venue: str, symbol: str) -> RebuiltBook:
    """Rebuild the final book: the last whole snapshot, and every update after it.

    Raises:
        CatalogueError: a file is damaged, or there is no whole snapshot.
    """
    events = sorted(_events(root, venue, symbol), key=lambda event: event[0])
    starts = [i for i, (_, flags, *_) in enumerate(events) if _is_start(flags)]
    if not starts:
        raise CatalogueError("no whole snapshot of this book", venue=venue, symbol=symbol)
    book = RebuiltBook()
    for _, flags, last_id, metadata, sides, ticks, lots in events[starts[-1] :]:
        if flags & FLAG_PARTIAL:
            continue
        if flags & FLAG_SNAPSHOT:
            book.bids.clear()
            book.asks.clear()
        book.last_id = last_id
        if flags & FLAG_EMPTY:
            continue
        grid = metadata.instrument.grid
        for side, tick, lot in zip(sides.tolist(), ticks.tolist(), lots.tolist(), strict=True):
            levels = book.bids if side > 0 else book.asks
            if lot:
                levels[grid.price(tick)] = grid.quantity(lot)
            else:
                levels.pop(grid.price(tick), None)
    return book


def _is_start(flags: int) -> bool:
    return bool(flags & FLAG_SNAPSHOT) and not flags & FLAG_PARTIAL


Event = tuple[int, int, int, FileMetadata, Ints, Ints, Ints]
"""Event number, all its flags, last id, metadata, and the levels' sides, ticks and lots."""


def _events(root: Path, venue: str, symbol: str) -> Iterator[Event]:
    for kind in (TableKind.SNAPSHOTS, TableKind.DEPTH):
        for path in files_of(root, venue, symbol, kind):
            metadata, columns = read_file(path)
            numbers = _integers(columns, "event_number")
            edges = np.flatnonzero(np.diff(numbers)) + 1
            names = ("flags", "final_id", "side", "price_ticks", "quantity_lots")
            parts = [np.split(_integers(columns, name), edges) for name in names]
            for number, flags, ids, *levels in zip(np.split(numbers, edges), *parts, strict=True):
                yield int(number[0]), int(np.bitwise_or.reduce(flags)), int(ids[-1]), metadata, *levels


def _integers(columns: Table, name: str) -> Ints:
    column = columns[name]
    if isinstance(column, list):
        raise CatalogueError("column is not of integers", column=name)
    return column
