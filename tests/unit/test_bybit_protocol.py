"""What is Bybit's own: tickers that must be remembered, depths by date, topics."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from bookrunner.core.enums import Channel
from bookrunner.core.errors import ConfigurationError, MalformedFrameError
from bookrunner.venues.bybit import protocol
from bookrunner.venues.bybit.feed import BybitFeed
from bookrunner.venues.bybit.protocol import Tickers
from bookrunner.venues.bybit.variants import LINEAR, SPOT
from conformance.cases import FINE_GRID, compact


def _ticker(kind: str, **fields: str) -> bytes:
    data = {"symbol": "BTCUSDT", **fields}
    return compact({"topic": "tickers.BTCUSDT", "type": kind, "data": data, "cs": 1, "ts": 1783000000000})


FULL = {
    "markPrice": "100.5",
    "indexPrice": "100.4",
    "fundingRate": "-0.0001",
    "nextFundingTime": "1783008000000",
}


def test_a_delta_changes_only_what_it_names() -> None:
    tickers = Tickers()
    tickers.mark_price(_ticker("snapshot", **FULL))
    mark = tickers.mark_price(_ticker("delta", markPrice="100.6"))

    assert mark is not None
    assert (mark.mark_price, mark.index_price, mark.funding_rate) == ("100.6", "100.4", "-0.0001")
    assert mark.ts_next_funding_ns == 1783008000000 * 10**6


def test_a_delta_of_other_fields_states_nothing() -> None:
    tickers = Tickers()
    tickers.mark_price(_ticker("snapshot", **FULL))
    assert tickers.mark_price(_ticker("delta", bid1Price="99", turnover24h="5")) is None


def test_a_delta_before_the_snapshot_states_nothing() -> None:
    assert Tickers().mark_price(_ticker("delta", markPrice="100.6")) is None


def test_a_snapshot_forgets_what_was_before() -> None:
    tickers = Tickers()
    tickers.mark_price(_ticker("snapshot", **FULL))
    mark = tickers.mark_price(_ticker("snapshot", markPrice="7"))

    assert mark is not None
    assert (mark.mark_price, mark.index_price, mark.funding_rate) == ("7", "", "")


def test_remembered_symbols_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_TICKERS", 1)
    tickers = Tickers()
    tickers.mark_price(_ticker("snapshot", **FULL))
    tickers.mark_price(_ticker("snapshot", **FULL).replace(b"BTCUSDT", b"ETHUSDT"))

    assert tickers.mark_price(_ticker("delta", markPrice="1")) is None


@pytest.mark.parametrize(
    "fields", [{"markPrice": "-1"}, {"markPrice": "1e5"}, {"markPrice": "1", "nextFundingTime": "x"}]
)
def test_a_bad_ticker_is_malformed(fields: dict[str, str]) -> None:
    with pytest.raises(MalformedFrameError):
        Tickers().mark_price(_ticker("snapshot", **fields))


@pytest.mark.parametrize(
    ("depth", "day", "offered"),
    [
        (500, date(2025, 8, 1), True),
        (1000, date(2025, 8, 1), False),
        (500, date(2025, 9, 10), True),
        (500, date(2025, 9, 11), False),
        (500, None, False),
        (1000, None, True),
        (7, None, False),
    ],
)
def test_linear_depths_by_date(depth: int, day: date | None, *, offered: bool) -> None:
    if offered:
        (stream,) = BybitFeed(LINEAR, depth=depth, as_of=day).streams("BTCUSDT", frozenset({Channel.DEPTH}))
        assert stream.key == f"orderbook.{depth}.BTCUSDT".encode()
    else:
        with pytest.raises(ConfigurationError):
            BybitFeed(LINEAR, depth=depth, as_of=day)


def test_depth_one_is_the_quote_unless_it_is_the_book() -> None:
    stream = BybitFeed(SPOT).stream_of(b"orderbook.1.BTCUSDT")
    assert stream is not None
    assert stream.channel is Channel.QUOTES

    only = BybitFeed(SPOT, depth=1)
    book = only.stream_of(b"orderbook.1.BTCUSDT")
    assert book is not None
    assert book.channel is Channel.DEPTH
    assert only.streams("BTCUSDT", frozenset({Channel.QUOTES})) == []


@pytest.mark.parametrize(
    "topic", [b"orderbook.full.BTCUSDT", b"orderbook.rpi.BTCUSDT", b"allLiquidation.BTCUSDT"]
)
def test_topics_of_other_rules_are_not_followed(topic: bytes) -> None:
    assert BybitFeed(LINEAR).stream_of(topic) is None


def _quote_frame(bids: Any, asks: Any) -> bytes:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": 9, "seq": 1}
    return compact(
        {
            "topic": "orderbook.1.BTCUSDT",
            "type": "delta",
            "ts": 1783000000000,
            "data": data,
            "cts": 1783000000000,
        }
    )


def test_an_old_depth_one_delta_gives_a_quote_only_when_both_sides_are_stated() -> None:
    feed = BybitFeed(SPOT)

    assert feed.decode_quote(_quote_frame([["99", "0"], ["98", "2"]], []), FINE_GRID) is None
    quote = feed.decode_quote(_quote_frame([["99", "0"], ["98", "2"]], [["100", "1"]]), FINE_GRID)
    assert quote is not None
    assert (quote.bid_ticks, quote.ask_ticks) == (FINE_GRID.ticks("98"), FINE_GRID.ticks("100"))


def test_intervals_are_named_as_everywhere() -> None:
    stream = BybitFeed(LINEAR, bar_interval="4h").streams("BTCUSDT", frozenset({Channel.BARS}))[0]
    assert (stream.key, stream.detail) == (b"kline.240.BTCUSDT", "4h")
    with pytest.raises(ConfigurationError):
        BybitFeed(LINEAR, bar_interval="7m")


def test_spot_requests_hold_ten_topics_at_most() -> None:
    feed = BybitFeed(SPOT)
    streams = tuple(s for n in range(25) for s in feed.streams(f"C{n}USDT", frozenset({Channel.DEPTH})))
    assert len(feed.subscribe(streams, 1)) == 3
