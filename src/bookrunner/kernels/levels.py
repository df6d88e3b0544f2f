"""Level arrays: ``[["price","quantity"],…]`` to ticks and lots in a book's scratch.

Two roads with one result. The regular one expects all prices, and all quantities, to carry the decimals
that they carried last time: then the point is at a known place from each text's end, a number is one or
two masked words, and nothing branches on a value; every doubt is gathered into a few words that are
looked at once, after the last level. Whatever it does not like is scanned again by the other road, number
by number.
"""

from __future__ import annotations

from bookrunner.kernels.intrinsics import (
    address_of,
    as_double,
    load8,
    load16,
    load32,
    load64,
    quote_mask,
    shift_right,
    store64,
    trailing_zeros,
)
from bookrunner.kernels.jit import inlined, step
from bookrunner.kernels.layout import (
    MAX_LEVELS,
    MIXED_SCALE,
    PRICE_TABLE_AT,
    PRICE_TEXT_SCALE,
    QUANTITY_TABLE_AT,
    QUANTITY_TEXT_SCALE,
)
from bookrunner.kernels.scan import (
    FAIL,
    HIGH_BITS,
    TO_HIGH_BIT,
    ZEROS,
    eight_digits,
    literal,
    scan_quoted_decimal,
    to_grid,
)

_OPEN_ARRAY = literal(b"[[")
_OPEN_LEVEL = literal(b'["')
_BETWEEN = literal(b'","')
_NEXT_LEVEL = literal(b'"],[')
_LAST_LEVEL = literal(b'"]]')
_THREE_BYTES = (1 << 24) - 1
_BLOCK = 64

_MAX_REGULAR = 16
"""Characters of a number on the regular road: two words. Its 15 digits are below 2**50, where a quotient
through a double is exact wherever there is no rest, and multiplying back tells."""


@inlined
def _shape(decimals):
    """Return where the point of a text lies, as constants for its first and its last eight characters.

    For each: the characters that it is compared with (zeros and the point), what to add so that any other
    character sets a high bit, and the bytes after and before the point. Then: whether the first word's last
    digit moves into the second; the shortest text.
    """
    bit = 8 * (15 - decimals if decimals > 7 else 7 - decimals)
    point = ZEROS ^ (0x1E << bit)
    limit = TO_HIGH_BIT + (0x09 << bit)
    before = (1 << bit) - 1
    after = ~(before | (0xFF << bit))
    if decimals == 0:
        return ZEROS, TO_HIGH_BIT, -1, 0, ZEROS, TO_HIGH_BIT, -1, 0, 0, 1
    if decimals > 7:
        return point, limit, after, before, ZEROS, TO_HIGH_BIT, -1, 0, 0, decimals + 2
    return ZEROS, TO_HIGH_BIT, 0, -1, point, limit, after, before, 0xFF, decimals + 2


@inlined
def _number(base, end, length, shape):
    """Return (mantissa, doubts) of the text of ``length`` (1 to 16) characters that ends at offset ``end``.

    A high bit in doubts, masked with ``HIGH_BITS``, means that the text is not of this shape.
    """
    point, limit, after, before, last_point, last_limit, last_after, last_before, carry, shortest = shape
    last = load64(base + end - 8) ^ last_point
    if length <= 8:
        unused = 64 - 8 * length
        last = shift_right(last, unused) << (unused & 63)
        digits = (last & last_after) | ((last & last_before) << 8)
        return eight_digits(digits), last | (last + last_limit) | (length - shortest)
    unused = 128 - 8 * length
    first = load64(base + end - 16) ^ point
    first = shift_right(first, unused) << (unused & 63)
    digits = (last & last_after) | ((last & last_before) << 8) | (shift_right(first, 56) & carry)
    leading = (first & after) | ((first & before) << 8)
    doubts = last | (last + last_limit) | first | (first + limit) | (length - shortest)
    return eight_digits(leading) * 100_000_000 + eight_digits(digits), doubts


@inlined
def _steps(mantissa, denominator, inverse):
    """Return (quotient, not 0 if there is a rest) of a mantissa below 2**50."""
    steps = int(float(mantissa) * inverse + 0.5)
    return steps, (steps * denominator) ^ mantissa


