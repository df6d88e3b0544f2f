"""The live table: what the process is doing, redrawn in place.

Plain text and a few ANSI codes on purpose: drawing costs the loop a fraction of a millisecond, where a rich
layout would cost several and show in the latencies that the table reports.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from bookrunner.core.enums import BookState
from bookrunner.market.live_book import LiveBook
from bookrunner.services.metrics import spread_bps

REDRAW_INTERVAL_S = 0.5

_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"
_CLEAR = "\x1b[2J"
_HOME = "\x1b[H"
_NO_WRAP = "\x1b[?7l"
_WRAP = "\x1b[?7h"
_RESET = "\x1b[0m"
_BOLD = "\x1b[1m"
_DIM = "\x1b[2m"
_STATE_COLOUR = {
    BookState.LIVE: "\x1b[32m",
    BookState.SYNCING: "\x1b[33m",
    BookState.STALE: "\x1b[31m",
    BookState.CLOSED: "\x1b[2m",
}
_HEADING = (
    f"{'venue':<14}{'symbol':<12}{'state':<9}{'bid quantity':>14}{'bid':>13}{'ask':>13}{'ask quantity':>14}"
    f"{'spread bps':>12}{'updates':>11}{'gaps':>6}"
)


def book_line(live: LiveBook) -> str:
    """Return one book's row, without colour."""
    grid = live.instrument.grid
    bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(1)
    bid, bid_quantity = (grid.price(bid_ticks[0]), grid.quantity(bid_lots[0])) if bid_ticks else ("-", "-")
    ask, ask_quantity = (grid.price(ask_ticks[0]), grid.quantity(ask_lots[0])) if ask_ticks else ("-", "-")
    spread = spread_bps(live)
    return (
        f"{live.venue:<14}{live.symbol:<12}{live.state.value:<9}{bid_quantity:>14}{bid:>13}{ask:>13}"
        f"{ask_quantity:>14}{'-' if spread is None else f'{spread:.2f}':>12}{live.updates:>11,}{live.gaps:>6}"
    )


def table_lines(
    books: Iterable[LiveBook], metrics: Mapping[str, Any], footer: Iterable[str], *, colour: bool
) -> list[str]:
    """Return the whole picture, a line each.

    Args:
        books: rows, in this order.
        metrics: ``MetricsCollector.snapshot()``.
        footer: lines below, such as where to connect.
        colour: whether to colour states and dim headings.
    """
    bold, dim, reset = (_BOLD, _DIM, _RESET) if colour else ("", "", "")
    rates, process = metrics["rates"], metrics["process"]
    summary = (
        f"up {metrics['uptime_s']:.0f} s   {rates['messages_per_s']:,.0f} messages/s   "
        f"{rates['updates_per_s']:,.0f} updates/s   {rates['trades_per_s']:,.0f} trades/s   "
        f"{process['rss_mb']:.0f} MB   {process['cpu_percent']:.0f} % of a core"
    )
    lines = [
        f"{bold}bookrunner{reset}  {summary}",
        "",
        f"{dim}{_HEADING}{reset}",
    ]
    for live in books:
        line = book_line(live)
        lines.append(f"{_STATE_COLOUR[live.state]}{line}{reset}" if colour else line)
    lines.append("")
    for hop, latency in metrics["latency_us"].items():
        if latency["count"]:
            figures = "  ".join(f"{name} {latency[name]:>8,.1f}" for name in ("p50", "p95", "p99", "p99.9"))
            lines.append(f"{dim}{hop.replace('_', ' '):<20}{reset}{figures}  µs")
    lines.append("")
    lines.extend(footer)
    return lines


class LiveTable:
    """Draws the table on a terminal.

    Args:
        out: the terminal.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = False

    def draw(self, books: Iterable[LiveBook], metrics: Mapping[str, Any], footer: Iterable[str]) -> None:
        """Draw over the last picture; what is too wide or too long for the terminal is cut."""
        size = shutil.get_terminal_size((140, 40))
        lines = table_lines(books, metrics, footer, colour=True)[: size.lines - 1]
        start = _HOME if self._drawn else _CLEAR + _HOME
        picture = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines)
        self._out.write(_NO_WRAP + start + picture + _CLEAR_BELOW + _WRAP)
        self._out.flush()
        self._drawn = True
