"""Every packaged frame decodes to its expected values, and the compiled scanner agrees."""

from __future__ import annotations

from datetime import date, timedelta

import msgspec
import numpy as np
import pytest

from bookrunner.core.enums import Channel, Side
from bookrunner.engine.ports.venue_feed import VenueFeed
from bookrunner.kernels import layout
from bookrunner.market.events import Trade
from bookrunner.market.quotes import quote_of_row
from bookrunner.market.trades import trades_of_rows
from bookrunner.venues.binance.variants import VARIANTS as BINANCE
from conformance.cases import (
    FEEDS,
    FINE_GRID,
    RecordedFrame,
    book_of,
    depth_frame,
    recorded,
    scratch_of,
    wrapped,
)


def _feed(case: RecordedFrame) -> VenueFeed:
    return FEEDS[case.venue]()


def _steps(levels: list[list[str]]) -> list[tuple[int, int]]:
    return [(FINE_GRID.ticks(price), FINE_GRID.lots(quantity)) for price, quantity in levels]


@pytest.mark.parametrize("case", recorded(Channel.DEPTH), ids=str)
def test_depth_decodes_to_its_expected_values(case: RecordedFrame) -> None:
    update = _feed(case).depth_rule.decode(case.frame)

    found = msgspec.structs.asdict(update)
    found["bids"] = [list(level) for level in update.bids]
    found["asks"] = [list(level) for level in update.asks]
    assert found == case.expected


@pytest.mark.parametrize("case", recorded(Channel.DEPTH), ids=str)
def test_typed_road_and_scanner_leave_the_same_scratch(case: RecordedFrame) -> None:
    feed = _feed(case)
    typed, scanned = book_of(feed, case.symbol), book_of(feed, case.symbol)
    feed.depth_rule.apply_update(feed.depth_rule.decode(case.frame), FINE_GRID, typed.words)
    verdict = feed.depth_rule.scan_frame(case.frame, scanned.words)

    expected = scratch_of(typed)
    assert expected["bids"] == _steps(case.expected["bids"])
    assert expected["asks"] == _steps(case.expected["asks"])
    if case.scanned:
        assert verdict == layout.APPLIED
        assert scratch_of(scanned) == expected


@pytest.mark.parametrize("case", recorded(Channel.TRADES), ids=str)
def test_trades_decode_to_their_expected_values_on_both_roads(case: RecordedFrame) -> None:
    feed = _feed(case)
    trades = feed.decode_trades(case.frame, FINE_GRID)

    assert trades == [
        Trade(
            trade_id=row["trade_id"],
            price_ticks=FINE_GRID.ticks(row["price"]),
            quantity_lots=FINE_GRID.lots(row["quantity"]),
            side=Side.BUY if row["side"] == "buy" else Side.SELL,
            ts_event_ns=row["ts_event_ns"],
            ts_match_ns=row["ts_match_ns"],
            flags=row["flags"],
        )
        for row in case.expected
    ]
    if case.scanned:
        rows = np.zeros((layout.MAX_TRADES, layout.TRADE_WIDTH), np.int64)
        count = feed.scan_trades(case.frame, book_of(feed, case.symbol).words, rows)
        assert trades_of_rows(rows, count) == trades


@pytest.mark.parametrize("case", recorded(Channel.QUOTES), ids=str)
def test_quotes_decode_to_their_expected_values_on_both_roads(case: RecordedFrame) -> None:
    feed = _feed(case)
    quote = feed.decode_quote(case.frame, FINE_GRID)
    row = np.zeros(layout.QUOTE_WIDTH, np.int64)

    assert quote is not None
    if case.venue in BINANCE:
        assert feed.scan_quote(case.frame, book_of(feed, case.symbol).words, row) == 1
        assert quote_of_row(row) == quote
    assert {
        "update_id": quote.update_id,
        "bid": (quote.bid_ticks, quote.bid_lots),
        "ask": (quote.ask_ticks, quote.ask_lots),
        "ts_event_ns": quote.ts_event_ns,
        "ts_match_ns": quote.ts_match_ns,
    } == {
        **case.expected,
        "bid": _steps([case.expected["bid"]])[0],
        "ask": _steps([case.expected["ask"]])[0],
    }


@pytest.mark.parametrize("case", recorded(Channel.BARS), ids=str)
def test_bars_decode_to_their_expected_values(case: RecordedFrame) -> None:
    assert msgspec.structs.asdict(_feed(case).decode_bar(case.frame)) == case.expected


@pytest.mark.parametrize("case", recorded(Channel.MARK_PRICE), ids=str)
def test_mark_prices_decode_to_their_expected_values(case: RecordedFrame) -> None:
    mark = _feed(case).decode_mark_price(case.frame)

    assert mark is not None
    assert msgspec.structs.asdict(mark) == case.expected


@pytest.mark.parametrize(
    ("venue", "until"),
    [(venue, dated.until) for venue, variant in BINANCE.items() for dated in variant.events["depthUpdate"]],
)
def test_depth_of_every_date_is_scanned_and_decoded_alike(venue: str, until: date | None) -> None:
    day = None if until is None else until - timedelta(days=1)
    frame = depth_frame(venue, first=5, final=7, previous=4, bids=[("100.5", "2")], day=day)
    feed = FEEDS[venue]()
    typed, scanned = book_of(feed, "BTCUSDT"), book_of(feed, "BTCUSDT")
    feed.depth_rule.apply_update(feed.depth_rule.decode(frame), FINE_GRID, typed.words)

    assert feed.depth_rule.scan_frame(frame, scanned.words) == layout.APPLIED
    assert scratch_of(scanned) == scratch_of(typed)
    assert scratch_of(typed)["bids"] == [(100_50000000, 2_00000000)]


VALUES = {
    "E": 1783000000010, "T": 1783000000008, "s": "BTCUSDT", "t": 7, "u": 7, "p": "100.5", "q": "2", "nq": "1",
    "f": 1, "l": 2, "m": True, "M": True, "X": "MARKET", "ps": "BTCUSDT", "st": 1,
}  # fmt: skip
SIDES = {"b": "100.4", "B": "1", "a": "100.5", "A": "2"}
ORDER_IDS = {"a": 50, "b": 88}
DATED = [
    (venue, event, dated.value)
    for venue, variant in BINANCE.items()
    for event in ("aggTrade", "trade", "bookTicker")
    for dated in variant.events[event]
]


@pytest.mark.parametrize(("venue", "event", "fields"), DATED)
def test_trades_and_quotes_of_every_date_are_read_on_both_roads(
    venue: str, event: str, fields: tuple[str, ...]
) -> None:
    values = VALUES | {"e": event} | (SIDES if event == "bookTicker" else ORDER_IDS)
    frame = wrapped(f"btcusdt@{event}", {name: values[name] for name in fields})
    feed = FEEDS[venue]()
    book = book_of(feed, "BTCUSDT")

    if event == "bookTicker":
        row = np.zeros(layout.QUOTE_WIDTH, np.int64)
        assert feed.scan_quote(frame, book.words, row) == 1
        assert quote_of_row(row) == feed.decode_quote(frame, FINE_GRID)
        return
    rows = np.zeros((layout.MAX_TRADES, layout.TRADE_WIDTH), np.int64)
    (trade,) = feed.decode_trades(frame, FINE_GRID)
    assert trades_of_rows(rows, feed.scan_trades(frame, book.words, rows)) == [trade]
    # On trades, a and b are the orders' ids; only an aggregate is named by its a.
    assert trade.trade_id == ("50" if event == "aggTrade" else "7")