@inlined
def _scan_regular(base, at, size, words, ticks_at, lots_at, price_scale, quantity_scale):
    price = _shape(price_scale)
    price_row = PRICE_TABLE_AT + 3 * price_scale
    price_denominator = words[price_row + 1]
    price_inverse = as_double(words[price_row + 2])
    longest_price = _MAX_REGULAR if price_scale > 0 else _MAX_REGULAR - 1
    quantity = _shape(quantity_scale)
    quantity_row = QUANTITY_TABLE_AT + 3 * quantity_scale
    quantity_denominator = words[quantity_row + 1]
    quantity_inverse = as_double(words[quantity_row + 2])
    longest_quantity = _MAX_REGULAR if quantity_scale > 0 else _MAX_REGULAR - 1
    if words[price_row] != 1 or words[quantity_row] != 1:  # a grid finer than the texts
        return FAIL, 0, False
    ticks = address_of(words) + 8 * ticks_at
    lots = address_of(words) + 8 * lots_at
    last_block = size - _BLOCK
    doubts = 0  # high bits: a character out of place
    shape = 0  # not 0: a separator out of place
    zero = 0  # negative: a price of zero
    rest = 0  # not 0: a value off the grid
    count = 0
    at += 1
    while count < MAX_LEVELS:
        if at <= last_block:
            first = quote_mask(base + at)
        else:
            first = shift_right(quote_mask(base + last_block), at - last_block)
        second = first & (first - 1)
        third = second & (second - 1)
        fourth = third & (third - 1)
        price_length = trailing_zeros(second) - 2
        level_length = trailing_zeros(fourth)
        quantity_length = level_length - price_length - 5
        price_end = at + 2 + price_length
        level_end = at + level_length
        if fourth == 0 or level_end + 4 > size:
            return FAIL, 0, False
        if price_length > longest_price or quantity_length > longest_quantity:
            return FAIL, 0, False
        # A quote anywhere but right after the bracket would stand in the price, and be doubted there.
        shape |= (load32(base + price_end) & _THREE_BYTES) ^ _BETWEEN
        mantissa, doubt = _number(base, price_end, price_length, price)
        doubts |= doubt
        zero |= mantissa - 1
        steps, off = _steps(mantissa, price_denominator, price_inverse)
        rest |= off
        store64(ticks + 8 * count, steps)
        mantissa, doubt = _number(base, level_end, quantity_length, quantity)
        doubts |= doubt
        if quantity_denominator == 1:
            store64(lots + 8 * count, mantissa)
        else:
            steps, off = _steps(mantissa, quantity_denominator, quantity_inverse)
            rest |= off
            store64(lots + 8 * count, steps)
        count += 1
        separator = load32(base + level_end)
        if separator != _NEXT_LEVEL:
            shape |= (separator & _THREE_BYTES) ^ _LAST_LEVEL
            if shape != 0 or zero < 0 or (doubts & HIGH_BITS) != 0:
                return FAIL, 0, False
            return level_end + 3, count, rest != 0
        at += level_length + 3
    return FAIL, 0, False


@step
def _scan_any(base, at, size, words, ticks_at, lots_at):
    at += 1
    count = 0
    off_grid = False
    price_scale = -2
    quantity_scale = -2
    while count < MAX_LEVELS:
        if at + 2 > size or load16(base + at) != _OPEN_LEVEL:
            return FAIL, 0, False
        mantissa, decimals, at = scan_quoted_decimal(base, at + 1, size)
        if at < 0 or mantissa == 0 or at >= size or load8(base + at) != 44:
            return FAIL, 0, False
        ticks, off = to_grid(words, PRICE_TABLE_AT + 3 * decimals, mantissa)
        off_grid = off_grid or off
        price_scale = decimals if price_scale in (-2, decimals) else MIXED_SCALE
        mantissa, decimals, at = scan_quoted_decimal(base, at + 1, size)
        if at < 0 or ticks < 0:
            return FAIL, 0, False
        lots, off = to_grid(words, QUANTITY_TABLE_AT + 3 * decimals, mantissa)
        off_grid = off_grid or off
        quantity_scale = decimals if quantity_scale in (-2, decimals) else MIXED_SCALE
        if lots < 0 or at + 2 > size or load8(base + at) != 93:
            return FAIL, 0, False
        words[ticks_at + count] = ticks
        words[lots_at + count] = lots
        count += 1
        separator = load8(base + at + 1)
        at += 2
        if separator == 93:
            words[PRICE_TEXT_SCALE] = price_scale
            words[QUANTITY_TEXT_SCALE] = quantity_scale
            return at, count, off_grid
        if separator != 44:
            return FAIL, 0, False
    return FAIL, 0, False


@step
def scan_levels(base, at, size, words, ticks_at, lots_at):
    """Scan a level array, which starts at offset ``at`` of the frame.

    Args:
        base: address of the frame.
        at: offset of the array's opening bracket.
        size: length of the frame, at least one block.
        words: the book; receives ticks and lots at ``ticks_at`` and ``lots_at``, in the frame's order.
        ticks_at: where ticks go.
        lots_at: where lots go.

    Returns:
        (next offset or FAIL, levels, whether a value is finer than the grid).
    """
    if at + 2 > size or load8(base + at) != 91:
        return FAIL, 0, False
    if load8(base + at + 1) == 93:
        return at + 2, 0, False
    price_scale = words[PRICE_TEXT_SCALE]
    quantity_scale = words[QUANTITY_TEXT_SCALE]
    known = 0 <= price_scale < _MAX_REGULAR and 0 <= quantity_scale < _MAX_REGULAR
    if known and at >= _MAX_REGULAR and load16(base + at) == _OPEN_ARRAY:
        regular = _scan_regular(base, at, size, words, ticks_at, lots_at, price_scale, quantity_scale)
        if regular[0] >= 0:
            return regular
    return _scan_any(base, at, size, words, ticks_at, lots_at)
