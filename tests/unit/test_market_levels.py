"""Decimal text to ticks and lots: exact, or an error that says why."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.core.errors import MalformedFrameError, OffGridError
from bookrunner.market.instrument import Grid
from bookrunner.market.levels import level_arrays, price_ticks, quantity_lots, traded_lots

GRID = Grid.of("0.05", "0.001")


@given(ticks=st.integers(1, 10**12), lots=st.integers(0, 10**12), zeros=st.integers(0, 3))
def test_what_a_grid_writes_reads_back(ticks: int, lots: int, zeros: int) -> None:
    price = f"{Decimal(ticks) * Decimal('0.05'):.{2 + zeros}f}"
    quantity = f"{Decimal(lots) * Decimal('0.001'):.{3 + zeros}f}"
    found_ticks, found_lots = level_arrays([(price, quantity)], GRID)

    assert (found_ticks.tolist(), found_lots.tolist()) == ([ticks], [lots])


def test_no_levels_are_empty_arrays() -> None:
    ticks, lots = level_arrays([], GRID)
    assert (len(ticks), len(lots)) == (0, 0)


@pytest.mark.parametrize("price", ["0.01", "100.051", "0.049999"])
def test_a_finer_price_is_off_grid_and_named(price: str) -> None:
    with pytest.raises(OffGridError) as caught:
        price_ticks(price, GRID)
    assert caught.value.fields == {"price": price, "step": "0.05"}


def test_a_finer_quantity_is_off_grid_and_named() -> None:
    with pytest.raises(OffGridError) as caught:
        quantity_lots("1.0005", GRID)
    assert caught.value.fields["quantity"] == "1.0005"


def test_a_value_beyond_the_range_of_a_book_is_refused() -> None:
    with pytest.raises(MalformedFrameError) as caught:
        quantity_lots("999999999999999999", Grid.of("1", "0.0001"))
    assert caught.value.fields["reason"] == "out_of_range"


def test_a_level_of_zero_deletes_but_a_trade_of_zero_is_none() -> None:
    assert quantity_lots("0.000", GRID) == 0
    with pytest.raises(MalformedFrameError) as caught:
        traded_lots("0.000", GRID)
    assert caught.value.fields["reason"] == "not_positive"
