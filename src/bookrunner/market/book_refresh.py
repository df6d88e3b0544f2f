"""A newer snapshot for a book that is live and stays live.

A snapshot covers so many levels a side; when the market has moved near the edge of that range, deeper levels
are missing. The refresh builds a second book from a new snapshot and the updates since it was asked for; it
takes the live one's place once both stand at the same id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bookrunner.core.errors import MalformedFrameError
from bookrunner.kernels import layout
from bookrunner.market.book import BookFullError, OrderBook
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
        self.failure = ""
        """Why this attempt came to nothing; another may."""
        self._rule = rule
        self._book = OrderBook(symbol, rule.rule, grid, strict=strict)
        self._waiting: FrameBuffer | None = FrameBuffer()

    def on_frame(self, frame: bytes, ts_recv_ns: int) -> None:
        """Take an update that the live book has applied."""
        if self._waiting is None:
            self._take(frame)
            return
        self._waiting.append(frame, ts_recv_ns)
        if self._waiting.dropped:
            self.failure = "too many updates before the snapshot"

    def on_snapshot(self, last_update_id: int, arrays: tuple[Words, Words, Words, Words]) -> None:
        """Take the snapshot, already on ``grid``, and the updates that waited for it."""
        waiting, self._waiting = self._waiting, None
        self._book.load_snapshot(last_update_id, *arrays)
        for frame, _ in waiting.take() if waiting is not None else ():
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        words = self._book.words
        try:
            while (verdict := self._rule.apply_frame(frame, words)) == layout.FULL:
                self._book.grow()
            if verdict == layout.UNEXPECTED:
                update = self._rule.decode(frame)
                while (verdict := self._rule.apply_update(update, self.grid, words)) == layout.FULL:
                    self._book.grow()
        except (MalformedFrameError, BookFullError) as error:
            self.failure = str(error)
            return
        if verdict not in {layout.APPLIED, layout.OLD}:
            self.failure = self.failure or f"verdict {verdict} at id {self._book.view[layout.FINAL_ID]}"

    def result(self, last_update_id: int) -> OrderBook | None:
        """Return the book when it is live at this id, ready to take the other's place."""
        if self.failure or self._book.view[layout.SYNC] != layout.SYNC_LIVE:
            return None
        return self._book if self._book.last_update_id == last_update_id else None
