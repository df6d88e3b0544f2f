from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bookrunner.venues.simulated.events import Levels
from bookrunner.venues.simulated.truth import DepthWindow, TruthBook, TruthSide, as_text

levels = st.lists(
    st.tuples(
        st.integers(1, 40).map(lambda price: f"{price}.50"), st.integers(0, 3).map(lambda size: f"{size}.0")
    ),
    max_size=12,
)


@given(st.lists(levels, max_size=10), st.booleans())
def test_a_side_equals_a_plain_dict(batches: list[Levels], descending: bool) -> None:  # noqa: FBT001
    side, naive = TruthSide(descending=descending), dict[Decimal, Decimal]()
    for batch in batches:
        side.apply(batch)
        for price, quantity in batch:
            naive[Decimal(price)] = Decimal(quantity)
        naive = {price: quantity for price, quantity in naive.items() if quantity}
        expected = sorted(naive.items(), reverse=descending)
        assert list(side.top(len(side)).items()) == expected
        assert list(side.top(3).items()) == expected[:3]


@given(st.integers(1, 8), st.lists(st.tuples(levels, levels), max_size=10))
def test_told_changes_rebuild_the_window(depth: int, batches: list[tuple[Levels, Levels]]) -> None:
    book, window = TruthBook([], [], 1), DepthWindow(depth)
    bids, asks = TruthSide(descending=True), TruthSide()
    for number, (bid_changes, ask_changes) in enumerate(batches):
        book.apply(bid_changes, ask_changes, number)
        told_bids, told_asks = window.changes(book)
        bids.apply(told_bids)
        asks.apply(told_asks)
        assert bids.top(len(bids)) == book.bids.top(depth)
        assert asks.top(len(asks)) == book.asks.top(depth)


def test_small_quantities_are_worded_as_plain_decimals() -> None:
    assert as_text({Decimal("61800.20"): Decimal("0.00000001")}) == [("61800.20", "0.00000001")]


def test_levels_that_differ_only_in_zeros_are_one() -> None:
    side = TruthSide([("61800.20", "1")])
    side.apply([("61800.2", "0.000")])
    assert len(side) == 0
