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
from bookrunner.kernels.intrinsics import address_of, load64
from bookrunner.kernels.jit import kernel, spliced, step
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
    SIDE_STRIDE,
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
    words[BEST_BID] = NO_BID
    words[BEST_ASK] = NO_ASK
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


@spliced
def _write(words, ticks, lots, bids, asks, stride):
    """Write one message: bids from these addresses, asks ``stride`` words further.

    Returns:
        APPLIED, CROSSED, or FULL with the book untouched.
    """
    for side in range(2):
        start = 8 * side * stride
        count = asks if side == 1 else bids
        spare = words[OUTLIER_CAPACITY] - words[BID_OUTLIERS + side]
        if count > spare and new_outliers(words, side, ticks + start, lots + start, count) > spare:
            return FULL
    for side in range(2):
        start = 8 * side * stride
        write_side(words, side, ticks + start, lots + start, asks if side == 1 else bids)
    # Keep the market in the middle half of the window; where that fails the book is slower, not wrong.
    reference = reference_tick(words[BEST_BID], words[BEST_ASK])
    if not COMFORT <= reference - words[WINDOW_LOW] < WINDOW - COMFORT and reference != NO_BID:
        follow(words, reference)
    return _crossing(words, APPLIED)


@spliced
def _crossing(words, verdict):
    """Count crossed messages; return the verdict, or CROSSED where that lasts longer than is tolerated."""
    if words[BEST_BID] < words[BEST_ASK]:
        words[CROSSED_RUN] = 0
        return verdict
    words[CROSSED_RUN] += 1
    words[COUNT_CROSSED] += 1
    return CROSSED if words[CROSSED_RUN] > CROSSED_TOLERANCE else verdict


@step
def _extremes(ticks, lots, count):
    """Return the lowest and highest tick that has a quantity; (NO_ASK, NO_BID) if none has."""
    lowest = NO_ASK
    highest = NO_BID
    for i in range(count):
        if load64(lots + 8 * i) != 0:
            lowest = min(lowest, load64(ticks + 8 * i))
            highest = max(highest, load64(ticks + 8 * i))
    return lowest, highest


@step
def _outside(low, ticks, lots, count):
    """Return how many levels lie outside a window that starts at ``low``."""
    outside = 0
    for i in range(count):
        outside += 1 if load64(lots + 8 * i) != 0 and not 0 <= load64(ticks + 8 * i) - low < WINDOW else 0
    return outside


@step
def _replace(words, bid_ticks, bid_lots, bids, ask_ticks, ask_lots, asks):
    """Replace all levels by those at these addresses; return APPLIED, or FULL with the book untouched."""
    lowest_bid, highest_bid = _extremes(bid_ticks, bid_lots, bids)
    lowest_ask, highest_ask = _extremes(ask_ticks, ask_lots, asks)
    reference = reference_tick(highest_bid, lowest_ask)
    low = words[WINDOW_LOW] if reference == NO_BID else centred(reference)
    outside = max(_outside(low, bid_ticks, bid_lots, bids), _outside(low, ask_ticks, ask_lots, asks))
    if outside > words[OUTLIER_CAPACITY]:
        return FULL
    empty(words)
    words[WINDOW_LOW] = low
    for side in range(2):
        ticks = ask_ticks if side == 1 else bid_ticks
        lots = ask_lots if side == 1 else bid_lots
        write_side(words, side, ticks, lots, asks if side == 1 else bids)
    words[TRUSTED_LOW] = lowest_bid if highest_bid != NO_BID else 0
    words[TRUSTED_HIGH] = highest_ask if highest_ask != NO_BID else 0
    words[CROSSED_RUN] = 0
    return APPLIED


@kernel
def load_levels(words, bid_ticks, bid_lots, ask_ticks, ask_lots):
    """Replace all levels by these, which may come in any order; of two with one tick the later counts.

    Returns:
        APPLIED, or FULL with the book untouched.
    """
    return _replace(
        words,
        address_of(bid_ticks),
        address_of(bid_lots),
        len(bid_ticks),
        address_of(ask_ticks),
        address_of(ask_lots),
        len(ask_ticks),
    )


@kernel
def apply(words):
    """Apply the message in scratch to the levels, without regard to its sequence.

    Returns:
        APPLIED, APPLIED_SNAPSHOT, CROSSED, or FULL with the book untouched.
    """
    bids = words[MESSAGE_BIDS]
    asks = words[MESSAGE_ASKS]
    ticks = address_of(words) + 8 * BID_TICKS_AT
    lots = address_of(words) + 8 * BID_LOTS_AT
    if words[MESSAGE_KIND] != KIND_SNAPSHOT:
        return _write(words, ticks, lots, bids, asks, SIDE_STRIDE)
    verdict = _replace(words, ticks, lots, bids, ticks + 8 * SIDE_STRIDE, lots + 8 * SIDE_STRIDE, asks)
    return FULL if verdict == FULL else _crossing(words, APPLIED_SNAPSHOT)


@kernel
def apply_levels(words, ticks, lots, bids):
    """Apply one message's levels, the first ``bids`` of them bids, without regard to its sequence.

    Returns:
        APPLIED, CROSSED, or FULL with the book untouched.
    """
    return _write(words, address_of(ticks), address_of(lots), bids, len(ticks) - bids, bids)


@kernel
def apply_batch(words, ends, bids, ticks, lots):
    """Apply many messages: message i is levels ``[ends[i - 1], ends[i])``, its first ``bids[i]`` are bids.

    Returns:
        Messages applied; fewer than given where one does not fit the outliers.
    """
    start = 0
    for i in range(len(ends)):
        asks = ends[i] - start - bids[i]
        first_tick = address_of(ticks) + 8 * start
        first_lots = address_of(lots) + 8 * start
        if _write(words, first_tick, first_lots, bids[i], asks, bids[i]) == FULL:
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
    limit = min(len(ticks), len(lots))
    return walk(words, (1 - side) >> 1, limit, -side * NO_ASK, address_of(ticks), address_of(lots))[0]


@kernel
def top(words, depth, out):
    """Write the best ``depth`` levels of both sides, best first, into ``out[4 * depth]``.

    ``out`` holds bid ticks, bid lots, ask ticks and ask lots, ``depth`` words each; a thinner side leaves the
    rest of its words as they were.

    Returns:
        Bids written + (asks written << 32).
    """
    written = 0
    start = address_of(out)
    for side in range(2):
        at = start + 16 * depth * side
        count, _ = walk(words, side, depth, (2 * side - 1) * NO_ASK, at, at + 8 * depth)
        written += count << (32 * side)
    return written


@kernel
def volume_to(words, side, worst, levels):
    """Return the lots of the best ``levels`` levels of a side that are not beyond the tick ``worst``."""
    nowhere = side - side
    return walk(words, (1 - side) >> 1, levels, worst, nowhere, nowhere)[1]


@kernel
def trim(words, low_tick, high_tick):
    """Delete the levels of both sides outside ``[low_tick, high_tick]``; return how many."""
    removed = 0
    for side in range(2):
        removed += trim_side(words, side, low_tick, high_tick)
    return removed
