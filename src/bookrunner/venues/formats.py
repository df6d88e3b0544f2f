"""Facts that a venue changed on a day, as data: the old ones stay, so that old recordings still read."""

from __future__ import annotations

from datetime import date
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Dated(msgspec.Struct, Generic[T], frozen=True):
    """A fact and the first day on which it was no longer so; ``until=None``: it still is."""

    until: date | None
    value: T
    source: str = ""
    """Where the change is documented; keys as in ``docs/adding-a-venue.md``."""


History = tuple[Dated[T], ...]
"""Oldest first; the last one has ``until=None``."""


def value_on(history: History[T], day: date | None) -> T:
    """Return what was so on ``day``; ``None`` asks for the present."""
    if day is not None:
        for dated in history:
            if dated.until is None or day < dated.until:
                return dated.value
    return history[-1].value


FieldNames = tuple[str, ...]
"""Keys of a JSON object, in the venue's order."""
