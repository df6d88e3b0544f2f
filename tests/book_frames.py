"""Depth messages as the venues write them, and an owner that remembers what a book told it."""

from __future__ import annotations

import json
from typing import Any

from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.enums import InstrumentKind
from bookrunner.market.events import BookStateChanged, DepthSnapshot
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBook

Levels = list[tuple[str, str]]
SYMBOL = "BTCUSDT"
BID, ASK = ("100.0", "1"), ("101.0", "2")


def usdm_frame(
    first: int,
    final: int,
    previous: int,
    bids: Levels | None = None,
    asks: Levels | None = None,
    symbol: str = SYMBOL,
) -> bytes:
    data = {
        "e": "depthUpdate", "E": 1_700_000_000_000, "T": 1_700_000_000_000, "s": symbol,
        "U": first, "u": final, "pu": previous, "b": bids or [], "a": asks or [],
    }  # fmt: skip
    return compact({"stream": f"{symbol.lower()}@depth@100ms", "data": data})


def bybit_frame(
    kind: str, update_id: int, bids: Levels | None = None, asks: Levels | None = None, depth: int = 200
) -> bytes:
    data = {"s": SYMBOL, "b": bids or [], "a": asks or [], "u": update_id, "seq": update_id}
    return compact(
        {
            "topic": f"orderbook.{depth}.{SYMBOL}", "type": kind, "ts": 1_700_000_000_000,
            "data": data, "cts": 1_700_000_000_000,
        }
    )  # fmt: skip


def usdm_trade(price: str, quantity: str, trade_id: int = 1) -> bytes:
    data = {
        "e": "aggTrade", "E": 1_700_000_000_000, "a": trade_id, "s": SYMBOL, "p": price, "q": quantity,
        "f": 1, "l": 1, "T": 1_700_000_000_000, "m": False,
    }  # fmt: skip
    return compact({"stream": "btcusdt@aggTrade", "data": data})


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def snapshot(last_id: int, bids: Levels | None = None, asks: Levels | None = None) -> DepthSnapshot:
    return DepthSnapshot(SYMBOL, last_id, [BID] if bids is None else bids, [ASK] if asks is None else asks)


def snapshot_body(last_id: int, bids: Levels | None = None, asks: Levels | None = None) -> bytes:
    return compact({"lastUpdateId": last_id, "E": 1, "T": 1, "bids": bids or [BID], "asks": asks or [ASK]})


def instrument(
    venue: str = "binance_usdm", tick: str = "0.1", lot: str = "0.001", **changes: Any
) -> Instrument:
    about: dict[str, Any] = {
        "venue": venue, "symbol": SYMBOL, "base": "BTC", "quote": "USDT",
        "kind": InstrumentKind.PERPETUAL, "grid": Grid.of(tick, lot),
    }  # fmt: skip
    return Instrument(**(about | changes))


class Owner:
    """A ``BookOwner``."""

    def __init__(self) -> None:
        self.asked = 0
        self.applied: list[int] = []
        self.changes: list[BookStateChanged] = []
        self.evidence: list[tuple[str, dict[str, Any]]] = []

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        del live
        self.applied.append(ts_recv_ns)

    def on_state(self, live: LiveBook, change: BookStateChanged) -> None:
        assert live.state is change.state
        self.changes.append(change)

    def needs_snapshot(self, live: LiveBook) -> None:
        assert live.awaiting_snapshot
        self.asked += 1

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        del live
        self.evidence.append((event, fields))

    @property
    def said(self) -> list[str]:
        return [f"{change.state.value} {change.reason}" for change in self.changes]

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.evidence]


def new_book(venue: str = "binance_usdm", **options: Any) -> tuple[LiveBook, Owner]:
    owner = Owner()
    of = options.pop("instrument", None) or instrument(venue)
    return LiveBook(of, make_feed(venue).depth_rule, owner, **options), owner


def live_usdm(**options: Any) -> tuple[LiveBook, Owner]:
    """Return a USD-M book, live at id 10 with one level a side."""
    live, owner = new_book(**options)
    live.on_frame(usdm_frame(5, 10, 4), 1)
    live.on_snapshot(snapshot(7), 2)
    assert live.state == "live"
    assert live.last_update_id == 10
    return live, owner


def live_bybit(**options: Any) -> tuple[LiveBook, Owner]:
    """Return a Bybit book, live at id 10 with one level a side."""
    live, owner = new_book("bybit_linear", **options)
    live.on_frame(bybit_frame("snapshot", 10, [BID], [ASK]), 1)
    assert live.state == "live"
    return live, owner


def levels_of(live: LiveBook) -> tuple[Levels, Levels]:
    grid = live.instrument.grid
    bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(1_000)
    return (
        [(grid.price(t), grid.quantity(q)) for t, q in zip(bid_ticks, bid_lots, strict=True)],
        [(grid.price(t), grid.quantity(q)) for t, q in zip(ask_ticks, ask_lots, strict=True)],
    )
