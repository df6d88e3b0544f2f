"""Rich tables of books."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from rich.table import Table

STATE_STYLE = {"live": "green", "syncing": "yellow", "stale": "red", "closed": "dim"}


def ladder(book: dict[str, Any]) -> Table:
    """Return one book as a two-sided ladder; ``book`` is the JSON form of ``bookrunner books``."""
    style = STATE_STYLE.get(book["state"], "white")
    table = Table(
        title=f"{book['venue']} {book['symbol']} [{style}]{book['state']}[/{style}]",
        caption=_caption(book),
        title_justify="left",
        caption_justify="left",
    )
    for heading, colour in (
        ("bid quantity", "green"),
        ("bid", "green"),
        ("ask", "red"),
        ("ask quantity", "red"),
    ):
        table.add_column(heading, justify="right", style=colour)
    for bid, ask in zip_longest(book["bids"], book["asks"], fillvalue=("", "")):
        table.add_row(bid[1], bid[0], ask[0], ask[1])
    return table


def _caption(book: dict[str, Any]) -> str:
    known = [f"id {book['last_update_id']}"]
    known += [f"{book[name]:,} {name}" for name in ("updates", "gaps") if name in book]
    return " · ".join(known)
