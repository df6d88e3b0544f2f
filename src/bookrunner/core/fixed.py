"""Exact decimals as integers on a grid.

A decimal is ``mantissa * 10**-scale``. A grid's step is ``units * 10**-scale``; a value is stored as its
count of steps (ticks for prices, lots for quantities).
"""

from __future__ import annotations

import re
from math import gcd

MAX_DIGITS = 18
"""Digits a mantissa may have, so that it always fits int64."""

_DECIMAL = re.compile(rf"(\d{{1,{MAX_DIGITS}}})(?:\.(\d{{1,{MAX_DIGITS}}}))?", re.ASCII)


def parse_decimal(text: str) -> tuple[int, int]:
    """Return ``(mantissa, scale)`` of an unsigned decimal such as ``"61800.20"`` -> ``(6180020, 2)``.

    Only digits with at most one point between digits are accepted: no sign, exponent, space or underscore.

    Raises:
        ValueError: the text is anything else, or has more than ``MAX_DIGITS`` digits.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"not an unsigned decimal: {text[:40]!r}")
    whole, fraction = match[1], match[2] or ""
    if len(whole) + len(fraction) > MAX_DIGITS:
        raise ValueError(f"more than {MAX_DIGITS} digits: {text[:40]!r}")
    return int(whole + fraction), len(fraction)


def normalise(mantissa: int, scale: int) -> tuple[int, int]:
    """Drop trailing zeros of the fraction: ``(6180020, 2)`` -> ``(618002, 1)``."""
    while scale > 0 and mantissa % 10 == 0:
        mantissa //= 10
        scale -= 1
    return mantissa, scale


def format_decimal(mantissa: int, scale: int) -> str:
    """Return the shortest exact text: ``(6180020, 2)`` -> ``"61800.2"``, ``(5, 3)`` -> ``"0.005"``."""
    sign = "-" if mantissa < 0 else ""
    digits = str(abs(mantissa))
    if scale <= 0:
        return sign + digits + "0" * -scale if digits != "0" else "0"
    digits = digits.rjust(scale + 1, "0")
    fraction = digits[-scale:].rstrip("0")
    return sign + digits[:-scale] + ("." + fraction if fraction else "")


def common_step(values: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the coarsest step ``(units, scale)`` that every ``(mantissa, scale)`` is a multiple of.

    Zeros are ignored; with nothing else the step is ``(1, 0)``.
    """
    finest = max((scale for mantissa, scale in values if mantissa), default=0)
    step = 0
    for mantissa, scale in values:
        step = gcd(step, mantissa * 10 ** (finest - scale))
    return normalise(step, finest) if step else (1, 0)
