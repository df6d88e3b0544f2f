"""A newer snapshot for a book that is live and stays live.

A snapshot covers so many levels a side; when the market has moved near the edge of that range, deeper levels
are missing. The refresh builds a second book from a new snapshot and the updates since it was asked for; it
takes the live one's place once both stand at the same id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bookrunner.kernels import layout
from bookrunner.market.book import OrderBook
from bookrunner.market.book_rule import BookRule
from bookrunner.market.frame_buffer import FrameBuffer
from bookrunner.market.instrument import Grid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.int64]


class BookRefresh:
    """The book in the making.

    Args:
        symbol, rule, grid, strict: as of the live book.
    """

    def __init__(self, symbol: str, rule: BookRule, grid: Grid, *, strict: bool) -> None:
        self.grid = grid
        self.failed = False
        """The snapshot did not bridge; another attempt may."""
        self._apply = rule.apply_frame
        self._book = OrderBook(symbol, rule.rule, grid, strict=strict)
        self._waiting: FrameBuffer | None = FrameBuffer()

    def on_frame(self, frame: bytes, ts_recv_ns: int) -> None:
        """Take an update that the live book has applied."""
        if self._waiting is not None:
            self._waiting.append(frame, ts_recv_ns)
            self.failed = self._waiting.dropped > 0
        else:
            self._take(frame)

    def on_snapshot(self, last_update_id: int, arrays: tuple[Words, Words, Words, Words]) -> None:
        """Take the snapshot, already on ``grid``, and the updates that waited for it."""
        waiting, self._waiting = self._waiting, None
        self._book.load_snapshot(last_update_id, *arrays)
        for frame, _ in waiting.take() if waiting is not None else ():
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        verdict = self._apply(frame, self._book.words)
        while verdict == layout.FULL:
            self._book.grow()
            verdict = self._apply(frame, self._book.words)
        self.failed = self.failed or verdict not in {layout.APPLIED, layout.OLD}

    def result(self, last_update_id: int) -> OrderBook | None:
        """Return the book when it is live at this id, ready to take the other's place."""
        if self.failed or self._book.view[layout.SYNC] != layout.SYNC_LIVE:
            return None
        return self._book if self._book.last_update_id == last_update_id else None
