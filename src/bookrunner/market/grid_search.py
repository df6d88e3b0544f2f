"""The grid that a venue's values need, where the one in use is too coarse or unknown."""

from __future__ import annotations

from collections.abc import Sequence

from bookrunner.core.errors import MalformedFrameError
from bookrunner.market.instrument import Grid

MAX_SCALE = 15
"""Decimals a grid may be refined to; more is nonsense from a venue, not a price."""
MAX_TICKS = 2**53
"""Largest price in ticks that a grid may lead to."""

Levels = Sequence[tuple[str, str]]


def grid_for(levels: Levels, known: Grid | None, best_price: str = "") -> Grid:
    """Return the coarsest grid that holds these levels.

    Args:
        levels: prices and quantities as the venue writes them; an empty text is none.
        known: the grid that is refined; ``None``: the levels alone decide.
        best_price: a price that the book holds already, and that must not become absurd in ticks.

    Raises:
        MalformedFrameError: a value is no unsigned decimal, or the grid would be absurdly fine.
    """
    prices = [price for price, _ in levels if price]
    quantities = [quantity for _, quantity in levels if quantity]
    try:
        grid = Grid.inferred(prices, quantities) if known is None else known.refined(prices, quantities)
        highest = max(map(grid.ticks, [*prices, best_price] if best_price else prices), default=0)
    except ValueError as error:
        raise MalformedFrameError("not a decimal on any grid", reason=str(error)) from error
    if max(grid.price_scale, grid.quantity_scale) > MAX_SCALE or highest > MAX_TICKS:
        raise MalformedFrameError(
            "values far finer than the grid", tick_size=grid.tick_size, lot_step=grid.lot_step
        )
    return grid


def ratio(old: Grid, new: Grid) -> float:
    """Return how many ticks of ``new`` make one of ``old``."""
    return old.tick_units / new.tick_units * 10.0 ** (new.price_scale - old.price_scale)
