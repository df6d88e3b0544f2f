"""An order book over one flat array; see ``kernels.layout`` for the memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bookrunner.core.enums import Side
from bookrunner.core.errors import BookrunnerError, OffGridError
from bookrunner.kernels import book as kernels
from bookrunner.kernels import layout
from bookrunner.market.instrument import Grid

Ints = npt.NDArray[np.int64]
Levels = tuple[list[int], list[int], list[int], list[int]]
"""Bid ticks, bid lots, ask ticks, ask lots; best first."""
ChecksumHook = Callable[[list[int], list[int], list[int], list[int], Grid], int]

_MAX_TOPS = 32
"""Depths that a book keeps a buffer for."""
_BOTH_SIDES = 1 + (1 << 32)
_top = kernels.top


_COUNTERS = slice(layout.COUNT_MESSAGES, layout.COUNT_SHIFTS + 1)


class BookFullError(BookrunnerError):
    """A book has as many levels far from the market as it may hold; fields ``symbol``, ``capacity``."""

    code = "BOOK_FULL"


class OrderBook:
    """An L2 book in ticks and lots, on memory that the compiled kernels share.

    The book does not know whether it is right; ``LiveBook`` does. Hold the book, not its ``words``' values.

    Args:
        symbol: the venue's own name, as it stands in frames.
        rule: the venue's sequence rule, one of ``layout.RULE_*``.
        grid: tick and lot.
        strict: whether an id that does not follow is a gap even where the venue's documents are silent.
        outlier_capacity: levels a side to allow outside the dense window at first; see ``grow``.

    Raises:
        ValueError: the symbol is longer than ``layout.SYMBOL_BYTES``, or the capacity is out of range.
    """

    __slots__ = ("_tops", "grid", "symbol", "view", "words")

    def __init__(
        self, symbol: str, rule: int, grid: Grid, *, strict: bool = True, outlier_capacity: int = 2048
    ) -> None:
        name, stream = symbol.encode(), symbol.lower().encode()
        if not 0 < len(name) <= layout.SYMBOL_BYTES or len(stream) > layout.SYMBOL_BYTES:
            raise ValueError(f"symbol must have 1 to {layout.SYMBOL_BYTES} bytes: {symbol!r}")
        if not 0 < outlier_capacity <= layout.MAX_OUTLIERS:
            raise ValueError(f"outlier_capacity must be 1 to {layout.MAX_OUTLIERS}: {outlier_capacity}")
        self.symbol = symbol
        self.grid = grid
        self.words: Ints = kernels.new_words(
            name, stream, rule, strict=strict, outlier_capacity=outlier_capacity
        )
        self.view = self.words.data
        """The same words; an item of it is the fastest read from Python."""
        self._tops: dict[int, tuple[Ints, Callable[[], list[int]]]] = {}
        self._set_grid(grid)

    def _set_grid(self, grid: Grid) -> None:
        self.grid = grid
        kernels.set_grid(self.words, grid.price_scale, grid.tick_units, grid.quantity_scale, grid.lot_units)

    # --- reads --------------------------------------------------------------------------------------------

    def best_bid(self) -> int | None:
        """Return the highest bid in ticks, or None if nobody bids."""
        tick = self.view[layout.BEST_BID]
        return None if tick == layout.NO_BID else tick

    def best_ask(self) -> int | None:
        """Return the lowest ask in ticks, or None if nobody asks."""
        tick = self.view[layout.BEST_ASK]
        return None if tick == layout.NO_ASK else tick

    @property
    def last_update_id(self) -> int:
        """The venue's id of the last update applied; 0 before the first."""
        return self.view[layout.LAST_ID]

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        return self.view[layout.BEST_BID] >= self.view[layout.BEST_ASK]

    def top(self, depth: int) -> Levels:
        """Return the best ``depth`` levels of both sides; fewer where there are fewer."""
        buffer = self._tops.get(depth)
        if buffer is None:
            buffer = self._new_top(depth)
        out, to_list = buffer
        written = _top(self.words, depth, out)
        levels = to_list()
        second, third, fourth = depth, 2 * depth, 3 * depth
        if written == depth * _BOTH_SIDES:
            return levels[:depth], levels[second:third], levels[third:fourth], levels[fourth:]
        bids, asks = written & 0xFFFFFFFF, written >> 32
        return (
            levels[:bids],
            levels[second : second + bids],
            levels[third : third + asks],
            levels[fourth : fourth + asks],
        )

    def _new_top(self, depth: int) -> tuple[Ints, Callable[[], list[int]]]:
        """Keep a buffer for this depth; readers ask for few different ones, and for those all the time."""
        if depth < 0:
            raise ValueError(f"depth must not be negative: {depth}")
        if len(self._tops) >= _MAX_TOPS:
            self._tops.clear()
        out = np.zeros(4 * depth, np.int64)
        buffer = self._tops[depth] = out, out.data.tolist
        return buffer

    def levels(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Return all levels as new arrays: bid ticks, bid lots, ask ticks, ask lots; best first."""
        return (*self._side(Side.BUY), *self._side(Side.SELL))

    def _side(self, side: Side) -> tuple[Ints, Ints]:
        count = self.view[layout.BID_LEVELS if side > 0 else layout.ASK_LEVELS]
        ticks = np.empty(count, np.int64)
        lots = np.empty(count, np.int64)
        kernels.collect(self.words, int(side), ticks, lots)
        return ticks, lots

    @property
    def mid(self) -> float | None:
        """The middle between the bests in ticks, exact to half a tick; None if a side is empty."""
        bid, ask = self.best_bid(), self.best_ask()
        return None if bid is None or ask is None else (bid + ask) / 2

    @property
    def micro_price(self) -> float | None:
        """The bests in ticks weighted by the other side's quantity (a statistic); None if a side is empty."""
        (bid, *_), (bid_lots, *_), (ask, *_), (ask_lots, *_) = _padded(self.top(1))
        if bid is None or ask is None or bid_lots is None or ask_lots is None:
            return None
        return (bid * ask_lots + ask * bid_lots) / (bid_lots + ask_lots)

    @property
    def spread_bps(self) -> float | None:
        """Spread over mid in hundredths of a per cent (a statistic); None if a side is empty."""
        bid, ask = self.best_bid(), self.best_ask()
        return None if bid is None or ask is None else 20_000 * (ask - bid) / (ask + bid)

    def imbalance(self, depth: int) -> float | None:
        """Return (bids - asks) / (bids + asks) of the lots in the best ``depth`` levels; None if empty."""
        _, bid_lots, _, ask_lots = self.top(depth)
        bids, asks = sum(bid_lots), sum(ask_lots)
        return (bids - asks) / (bids + asks) if bids + asks else None

    def volume_to(
        self,
        side: Side,
        *,
        depth_bps: float | None = None,
        levels: int | None = None,
        ticks: int | None = None,
    ) -> int:
        """Return the lots resting on a side within all the given limits.

        Args:
            side: ``BUY`` for bids, ``SELL`` for asks.
            depth_bps: no further from mid than this; with an empty other side there is no mid, and no limit.
            levels: no more than this many levels.
            ticks: no further from the side's best than this.
        """
        best = self.view[layout.BEST_BID if side > 0 else layout.BEST_ASK]
        worst = layout.NO_BID if side > 0 else layout.NO_ASK
        if ticks is not None and best != worst:
            worst = best - side * ticks
        mid = self.mid
        if depth_bps is not None and mid is not None:
            edge = mid - side * mid * depth_bps / 10_000
            worst = max(worst, -int(-edge // 1)) if side > 0 else min(worst, int(edge // 1))
        limit = layout.WINDOW + layout.MAX_OUTLIERS if levels is None else levels
        return int(kernels.volume_to(self.words, int(side), worst, limit))

    def checksum(self, hook: ChecksumHook, depth: int) -> int:
        """Return what the venue's checksum ``hook`` makes of the best ``depth`` levels."""
        return hook(*self.top(depth), self.grid)

    def state_hash(self) -> str:
        """Return a hash of all levels, the grid and the last id; equal books give equal hashes."""
        digest = hashlib.blake2b(digest_size=16)
        grid = self.grid
        digest.update(f"{grid.tick_size} {grid.lot_step} {self.last_update_id}".encode())
        for array in self.levels():
            digest.update(len(array).to_bytes(8, "little"))
            digest.update(array.tobytes())
        return digest.hexdigest()

    # --- writes -------------------------------------------------------------------------------------------

    def load_snapshot(
        self,
        last_update_id: int,
        bid_ticks: Ints | Sequence[int],
        bid_lots: Ints | Sequence[int],
        ask_ticks: Ints | Sequence[int],
        ask_lots: Ints | Sequence[int],
    ) -> None:
        """Replace the book by a snapshot; the venue's next update must bridge it (Bybit: follow it).

        Outliers are given more room if the snapshot needs it.

        Raises:
            BookFullError: the snapshot spans more levels outside the window than ``layout.MAX_OUTLIERS``.
            ValueError: a tick or quantity is out of range, or arrays of a side differ in length.
        """
        arrays = _message(bid_ticks, bid_lots, ask_ticks, ask_lots)
        while kernels.load_levels(self.words, *arrays) == layout.FULL:
            self.grow()
        words = self.view
        words[layout.LAST_ID] = words[layout.SNAPSHOT_ID] = last_update_id
        follows = words[layout.RULE] == layout.RULE_BYBIT
        words[layout.SYNC] = layout.SYNC_LIVE if follows else layout.SYNC_BRIDGING

    def clear(self) -> None:
        """Forget all levels; updates are held back until a snapshot."""
        kernels.clear(self.words)

    def unsync(self) -> None:
        """Keep the levels but forget the chain: updates are held back until a snapshot."""
        self.view[layout.SYNC] = layout.SYNC_BUFFERING
        self.view[layout.CROSSED_RUN] = 0

    def take_counters(self, other: OrderBook) -> None:
        """Go on counting where ``other`` stands; for a book that takes another's place."""
        self.words[_COUNTERS] = other.words[_COUNTERS]

    def fits(self, grid: Grid) -> bool:
        """Whether every level lies on ``grid``, so that ``rescale`` would succeed."""
        try:
            self._moved(grid)
        except OffGridError:
            return False
        return True

    def trim(
        self, *, low_tick: int | None = None, high_tick: int | None = None, levels: int | None = None
    ) -> int:
        """Delete levels outside ``[low_tick, high_tick]``, or beyond the best ``levels`` of each side.

        Returns:
            How many were deleted.
        """
        low = layout.NO_BID if low_tick is None else low_tick
        high = layout.NO_ASK - 1 if high_tick is None else high_tick
        if levels is not None:
            bid_ticks, _, ask_ticks, _ = self.top(levels)
            low = max(low, bid_ticks[-1] if bid_ticks else low)
            high = min(high, ask_ticks[-1] if ask_ticks else high)
        return int(kernels.trim(self.words, low, high))

    def grow(self) -> None:
        """Double the room for levels outside the window.

        Raises:
            BookFullError: it is already at ``layout.MAX_OUTLIERS``.
        """
        capacity = self.view[layout.OUTLIER_CAPACITY]
        if capacity >= layout.MAX_OUTLIERS:
            raise BookFullError("too many levels far from the market", symbol=self.symbol, capacity=capacity)
        self.view[layout.OUTLIER_CAPACITY] = min(2 * capacity, layout.MAX_OUTLIERS)

    def rescale(self, grid: Grid) -> None:
        """Put the book on another grid, finer or coarser; levels, ids and state stay the same.

        Raises:
            OffGridError: a level does not lie on the new grid; the book is left as it was.
        """
        price, moved = self._moved(grid)
        trusted_low, trusted_high = self.view[layout.TRUSTED_LOW], self.view[layout.TRUSTED_HIGH]
        crossed = self.view[layout.CROSSED_RUN]
        while kernels.load_levels(self.words, *moved) == layout.FULL:
            self.grow()
        self._set_grid(grid)
        self.view[layout.TRUSTED_LOW] = -(-trusted_low * price[0] // price[1])
        self.view[layout.TRUSTED_HIGH] = min(trusted_high * price[0] // price[1], layout.NO_ASK)
        self.view[layout.CROSSED_RUN] = crossed

    def _moved(self, grid: Grid) -> tuple[tuple[int, int], tuple[Ints, Ints, Ints, Ints]]:
        """Return the ratio of prices and the levels on another grid; raises OffGridError."""
        old = self.grid
        price = (old.tick_units * 10**grid.price_scale, grid.tick_units * 10**old.price_scale)
        quantity = (old.lot_units * 10**grid.quantity_scale, grid.lot_units * 10**old.quantity_scale)
        bid_ticks, bid_lots, ask_ticks, ask_lots = self.levels()
        return price, (
            _rescaled(bid_ticks, *price, self.symbol),
            _rescaled(bid_lots, *quantity, self.symbol),
            _rescaled(ask_ticks, *price, self.symbol),
            _rescaled(ask_lots, *quantity, self.symbol),
        )


def _padded(levels: Levels) -> tuple[tuple[int | None, ...], ...]:
    return tuple((*values, None) for values in levels)


def _ints(values: Ints | Sequence[int]) -> Ints:
    return np.array(values, np.int64, order="C")  # a copy is writable: kernels know no other type


def _message(
    bid_ticks: Ints | Sequence[int],
    bid_lots: Ints | Sequence[int],
    ask_ticks: Ints | Sequence[int],
    ask_lots: Ints | Sequence[int],
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the arrays as the kernels need them, checked."""
    arrays = (_ints(bid_ticks), _ints(bid_lots), _ints(ask_ticks), _ints(ask_lots))
    for ticks, lots in (arrays[:2], arrays[2:]):
        if len(ticks) != len(lots):
            raise ValueError(f"{len(ticks)} ticks with {len(lots)} quantities")
        if len(ticks) and (int(ticks.min()) < 1 or int(ticks.max()) >= layout.NO_ASK):
            raise ValueError("ticks must be positive")
        if len(lots) and int(lots.min()) < 0:
            raise ValueError("quantities must not be negative")
    return arrays


def _rescaled(values: Ints, numerator: int, denominator: int, symbol: str) -> Ints:
    """Return ``values * numerator / denominator`` exactly."""
    result = []
    for value in values.tolist():
        steps, rest = divmod(value * numerator, denominator)
        if rest or steps >= layout.NO_ASK:
            raise OffGridError("a level does not lie on the new grid", symbol=symbol, steps=value)
        result.append(steps)
    return _ints(result)
