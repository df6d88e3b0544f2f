"""Levels of one side: a dense ring for ticks in the window, sorted arrays for those outside.

Inside the kernels ``side`` is 0 for bids and 1 for asks, so that its words lie at ``side`` times a stride;
``sign`` is 1 for bids and -1 for asks, so that ``sign * tick`` grows towards the other side.
"""

from __future__ import annotations

from bookrunner.kernels.intrinsics import address_of, load64, move_words, store64
from bookrunner.kernels.jit import inlined, spliced, step
from bookrunner.kernels.layout import (
    BEST_ASK,
    BEST_BID,
    BID_LEVELS,
    BID_OUTLIER_LOTS_AT,
    BID_OUTLIER_TICKS_AT,
    BID_OUTLIERS,
    BID_RING_AT,
    COUNT_LEVELS,
    COUNT_SHIFTS,
    MAX_OUTLIERS,
    NO_ASK,
    NO_BID,
    OUTLIER_CAPACITY,
    WINDOW,
    WINDOW_LOW,
    WINDOW_STEP,
)

COMFORT = WINDOW // 4
"""The window moves when the market comes closer than this to either end of it."""
MASK = WINDOW - 1
OUTLIER_STRIDE = 2 * MAX_OUTLIERS
"""Words from the outliers of one side to those of the other."""


@inlined
def position(words, ticks_at, used, tick):
    """Return how many of the ``used`` outliers at ``ticks_at`` are below ``tick``."""
    first = 0
    while used > 0:
        half = used >> 1
        below = words[ticks_at + first + half] < tick
        first = first + half + 1 if below else first
        used = used - half - 1 if below else half
    return first


@step
def write_outlier(words, side, tick, lots):
    """Set or delete a level outside the window; return the change in the number of levels."""
    ticks_at = BID_OUTLIER_TICKS_AT + side * OUTLIER_STRIDE
    lots_at = BID_OUTLIER_LOTS_AT + side * OUTLIER_STRIDE
    used = words[BID_OUTLIERS + side]
    at = position(words, ticks_at, used, tick)
    present = at < used and words[ticks_at + at] == tick
    if present and lots != 0:
        words[lots_at + at] = lots
        return 0
    if present:
        move_words(words, ticks_at + at, ticks_at + at + 1, used - at - 1)
        move_words(words, lots_at + at, lots_at + at + 1, used - at - 1)
        words[BID_OUTLIERS + side] = used - 1
        return -1
    if lots == 0:
        return 0
    move_words(words, ticks_at + at + 1, ticks_at + at, used - at)
    move_words(words, lots_at + at + 1, lots_at + at, used - at)
    words[ticks_at + at] = tick
    words[lots_at + at] = lots
    words[BID_OUTLIERS + side] = used + 1
    return 1


@inlined
def settle(words, side, contender):
    """Find the best of a side, knowing that no level is better than ``sign * contender``."""
    sign = 1 - 2 * side
    used = words[BID_OUTLIERS + side]
    inside = words[BID_LEVELS + side] - used
    low = words[WINDOW_LOW]
    nearest = low + (1 - side) * MASK  # the window's end towards the other side
    outlier = words[BID_OUTLIER_TICKS_AT + side * OUTLIER_STRIDE + (1 - side) * (used - 1)]
    best = outlier if used > 0 else sign * NO_BID
    if inside > 0 and not (used > 0 and sign * outlier > sign * nearest):
        ring = BID_RING_AT + side * WINDOW
        best = sign * min(contender, sign * nearest)
        while words[ring + (best & MASK)] == 0:
            best -= sign
    words[BEST_BID + side] = best


@step
def write_side(words, side, ticks, lots, count):
    """Write ``count`` levels, whose words start at these addresses, and settle the best.

    The outliers must have room, see ``new_outliers``.
    """
    low = words[WINDOW_LOW]
    ring = address_of(words) + 8 * (BID_RING_AT + side * WINDOW)
    sign = 1 - 2 * side
    contender = sign * words[BEST_BID + side]
    change = 0
    for i in range(count):
        tick = load64(ticks + 8 * i)
        quantity = load64(lots + 8 * i)
        if 0 <= tick - low < WINDOW:
            slot = ring + 8 * (tick & MASK)
            change += (1 if quantity != 0 else 0) - (1 if load64(slot) != 0 else 0)
            store64(slot, quantity)
        else:
            change += write_outlier(words, side, tick, quantity)
        contender = max(contender, sign * tick if quantity != 0 else NO_BID)
    words[BID_LEVELS + side] += change
    words[COUNT_LEVELS] += count
    settle(words, side, contender)


@step
def new_outliers(words, side, ticks, lots, count):
    """Return how many of the levels at these addresses would need a new place among the outliers."""
    low = words[WINDOW_LOW]
    outliers_at = BID_OUTLIER_TICKS_AT + side * OUTLIER_STRIDE
    used = words[BID_OUTLIERS + side]
    needed = 0
    for i in range(count):
        tick = load64(ticks + 8 * i)
        if load64(lots + 8 * i) != 0 and not 0 <= tick - low < WINDOW:
            at = position(words, outliers_at, used, tick)
            if at == used or words[outliers_at + at] != tick:
                needed += 1
    return needed


