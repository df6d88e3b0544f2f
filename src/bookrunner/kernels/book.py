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
from bookrunner.kernels.intrinsics import move_words
from bookrunner.kernels.jit import inlined, kernel
from bookrunner.kernels.layout import (
    APPLIED,
    APPLIED_SNAPSHOT,
    ASK,
    ASK_LEVELS,
    ASK_LOTS_AT,
    ASK_OUTLIER_LOTS_AT,
    ASK_OUTLIER_TICKS_AT,
    ASK_OUTLIERS,
    ASK_RING_AT,
    ASK_TICKS_AT,
    BEST_ASK,
    BEST_BID,
    BID,
    BID_LEVELS,
    BID_LOTS_AT,
    BID_OUTLIER_LOTS_AT,
    BID_OUTLIER_TICKS_AT,
    BID_OUTLIERS,
    BID_RING_AT,
    BID_TICKS_AT,
    COUNT_CROSSED,
    COUNT_LEVELS,
    COUNT_SHIFTS,
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
    STALE_RUN,
    SYNC,
    SYNC_BUFFERING,
    TRUSTED_HIGH,
    TRUSTED_LOW,
    WINDOW,
    WINDOW_LOW,
    WINDOW_STEP,
)

COMFORT = WINDOW // 4
"""The window moves when the market comes closer than this to either end of it."""
_MASK = WINDOW - 1


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
    _empty(words)
    return words


@inlined
def _ring_at(side):
    return BID_RING_AT if side > 0 else ASK_RING_AT


@inlined
def _used_at(side):
    return BID_OUTLIERS if side > 0 else ASK_OUTLIERS


@inlined
def _levels_at(side):
    return BID_LEVELS if side > 0 else ASK_LEVELS


@inlined
def _best_at(side):
    return BEST_BID if side > 0 else BEST_ASK


@inlined
def _outlier_ticks_at(side):
    return BID_OUTLIER_TICKS_AT if side > 0 else ASK_OUTLIER_TICKS_AT


@inlined
def _outlier_lots_at(side):
    return BID_OUTLIER_LOTS_AT if side > 0 else ASK_OUTLIER_LOTS_AT


@inlined
def _position(words, side, tick):
    """Return how many of this side's outliers are below ``tick``."""
    start = _outlier_ticks_at(side)
    first = 0
    count = words[_used_at(side)]
    while count > 0:
        half = count >> 1
        below = words[start + first + half] < tick
        first = first + half + 1 if below else first
        count = count - half - 1 if below else half
    return first


@kernel
def _write_outlier(words, side, tick, lots):
    """Set or delete a level outside the window; return the change in the number of levels."""
    ticks_at = _outlier_ticks_at(side)
    lots_at = _outlier_lots_at(side)
    used = words[_used_at(side)]
    at = _position(words, side, tick)
    present = at < used and words[ticks_at + at] == tick
    if present and lots != 0:
        words[lots_at + at] = lots
        return 0
    if present:
        move_words(words, ticks_at + at, ticks_at + at + 1, used - at - 1)
        move_words(words, lots_at + at, lots_at + at + 1, used - at - 1)
        words[_used_at(side)] = used - 1
        return -1
    if lots == 0:
        return 0
    move_words(words, ticks_at + at + 1, ticks_at + at, used - at)
    move_words(words, lots_at + at + 1, lots_at + at, used - at)
    words[ticks_at + at] = tick
    words[lots_at + at] = lots
    words[_used_at(side)] = used + 1
    return 1


@kernel
def _new_outliers(words, side, ticks, ticks_at, lots, lots_at, count):
    """Return how many of the given levels would need a new place among the outliers."""
    low = words[WINDOW_LOW]
    needed = 0
    for i in range(count):
        tick = ticks[ticks_at + i]
        if lots[lots_at + i] != 0 and not 0 <= tick - low < WINDOW:
            at = _position(words, side, tick)
            if at == words[_used_at(side)] or words[_outlier_ticks_at(side) + at] != tick:
                needed += 1
    return needed


