"""Price levels as the venues write them (decimal text) turned into ticks and lots, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bookrunner.core.errors import MalformedFrameError, OffGridError
from bookrunner.core.fixed import MAX_DIGITS, format_decimal, parse_decimal
from bookrunner.market.instrument import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

MAX_STEPS = 10**MAX_DIGITS - 1
"""Most ticks or lots that a price or quantity may come to; below the marks of an empty side."""
SHOWN_CHARACTERS = 40
"""Characters of a bad value that an error carries."""


def level_arrays(levels: Sequence[tuple[str, str]], grid: Grid) -> tuple[Ints, Ints]:
    """Return ``(ticks, lots)``, int64 arrays of one entry a level, in the venue's order.

    Raises:
        MalformedFrameError: a price that is not a positive decimal, or a quantity that is not an unsigned
            one; see ``decimal_fault`` for ``reason``.
        OffGridError: a value finer than the grid.
    """
    ticks = np.empty(len(levels), np.int64)
    lots = np.empty(len(levels), np.int64)
    for index, (price, quantity) in enumerate(levels):
        ticks[index] = price_ticks(price, grid)
        lots[index] = steps_of(quantity, grid.lot_units, grid.quantity_scale, "quantity")
    return ticks, lots


def price_ticks(price: str, grid: Grid) -> int:
    """Return a price's count of ticks, at least 1.

    Raises:
        MalformedFrameError: not a positive decimal.
        OffGridError: finer than the tick.
    """
    ticks = steps_of(price, grid.tick_units, grid.price_scale, "price")
    if ticks == 0:
        raise MalformedFrameError("a price of zero", field="price", value=price, reason="not_positive")
    return ticks


def quantity_lots(quantity: str, grid: Grid) -> int:
    """Return a quantity's count of lots, 0 or more.

    Raises:
        MalformedFrameError: not an unsigned decimal.
        OffGridError: finer than the lot.
    """
    return steps_of(quantity, grid.lot_units, grid.quantity_scale, "quantity")


def steps_of(text: str, units: int, scale: int, field: str) -> int:
    """Return how many steps of ``units * 10**-scale`` a decimal text is.

    Raises:
        MalformedFrameError: not an unsigned decimal, or more than ``MAX_STEPS`` steps.
        OffGridError: not a whole number of steps.
    """
    try:
        mantissa, text_scale = parse_decimal(text)
    except ValueError as error:
        raise malformed_decimal(text, field) from error
    numerator: int = mantissa * 10**scale
    denominator: int = units * 10**text_scale
    steps, rest = divmod(numerator, denominator)
    if rest:
        raise OffGridError("finer than the grid", field=field, value=text, step=format_decimal(units, scale))
    if steps > MAX_STEPS:
        raise MalformedFrameError("too large", field=field, value=text, reason="out_of_range")
    return steps


def malformed_decimal(text: str, field: str) -> MalformedFrameError:
    """Return the error that says why ``text`` is not an unsigned decimal."""
    return MalformedFrameError(
        "not an unsigned decimal", field=field, value=text[:SHOWN_CHARACTERS], reason=decimal_fault(text)
    )


def decimal_fault(text: str) -> str:
    """Name what keeps a text from being an unsigned decimal.

    One of ``empty``, ``negative``, ``non_finite``, ``exponent``, ``too_many_digits``, ``not_decimal``.
    """
    bare = text.strip().lower()
    unsigned = bare.removeprefix("-").removeprefix("+")
    if not bare:
        return "empty"
    if unsigned.startswith(("nan", "inf")):
        return "non_finite"
    if bare.startswith("-"):
        return "negative"
    mantissa, mark, exponent = unsigned.partition("e")
    if mark and _is_digits(mantissa.replace(".", "", 1)) and exponent:
        return "exponent"
    if _is_digits(unsigned.replace(".", "", 1)) and len(unsigned) > MAX_DIGITS:
        return "too_many_digits"
    return "not_decimal"


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
