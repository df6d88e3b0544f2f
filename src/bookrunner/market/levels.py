"""Price levels as the venues write them (decimal text) turned into ticks and lots, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bookrunner.core.errors import MalformedFrameError, OffGridError
from bookrunner.core.fixed import MAX_DIGITS, format_decimal, parse_decimal
from bookrunner.kernels import layout
from bookrunner.market.events import DepthUpdate
from bookrunner.market.instrument import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

MAX_STEPS = 2**62 - 1
"""Most ticks or lots that a price or quantity may come to; below the marks of an empty side."""
SHOWN_CHARACTERS = 40
"""Characters of a bad value that an error carries."""


def apply_update(
    update: DepthUpdate,
    grid: Grid,
    words: Ints,
    sequence: Callable[[Ints], int],
    sequence_apply: Callable[[Ints], int],
) -> int:
    """Put a decoded update where the scanner would have, and through the same compiled rule.

    Args:
        update: the message.
        grid: the book's, on which its levels must lie.
        words: the book's memory.
        sequence: the venue's rule alone, over the message in ``words``.
        sequence_apply: the rule, then the levels.

    Returns:
        A ``kernels.layout`` verdict. ``OFF_GRID`` only where the rule would have applied the update.

    Raises:
        MalformedFrameError: a level is no level, or a side has more than ``kernels.layout.MAX_LEVELS``.
            Policy: no venue sends so many in one update, so the book is resynchronised, not applied in parts.
    """
    longest = max(len(update.bids), len(update.asks))
    if longest > layout.MAX_LEVELS:
        raise MalformedFrameError(
            "too many levels", reason="too_many_levels", levels=longest, maximum=layout.MAX_LEVELS
        )
    words[layout.FIRST_ID] = update.first_id
    words[layout.FINAL_ID] = update.final_id
    words[layout.PREVIOUS_ID] = update.previous_id
    words[layout.TS_EVENT] = update.ts_event_ns
    words[layout.TS_MATCH] = update.ts_match_ns
    words[layout.CROSS_SEQUENCE] = update.cross_sequence
    words[layout.MESSAGE_KIND] = layout.KIND_SNAPSHOT if update.snapshot else layout.KIND_DELTA
    words[layout.MESSAGE_BIDS] = words[layout.MESSAGE_ASKS] = 0
    try:
        bid_ticks, bid_lots = level_arrays(update.bids, grid)
        ask_ticks, ask_lots = level_arrays(update.asks, grid)
    except OffGridError:
        due = int(sequence(words))
        if due > layout.APPLIED_SNAPSHOT:
            return due
        words[layout.COUNT_OFF_GRID] += 1
        return layout.OFF_GRID
    _write(words, layout.MESSAGE_BIDS, layout.BID_TICKS_AT, layout.BID_LOTS_AT, bid_ticks, bid_lots)
    _write(words, layout.MESSAGE_ASKS, layout.ASK_TICKS_AT, layout.ASK_LOTS_AT, ask_ticks, ask_lots)
    return int(sequence_apply(words))


def _write(words: Ints, count_at: int, ticks_at: int, lots_at: int, ticks: Ints, lots: Ints) -> None:
    count = len(ticks)
    words[count_at] = count
    words[ticks_at : ticks_at + count] = ticks
    words[lots_at : lots_at + count] = lots


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
        lots[index] = quantity_lots(quantity, grid)
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


def traded_lots(quantity: str, grid: Grid) -> int:
    """Return a trade's count of lots, at least 1.

    Raises:
        MalformedFrameError: not a positive decimal.
        OffGridError: finer than the lot.
    """
    lots = quantity_lots(quantity, grid)
    if lots == 0:
        raise MalformedFrameError("a trade of zero", field="quantity", value=quantity, reason="not_positive")
    return lots


def steps_of(text: str, units: int, scale: int, field: str) -> int:
    """Return how many steps of ``units * 10**-scale`` a decimal text is.

    Raises:
        MalformedFrameError: not an unsigned decimal, or more than ``MAX_STEPS`` steps.
        OffGridError: not a whole number of steps; the field named ``field`` holds the text.
    """
    try:
        mantissa, text_scale = parse_decimal(text)
    except ValueError as error:
        raise malformed_decimal(text, field) from error
    numerator: int = mantissa * 10**scale
    denominator: int = units * 10**text_scale
    steps, rest = divmod(numerator, denominator)
    if rest:
        raise OffGridError("finer than the grid", step=format_decimal(units, scale), **{field: text})
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
