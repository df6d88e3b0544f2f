"""The venues under the conformance suite, their packaged frames, and frames built to order."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from bookrunner.core.enums import Channel
from bookrunner.engine.ports.venue_feed import VenueFeed
from bookrunner.kernels import layout
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid
from bookrunner.venues.binance import feed as binance
from bookrunner.venues.binance.variants import VARIANTS as BINANCE
from bookrunner.venues.bybit import feed as bybit
from bookrunner.venues.bybit.variants import VARIANTS as BYBIT
from bookrunner.venues.formats import value_on

FEEDS: dict[str, Callable[..., VenueFeed]] = {**binance.FEEDS, **bybit.FEEDS}
"""A new venue joins the suite here, with a folder under ``frames``."""
VENUES = sorted(FEEDS)
FRAMES = Path(__file__).parent / "frames"
FINE_GRID = Grid.of("0.00000001", "0.00000001")
"""Fine enough for every packaged value."""

Levels = list[tuple[str, str]]


@dataclass(frozen=True)
class RecordedFrame:
    """One packaged frame and what it must decode to."""

    venue: str
    channel: Channel
    symbol: str
    key: str
    source: str
    frame: bytes
    expected: Any
    scanned: bool
    """Whether the compiled scanner must know its shape; it may leave the others to the typed decoder."""

    def __str__(self) -> str:
        return f"{self.venue}-{self.channel}-{self.source}"


def _load(venue: str) -> list[RecordedFrame]:
    tables = tomllib.loads((FRAMES / venue / "frames.toml").read_text(encoding="utf-8"))["frame"]
    return [
        RecordedFrame(
            venue=venue,
            channel=Channel(table["channel"]),
            symbol=table["symbol"],
            key=table["key"],
            source=table["source"],
            frame=table["text"].encode(),
            expected=table["expected"],
            scanned=table.get("scanned", True),
        )
        for table in tables
    ]


RECORDED = [frame for venue in VENUES for frame in _load(venue)]


def recorded(*channels: Channel) -> list[RecordedFrame]:
    """Return the packaged frames of these channels, all venues."""
    return [frame for frame in RECORDED if frame.channel in channels]


def answer(venue: str, name: str) -> bytes:
    """Return a packaged REST answer."""
    return (FRAMES / venue / f"{name}.json").read_bytes()


def book_of(feed: VenueFeed, symbol: str, grid: Grid = FINE_GRID, *, strict: bool = True) -> OrderBook:
    """Return an empty book under the venue's rule."""
    return OrderBook(symbol, feed.depth_rule.rule, grid, strict=strict)


MESSAGE_WORDS = {
    name: getattr(layout, name)
    for name in (
        "FIRST_ID", "FINAL_ID", "PREVIOUS_ID", "TS_EVENT", "TS_MATCH", "CROSS_SEQUENCE", "MESSAGE_KIND",
        "MESSAGE_BIDS", "MESSAGE_ASKS",
    )
}  # fmt: skip


def scratch_of(book: OrderBook) -> dict[str, Any]:
    """Return the message last scanned: its words and its levels."""
    words = book.words
    found: dict[str, Any] = {name: int(words[at]) for name, at in MESSAGE_WORDS.items()}
    for name, count, ticks_at, lots_at in (
        ("bids", found["MESSAGE_BIDS"], layout.BID_TICKS_AT, layout.BID_LOTS_AT),
        ("asks", found["MESSAGE_ASKS"], layout.ASK_TICKS_AT, layout.ASK_LOTS_AT),
    ):
        ticks, lots = words[ticks_at : ticks_at + count], words[lots_at : lots_at + count]
        found[name] = list(zip(ticks.tolist(), lots.tolist(), strict=True))
    return found


def live_book(feed: VenueFeed, symbol: str = "BTCUSDT", *, last_id: int, strict: bool = True) -> OrderBook:
    """Return a book in step at ``last_id``, with 100 bid for 1 and 101 asked for 1.

    Its last update was ``(last_id - 5, last_id)`` on Binance.
    """
    book = book_of(feed, symbol, Grid.of("1", "1"), strict=strict)
    book.load_snapshot(last_id, [100], [1], [101], [1])
    book.words[layout.SYNC] = layout.SYNC_LIVE
    first = last_id if feed.depth_rule.rule == layout.RULE_BYBIT else last_id - 5
    book.words[layout.LAST_FIRST_ID] = first
    book.words[layout.LAST_PREVIOUS_ID] = (
        first - 1 if feed.depth_rule.rule == layout.RULE_BINANCE_FUTURES else -1
    )
    return book


# --- frames built to order --------------------------------------------------------------------------------

BUILT_MS = 1_783_000_000_000


def depth_frame(
    venue: str,
    symbol: str = "BTCUSDT",
    *,
    first: int,
    final: int,
    previous: int = 0,
    kind: str = "delta",
    bids: Levels | None = None,
    asks: Levels | None = None,
    day: date | None = None,
) -> bytes:
    """Return a depth frame in the venue's shape of ``day``; Bybit's ``u`` is ``final``."""
    bids, asks = bids or [], asks or []
    if venue in BINANCE:
        values = {
            "e": "depthUpdate", "E": BUILT_MS + 10, "T": BUILT_MS + 8, "s": symbol, "U": first, "u": final,
            "pu": previous, "b": bids, "a": asks, "ps": symbol.partition("_")[0],
            "st": 2 if venue == "binance_coinm" else 1,
        }  # fmt: skip
        fields = value_on(BINANCE[venue].events["depthUpdate"], day)
        return wrapped(f"{symbol.lower()}@depth@100ms", {name: values[name] for name in fields})
    data = {"s": symbol, "b": bids, "a": asks, "u": final, "seq": 10 * final}
    values = {
        "topic": f"orderbook.50.{symbol}", "type": kind, "ts": BUILT_MS + 10, "data": data,
        "cts": BUILT_MS + 8,
    }  # fmt: skip
    fields = value_on(BYBIT[venue].events["orderbook"], day)
    return compact({name: values[name] for name in fields})


def wrapped(stream: str, payload: object) -> bytes:
    """Return Binance's combined-stream wrapper around a payload."""
    return compact({"stream": stream, "data": payload})


def compact(value: object) -> bytes:
    """Return JSON without spaces, as the venues send it."""
    return json.dumps(value, separators=(",", ":")).encode()
