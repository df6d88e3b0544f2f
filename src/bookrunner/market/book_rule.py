"""What a live book needs of its venue, and what it tells its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bookrunner.market.events import BookStateChanged, DepthUpdate
from bookrunner.market.instrument import Grid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bookrunner.market.live_book import LiveBook

    Words = npt.NDArray[np.int64]


class BookRule(Protocol):
    """A venue's sequencing rule: the compiled road and its typed twin, over the same state."""

    rule: int
    """``kernels.layout.RULE_*``."""
    snapshot_from_rest: bool
    """``True``: a REST snapshot is fetched. ``False``: the stream itself begins with one."""

    def apply_frame(self, frame: bytes, words: Words) -> int:
        """Scan, check and apply one raw frame in one compiled call; return a ``kernels.layout`` verdict."""
        ...

    def decode(self, frame: bytes) -> DepthUpdate:
        """Read one raw frame with the typed decoder.

        Raises:
            MalformedFrameError: not a depth message of this venue.
        """
        ...

    def apply_update(self, update: DepthUpdate, grid: Grid, words: Words) -> int:
        """Put a decoded update through the same sequencing and apply functions; return a verdict.

        Raises:
            MalformedFrameError: a level is negative, non-finite or not a decimal.
        """
        ...


class BookOwner(Protocol):
    """What a book tells whoever drives it; called synchronously."""

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        """One update was applied; its levels are in the book's scratch."""
        ...

    def on_state(self, live: LiveBook, change: BookStateChanged) -> None:
        """The state changed."""
        ...

    def needs_snapshot(self, live: LiveBook) -> None:
        """Fetch a snapshot, or resubscribe where the stream begins with one."""
        ...

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        """Something went wrong with this book; for the journal and the log."""
        ...
