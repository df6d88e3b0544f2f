"""The order book: levels in a dense ring a side, far ones in sorted arrays; see ``layout`` for the memory.

Invariants after every kernel here:

* a level in ``[WINDOW_LOW, WINDOW_LOW + WINDOW)`` is in its ring, any other in its outliers, none in both;
* ring slots without a level are 0; outliers are ascending by tick and never 0 lots;
* ``BEST_BID`` and ``BEST_ASK`` are exact, ``BID_LEVELS`` and ``ASK_LEVELS`` count rings and outliers.

``side`` is ``BID`` (1) or ``ASK`` (-1). Ticks are positive; quantities are lots, 0 deletes.
"""

from __future__ import annotations

from math import gcd

import numpy as np

from bookrunner.kernels import layout
from bookrunner.kernels.jit import inlined, kernel
from bookrunner.kernels.ladder import (
    COMFORT,
    centred,
    empty,
    follow,
    move_window,
    new_outliers,
    reference_tick,
    trim_side,
    walk,
    write_side,
)
from bookrunner.kernels.layout import (
    APPLIED,
    APPLIED_SNAPSHOT,
    ASK_LOTS_AT,
    ASK_TICKS_AT,
    BEST_ASK,
    BEST_BID,
    BID_LOTS_AT,
    BID_OUTLIERS,
    BID_TICKS_AT,
    COUNT_CROSSED,
    CROSSED,
    CROSSED_RUN,
    CROSSED_TOLERANCE,
    FULL,
    KIND_SNAPSHOT,
    MESSAGE_ASKS,
    MESSAGE_BIDS,
    MESSAGE_KIND,
    NO_ASK,
    NO_BID,
    OUTLIER_CAPACITY,
    SYNC,
    SYNC_BUFFERING,
    TRUSTED_HIGH,
    TRUSTED_LOW,
    WINDOW,
    WINDOW_LOW,
)


def new_words(symbol: bytes, stream: bytes, rule: int, *, strict: bool, outlier_capacity: int) -> np.ndarray:
    """Return the memory of an empty book.

    Args:
        symbol: the venue's own name, as it stands in frames; at most ``layout.SYMBOL_BYTES`` bytes.
        stream: how names of streams spell it.
        rule: one of ``layout.RULE_*``.
        strict: whether an id that does not follow is a gap even where the venue's documents are silent.
        outlier_capacity: outliers a side to allow at first, at most ``layout.MAX_OUTLIERS``.
    """
    words = np.zeros(layout.TOTAL_WORDS, np.int64)  # untouched pages of it take no memory
    words[OUTLIER_CAPACITY] = outlier_capacity
    words[layout.RULE] = rule
    words[layout.STRICT] = strict
    for name, length, start in (
        (symbol, layout.SYMBOL_LENGTH, layout.SYMBOL_AT),
        (stream, layout.STREAM_LENGTH, layout.STREAM_AT),
    ):
        words[length] = len(name)
        padded = np.frombuffer(name.ljust(layout.SYMBOL_BYTES, b"\0"), np.int64)
        words[start : start + layout.SYMBOL_WORDS] = padded
    empty(words)
    return words


