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
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from bookrunner.core.enums import BookState, InstrumentStatus
from bookrunner.core.errors import MalformedFrameError, OffGridError
from bookrunner.kernels import layout
from bookrunner.market.book import BookFullError, OrderBook
from bookrunner.market.book_refresh import BookRefresh
from bookrunner.market.book_rule import BookOwner, BookRule
from bookrunner.market.events import BookStateChanged, DepthSnapshot, DepthUpdate
from bookrunner.market.frame_buffer import FrameBuffer
from bookrunner.market.grid_search import grid_for, ratio
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.levels import level_arrays

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.int64]

MAX_ATTEMPTS = 8
"""Times one frame is tried again after the grid was refined, the book grown or the scanner gave it up."""
REFRESH_MARGIN = 0.1
"""A REST snapshot is refreshed when the best has used up all but this part of the range it covered."""


class LiveBook:
    """A book that is right or says that it is not.

    Args:
        instrument: what the book is of.
        rule: the venue's sequencing rule.
        owner: who is told.
        grid_inferred: ``True`` when no instrument list is known; the first snapshot then tells the grid.
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
        """Times that an update was found missing in the chain of a live book."""
        self.resyncs = 0
        """Times it became live again after it was stale."""
        self.malformed = 0
        """Depth frames that could not be read."""
        self.ts_applied_ns = 0
        """Receive time of the last update applied."""
        self.awaiting_snapshot = False
        """Whether the owner was asked for a snapshot that has not come yet."""
        self._rule = rule
        self._owner = owner
        self._strict = strict
        self._grid_unknown = grid_inferred
        self._words = self.book.words
        self._buffer = FrameBuffer()
        self._refresh: BookRefresh | None = None
        self._spans = (0.0, 0.0)
        self._compiled = rule.apply_frame
        self._road: Callable[[bytes, Words], int] = self._opening_road()

    def _opening_road(self) -> Callable[[bytes, Words], int]:
        """Return what takes the frames while there is no snapshot."""
        if self._rule.snapshot_from_rest:
            return _buffering
        return _inferring if self._grid_unknown else self._compiled

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
        """Take one raw depth frame; return its ``kernels.layout`` verdict. Never raises for what is in it."""
        self.messages += 1
        return self._take(frame, ts_recv_ns)

    def _take(self, frame: bytes, ts_recv_ns: int) -> int:
        verdict = self._road(frame, self._words)
        if verdict > layout.APPLIED_SNAPSHOT:
            verdict = self._resolve(verdict, frame, ts_recv_ns)
            if verdict > layout.APPLIED_SNAPSHOT:
                return verdict
        self.ts_applied_ns = ts_recv_ns
        self._owner.on_applied(self, ts_recv_ns)
        if self.state is not BookState.LIVE:
            self._become_live(ts_recv_ns)
        elif self._refresh is not None:
            self._refresh.on_frame(frame, ts_recv_ns)
            self._finish_refresh(ts_recv_ns)
        return verdict

    def _resolve(self, verdict: int, frame: bytes, ts_recv_ns: int) -> int:
        """Deal with any verdict but APPLIED; return what came of the frame in the end."""
        try:
            verdict = self._try_again(verdict, frame, ts_recv_ns)
        except MalformedFrameError as error:
            # An update may be in it: the book is no longer right.
            self.malformed += 1
            self._owner.on_evidence(self, "malformed", {"error": str(error), "ts_recv_ns": ts_recv_ns})
            self.invalidate("malformed", ts_recv_ns)
            return layout.UNEXPECTED
        if verdict == layout.BUFFER:
            self._keep(frame, ts_recv_ns)
        elif verdict == layout.GAP:
            self._gap(frame, ts_recv_ns)
        elif verdict == layout.CROSSED:
            self._crossed(ts_recv_ns)
        return verdict

    def _try_again(self, verdict: int, frame: bytes, ts_recv_ns: int) -> int:
        """Refine the grid, make room or turn to the typed decoder, until the frame's verdict stands.

        Raises:
            MalformedFrameError: the frame cannot be read, or cannot be applied however often it is tried.
        """
        update: DepthUpdate | None = None  # once the scanner has given up
        for _ in range(MAX_ATTEMPTS):
            if verdict == layout.OFF_GRID:
                message = update or self._rule.decode(frame)
                if self._road is _inferring and not message.snapshot:
                    return layout.BUFFER
                self._refine_for(message, ts_recv_ns)
            elif verdict == layout.FULL:
                self._make_room()
            elif verdict == layout.UNEXPECTED:
                update = self._rule.decode(frame)
            else:
                return verdict
            if update is None:
                verdict = self._compiled(frame, self._words)
            elif update.symbol == self.symbol:
                verdict = self._rule.apply_update(update, self.instrument.grid, self._words)
            else:
                raise MalformedFrameError("another symbol's update", other=update.symbol[:40])
        raise MalformedFrameError("cannot be applied", attempts=MAX_ATTEMPTS)

    def _crossed(self, ts_recv_ns: int) -> None:
        """The venue's best bid has been at its best ask for longer than is tolerated: something was lost."""
        fields = {
            "last_update_id": self.last_update_id,
            "best_bid": self.instrument.grid.price(self.book.view[layout.BEST_BID]),
            "best_ask": self.instrument.grid.price(self.book.view[layout.BEST_ASK]),
            "ts_recv_ns": ts_recv_ns,
        }
        self.ts_applied_ns = ts_recv_ns
        self._owner.on_applied(self, ts_recv_ns)
        self._owner.on_evidence(self, "crossed", fields)
        self.invalidate("crossed", ts_recv_ns)

    # --- the grid ---------------------------------------------------------------------------------------

    def _refine_for(self, update: DepthUpdate, ts_recv_ns: int) -> None:
        known = None if self._grid_unknown else self.instrument.grid
        grid = grid_for([*update.bids, *update.asks], known, self._best_price())
        self._set_grid(grid, "" if self._grid_unknown else "off_grid", ts_recv_ns)
        if self._road is _inferring:
            self._road = self._compiled
        self._grid_unknown = False

    def refine(self, price: str, quantity: str, ts_ns: int) -> None:
        """Make the grid fine enough for a value seen in another message, such as a trade.

        Raises:
            MalformedFrameError: the value is no decimal, is on the grid already, or is absurdly fine.
        """
        grid = grid_for([(price, quantity)], self.instrument.grid, self._best_price())
        if grid == self.instrument.grid:
            raise MalformedFrameError("not finer than the grid", price=price, quantity=quantity)
        self._set_grid(grid, "" if self._grid_unknown else "off_grid", ts_ns)

    def _best_price(self) -> str:
        best = max(self.book.best_bid() or 0, self.book.best_ask() or 0)
        return self.instrument.grid.price(best) if best else ""

    def _set_grid(self, grid: Grid, evidence: str, ts_ns: int) -> None:
        """Move the book to another grid, as a new version of the instrument.

        Raises:
            MalformedFrameError: a level of the book cannot be stated on it; nothing has changed.
        """
        old = self.instrument.grid
        if grid == old:
            return
        try:
            self._rescale(grid)
        except OffGridError as error:
            raise MalformedFrameError("the book does not fit the grid", reason=str(error)) from error
        self._words = self.book.words
        self._spans = (self._spans[0] * ratio(old, grid), self._spans[1] * ratio(old, grid))
        self.instrument = msgspec.structs.replace(
            self.instrument, grid=grid, version=self.instrument.version + 1
        )
        if evidence:
            fields = {
                "tick_size": [old.tick_size, grid.tick_size],
                "lot_step": [old.lot_step, grid.lot_step],
                "ts_recv_ns": ts_ns,
            }
            self._owner.on_evidence(self, evidence, fields)

    def _rescale(self, grid: Grid) -> None:
        try:
            self.book.rescale(grid)
        except BookFullError:
            self._forget_far_levels()
            self.book.rescale(grid)

    def _make_room(self) -> None:
        """Grow the outliers; at their bound, forget levels that nobody serves."""
        try:
            self.book.grow()
        except BookFullError:
            self._forget_far_levels()
        self._words = self.book.words

    def _forget_far_levels(self) -> None:
        deleted = self.book.trim(levels=layout.MAX_OUTLIERS // 2)
        self._owner.on_evidence(self, "trimmed", {"levels": deleted})

    # --- buffering and gaps -----------------------------------------------------------------------------

    def _keep(self, frame: bytes, ts_recv_ns: int) -> None:
        """Buffer an update until the snapshot is here, and see that one is on its way."""
        if self._rule.snapshot_from_rest:
            self._buffer.append(frame, ts_recv_ns)
        self._ask()

    def _ask(self) -> None:
        if not self.awaiting_snapshot:
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
        known, self.gaps = self.gaps, view[layout.COUNT_GAPS]
        event = "gap" if self.gaps > known else "snapshot_without_overlap"
        self._owner.on_evidence(self, event, fields)
        self._unsync()
        self._set_state(BookState.STALE, "gap", ts_recv_ns)
        self._keep(frame, ts_recv_ns)

    def _unsync(self) -> None:
        """Forget the chain (not the levels): from now on only a snapshot makes the book live."""
        self.book.unsync()
        self._refresh = None
        self.awaiting_snapshot = False
        self._buffer.take()
        self._road = self._opening_road()

    def invalidate(self, reason: str, ts_ns: int) -> None:
        """Stop believing the book: crossed, malformed, silent, or told so. A new snapshot is asked for.

        Where it comes over REST, it is asked for with the next update, so that there is one to bridge.
        """
        if self.state is BookState.CLOSED:
            return
        self._unsync()
        self._set_state(BookState.STALE, reason, ts_ns)
        if not self._rule.snapshot_from_rest:
            self._ask()

    def suspect(self, reason: str, ts_ns: int) -> None:
        """Say that the book may be outdated; the next update makes it live again if it follows the last."""
        if self.state is BookState.LIVE:
            self._refresh, self.awaiting_snapshot = None, False
            self._set_state(BookState.STALE, reason, ts_ns)

    def on_disconnected(self, reason: str, ts_ns: int) -> None:
        """The stream is gone: what the book holds may be outdated from now on."""
        if self.state is BookState.CLOSED:
            return
        self._unsync()
        self._set_state(BookState.STALE, reason, ts_ns)

    # --- snapshots --------------------------------------------------------------------------------------

    def on_snapshot(self, snapshot: DepthSnapshot, ts_recv_ns: int) -> None:
        """Take a REST snapshot: load it and bridge the buffered updates onto it.

        Raises:
            MalformedFrameError: a level is not an unsigned decimal, or the snapshot is crossed; the book
                is as before and still awaits one.
        """
        refresh = self._refresh
        in_chain = self.book.view[layout.SYNC] == layout.SYNC_LIVE
        if self.state is BookState.CLOSED or (in_chain and refresh is None):
            return  # an answer to a question that is no longer open
        arrays = self._snapshot_arrays(snapshot, ts_recv_ns)
        self.awaiting_snapshot = False
        if refresh is not None:
            refresh.on_snapshot(snapshot.last_update_id, arrays)
            self._finish_refresh(ts_recv_ns)
            return
        if self._buffer.dropped:
            self._owner.on_evidence(self, "buffer_overflow", {"dropped": self._buffer.dropped})
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
        """Return the levels in ticks and lots, on the book's grid, which is refined where it must be."""
        grid = self.instrument.grid
        arrays = None
        if not self._grid_unknown:
            with suppress(OffGridError):
                arrays = _arrays(snapshot, grid)
        if arrays is None:
            known = None if self._grid_unknown else grid
            grid = grid_for([*snapshot.bids, *snapshot.asks], known, self._best_price())
            arrays = _arrays(snapshot, grid)
        bids, asks = arrays[0], arrays[2]
        if len(bids) and len(asks) and bids.max() >= asks.min():
            raise MalformedFrameError("crossed snapshot", last_update_id=snapshot.last_update_id)
        self._set_grid(grid, "" if self._grid_unknown else "off_grid", ts_recv_ns)
        self._grid_unknown = False
        return arrays

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
        self._tell(reason, ts_ns)

    def _tell(self, reason: str, ts_ns: int) -> None:
        change = BookStateChanged(self.venue, self.symbol, self.state, reason, ts_ns)
        self._owner.on_state(self, change)

    # --- refreshing the depth that a snapshot covered -----------------------------------------------------

    def _covered(self) -> tuple[int, int]:
        """Return how far below and above its best the book is known whole, in ticks."""
        view = self.book.view
        return (
            view[layout.BEST_BID] - view[layout.TRUSTED_LOW],
            view[layout.TRUSTED_HIGH] - view[layout.BEST_ASK],
        )

    def _measure_spans(self) -> None:
        """Note how far the snapshot reached."""
        below, above = self._covered()
        self._spans = (float(below), float(above))

    @property
    def covered_badly(self) -> bool:
        """Whether a best has moved so near the edge of the snapshot that depth may be missing."""
        busy = self.awaiting_snapshot or self._refresh is not None
        if self.state is not BookState.LIVE or not self._rule.snapshot_from_rest or busy:
            return False
        below, above = self._covered()
        return below < self._spans[0] * REFRESH_MARGIN or above < self._spans[1] * REFRESH_MARGIN

    def refresh(self) -> None:
        """Ask for a new snapshot while staying live; it replaces the book when it has been bridged."""
        if self.state is BookState.LIVE and not self.awaiting_snapshot:
            self._refresh = BookRefresh(self.symbol, self._rule, self.instrument.grid, strict=self._strict)
            self._ask()

    def _finish_refresh(self, ts_ns: int) -> None:
        """Put the refreshed book in place once it stands at the same id, or give it up."""
        refresh = self._refresh
        if refresh is None:
            return
        failure = "the grid changed" if refresh.grid != self.instrument.grid else refresh.failure
        if failure:
            self._refresh, self.awaiting_snapshot = None, False
            self._owner.on_evidence(self, "refresh_failed", {"reason": failure, "ts_recv_ns": ts_ns})
            return
        fresh = refresh.result(self.last_update_id)
        if fresh is not None:
            self._refresh = None
            fresh.take_counters(self.book)
            self.book, self._words = fresh, fresh.words
            self._measure_spans()
            self._tell("refreshed", ts_ns)

    # --- the instrument ---------------------------------------------------------------------------------

    def on_instrument(self, instrument: Instrument, ts_ns: int) -> None:
        """Take the instrument as the venue now lists it: rescale the book, close it or open it again.

        A listed grid that is too coarse for levels in the book is not taken: the finer one stays.
        """
        if instrument.status is InstrumentStatus.CLOSED:
            self.close("delisted", ts_ns)
        elif self.state is BookState.CLOSED:
            self._road = self._opening_road()
            self._set_state(BookState.SYNCING, "listed", ts_ns)
        if instrument.grid != self.instrument.grid and self.book.fits(instrument.grid):
            self._set_grid(instrument.grid, "instrument_changed", ts_ns)
        ours = self.instrument
        listed = msgspec.structs.replace(instrument, grid=ours.grid, version=ours.version)
        if listed != ours:
            self.instrument = msgspec.structs.replace(listed, version=ours.version + 1)

    def close(self, reason: str, ts_ns: int) -> None:
        """End the book: its levels go, and it takes no more frames."""
        self._unsync()
        self.book.clear()
        self._road = _closed
        self._set_state(BookState.CLOSED, reason, ts_ns)


def _arrays(snapshot: DepthSnapshot, grid: Grid) -> tuple[Words, Words, Words, Words]:
    return (*level_arrays(snapshot.bids, grid), *level_arrays(snapshot.asks, grid))


def _buffering(frame: bytes, words: Words) -> int:
    """Stand in for the compiled road while no snapshot is here."""
    del frame, words
    return layout.BUFFER


def _inferring(frame: bytes, words: Words) -> int:
    """Stand in for the compiled road until the stream's first snapshot has told the grid."""
    del frame, words
    return layout.OFF_GRID


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
