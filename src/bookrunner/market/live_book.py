"""One live order book: the venue's updates held to the venue's rule.

``LiveBook`` is sans-IO. It is given raw frames, snapshots and the news of its connection, and tells its
owner what it needs through ``BookOwner``. It follows the venues' common procedure:

1. Buffer updates until a snapshot is here; ask for it only once an update was buffered.
2. Load the snapshot, drop what it already holds, and bridge the first update onto it.
3. Check every update's sequence. On a gap the book is stale at once, keeps its frames, and asks again.

Venues whose stream begins with a snapshot (Bybit) skip the request: the owner resubscribes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from bookrunner.core.enums import BookState, InstrumentStatus
from bookrunner.core.errors import MalformedFrameError
from bookrunner.kernels import layout
from bookrunner.market.book import BookFullError, OrderBook
from bookrunner.market.book_refresh import BookRefresh
from bookrunner.market.book_rule import BookOwner, BookRule
from bookrunner.market.events import BookStateChanged, DepthSnapshot, DepthUpdate
from bookrunner.market.frame_buffer import FrameBuffer
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.levels import level_arrays

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.int64]

MAX_REAPPLY = 4
"""Times one frame is tried again after the grid was refined or the book grown."""
MAX_SCALE = 15
"""Decimals a grid may be refined to; more is nonsense from a venue, not a price."""
MAX_TICKS = 2**53
"""Largest best price in ticks that a refined grid may lead to."""
REFRESH_MARGIN = 0.1
"""A REST snapshot is refreshed when the best has used up all but this part of the range it covered."""


class LiveBook:
    """A book that is right or says that it is not.

    Args:
        instrument: what the book is of.
        rule: the venue's sequencing rule.
        owner: who is told.
        grid_inferred: ``True`` when no instrument list is known; the grid then follows the values seen.
        strict: whether an id that does not follow is a gap even where the venue's documents are silent.
    """

    def __init__(
        self,
        instrument: Instrument,
        rule: BookRule,
        owner: BookOwner,
        *,
        grid_inferred: bool = False,
        strict: bool = True,
    ) -> None:
        self.instrument = instrument
        self.book = OrderBook(instrument.symbol, rule.rule, instrument.grid, strict=strict)
        self.state = BookState.SYNCING
        self.messages = 0
        """Depth frames taken."""
        self.gaps = 0
        self.resyncs = 0
        self.malformed = 0
        self.ts_applied_ns = 0
        self.awaiting_snapshot = False
        self._rule = rule
        self._owner = owner
        self._strict = strict
        self._grid_unknown = grid_inferred
        self._words = self.book.words
        self._buffer = FrameBuffer()
        self._refresh: BookRefresh | None = None
        self._spans = (0, 0)
        self._compiled = rule.apply_frame
        self._road: Callable[[bytes, Words], int] = self._compiled
        if rule.snapshot_from_rest:
            self._road = _buffering

    # --- what it is -------------------------------------------------------------------------------------

    @property
    def venue(self) -> str:
        """Venue id, such as ``binance_usdm``."""
        return self.instrument.venue

    @property
    def symbol(self) -> str:
        """The venue's own name."""
        return self.instrument.symbol

    @property
    def updates(self) -> int:
        """Depth updates applied."""
        return self.book.view[layout.COUNT_APPLIED]

    @property
    def crossed(self) -> int:
        """Applied messages that left the book crossed."""
        return self.book.view[layout.COUNT_CROSSED]

    @property
    def last_update_id(self) -> int:
        """Id of the last update applied; 0 before the first."""
        return self.book.view[layout.LAST_ID]

    @property
    def buffered(self) -> int:
        """Frames waiting for a snapshot."""
        return len(self._buffer)

    # --- frames -----------------------------------------------------------------------------------------

    def on_frame(self, frame: bytes, ts_recv_ns: int) -> int:
        """Take one raw depth frame; return its ``kernels.layout`` verdict."""
        self.messages += 1
        return self._take(frame, ts_recv_ns)

    def _take(self, frame: bytes, ts_recv_ns: int) -> int:
        verdict = self._road(frame, self._words)
        if verdict > layout.APPLIED_SNAPSHOT:
            verdict = self._resolve(verdict, frame, ts_recv_ns)
            if verdict > layout.APPLIED_SNAPSHOT:
                return verdict
        if self._refresh is not None:
            self._refresh.on_frame(frame, ts_recv_ns)
            self._finish_refresh()
        self.ts_applied_ns = ts_recv_ns
        self._owner.on_applied(self, ts_recv_ns)
        if self.state is not BookState.LIVE:
            self._become_live(ts_recv_ns)
        return verdict

    def _resolve(self, verdict: int, frame: bytes, ts_recv_ns: int) -> int:
        """Deal with any verdict but APPLIED; return what came of the frame in the end."""
        for _ in range(MAX_REAPPLY):
            if verdict == layout.OFF_GRID:
                if not self._refine(frame, ts_recv_ns):
                    return layout.UNEXPECTED
                verdict = self._compiled(frame, self._words)
            elif verdict == layout.FULL:
                self._make_room()
                verdict = self._compiled(frame, self._words)
            elif verdict == layout.UNEXPECTED:
                verdict = self._typed(frame, ts_recv_ns)
                if verdict == layout.UNEXPECTED:
                    return verdict
            else:
                break
        if verdict == layout.BUFFER:
            self._keep(frame, ts_recv_ns)
        elif verdict == layout.GAP:
            self._gap(frame, ts_recv_ns)
        elif verdict == layout.CROSSED:
            self._owner.on_applied(self, ts_recv_ns)
            self.invalidate("crossed", ts_recv_ns)
        return verdict

    def _typed(self, frame: bytes, ts_recv_ns: int) -> int:
        """Put a frame that the scanner did not know through the typed decoder."""
        try:
            update = self._decode(frame)
            verdict = self._rule.apply_update(update, self.instrument.grid, self._words)
            if verdict == layout.OFF_GRID and self._refine_for(update, ts_recv_ns):
                verdict = self._rule.apply_update(update, self.instrument.grid, self._words)
            while verdict == layout.FULL:
                self._make_room()
                verdict = self._rule.apply_update(update, self.instrument.grid, self._words)
        except MalformedFrameError as error:
            self._malformed(error, ts_recv_ns)
            return layout.UNEXPECTED
        return verdict

    def _decode(self, frame: bytes) -> DepthUpdate:
        update = self._rule.decode(frame)
        if update.symbol != self.symbol:
            raise MalformedFrameError("another symbol's update", symbol=update.symbol[:40])
        return update

    def _malformed(self, error: MalformedFrameError, ts_recv_ns: int) -> None:
        """Count a frame that cannot be read; an update may be in it, so the book is no longer right."""
        self.malformed += 1
        self._owner.on_evidence(self, "malformed", {"error": error.message, **error.fields})
        self.invalidate("malformed", ts_recv_ns)

    def _refine(self, frame: bytes, ts_recv_ns: int) -> bool:
        """Make the grid fine enough for a frame's values; ``False`` when the values are nonsense."""
        try:
            return self._refine_for(self._decode(frame), ts_recv_ns)
        except MalformedFrameError as error:
            self._malformed(error, ts_recv_ns)
            return False

    def _refine_for(self, update: DepthUpdate, ts_recv_ns: int) -> bool:
        grid = self._grid_for(update.bids, update.asks)
        if grid is None:
            raise MalformedFrameError("values far finer than the grid", grid=self.instrument.grid.tick_size)
        self._set_grid(grid, ts_recv_ns)
        return True

    def refine(self, price: str, quantity: str, ts_ns: int) -> None:
        """Make the grid fine enough for a value seen in another message, such as a trade.

        Raises:
            MalformedFrameError: the value is no decimal, or absurdly fine.
        """
        unknown, self._grid_unknown = self._grid_unknown, False
        try:
            grid = self._grid_for([(price, quantity)], [])
        finally:
            self._grid_unknown = unknown
        if grid is None or grid == self.instrument.grid:
            raise MalformedFrameError("value far finer than the grid", price=price, quantity=quantity)
        self._set_grid(grid, ts_ns)
        self._grid_unknown = unknown

    def _grid_for(self, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> Grid | None:
        """Return the grid that holds these levels, or ``None`` when none sensible does."""
        prices = [level[0] for side in (bids, asks) for level in side if level[0]]
        quantities = [level[1] for side in (bids, asks) for level in side if level[1]]
        try:
            if self._grid_unknown:
                grid = Grid.inferred(prices, quantities)
            else:
                grid = self.instrument.grid.refined(prices, quantities)
            highest = max(map(grid.ticks, prices), default=0)
        except ValueError as error:
            raise MalformedFrameError("not a decimal", reason=str(error)) from error
        if max(grid.price_scale, grid.quantity_scale) > MAX_SCALE or highest > MAX_TICKS:
            return None
        return grid

    def _set_grid(self, grid: Grid, ts_recv_ns: int) -> None:
        """Move the book to another grid, as a new version of the instrument."""
        if grid == self.instrument.grid:
            self._grid_unknown = False
            return
        if not self._grid_unknown:
            fields = {
                "tick_size": [self.instrument.grid.tick_size, grid.tick_size],
                "lot_step": [self.instrument.grid.lot_step, grid.lot_step],
                "ts_recv_ns": ts_recv_ns,
            }
            self._owner.on_evidence(self, "off_grid", fields)
        self._grid_unknown = False
        self.book.rescale(grid)
        self._words = self.book.words
        self.instrument = msgspec.structs.replace(
            self.instrument, grid=grid, version=self.instrument.version + 1
        )

    def _make_room(self) -> None:
        """Grow the outliers; at their bound, forget the far half of the book, which nobody serves."""
        try:
            self.book.grow()
        except BookFullError:
            deleted = self.book.trim(levels=layout.MAX_OUTLIERS // 2)
            self._owner.on_evidence(self, "trimmed", {"levels": deleted})
        self._words = self.book.words

    # --- buffering and gaps -----------------------------------------------------------------------------

    def _keep(self, frame: bytes, ts_recv_ns: int) -> None:
        """Buffer an update until the snapshot is here, and see that one is on its way."""
        if self._rule.snapshot_from_rest:
            self._buffer.append(frame, ts_recv_ns)
        self._ask()

    def _ask(self) -> None:
        if not self.awaiting_snapshot and self.state is not BookState.CLOSED:
            self.awaiting_snapshot = True
            self._owner.needs_snapshot(self)

    def _gap(self, frame: bytes, ts_recv_ns: int) -> None:
        view = self.book.view
        fields = {
            "last_update_id": view[layout.LAST_ID],
            "first_id": view[layout.FIRST_ID],
            "final_id": view[layout.FINAL_ID],
            "previous_id": view[layout.PREVIOUS_ID],
            "ts_recv_ns": ts_recv_ns,
        }
        if self.state is BookState.LIVE:
            self.gaps += 1
            self._owner.on_evidence(self, "gap", fields)
        else:
            self._owner.on_evidence(self, "snapshot_without_overlap", fields)
        self._unsync()
        self._set_state(BookState.STALE, "gap", ts_recv_ns)
        self._keep(frame, ts_recv_ns)

    def _unsync(self) -> None:
        """Forget the chain (not the levels): from now on only a snapshot makes the book live."""
        self.book.unsync()
        self._refresh = None
        self.awaiting_snapshot = False
        self._buffer.take()
        if self._rule.snapshot_from_rest:
            self._road = _buffering

    def invalidate(self, reason: str, ts_ns: int) -> None:
        """Stop believing the book and ask for a new snapshot: crossed, malformed, or told so."""
        self._unsync()
        self._set_state(BookState.STALE, reason, ts_ns)
        if not self._rule.snapshot_from_rest:
            self._ask()

    def on_disconnected(self, reason: str, ts_ns: int) -> None:
        """The stream is gone: what the book holds may be outdated from now on."""
        self._unsync()
        if self.state is BookState.LIVE:
            self._set_state(BookState.STALE, reason, ts_ns)

    # --- snapshots --------------------------------------------------------------------------------------

    def on_snapshot(self, snapshot: DepthSnapshot, ts_recv_ns: int) -> None:
        """Take a REST snapshot: load it and bridge the buffered updates onto it.

        Raises:
            MalformedFrameError: a level is not an unsigned decimal, or the snapshot is crossed; the book
                is as before and still awaits one.
        """
        if self.state is BookState.CLOSED:
            return
        arrays = self._snapshot_arrays(snapshot, ts_recv_ns)
        self.awaiting_snapshot = False
        if self._refresh is not None:
            self._refresh.on_snapshot(snapshot.last_update_id, arrays)
            self._finish_refresh()
            return
        if self.state is BookState.LIVE:
            return  # an answer to a question that is no longer open
        self.book.load_snapshot(snapshot.last_update_id, *arrays)
        self._measure_spans()
        self._road = self._compiled
        waiting = self._buffer.take()
        while waiting and self._road is self._compiled:
            frame, ts = waiting.popleft()
            self._take(frame, ts)
        for frame, ts in waiting:
            self._keep(frame, ts)

    def _snapshot_arrays(self, snapshot: DepthSnapshot, ts_recv_ns: int) -> tuple[Words, Words, Words, Words]:
        grid = self._grid_for(snapshot.bids, snapshot.asks)
        if grid is None:
            raise MalformedFrameError("snapshot values far finer than the grid")
        bid_ticks, bid_lots = level_arrays(snapshot.bids, grid)
        ask_ticks, ask_lots = level_arrays(snapshot.asks, grid)
        if len(bid_ticks) and len(ask_ticks) and bid_ticks.max() >= ask_ticks.min():
            raise MalformedFrameError("crossed snapshot", last_update_id=snapshot.last_update_id)
        self._set_grid(grid, ts_recv_ns)
        return bid_ticks, bid_lots, ask_ticks, ask_lots

    def _become_live(self, ts_recv_ns: int) -> None:
        self.awaiting_snapshot = False
        if self.state is BookState.STALE:
            self.resyncs += 1
        self._set_state(BookState.LIVE, "snapshot", ts_recv_ns)

    def _set_state(self, state: BookState, reason: str, ts_ns: int) -> None:
        if state is self.state:
            return
        if self.state is BookState.SYNCING and state is BookState.STALE:
            return  # never was live: still syncing
        self.state = state
        self._owner.on_state(self, BookStateChanged(self.venue, self.symbol, state, reason, ts_ns))

    # --- refreshing the depth that a snapshot covered -----------------------------------------------------

    def _measure_spans(self) -> None:
        """Note how far below and above its best the snapshot reached."""
        view = self.book.view
        self._spans = (
            view[layout.BEST_BID] - view[layout.TRUSTED_LOW],
            view[layout.TRUSTED_HIGH] - view[layout.BEST_ASK],
        )

    @property
    def covered_badly(self) -> bool:
        """Whether a best has moved so near the edge of the snapshot that depth may be missing."""
        busy = self.awaiting_snapshot or self._refresh is not None
        if self.state is not BookState.LIVE or not self._rule.snapshot_from_rest or busy:
            return False
        view = self.book.view
        below = view[layout.BEST_BID] - view[layout.TRUSTED_LOW]
        above = view[layout.TRUSTED_HIGH] - view[layout.BEST_ASK]
        return bool(below < self._spans[0] * REFRESH_MARGIN or above < self._spans[1] * REFRESH_MARGIN)

    def refresh(self) -> None:
        """Ask for a new snapshot while staying live; it replaces the book when it has been bridged."""
        if self.state is BookState.LIVE and not self.awaiting_snapshot:
            self._refresh = BookRefresh(self.symbol, self._rule, self.instrument.grid, strict=self._strict)
            self._ask()

    def _finish_refresh(self) -> None:
        """Put the refreshed book in place once it stands at the same id, or give it up."""
        refresh = self._refresh
        if refresh is None:
            return
        if refresh.failed or refresh.grid != self.instrument.grid:
            self._refresh, self.awaiting_snapshot = None, False
            self._owner.on_evidence(self, "refresh_failed", {"last_update_id": self.last_update_id})
            return
        fresh = refresh.result(self.last_update_id)
        if fresh is not None:
            self._refresh = None
            fresh.take_counters(self.book)
            self.book, self._words = fresh, fresh.words
            self._measure_spans()
            change = BookStateChanged(
                self.venue, self.symbol, BookState.LIVE, "refreshed", self.ts_applied_ns
            )
            self._owner.on_state(self, change)

    # --- the instrument ---------------------------------------------------------------------------------

    def on_instrument(self, instrument: Instrument, ts_ns: int) -> None:
        """Take a newer version of the instrument: rescale the book, or close it."""
        if instrument.status is InstrumentStatus.CLOSED:
            self.close("delisted", ts_ns)
            return
        listed = instrument.grid
        if listed != self.instrument.grid and self.book.fits(listed):
            self._set_grid(listed, ts_ns)
        version = max(self.instrument.version, instrument.version)
        self.instrument = msgspec.structs.replace(instrument, grid=self.instrument.grid, version=version)

    def close(self, reason: str, ts_ns: int) -> None:
        """End the book: its levels go, and it takes no more frames."""
        self._unsync()
        self.book.clear()
        self._road = _closed
        self._set_state(BookState.CLOSED, reason, ts_ns)


def _buffering(frame: bytes, words: Words) -> int:
    """Stand in for the compiled road while no snapshot is here."""
    del frame, words
    return layout.BUFFER


def _closed(frame: bytes, words: Words) -> int:
    """Stand in for the compiled road of a delisted instrument."""
    del frame, words
    return layout.OLD


class LiveBooks:
    """All live books of this process, by venue and symbol."""

    def __init__(self) -> None:
        self._books: dict[tuple[str, str], LiveBook] = {}

    def add(self, live: LiveBook) -> None:
        """Register a book; one per venue and symbol."""
        self._books[live.venue, live.symbol] = live

    def get(self, venue: str, symbol: str) -> LiveBook | None:
        """Return the book, or ``None`` when nobody follows it."""
        return self._books.get((venue, symbol))

    def __iter__(self) -> Iterator[LiveBook]:
        return iter(self._books.values())

    def __len__(self) -> int:
        return len(self._books)