def set_grid(
    words: np.ndarray, price_scale: int, tick_units: int, quantity_scale: int, lot_units: int
) -> None:
    """State the grid that texts are scanned onto; the levels in the book are left as they are.

    The tables hold, for each number of decimals that a text may have, the exact factor to steps in lowest
    terms: ``steps = mantissa * 10**scale / (units * 10**decimals)``. Terms beyond int64 are cut to 2**62: no
    mantissa of 18 digits is then a multiple of the denominator, or small enough for the numerator.
    """
    words[layout.PRICE_SCALE] = price_scale
    words[layout.TICK_UNITS] = tick_units
    words[layout.QUANTITY_SCALE] = quantity_scale
    words[layout.LOT_UNITS] = lot_units
    for table, scale, units in (
        (layout.PRICE_TABLE_AT, price_scale, tick_units),
        (layout.QUANTITY_TABLE_AT, quantity_scale, lot_units),
    ):
        for decimals in range(layout.MAX_SCALE + 1):
            divisor = gcd(10**scale, units * 10**decimals)
            numerator = min(10**scale // divisor, 2**62)
            denominator = min(units * 10**decimals // divisor, 2**62)
            row = table + 3 * decimals
            words[row] = numerator
            words[row + 1] = denominator
            words[row + 2] = np.float64(1 / denominator).view(np.int64)
    words[layout.PRICE_TEXT_SCALE] = price_scale
    words[layout.QUANTITY_TEXT_SCALE] = quantity_scale


@inlined
def _fits(words, side, ticks, ticks_at, lots, lots_at, count):
    spare = words[OUTLIER_CAPACITY] - words[BID_OUTLIERS + side]
    return count <= spare or new_outliers(words, side, ticks, ticks_at, lots, lots_at, count) <= spare


@inlined
def _write(
    words,
    bid_ticks,
    bid_ticks_at,
    bid_lots,
    bid_lots_at,
    bids,
    ask_ticks,
    ask_ticks_at,
    ask_lots,
    ask_lots_at,
    asks,
):
    """Write one message's levels; return FULL, with the book untouched, or APPLIED or CROSSED."""
    if not (
        _fits(words, 0, bid_ticks, bid_ticks_at, bid_lots, bid_lots_at, bids)
        and _fits(words, 1, ask_ticks, ask_ticks_at, ask_lots, ask_lots_at, asks)
    ):
        return FULL
    write_side(words, 0, bid_ticks, bid_ticks_at, bid_lots, bid_lots_at, bids)
    write_side(words, 1, ask_ticks, ask_ticks_at, ask_lots, ask_lots_at, asks)
    # Keep the market in the middle half of the window; where that fails the book is slower, not wrong.
    reference = reference_tick(words[BEST_BID], words[BEST_ASK])
    if not COMFORT <= reference - words[WINDOW_LOW] < WINDOW - COMFORT and reference != NO_BID:
        follow(words, reference)
    return _crossing(words, APPLIED)


@inlined
def _crossing(words, verdict):
    """Count crossed messages; return the verdict, or CROSSED where that lasts longer than is tolerated."""
    if words[BEST_BID] < words[BEST_ASK]:
        words[CROSSED_RUN] = 0
        return verdict
    words[CROSSED_RUN] += 1
    words[COUNT_CROSSED] += 1
    return CROSSED if words[CROSSED_RUN] > CROSSED_TOLERANCE else verdict


@kernel
def _extremes(ticks, lots):
    """Return the lowest and highest tick that has a quantity; (NO_ASK, NO_BID) if none has."""
    lowest = NO_ASK
    highest = NO_BID
    for i in range(len(ticks)):
        if lots[i] != 0:
            lowest = min(lowest, ticks[i])
            highest = max(highest, ticks[i])
    return lowest, highest


@kernel
def _outside(low, ticks, lots):
    """Return how many levels lie outside a window that starts at ``low``."""
    outside = 0
    for i in range(len(ticks)):
        outside += 1 if lots[i] != 0 and not 0 <= ticks[i] - low < WINDOW else 0
    return outside


@kernel
def load_levels(words, bid_ticks, bid_lots, ask_ticks, ask_lots):
    """Replace all levels by these, which may come in any order; of two with one tick the later counts.

    Returns:
        APPLIED, or FULL with the book untouched.
    """
    lowest_bid, highest_bid = _extremes(bid_ticks, bid_lots)
    lowest_ask, highest_ask = _extremes(ask_ticks, ask_lots)
    reference = reference_tick(highest_bid, lowest_ask)
    low = words[WINDOW_LOW] if reference == NO_BID else centred(reference)
    capacity = words[OUTLIER_CAPACITY]
    if _outside(low, bid_ticks, bid_lots) > capacity or _outside(low, ask_ticks, ask_lots) > capacity:
        return FULL
    empty(words)
    words[WINDOW_LOW] = low
    write_side(words, 0, bid_ticks, 0, bid_lots, 0, len(bid_ticks))
    write_side(words, 1, ask_ticks, 0, ask_lots, 0, len(ask_ticks))
    words[TRUSTED_LOW] = lowest_bid if highest_bid != NO_BID else 0
    words[TRUSTED_HIGH] = highest_ask if highest_ask != NO_BID else 0
    words[CROSSED_RUN] = 0
    return APPLIED


@kernel
def apply(words):
    """Apply the message in scratch to the levels, without regard to its sequence.

    Returns:
        APPLIED, APPLIED_SNAPSHOT, CROSSED, or FULL with the book untouched.
    """
    bids = words[MESSAGE_BIDS]
    asks = words[MESSAGE_ASKS]
    if words[MESSAGE_KIND] != KIND_SNAPSHOT:
        return _write(
            words,
            words,
            BID_TICKS_AT,
            words,
            BID_LOTS_AT,
            bids,
            words,
            ASK_TICKS_AT,
            words,
            ASK_LOTS_AT,
            asks,
        )
    verdict = load_levels(
        words,
        words[BID_TICKS_AT : BID_TICKS_AT + bids],
        words[BID_LOTS_AT : BID_LOTS_AT + bids],
        words[ASK_TICKS_AT : ASK_TICKS_AT + asks],
        words[ASK_LOTS_AT : ASK_LOTS_AT + asks],
    )
    return FULL if verdict == FULL else _crossing(words, APPLIED_SNAPSHOT)


@kernel
def apply_levels(words, bid_ticks, bid_lots, ask_ticks, ask_lots):
    """Apply one message's levels from arrays, without regard to its sequence.

    Returns:
        APPLIED, CROSSED, or FULL with the book untouched.
    """
    return _write(words, bid_ticks, 0, bid_lots, 0, len(bid_ticks), ask_ticks, 0, ask_lots, 0, len(ask_ticks))


@kernel
def apply_batch(words, ends, bids, ticks, lots):
    """Apply many messages: message i is levels ``[ends[i - 1], ends[i])``, its first ``bids[i]`` are bids.

    Returns:
        Messages applied; fewer than given where one does not fit the outliers.
    """
    start = 0
    for i in range(len(ends)):
        middle = start + bids[i]
        count = ends[i] - middle
        if _write(words, ticks, start, lots, start, bids[i], ticks, middle, lots, middle, count) == FULL:
            return i
        start = ends[i]
    return len(ends)


@kernel
def clear(words):
    """Forget all levels and the chain: every update is to be buffered until a snapshot."""
    empty(words)
    words[SYNC] = SYNC_BUFFERING
    words[CROSSED_RUN] = 0


@kernel
def recentre(words, tick):
    """Centre the window on ``tick``; return False, and leave it, where the outliers have no room."""
    return move_window(words, centred(tick))


@kernel
def collect(words, side, ticks, lots):
    """Write a side's levels, best first, as many as the arrays hold; return how many."""
    worst = NO_BID if side > 0 else NO_ASK
    return walk(words, (1 - side) >> 1, min(len(ticks), len(lots)), worst, ticks, 0, lots, 0, 1)[0]


@kernel
def top(words, depth, out):
    """Write the best ``depth`` levels of both sides, best first, into ``out[4 * depth]``.

    ``out`` holds bid ticks, bid lots, ask ticks and ask lots, ``depth`` words each; a thinner side leaves the
    rest of its words as they were.

    Returns:
        Bids written + (asks written << 32).
    """
    bids = walk(words, 0, depth, NO_BID, out, 0, out, depth, 1)[0]
    asks = walk(words, 1, depth, NO_ASK, out, 2 * depth, out, 3 * depth, 1)[0]
    return bids + (asks << 32)


@kernel
def volume_to(words, side, worst, levels):
    """Return the lots of the best ``levels`` levels of a side that are not beyond the tick ``worst``."""
    return walk(words, (1 - side) >> 1, levels, worst, words, 0, words, 0, 0)[1]


@kernel
def trim(words, low_tick, high_tick):
    """Delete the levels of both sides outside ``[low_tick, high_tick]``; return how many."""
    return trim_side(words, 0, low_tick, high_tick) + trim_side(words, 1, low_tick, high_tick)
