"""Level arrays: ``[["price","quantity"],…]`` to ticks and lots in a book's scratch.

Two roads with one result. The regular one expects all prices, and all quantities, to carry the decimals
that they carried last time: then the point is at a known place from each text's end, a number is one or
two masked words, and nothing branches on a value; every doubt is gathered into a few words that are
looked at once, after the last level. Whatever it does not like is scanned again by the other road, number
by number.
"""

from __future__ import annotations

from bookrunner.kernels.intrinsics import (
    as_double,
    load8,
    load16,
    load32,
    load64,
    quote_mask,
    shift_right,
    trailing_zeros,
)
from bookrunner.kernels.jit import inlined, kernel
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

_OPEN_LEVEL = literal(b'["')
_BETWEEN = literal(b'","')
_NEXT_LEVEL = literal(b'"],[')
_LAST_LEVEL = literal(b'"]]')
_THREE_BYTES = (1 << 24) - 1
_BLOCK = 64

_MAX_REGULAR = 16
"""Characters of a number on the regular road: two words."""
_EXACT = 2**50
"""Below it a quotient through a double is at most one off, and multiplying back tells."""


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
def _scan_regular(base, at, size, words, ticks_at, lots_at, price_scale, quantity_scale):
    price = _shape(price_scale)
    row = PRICE_TABLE_AT + 3 * price_scale
    price_numerator, price_denominator = words[row], words[row + 1]
    price_inverse = as_double(words[row + 2])
    quantity = _shape(quantity_scale)
    row = QUANTITY_TABLE_AT + 3 * quantity_scale
    quantity_numerator, quantity_denominator = words[row], words[row + 1]
    quantity_inverse = as_double(words[row + 2])
    price_limit = _EXACT // price_numerator
    quantity_limit = _EXACT // quantity_numerator
    last_block = size - _BLOCK
    at += 1
    if at + 4 > size or load8(base + at) != 91:
        return FAIL, 0, False
    doubts = 0  # high bits: a character out of place
    signs = 0  # negative: a number out of range
    shape = 0  # not 0: a separator out of place
    rest = 0  # not 0: a value off the grid
    count = 0
    while count < MAX_LEVELS:
        block = min(at, last_block)
        first = shift_right(quote_mask(base + block), at - block)
        second = first & (first - 1)
        third = second & (second - 1)
        fourth = third & (third - 1)
        price_length = trailing_zeros(second) - 2
        level_length = trailing_zeros(fourth)
        quantity_length = level_length - price_length - 5
        if fourth == 0 or at + level_length + 4 > size:
            return FAIL, 0, False
        if price_length > _MAX_REGULAR or quantity_length > _MAX_REGULAR:
            return FAIL, 0, False
        price_end = at + 2 + price_length
        level_end = at + level_length
        shape |= ((first & 3) ^ 2) | ((load32(base + price_end) & _THREE_BYTES) ^ _BETWEEN)
        mantissa, doubt = _number(base, price_end, price_length, price)
        scaled = mantissa * price_numerator
        ticks = int(float(scaled) * price_inverse + 0.5)
        rest |= (ticks * price_denominator) ^ scaled
        doubts |= doubt
        signs |= (mantissa - 1) | (price_limit - mantissa)
        words[ticks_at + count] = ticks
        mantissa, doubt = _number(base, level_end, quantity_length, quantity)
        scaled = mantissa * quantity_numerator
        lots = int(float(scaled) * quantity_inverse + 0.5)
        rest |= (lots * quantity_denominator) ^ scaled
        doubts |= doubt
        signs |= quantity_limit - mantissa
        words[lots_at + count] = lots
        count += 1
        separator = load32(base + level_end)
        if separator != _NEXT_LEVEL:
            shape |= (separator & _THREE_BYTES) ^ _LAST_LEVEL
            if shape != 0 or signs < 0 or (doubts & HIGH_BITS) != 0:
                return FAIL, 0, False
            return level_end + 3, count, rest != 0
        at += level_length + 3
    return FAIL, 0, False


@kernel
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


@kernel
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
    if 0 <= price_scale < _MAX_REGULAR and 0 <= quantity_scale < _MAX_REGULAR:
        regular = _scan_regular(base, at, size, words, ticks_at, lots_at, price_scale, quantity_scale)
        if regular[0] >= 0:
            return regular
    return _scan_any(base, at, size, words, ticks_at, lots_at)