@inlined
def _fits(words, side, ticks, ticks_at, lots, lots_at, count):
    spare = words[OUTLIER_CAPACITY] - words[_used_at(side)]
    return count <= spare or _new_outliers(words, side, ticks, ticks_at, lots, lots_at, count) <= spare


@inlined
def _settle(words, side, candidate):
    """Find the best of a side, knowing that none is better than ``candidate``."""
    low = words[WINDOW_LOW]
    used = words[_used_at(side)]
    start = _outlier_ticks_at(side)
    ring = _ring_at(side)
    best = NO_BID if side > 0 else NO_ASK
    if side > 0 and used > 0 and words[start + used - 1] >= low + WINDOW:
        best = words[start + used - 1]
    elif side < 0 and used > 0 and words[start] < low:
        best = words[start]
    elif words[_levels_at(side)] > used:
        best = min(candidate, low + WINDOW - 1) if side > 0 else max(candidate, low)
        while words[ring + (best & _MASK)] == 0:
            best -= side
    elif used > 0:
        best = words[start + used - 1] if side > 0 else words[start]
    words[_best_at(side)] = best


@inlined
def _write_levels(words, side, ticks, ticks_at, lots, lots_at, count):
    """Write levels of one side and settle its best."""
    low = words[WINDOW_LOW]
    ring = _ring_at(side)
    best = words[_best_at(side)]
    change = 0
    for i in range(count):
        tick = ticks[ticks_at + i]
        quantity = lots[lots_at + i]
        if 0 <= tick - low < WINDOW:
            slot = ring + (tick & _MASK)
            change += (1 if quantity != 0 else 0) - (1 if words[slot] != 0 else 0)
            words[slot] = quantity
        else:
            change += _write_outlier(words, side, tick, quantity)
        contender = tick if quantity != 0 else best
        best = max(best, contender) if side > 0 else min(best, contender)
    words[_levels_at(side)] += change
    words[COUNT_LEVELS] += count
    _settle(words, side, best)


@kernel
def _evict(words, side, first, last):
    """Move the levels of the ring in ``[first, last)`` to the outliers, which must have room."""
    ring = _ring_at(side)
    leaving = 0
    for tick in range(first, last):
        leaving += 1 if words[ring + (tick & _MASK)] != 0 else 0
    if leaving == 0:
        return
    ticks_at = _outlier_ticks_at(side)
    lots_at = _outlier_lots_at(side)
    used = words[_used_at(side)]
    at = _position(words, side, first)
    move_words(words, ticks_at + at + leaving, ticks_at + at, used - at)
    move_words(words, lots_at + at + leaving, lots_at + at, used - at)
    for tick in range(first, last):
        slot = ring + (tick & _MASK)
        if words[slot] != 0:
            words[ticks_at + at] = tick
            words[lots_at + at] = words[slot]
            words[slot] = 0
            at += 1
    words[_used_at(side)] = used + leaving


@kernel
def _admit(words, side):
    """Move the outliers that now lie in the window to the ring."""
    ring = _ring_at(side)
    ticks_at = _outlier_ticks_at(side)
    lots_at = _outlier_lots_at(side)
    used = words[_used_at(side)]
    first = _position(words, side, words[WINDOW_LOW])
    last = _position(words, side, words[WINDOW_LOW] + WINDOW)
    for i in range(first, last):
        words[ring + (words[ticks_at + i] & _MASK)] = words[lots_at + i]
    move_words(words, ticks_at + first, ticks_at + last, used - last)
    move_words(words, lots_at + first, lots_at + last, used - last)
    words[_used_at(side)] = used - (last - first)


@kernel
def _leaving(words, side, first, last):
    ring = _ring_at(side)
    count = 0
    for tick in range(first, last):
        count += 1 if words[ring + (tick & _MASK)] != 0 else 0
    return count


