"""The book against its naive twin, through every way to change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bookrunner.core.enums import Side
from bookrunner.core.errors import OffGridError
from bookrunner.kernels import book as kernels
from bookrunner.kernels import layout
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid
from naive.book import Changes, NaiveBook

MIDDLE = 600_000
CAPACITY = 4  # so that the outliers are full all the time

near = st.integers(MIDDLE - 60, MIDDLE + 60)
around = st.integers(MIDDLE - 70_000, MIDDLE + 70_000)
edges = st.sampled_from(
    [
        base + offset
        for base in range(
            MIDDLE - 3 * layout.WINDOW_STEP, MIDDLE + 4 * layout.WINDOW_STEP, layout.WINDOW_STEP
        )
        for offset in (
            -layout.WINDOW // 2 - 1,
            -layout.WINDOW // 2,
            0,
            layout.WINDOW // 2 - 1,
            layout.WINDOW // 2,
        )
    ]
)
anywhere = st.integers(1, 10**12)
ticks = st.one_of(near, near, around, edges, anywhere)
lots = st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 2**40))
changes = st.lists(st.tuples(ticks, lots), max_size=12)


def arrays(pairs: Changes) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


class BookMachine(RuleBasedStateMachine):
    """Both books take every step; they must agree after each."""

    @initialize(bids=changes, asks=changes)
    def start(self, bids: Changes, asks: Changes) -> None:
        self.book = OrderBook(
            "BTCUSDT", layout.RULE_BINANCE_FUTURES, Grid.of("0.1", "0.001"), outlier_capacity=CAPACITY
        )
        self.naive = NaiveBook()
        self.snapshot(bids, asks)

    @rule(bids=changes, asks=changes)
    def snapshot(self, bids: Changes, asks: Changes) -> None:
        self.book.load_snapshot(1, *arrays(bids), *arrays(asks))
        self.naive.snapshot(bids, asks)

    @rule(bids=changes, asks=changes)
    def update(self, bids: Changes, asks: Changes) -> None:
        before = self.book.state_hash()
        levels = arrays([*bids, *asks])
        while kernels.apply_levels(self.book.words, *levels, len(bids)) == layout.FULL:
            assert self.book.state_hash() == before
            self.book.grow()
        self.naive.apply(bids, asks)

    @rule(shift=st.integers(-80_000, 80_000), bids=st.integers(1, 9), asks=st.integers(1, 9))
    def market_moves(self, shift: int, bids: int, asks: int) -> None:
        """Both sides jump: the levels in the way are deleted, and the window follows."""
        centre = (self.naive.best_bid() or MIDDLE) + shift
        if centre < 100:
            return
        gone_bids = [(tick, 0) for tick in self.naive.bids if tick >= centre]
        gone_asks = [(tick, 0) for tick in self.naive.asks if tick <= centre]
        self.update([*gone_bids, (centre - 1, bids)], [*gone_asks, (centre + 1, asks)])

    @rule(low=ticks, width=st.integers(0, 140_000))
    def trim(self, low: int, width: int) -> None:
        removed = self.book.trim(low_tick=low, high_tick=low + width)
        assert removed == self.naive.trim(low, low + width)

    @rule(levels=st.integers(1, 6))
    def trim_to_levels(self, levels: int) -> None:
        bids, asks = self.naive.sorted_bids()[:levels], self.naive.sorted_asks()[:levels]
        self.book.trim(levels=levels)
        low = bids[-1][0] if bids else -1
        high = asks[-1][0] if asks else 2**62
        self.naive.trim(low, high)

    @rule(tick=ticks)
    def recentre(self, tick: int) -> None:
        kernels.recentre(self.book.words, tick)

    @precondition(lambda self: self.book.grid.price_scale < 3)
    @rule()
    def finer_grid(self) -> None:
        grid = self.book.grid
        self.book.rescale(
            Grid(grid.price_scale + 1, grid.tick_units * 2, grid.quantity_scale + 2, grid.lot_units * 50)
        )
        self.naive.scale(5, 2)

    @precondition(lambda self: self.book.grid.price_scale > 1)
    @rule()
    def coarser_grid(self) -> None:
        first = Grid.of("0.1", "0.001")
        before = self.book.state_hash()
        unit = 5 ** (self.book.grid.price_scale - 1)
        size = 2 ** (self.book.grid.price_scale - 1)
        prices = [*self.naive.bids, *self.naive.asks]
        quantities = [*self.naive.bids.values(), *self.naive.asks.values()]
        if any(tick % unit for tick in prices) or any(amount % size for amount in quantities):
            with pytest.raises(OffGridError):
                self.book.rescale(first)
            assert self.book.state_hash() == before
            return
        self.book.rescale(first)
        self.naive.bids = {tick // unit: amount // size for tick, amount in self.naive.bids.items()}
        self.naive.asks = {tick // unit: amount // size for tick, amount in self.naive.asks.items()}

    @rule()
    def clear(self) -> None:
        self.book.clear()
        self.naive.snapshot([], [])

    @rule(side=st.sampled_from(Side), worst=ticks, levels=st.integers(0, 20))
    def volume(self, side: Side, worst: int, levels: int) -> None:
        best = self.naive.sorted_bids() if side is Side.BUY else self.naive.sorted_asks()
        wanted = sum(amount for tick, amount in best[:levels] if side * tick >= side * worst)
        assert kernels.volume_to(self.book.words, int(side), worst, levels) == wanted

    @invariant()
    def same(self) -> None:
        bids, asks = self.naive.sorted_bids(), self.naive.sorted_asks()
        bid_ticks, bid_lots, ask_ticks, ask_lots = (array.tolist() for array in self.book.levels())
        assert list(zip(bid_ticks, bid_lots, strict=True)) == bids
        assert list(zip(ask_ticks, ask_lots, strict=True)) == asks
        assert self.book.best_bid() == self.naive.best_bid()
        assert self.book.best_ask() == self.naive.best_ask()
        depth = 5
        top = self.book.top(depth)
        assert list(zip(*top[:2], strict=True)) == bids[:depth]
        assert list(zip(*top[2:], strict=True)) == asks[:depth]
        self.unused_memory_is_clean()

    def unused_memory_is_clean(self) -> None:
        """No slot of a ring holds a level that is not counted, and outliers are where they belong."""
        words = self.book.words
        for side in range(2):
            ring = words[layout.BID_RING_AT + side * layout.WINDOW :][: layout.WINDOW]
            used = int(words[layout.BID_OUTLIERS + side])
            assert np.count_nonzero(ring) + used == words[layout.BID_LEVELS + side]
            start = layout.BID_OUTLIER_TICKS_AT + side * 2 * layout.MAX_OUTLIERS
            outliers = words[start : start + used]
            inside = (outliers >= words[layout.WINDOW_LOW]) & (
                outliers < words[layout.WINDOW_LOW] + layout.WINDOW
            )
            assert not inside.any()
            assert (np.diff(outliers) > 0).all()
            assert used <= words[layout.OUTLIER_CAPACITY]


TestBook = BookMachine.TestCase
