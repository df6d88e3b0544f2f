"""REST: snapshots, instrument lists, refusals."""

from __future__ import annotations

import json

import pytest

from bookrunner.core.enums import InstrumentKind, InstrumentStatus
from bookrunner.core.errors import MalformedFrameError, VenueRejectError
from bookrunner.venues.binance.variants import VARIANTS as BINANCE
from bookrunner.venues.bybit.variants import VARIANTS as BYBIT
from conformance.cases import FEEDS, VENUES, answer, compact

PERPETUAL, FUTURE, SPOT = InstrumentKind.PERPETUAL, InstrumentKind.FUTURE, InstrumentKind.SPOT
TRADING, HALTED = InstrumentStatus.TRADING, InstrumentStatus.HALTED

SNAPSHOTS = {
    "binance_usdm": ("BATUSDT", 303212654508, ("1.2236", "49.4"), 1617647797886000000),
    "binance_coinm": ("BTCUSD_PERP", 86143364603, ("60581.0", "6089"), 1618677481787000000),
    "binance_spot": ("DOTUSDT", 1513939277, ("43.52240000", "0.28000000"), 0),
    "binance_us": ("MANAUSD", 19636338, ("0.9897", "30.89000000"), 0),
    "bybit_linear": ("BTCUSDT", 18521288, ("65114.20", "6.054"), 1783000000129000000),
    "bybit_spot": ("BTCUSDT", 18521288, ("65114.20", "6.054"), 1783000000129000000),
}
# Symbol, base, quote, kind, status, tick, lot. What else the lists hold cannot be read, and is left out.
INSTRUMENTS = {
    "binance_usdm": [
        ("BTCUSDT", "BTC", "USDT", PERPETUAL, TRADING, "0.01", "0.001"),
        ("BTCUSDT_210924", "BTC", "USDT", FUTURE, TRADING, "0.1", "0.001"),
    ],
    "binance_coinm": [
        ("BTCUSD_PERP", "BTC", "USD", PERPETUAL, TRADING, "0.1", "1"),
        ("BTCUSD_260925", "BTC", "USD", FUTURE, TRADING, "0.1", "1"),
    ],
    "binance_spot": [
        ("ETHBTC", "ETH", "BTC", SPOT, TRADING, "0.000001", "0.0001"),
        ("BCCBTC", "BCC", "BTC", SPOT, HALTED, "0.000001", "0.001"),
        ("BTCUSDT", "BTC", "USDT", SPOT, TRADING, "0.01", "0.00001"),
    ],
    "binance_us": [
        ("BTCUSD", "BTC", "USD", SPOT, TRADING, "0.01", "0.000001"),
        ("MANAUSD", "MANA", "USD", SPOT, HALTED, "0.0001", "0.01"),
    ],
    "bybit_linear": [
        ("BTCUSDT", "BTC", "USDT", PERPETUAL, TRADING, "0.1", "0.001"),
        ("BTCUSDT-25SEP26", "BTC", "USDT", FUTURE, HALTED, "0.5", "0.001"),
    ],
    "bybit_spot": [("BTCUSDT", "BTC", "USDT", SPOT, TRADING, "0.01", "0.000001")],
}


@pytest.mark.parametrize("venue", VENUES)
def test_snapshot_is_read(venue: str) -> None:
    symbol, last_id, best_bid, ts_event_ns = SNAPSHOTS[venue]
    snapshot = FEEDS[venue]().decode_snapshot(symbol, answer(venue, "snapshot"))

    assert (snapshot.symbol, snapshot.last_update_id, snapshot.ts_event_ns) == (symbol, last_id, ts_event_ns)
    assert snapshot.bids[0] == best_bid
    assert snapshot.asks


@pytest.mark.parametrize("venue", VENUES)
def test_instruments_are_read_by_their_filters_and_bad_ones_left_out(venue: str) -> None:
    found = FEEDS[venue]().decode_instruments(answer(venue, "instruments"))

    assert [
        (i.symbol, i.base, i.quote, i.kind, i.status, i.grid.tick_size, i.grid.lot_step) for i in found
    ] == INSTRUMENTS[venue]
    assert {i.venue for i in found} == {venue}


@pytest.mark.parametrize("venue", VENUES)
def test_requests_name_what_they_ask_for(venue: str) -> None:
    feed = FEEDS[venue]()

    assert dict(feed.snapshot_request("BTCUSDT").params)["symbol"] == "BTCUSDT"
    assert feed.instruments_request().path.startswith("/")


@pytest.mark.parametrize("venue", VENUES)
def test_a_refusal_carries_the_venues_code(venue: str) -> None:
    if venue in BINANCE:
        body, code = compact({"code": -1121, "msg": "Invalid symbol."}), -1121
    else:
        body, code = compact({"retCode": 10001, "retMsg": "params error", "result": {}}), 10001
    feed = FEEDS[venue]()

    for read in (lambda: feed.decode_snapshot("X", body), lambda: feed.decode_instruments(body)):
        with pytest.raises(VenueRejectError) as caught:
            read()
        assert caught.value.fields["venue_code"] == code


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"retCode":0}', b'{"retCode":0,"result":{}}', b'{"symbols":5}']
)
@pytest.mark.parametrize("venue", VENUES)
def test_an_answer_that_is_none_is_malformed(venue: str, body: bytes) -> None:
    feed = FEEDS[venue]()
    for read in (lambda: feed.decode_snapshot("X", body), lambda: feed.decode_instruments(body)):
        with pytest.raises(MalformedFrameError):
            read()


@pytest.mark.parametrize("venue", sorted(BINANCE))
def test_binance_lists_are_one_page(venue: str) -> None:
    feed = FEEDS[venue]()
    assert feed.next_instruments_request(answer(venue, "instruments")) is None


@pytest.mark.parametrize("venue", sorted(BYBIT))
def test_bybit_lists_are_paged_by_cursor(venue: str) -> None:
    feed = FEEDS[venue]()
    page = json.loads(answer(venue, "instruments"))
    page["result"]["nextPageCursor"] = "page%3D2"
    following = feed.next_instruments_request(json.dumps(page).encode())

    assert following is not None
    assert dict(following.params) == {**dict(feed.instruments_request().params), "cursor": "page%3D2"}
    page["result"]["nextPageCursor"] = ""
    assert feed.next_instruments_request(json.dumps(page).encode()) is None


@pytest.mark.parametrize("venue", sorted(BYBIT))
def test_another_symbols_snapshot_is_refused(venue: str) -> None:
    with pytest.raises(MalformedFrameError):
        FEEDS[venue]().decode_snapshot("ETHUSDT", answer(venue, "snapshot"))
