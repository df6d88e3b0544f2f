"""What an order book answers, and what it refuses."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from bookrunner.core.enums import Side
from bookrunner.core.errors import OffGridError
from bookrunner.kernels import layout
from bookrunner.market.book import BookFullError, OrderBook
from bookrunner.market.instrument import Grid

BIDS = ([1000, 999, 990], [5, 7, 2])
ASKS = ([1001, 1004, 1010], [3, 1, 4])


@pytest.fixture
def book() -> OrderBook:
    made = OrderBook("BTCUSDT", layout.RULE_BINANCE_FUTURES, Grid.of("0.5", "0.01"))
    made.load_snapshot(77, *BIDS, *ASKS)
    return made


@pytest.fixture
def empty() -> OrderBook:
    return OrderBook("BTCUSDT", layout.RULE_BINANCE_FUTURES, Grid.of("0.5", "0.01"))


def test_reads(book: OrderBook) -> None:
    assert (book.best_bid(), book.best_ask()) == (1000, 1001)
    assert book.top(2) == ([1000, 999], [5, 7], [1001, 1004], [3, 1])
    assert book.top(9) == (*BIDS, *ASKS)
    assert book.top(0) == ([], [], [], [])
    assert book.mid == 1000.5
    assert book.micro_price == (1000 * 3 + 1001 * 5) / 8
    assert book.spread_bps == pytest.approx(1 / 1000.5 * 10_000)
    assert book.imbalance(2) == (12 - 4) / 16
    assert not book.is_crossed
    assert book.last_update_id == 77


def test_an_empty_book_has_no_prices(empty: OrderBook) -> None:
    assert (empty.best_bid(), empty.best_ask(), empty.mid) == (None, None, None)
    assert (empty.micro_price, empty.spread_bps, empty.imbalance(5)) == (None, None, None)
    assert empty.top(3) == ([], [], [], [])
    assert empty.volume_to(Side.BUY, depth_bps=10) == 0
    assert not empty.is_crossed


def test_one_side_alone(empty: OrderBook) -> None:
    empty.load_snapshot(1, *BIDS, [], [])
    assert (empty.best_bid(), empty.best_ask(), empty.mid) == (1000, None, None)
    assert empty.imbalance(5) == 1.0
    assert empty.volume_to(Side.BUY, ticks=1) == 12


@pytest.mark.parametrize(
    ("side", "limits", "volume"),
    [
        (Side.BUY, {}, 14),
        (Side.SELL, {}, 8),
        (Side.BUY, {"levels": 2}, 12),
        (Side.SELL, {"levels": 0}, 0),
        (Side.BUY, {"ticks": 1}, 12),
        (Side.SELL, {"ticks": 3}, 4),
        (Side.BUY, {"depth_bps": 15.1}, 12),
        (Side.BUY, {"depth_bps": 14.9}, 5),
        (Side.SELL, {"depth_bps": 100}, 8),
        (Side.SELL, {"depth_bps": 100, "levels": 1}, 3),
    ],
)
def test_volume_to_a_limit(book: OrderBook, side: Side, limits: dict[str, float], volume: int) -> None:
    assert book.volume_to(side, **limits) == volume  # type: ignore[arg-type]


def test_a_checksum_hook_sees_levels_and_grid(book: OrderBook) -> None:
    def hook(
        bid_ticks: list[int], bid_lots: list[int], ask_ticks: list[int], ask_lots: list[int], grid: Grid
    ) -> int:
        parts = []
        for bid, bid_size, ask, ask_size in zip(bid_ticks, bid_lots, ask_ticks, ask_lots, strict=True):
            parts += [grid.price(bid), grid.quantity(bid_size), grid.price(ask), grid.quantity(ask_size)]
        return zlib.crc32(":".join(parts).encode())

    assert book.checksum(hook, 2) == zlib.crc32(b"500:0.05:500.5:0.03:499.5:0.07:502:0.01")


def test_equal_books_have_equal_hashes(book: OrderBook) -> None:
    other = OrderBook("OTHER", layout.RULE_BYBIT, Grid.of("0.5", "0.01"), outlier_capacity=9)
    other.load_snapshot(77, *BIDS, *ASKS)
    assert other.state_hash() == book.state_hash()
    other.trim(levels=2)
    assert other.state_hash() != book.state_hash()


def test_a_snapshot_replaces_everything_and_must_be_bridged(book: OrderBook) -> None:
    book.load_snapshot(90, [5000], [1], [5001], [1])
    assert book.top(5) == ([5000], [1], [5001], [1])
    assert book.view[layout.SYNC] == layout.SYNC_BRIDGING
    assert (book.view[layout.TRUSTED_LOW], book.view[layout.TRUSTED_HIGH]) == (5000, 5001)


def test_a_bybit_snapshot_is_followed_not_bridged() -> None:
    book = OrderBook("BTCUSDT", layout.RULE_BYBIT, Grid.of("0.5", "0.01"))
    book.load_snapshot(90, *BIDS, *ASKS)
    assert book.view[layout.SYNC] == layout.SYNC_LIVE


def test_clear_holds_updates_back(book: OrderBook) -> None:
    book.clear()
    assert book.top(3) == ([], [], [], [])
    assert book.view[layout.SYNC] == layout.SYNC_BUFFERING


@pytest.mark.parametrize(
    "sides",
    [
        ([0], [1], [], []),
        ([-5], [1], [], []),
        ([1], [-1], [], []),
        ([1, 2], [1], [], []),
        ([], [], [2**62], [1]),
    ],
)
def test_values_out_of_range_are_refused(book: OrderBook, sides: tuple[list[int], ...]) -> None:
    before = book.state_hash()
    with pytest.raises(ValueError, match=r"ticks|quantities"):
        book.load_snapshot(5, *sides)
    assert book.state_hash() == before


@pytest.mark.parametrize("symbol", ["", "X" * (layout.SYMBOL_BYTES + 1)])
def test_symbols_that_do_not_fit_are_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match="symbol"):
        OrderBook(symbol, layout.RULE_BYBIT, Grid.of("1", "1"))


def test_rescaling_keeps_the_book(book: OrderBook) -> None:
    book.rescale(Grid.of("0.1", "0.001"))
    assert book.grid == Grid.of("0.1", "0.001")
    assert book.top(1) == ([5000], [50], [5005], [30])
    assert (book.view[layout.TRUSTED_LOW], book.view[layout.TRUSTED_HIGH]) == (4950, 5050)
    assert book.view[layout.SYNC] == layout.SYNC_BRIDGING
    assert book.last_update_id == 77
    book.rescale(Grid.of("0.5", "0.01"))
    assert book.top(9) == (*BIDS, *ASKS)


def test_a_grid_that_loses_a_level_is_refused(book: OrderBook) -> None:
    before = book.state_hash()
    with pytest.raises(OffGridError):
        book.rescale(Grid.of("1", "0.01"))
    assert book.state_hash() == before
    assert book.grid == Grid.of("0.5", "0.01")


def test_memory_is_laid_out_once_and_touched_by_use(book: OrderBook) -> None:
    words = book.words
    capacity = book.view[layout.OUTLIER_CAPACITY]
    far = np.arange(200_000, 200_000 + capacity + 1)
    book.load_snapshot(5, [1000], [1], far, np.ones_like(far))
    assert book.words is words
    assert book.view[layout.OUTLIER_CAPACITY] == 2 * capacity
    assert book.view[layout.ASK_LEVELS] == capacity + 1


def test_the_room_for_far_levels_is_bounded(book: OrderBook) -> None:
    while book.view[layout.OUTLIER_CAPACITY] < layout.MAX_OUTLIERS:
        book.grow()
    with pytest.raises(BookFullError, match="far from the market"):
        book.grow()


def test_trim(book: OrderBook) -> None:
    assert book.trim(low_tick=995, high_tick=1004) == 2
    assert book.top(5) == ([1000, 999], [5, 7], [1001, 1004], [3, 1])
    assert book.trim(levels=1) == 2
    assert book.top(5) == ([1000], [5], [1001], [3])
