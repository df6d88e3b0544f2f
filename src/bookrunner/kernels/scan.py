"""Steps of a frame scanner: JSON text to integers, without a Python object.

A scanner accepts only the shapes that it knows and gives up on anything else, so that the typed decoder
can say what is wrong. ``base`` is the address of the frame, ``at`` and ``end`` are offsets in it,
``size`` its length. Steps return the next offset, or ``FAIL`` (negative); a caller checks before it goes
on. Nothing is read outside ``[base, base + size)``; frames shorter than ``SHORTEST`` are refused, so that
a whole block can be read up to the end.
"""

from __future__ import annotations

import numpy as np

from bookrunner.kernels.intrinsics import load8, load64, shift_right, trailing_zeros
from bookrunner.kernels.jit import inlined, spliced, step
from bookrunner.kernels.layout import MAX_SCALE, SYMBOL_AT, SYMBOL_LENGTH

FAIL = -1
SHORTEST = 64
"""Bytes in the shortest frame that the compiled road looks at: one block."""


def literal(text: bytes) -> int:
    """Return up to eight characters as the little-endian signed word that a load of them gives."""
    return int.from_bytes(text.ljust(8, b"\0"), "little", signed=True)


def repeated(byte: int) -> int:
    """Return a word of eight equal bytes, as a signed integer."""
    return int.from_bytes(bytes([byte]) * 8, "little", signed=True)


ZEROS = repeated(ord("0"))
HIGH_BITS = repeated(0x80)
TO_HIGH_BIT = repeated(0x80 - 10)  # adding it sets the high bit of every byte above 9
_PAIRS = 0x000000FF000000FF
_PAIR_WEIGHTS_HIGH = 100 + (1_000_000 << 32)
_PAIR_WEIGHTS_LOW = 1 + (10_000 << 32)
_TRUE = literal(b"true")
_FALSE = literal(b"false")
_LAST_MILLISECOND = 9_223_372_036_854  # the last that fits int64 nanoseconds, in the year 2262
_LAST_MICROSECOND = 9_223_372_036_854_775
_POWERS = np.array([10**i for i in range(19)], np.int64)


@inlined
def load_word(base, at, size):
    """Return the eight bytes at an offset; bytes after the frame's end read as 0."""
    if at + 8 <= size:
        return load64(base + at)
    missing = at + 8 - size
    if missing >= 8:
        return 0
    return shift_right(load64(base + size - 8), 8 * missing)


@spliced
def eight_digits(word):
    """Return the number that eight digit values (bytes 0 to 9, most significant first) stand for."""
    pairs = word * 10 + shift_right(word, 8)
    high = (pairs & _PAIRS) * _PAIR_WEIGHTS_HIGH
    low = (shift_right(pairs, 16) & _PAIRS) * _PAIR_WEIGHTS_LOW
    return shift_right(high + low, 32)


@step
def scan_integer(base, at, size):
    """Scan a JSON integer of 0 to 2**63 - 1; return (value, next offset, digits)."""
    value = 0
    digits = 0
    while True:
        word = load_word(base, at + digits, size) ^ ZEROS
        others = (word | (word + TO_HIGH_BIT)) & HIGH_BITS
        count = trailing_zeros(others) >> 3
        if count == 8 and digits < 16:
            value = value * 100_000_000 + eight_digits(word)
            digits += 8
            continue
        if count > 0:
            value = value * _POWERS[count] + eight_digits(word << (64 - 8 * count))
        digits += count
        break
    # Nineteen digits beyond 2**63 - 1 wrap to a negative value, never to a positive one.
    if digits == 0 or digits > 19 or value < 0 or (digits > 1 and load8(base + at) == 48):
        return 0, FAIL, 0
    return value, at + digits, digits


@inlined
def nanoseconds(value, digits):
    """Return a Unix time in milliseconds (13 digits) or microseconds (16) in ns; FAIL if it is neither."""
    if digits == 13 and value <= _LAST_MILLISECOND:
        return value * 1_000_000
    if digits == 16 and value <= _LAST_MICROSECOND:
        return value * 1_000
    return FAIL


@spliced
def starts_with(base, at, size, text, length):
    """Whether the frame goes on with a literal of ``length`` (1 to 8) characters, given as a word."""
    return at + length <= size and (load_word(base, at, size) ^ text) << (64 - 8 * length) == 0


