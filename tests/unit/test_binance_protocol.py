"""What is Binance's own: routes by date, variants, notices."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from bookrunner.core.enums import Channel
from bookrunner.venues.binance.feed import BinanceFeed
from bookrunner.venues.binance.variants import SPOT, USDM, USDM_ROUTED, VARIANTS, Variant
from bookrunner.venues.formats import Dated, value_on

URL = "wss://fstream.binance.com"
ALL = frozenset(Channel)


def _urls(feed: BinanceFeed) -> dict[Channel, str]:
    plans = feed.plan(feed.streams("BTCUSDT", ALL), URL)
    return {stream.channel: plan.url.removeprefix(URL) for plan in plans for stream in plan.streams}


def test_usdm_streams_go_to_their_route() -> None:
    assert _urls(BinanceFeed(USDM)) == {
        Channel.DEPTH: "/public/stream",
        Channel.QUOTES: "/public/stream",
        Channel.TRADES: "/market/stream",
        Channel.BARS: "/market/stream",
        Channel.MARK_PRICE: "/market/stream",
    }


def test_usdm_was_unrouted_until_the_change() -> None:
    assert set(_urls(BinanceFeed(USDM, as_of=USDM_ROUTED - timedelta(days=1))).values()) == {"/stream"}
    assert len(set(_urls(BinanceFeed(USDM, as_of=USDM_ROUTED)).values())) == 2


@pytest.mark.parametrize("venue", ["binance_spot", "binance_us", "binance_coinm"])
def test_the_other_venues_have_one_route(venue: str) -> None:
    assert set(_urls(BinanceFeed(VARIANTS[venue])).values()) == {"/stream"}


def test_a_plan_is_split_at_the_stream_limit_and_named() -> None:
    feed = BinanceFeed(SPOT)
    streams = [s for n in range(1025) for s in feed.streams(f"C{n}USDT", frozenset({Channel.DEPTH}))]
    plans = feed.plan(streams, "wss://stream.binance.com:9443/")

    assert [(plan.name, len(plan.streams)) for plan in plans] == [
        ("binance_spot/0", 1024),
        ("binance_spot/1", 1),
    ]
    assert plans[0].url == "wss://stream.binance.com:9443/stream"


def test_stream_symbols_are_lower_case_and_symbols_upper() -> None:
    (stream,) = BinanceFeed(USDM).streams("btcUSDT", frozenset({Channel.DEPTH}))
    assert (stream.key, stream.symbol, stream.detail) == (b"btcusdt@depth@100ms", "BTCUSDT", "100ms")


def test_futures_default_to_the_documented_trade_stream() -> None:
    def trades(feed: BinanceFeed) -> bytes:
        return feed.streams("BTCUSDT", frozenset({Channel.TRADES}))[0].key

    assert trades(BinanceFeed(USDM)) == b"btcusdt@aggTrade"
    assert trades(BinanceFeed(USDM, trade_stream="trade")) == b"btcusdt@trade"
    assert trades(BinanceFeed(SPOT)) == b"btcusdt@trade"


def test_spot_has_no_mark_price() -> None:
    assert BinanceFeed(SPOT).streams("BTCUSDT", frozenset({Channel.MARK_PRICE})) == []


@pytest.mark.parametrize(
    "name", [b"btcusdt@depth20", b"btcusdt@depth5@100ms", b"!bookTicker", b"btcusdt@rpiDepth@500ms"]
)
def test_streams_that_do_not_chain_are_not_followed(name: bytes) -> None:
    assert BinanceFeed(USDM).stream_of(name) is None


def _changes(variant: Variant) -> list[list[date | None]]:
    events = [[dated.until for dated in history] for history in variant.events.values()]
    return [[dated.until for dated in variant.paths], *events]


@pytest.mark.parametrize("venue", VARIANTS)
def test_every_history_runs_forward_and_ends_in_the_present(venue: str) -> None:
    for days in _changes(VARIANTS[venue]):
        past = [day for day in days if day is not None]
        assert days == [*past, None]
        assert past == sorted(set(past))


def test_a_fact_is_taken_as_of_its_day() -> None:
    history = (Dated(date(2020, 1, 1), "old"), Dated(None, "new"))

    assert value_on(history, date(2019, 12, 31)) == "old"
    assert value_on(history, date(2020, 1, 1)) == "new"
    assert value_on(history, None) == "new"