@kernel
def _move_window(words, new_low):
    """Move the window; return False, and leave it, where the outliers have no room for what leaves it."""
    low = words[WINDOW_LOW]
    if new_low == low:
        return True
    first = low if new_low > low else max(low, new_low + WINDOW)
    last = min(low + WINDOW, new_low) if new_low > low else low + WINDOW
    capacity = words[OUTLIER_CAPACITY]
    for side in (BID, ASK):
        if words[_used_at(side)] + _leaving(words, side, first, last) > capacity:
            return False
    for side in (BID, ASK):
        _evict(words, side, first, last)
    words[WINDOW_LOW] = new_low
    for side in (BID, ASK):
        _admit(words, side)
    words[COUNT_SHIFTS] += 1
    return True


@inlined
def _centred(tick):
    return (tick - WINDOW // 2) // WINDOW_STEP * WINDOW_STEP


@inlined
def _reference(words):
    """Return the tick that the window should be about; NO_BID for an empty book."""
    bid = words[BEST_BID]
    ask = words[BEST_ASK]
    if bid == NO_BID and ask == NO_ASK:
        return NO_BID
    if bid == NO_BID:
        return ask
    return bid if ask == NO_ASK else (bid + ask) >> 1


@kernel
def _move_after(words, reference):
    low = words[WINDOW_LOW]
    offset = reference - low
    if 0 <= offset < COMFORT:
        low -= (COMFORT - offset + WINDOW_STEP - 1) // WINDOW_STEP * WINDOW_STEP
    elif WINDOW - COMFORT <= offset < WINDOW:
        low += (offset - (WINDOW - COMFORT) + WINDOW_STEP) // WINDOW_STEP * WINDOW_STEP
    else:
        low = _centred(reference)
    return _move_window(words, low)


@inlined
def _follow(words):
    """Keep the market in the middle half of the window; where that fails the book is slower, not wrong."""
    reference = _reference(words)
    if reference != NO_BID and not COMFORT <= reference - words[WINDOW_LOW] < WINDOW - COMFORT:
        _move_after(words, reference)


@kernel
def recentre(words, tick):
    """Centre the window on ``tick``; return False, and leave it, where the outliers have no room."""
    return _move_window(words, _centred(tick))


@kernel
def _empty_side(words, side):
    """Delete all levels of a side, writing only to slots that hold one."""
    ring = _ring_at(side)
    left = words[_levels_at(side)] - words[_used_at(side)]
    low = words[WINDOW_LOW]
    tick = min(words[_best_at(side)], low + WINDOW - 1) if side > 0 else max(words[_best_at(side)], low)
    while left > 0:
        slot = ring + (tick & _MASK)
        if words[slot] != 0:
            words[slot] = 0
            left -= 1
        tick -= side
    words[_used_at(side)] = 0
    words[_levels_at(side)] = 0
    words[_best_at(side)] = NO_BID if side > 0 else NO_ASK


@kernel
def _empty(words):
    _empty_side(words, BID)
    _empty_side(words, ASK)


@kernel
def clear(words):
    """Forget all levels and the chain: every update is to be buffered until a snapshot."""
    _empty(words)
    words[SYNC] = SYNC_BUFFERING
    words[STALE_RUN] = 0
    words[CROSSED_RUN] = 0


@inlined
def _extremes(ticks, ticks_at, lots, lots_at, count):
    """Return the lowest and highest tick that has a quantity; (NO_ASK, NO_BID) if none has."""
    lowest = NO_ASK
    highest = NO_BID
    for i in range(count):
        if lots[lots_at + i] != 0:
            lowest = min(lowest, ticks[ticks_at + i])
            highest = max(highest, ticks[ticks_at + i])
    return lowest, highest


@inlined
def _outside(low, ticks, ticks_at, lots, lots_at, count):
    """Return how many levels lie outside a window that starts at ``low``."""
    outside = 0
    for i in range(count):
        if lots[lots_at + i] != 0 and not 0 <= ticks[ticks_at + i] - low < WINDOW:
            outside += 1
    return outside


@inlined
def _fill(words, side, ticks, ticks_at, lots, lots_at, count):
    """Write a snapshot's levels from its far end, which for the outliers of sorted bids is an append."""
    falling = True
    for i in range(count - 1):
        falling = falling and ticks[ticks_at + i] > ticks[ticks_at + i + 1]
    if falling:
        for i in range(count):
            at = count - 1 - i
            _write_levels(words, side, ticks, ticks_at + at, lots, lots_at + at, 1)
    else:
        _write_levels(words, side, ticks, ticks_at, lots, lots_at, count)


@inlined
def _replace(
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
    lowest_bid, highest_bid = _extremes(bid_ticks, bid_ticks_at, bid_lots, bid_lots_at, bids)
    lowest_ask, highest_ask = _extremes(ask_ticks, ask_ticks_at, ask_lots, ask_lots_at, asks)
    low = words[WINDOW_LOW]
    if highest_bid != NO_BID and lowest_ask != NO_ASK:
        low = _centred((highest_bid + lowest_ask) >> 1)
    elif highest_bid != NO_BID:
        low = _centred(highest_bid)
    elif lowest_ask != NO_ASK:
        low = _centred(lowest_ask)
    capacity = words[OUTLIER_CAPACITY]
    if (
        _outside(low, bid_ticks, bid_ticks_at, bid_lots, bid_lots_at, bids) > capacity
        or _outside(low, ask_ticks, ask_ticks_at, ask_lots, ask_lots_at, asks) > capacity
    ):
        return FULL
    _empty(words)
    words[WINDOW_LOW] = low
    _fill(words, BID, bid_ticks, bid_ticks_at, bid_lots, bid_lots_at, bids)
    _fill(words, ASK, ask_ticks, ask_ticks_at, ask_lots, ask_lots_at, asks)
    words[TRUSTED_LOW] = lowest_bid if highest_bid != NO_BID else 0
    words[TRUSTED_HIGH] = highest_ask if highest_ask != NO_BID else 0
    words[CROSSED_RUN] = 0
    return APPLIED


@kernel
def load_levels(words, bid_ticks, bid_lots, ask_ticks, ask_lots):
    """Replace all levels by these; of two with one price the later counts, unless bids are sorted.

    Returns:
        APPLIED, or FULL with the book untouched.
    """
    return _replace(
        words, bid_ticks, 0, bid_lots, 0, len(bid_ticks), ask_ticks, 0, ask_lots, 0, len(ask_ticks)
    )


@inlined
def _crossed(words):
    """Count crossed messages; whether the book has been crossed for longer than is tolerated."""
    if words[BEST_BID] < words[BEST_ASK]:
        words[CROSSED_RUN] = 0
        return False
    words[CROSSED_RUN] += 1
    words[COUNT_CROSSED] += 1
    return words[CROSSED_RUN] > CROSSED_TOLERANCE


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
    if not (
        _fits(words, BID, bid_ticks, bid_ticks_at, bid_lots, bid_lots_at, bids)
        and _fits(words, ASK, ask_ticks, ask_ticks_at, ask_lots, ask_lots_at, asks)
    ):
        return FULL
    _write_levels(words, BID, bid_ticks, bid_ticks_at, bid_lots, bid_lots_at, bids)
    _write_levels(words, ASK, ask_ticks, ask_ticks_at, ask_lots, ask_lots_at, asks)
    _follow(words)
    return CROSSED if _crossed(words) else APPLIED


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
    verdict = _replace(
        words, words, BID_TICKS_AT, words, BID_LOTS_AT, bids, words, ASK_TICKS_AT, words, ASK_LOTS_AT, asks
    )
    if verdict == FULL:
        return FULL
    return CROSSED if _crossed(words) else APPLIED_SNAPSHOT


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


@inlined
def _walk(words, side, limit, worst, ticks, ticks_at, lots, lots_at, keep):
    """Go through a side from its best: at most ``limit`` levels, none beyond the tick ``worst``.

    Where ``keep`` is set, levels are written to the arrays. Returns the count and the sum of the lots.
    """
    ring = _ring_at(side)
    start = _outlier_ticks_at(side)
    amounts = _outlier_lots_at(side)
    low = words[WINDOW_LOW]
    used = words[_used_at(side)]
    count = 0
    volume = 0
    near = 0  # outliers better than the window
    at = used - 1 if side > 0 else 0
    while near < used and (words[start + at] >= low + WINDOW if side > 0 else words[start + at] < low):
        if count == limit or side * words[start + at] < side * worst:
            return count, volume
        volume += words[amounts + at]
        if keep:
            ticks[ticks_at + count] = words[start + at]
            lots[lots_at + count] = words[amounts + at]
        count += 1
        near += 1
        at -= side
    left = words[_levels_at(side)] - used
    tick = min(words[_best_at(side)], low + WINDOW - 1) if side > 0 else max(words[_best_at(side)], low)
    while left > 0:
        if count == limit or side * tick < side * worst:
            return count, volume
        quantity = words[ring + (tick & _MASK)]
        if quantity != 0:
            volume += quantity
            if keep:
                ticks[ticks_at + count] = tick
                lots[lots_at + count] = quantity
            count += 1
            left -= 1
        tick -= side
    while near < used:
        if count == limit or side * words[start + at] < side * worst:
            return count, volume
        volume += words[amounts + at]
        if keep:
            ticks[ticks_at + count] = words[start + at]
            lots[lots_at + count] = words[amounts + at]
        count += 1
        near += 1
        at -= side
    return count, volume


@kernel
def collect(words, side, ticks, lots):
    """Write a side's levels, best first, as many as the arrays hold; return how many."""
    limit = min(len(ticks), len(lots))
    worst = NO_BID if side > 0 else NO_ASK
    if side > 0:
        return _walk(words, BID, limit, worst, ticks, 0, lots, 0, keep=True)[0]
    return _walk(words, ASK, limit, worst, ticks, 0, lots, 0, keep=True)[0]


@kernel
def top(words, depth, out):
    """Write the best ``depth`` levels of both sides, best first, into ``out[4 * depth]``.

    ``out`` holds bid ticks, bid lots, ask ticks and ask lots, ``depth`` words each; a thinner side leaves the
    rest of its words as they were.

    Returns:
        Bids written + (asks written << 32).
    """
    bids = _walk(words, BID, depth, NO_BID, out, 0, out, depth, keep=True)[0]
    asks = _walk(words, ASK, depth, NO_ASK, out, 2 * depth, out, 3 * depth, keep=True)[0]
    return bids + (asks << 32)


@kernel
def best(words, out):
    """Write best bid tick and lots, best ask tick and lots into ``out[4]``; lots are 0 for an empty side."""
    out[0] = words[BEST_BID]
    out[1] = _walk(words, BID, 1, NO_BID, out, 0, out, 0, keep=False)[1]
    out[2] = words[BEST_ASK]
    out[3] = _walk(words, ASK, 1, NO_ASK, out, 0, out, 0, keep=False)[1]


@kernel
def volume_to(words, side, worst, levels):
    """Return the lots of the best ``levels`` levels of a side that are not beyond the tick ``worst``."""
    if side > 0:
        return _walk(words, BID, levels, worst, words, 0, words, 0, keep=False)[1]
    return _walk(words, ASK, levels, worst, words, 0, words, 0, keep=False)[1]


@inlined
def _trim_side(words, side, low_tick, high_tick):
    ring = _ring_at(side)
    ticks_at = _outlier_ticks_at(side)
    lots_at = _outlier_lots_at(side)
    low = words[WINDOW_LOW]
    removed = 0
    for tick in range(low, low + WINDOW):
        if not low_tick <= tick <= high_tick and words[ring + (tick & _MASK)] != 0:
            words[ring + (tick & _MASK)] = 0
            removed += 1
    used = words[_used_at(side)]
    first = _position(words, side, low_tick)
    last = max(first, _position(words, side, high_tick + 1))
    move_words(words, ticks_at, ticks_at + first, last - first)
    move_words(words, lots_at, lots_at + first, last - first)
    words[_used_at(side)] = last - first
    removed += used - (last - first)
    words[_levels_at(side)] -= removed
    _settle(words, side, words[_best_at(side)])
    return removed


@kernel
def trim(words, low_tick, high_tick):
    """Delete the levels of both sides outside ``[low_tick, high_tick]``; return how many."""
    return _trim_side(words, BID, low_tick, high_tick) + _trim_side(words, ASK, low_tick, high_tick)


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