@inlined
def skip_plain(base, at, size):
    """Skip a string of printable ASCII without escapes, from its first character to after its quote."""
    while at < size:
        byte = load8(base + at)
        if byte == 34:
            return at + 1
        if byte < 32 or byte > 126 or byte == 92:
            return FAIL
        at += 1
    return FAIL


@spliced
def skip_text(base, at, size):
    """Skip a plain string with its quotes."""
    return skip_plain(base, at + 1, size) if at < size and load8(base + at) == 34 else FAIL


@inlined
def scan_flag(base, at, size):
    """Scan ``true`` or ``false``; return (1 or 0, next offset)."""
    if starts_with(base, at, size, _TRUE, 4):
        return 1, at + 4
    if starts_with(base, at, size, _FALSE, 5):
        return 0, at + 5
    return 0, FAIL


@inlined
def matches(base, at, size, words, name_at, length):
    """Whether the frame holds the name that starts at ``words[name_at]``, ``length`` bytes of it."""
    if at + length > size:
        return False
    done = 0
    while length - done > 8:
        if load64(base + at + done) != words[name_at + (done >> 3)]:
            return False
        done += 8
    difference = load_word(base, at + done, size) ^ words[name_at + (done >> 3)]
    return (difference << (64 - 8 * (length - done))) == 0


@inlined
def skip_symbol(base, at, size, words):
    """Skip a quoted string that must be the book's symbol, from its quote to after its other quote."""
    length = words[SYMBOL_LENGTH]
    if not (at < size and load8(base + at) == 34 and matches(base, at + 1, size, words, SYMBOL_AT, length)):
        return FAIL
    at += 1 + length
    return at + 1 if at < size and load8(base + at) == 34 else FAIL


@spliced
def after_value(base, at, size):
    """Return (offset of the next key's quote, False), (offset after the brace, True) or (FAIL, False)."""
    two = load_word(base, at, size) & 0xFFFF
    if two == 0x222C:  # ,"
        return at + 1, False
    if two & 0xFF == 0x7D:  # }
        return at + 1, True
    return FAIL, False


@inlined
def scan_decimal(base, start, end):
    """Scan ``digits[.digits]`` in exactly ``[start, end)``; return (mantissa, decimals), or (0, FAIL).

    The same grammar as ``core.fixed.parse_decimal``.
    """
    if not 0 < end - start <= MAX_SCALE + 1:
        return 0, FAIL
    mantissa = 0
    point = FAIL
    for at in range(start, end):
        byte = load8(base + at)
        if 48 <= byte <= 57:
            mantissa = mantissa * 10 + (byte - 48)
        elif byte == 46 and point < 0 and start < at < end - 1:
            point = at
        else:
            return 0, FAIL
    if point < 0:
        return (mantissa, 0) if end - start <= MAX_SCALE else (0, FAIL)
    return mantissa, end - point - 1


@inlined
def to_grid(words, row, mantissa):
    """Return (steps, off grid) by a row of a grid table; steps are FAIL where they exceed a book's range."""
    numerator = words[row]
    denominator = words[row + 1]
    if mantissa > (2**62 - 1) // numerator:
        return FAIL, False
    scaled = mantissa * numerator
    steps = scaled // denominator
    return steps, steps * denominator != scaled


@inlined
def scan_quoted_decimal(base, at, size):
    """Scan a decimal in quotes; return (mantissa, decimals, next offset)."""
    if at >= size or load8(base + at) != 34:
        return 0, 0, FAIL
    end = at + 1
    while end < size and end - at <= MAX_SCALE + 2 and load8(base + end) != 34:
        end += 1
    if end >= size or load8(base + end) != 34:
        return 0, 0, FAIL
    mantissa, decimals = scan_decimal(base, at + 1, end)
    return mantissa, decimals, (end + 1 if decimals >= 0 else FAIL)


@inlined
def scan_quoted_steps(base, at, size, words, table_at):
    """Scan a decimal in quotes onto a grid; return (steps, off grid, next offset)."""
    mantissa, decimals, at = scan_quoted_decimal(base, at, size)
    if at < 0:
        return 0, False, FAIL
    steps, off_grid = to_grid(words, table_at + 3 * decimals, mantissa)
    return steps, off_grid, (at if steps >= 0 else FAIL)