@step
def move_window(words, new_low):
    """Move the window; return False, and leave it, where the outliers have no room for what leaves it."""
    low = words[WINDOW_LOW]
    first = low if new_low > low else max(low, new_low + WINDOW)  # [first, last): the ticks that leave it
    last = min(low + WINDOW, new_low) if new_low > low else low + WINDOW
    for side in range(2):
        ring = BID_RING_AT + side * WINDOW
        room = words[OUTLIER_CAPACITY] - words[BID_OUTLIERS + side]
        for tick in range(first, last):
            room -= 1 if words[ring + (tick & MASK)] != 0 else 0
        if room < 0:
            return False
    words[WINDOW_LOW] = new_low
    for side in range(2):
        ring = BID_RING_AT + side * WINDOW
        for tick in range(first, last):
            slot = ring + (tick & MASK)
            if words[slot] != 0:
                write_outlier(words, side, tick, words[slot])
                words[slot] = 0
        ticks_at = BID_OUTLIER_TICKS_AT + side * OUTLIER_STRIDE
        lots_at = BID_OUTLIER_LOTS_AT + side * OUTLIER_STRIDE
        used = words[BID_OUTLIERS + side]
        entering = position(words, ticks_at, used, new_low)
        after = position(words, ticks_at, used, new_low + WINDOW)
        for i in range(entering, after):
            words[ring + (words[ticks_at + i] & MASK)] = words[lots_at + i]
        move_words(words, ticks_at + entering, ticks_at + after, used - after)
        move_words(words, lots_at + entering, lots_at + after, used - after)
        words[BID_OUTLIERS + side] = used - (after - entering)
    words[COUNT_SHIFTS] += 1
    return True


@spliced
def centred(tick):
    """Return the start of a window about ``tick``."""
    return (tick - WINDOW // 2) // WINDOW_STEP * WINDOW_STEP


@step
def follow(words, reference):
    """Move the window by the fewest steps that bring ``reference`` back into its middle half."""
    low = words[WINDOW_LOW]
    offset = reference - low
    if 0 <= offset < COMFORT:
        low -= (COMFORT - offset + WINDOW_STEP - 1) // WINDOW_STEP * WINDOW_STEP
    elif WINDOW - COMFORT <= offset < WINDOW:
        low += (offset - (WINDOW - COMFORT) + WINDOW_STEP) // WINDOW_STEP * WINDOW_STEP
    else:
        low = centred(reference)
    return move_window(words, low)


@spliced
def reference_tick(bid, ask):
    """Return the tick that the window should be about; NO_BID where there is none."""
    if ask == NO_ASK:
        return bid
    return ask if bid == NO_BID else (bid + ask) >> 1


@step
def empty(words):
    """Delete all levels, writing only to slots that hold one."""
    low = words[WINDOW_LOW]
    for side in range(2):
        sign = 1 - 2 * side
        ring = BID_RING_AT + side * WINDOW
        left = words[BID_LEVELS + side] - words[BID_OUTLIERS + side]
        tick = sign * min(sign * words[BEST_BID + side], sign * (low + (1 - side) * MASK))
        while left > 0:
            slot = ring + (tick & MASK)
            if words[slot] != 0:
                words[slot] = 0
                left -= 1
            tick -= sign
        words[BID_OUTLIERS + side] = 0
        words[BID_LEVELS + side] = 0
    words[BEST_BID] = NO_BID
    words[BEST_ASK] = NO_ASK


@step
def trim_side(words, side, low_tick, high_tick):
    """Delete the levels of a side outside ``[low_tick, high_tick]``; return how many."""
    ring = BID_RING_AT + side * WINDOW
    low = words[WINDOW_LOW]
    removed = 0
    for tick in range(low, low + WINDOW):
        slot = ring + (tick & MASK)
        if not low_tick <= tick <= high_tick and words[slot] != 0:
            words[slot] = 0
            removed += 1
    ticks_at = BID_OUTLIER_TICKS_AT + side * OUTLIER_STRIDE
    lots_at = BID_OUTLIER_LOTS_AT + side * OUTLIER_STRIDE
    used = words[BID_OUTLIERS + side]
    first = position(words, ticks_at, used, low_tick)
    last = max(first, position(words, ticks_at, used, high_tick + 1))
    move_words(words, ticks_at, ticks_at + first, last - first)
    move_words(words, lots_at, lots_at + first, last - first)
    removed += used - (last - first)
    words[BID_OUTLIERS + side] = last - first
    words[BID_LEVELS + side] -= removed
    settle(words, side, (1 - 2 * side) * words[BEST_BID + side])
    return removed


@step
def walk(words, side, limit, worst, ticks, lots):
    """Go through a side from its best: at most ``limit`` levels, none beyond the tick ``worst``.

    Levels are written to the addresses ``ticks`` and ``lots`` unless those are 0. Returns the count and the
    sum of the lots.
    """
    sign = 1 - 2 * side
    ring = BID_RING_AT + side * WINDOW
    outliers_at = BID_OUTLIER_TICKS_AT + side * OUTLIER_STRIDE
    amounts_at = BID_OUTLIER_LOTS_AT + side * OUTLIER_STRIDE
    low = words[WINDOW_LOW]
    nearest = low + (1 - side) * MASK
    outliers = words[BID_OUTLIERS + side]
    inside = words[BID_LEVELS + side] - outliers
    outlier = (1 - side) * (outliers - 1)  # index of the best one left
    tick = sign * min(sign * words[BEST_BID + side], sign * nearest)
    count = 0
    volume = 0
    while count < limit and outliers + inside > 0:
        # Outliers better than the window come first, those worse than it last.
        if outliers > 0 and (inside == 0 or sign * words[outliers_at + outlier] > sign * nearest):
            price = words[outliers_at + outlier]
            quantity = words[amounts_at + outlier]
            outlier -= sign
            outliers -= 1
        else:
            while words[ring + (tick & MASK)] == 0:
                tick -= sign
            price = tick
            quantity = words[ring + (tick & MASK)]
            tick -= sign
            inside -= 1
        if sign * price < sign * worst:
            break
        if ticks != 0:
            store64(ticks + 8 * count, price)
            store64(lots + 8 * count, quantity)
        volume += quantity
        count += 1
    return count, volume
