"""Recordings played: whose each message is, found out from the messages themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from book_frames import ASK, BID, bybit_frame, compact, levels_of, snapshot_body, usdm_frame, usdm_trade
from bookrunner.app import venue_feeds
from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.enums import BookState
from bookrunner.core.errors import InvalidRequestError
from bookrunner.market.instrument import Grid
from bookrunner.services.recording_player import RecordingPlayer
from bookrunner.wire.recording import RecordedKind, RecordedMessage

FSTREAM = "wss://fstream.binance.com/stream"
SPOT = "wss://stream.binance.com:9443/stream"
REST = "https://fapi.binance.com/fapi/v1"


class Detector:
    """Tells venues and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, frame: bytes, url: str) -> str | None:
        self.asked += 1
        return venue_feeds.detect_venue(frame, url)


def new_player(**options: Any) -> tuple[RecordingPlayer, Detector]:
    detector = Detector()
    return RecordingPlayer(make_feed, detector, **options), detector


def frames(*payloads: bytes, url: str = "", start_ns: int = 1, step_ns: int = 1) -> list[RecordedMessage]:
    return [
        RecordedMessage(RecordedKind.FRAME, start_ns + number * step_ns, url, payload)
        for number, payload in enumerate(payloads)
    ]


def answer(payload: bytes, url: str = "", ts_ns: int = 1) -> RecordedMessage:
    return RecordedMessage(RecordedKind.REST, ts_ns, url, payload)


def chain(count: int, first: int = 10, symbol: str = "BTCUSDT") -> Iterator[bytes]:
    """Return updates of which each follows the last, from id ``first``."""
    for number in range(first, first + count):
        yield usdm_frame(number, number, number - 1, symbol=symbol)


def exchange_info(tick: str) -> bytes:
    symbol = {
        "symbol": "BTCUSDT", "pair": "BTCUSDT", "contractType": "PERPETUAL", "status": "TRADING",
        "baseAsset": "BTC", "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": tick, "minPrice": "1", "maxPrice": "1000000"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
        ],
    }  # fmt: skip
    return compact({"symbols": [symbol]})


def only_book(player: RecordingPlayer) -> Any:
    (live,) = player.books
    return live


def test_symbols_are_discovered_and_the_grid_is_inferred() -> None:
    player, _ = new_player()
    for message in [*frames(*chain(2)), *frames(*chain(1, symbol="ETHUSDT"))]:
        player.take(message)
    player.take(
        answer(snapshot_body(10, [("100.5", "0.4")], [("102.0", "0.6")]), f"{REST}/depth?symbol=BTCUSDT")
    )
    live = player.books.get("binance_usdm", "BTCUSDT")
    assert live is not None
    assert (live.state, live.instrument.grid) == (BookState.LIVE, Grid.of("1.5", "0.2"))
    assert levels_of(live) == ([("100.5", "0.4")], [("102", "0.6")])
    other = player.books.get("binance_usdm", "ETHUSDT")
    assert other is not None
    assert other.awaiting_snapshot
    assert (player.unrecognised, player.unread) == (0, 0)


def test_a_venue_is_told_once_a_stream() -> None:
    player, detector = new_player()
    player.play(frames(*chain(50)))
    assert detector.asked == 1
    assert only_book(player).messages == 50
    player, detector = new_player(venue="binance_usdm")
    player.play(frames(*chain(50)))
    assert (detector.asked, only_book(player).messages) == (0, 50)


def test_the_same_stream_of_two_venues_is_told_by_its_url() -> None:
    spot = [frame.replace(b'"pu":', b'"xx":') for frame in chain(5)]
    player, detector = new_player()
    player.play([*frames(*chain(5), url=FSTREAM), *frames(*spot, url=SPOT)])
    assert {live.venue: live.messages for live in player.books} == {"binance_usdm": 5, "binance_spot": 5}
    assert detector.asked == 2


def test_the_same_stream_of_two_recordings_is_told_apart() -> None:
    spot = [frame.replace(b',"pu":', b'   ,"x":') for frame in chain(5)]
    player, _ = new_player()
    player.play(frames(*chain(5), step_ns=2), frames(*spot, start_ns=2, step_ns=2))
    assert {live.venue: live.messages for live in player.books} == {"binance_usdm": 5, "binance_spot": 5}


def test_raw_frames_are_told_one_by_one() -> None:
    raw = [frame.partition(b'"data":')[2][:-1] for frame in chain(5)]
    player, detector = new_player()
    player.play(frames(*raw))
    assert (only_book(player).messages, detector.asked) == (5, 5)


@pytest.mark.parametrize("first", ["depth", "trade"])
def test_a_snapshot_before_all_frames_waits_for_its_book(first: str) -> None:
    player, _ = new_player()
    player.take(answer(snapshot_body(10)))
    assert len(player.books) == 0
    if first == "trade":
        player.take(frames(usdm_trade("100", "1"))[0])
    for message in frames(*chain(3)):
        player.take(message)
    live = only_book(player)
    assert (live.state, live.last_update_id, player.unrecognised) == (BookState.LIVE, 12, 0)


def test_a_snapshot_recorded_as_a_frame_is_one() -> None:
    player, _ = new_player()
    player.play(frames(*chain(2), snapshot_body(10), *chain(2, 12)))
    live = only_book(player)
    assert (live.state, live.last_update_id, live.messages) == (BookState.LIVE, 13, 4)


def test_snapshots_in_a_file_of_their_own_serve_the_other_file() -> None:
    player, _ = new_player()
    player.play([answer(snapshot_body(10), ts_ns=0)], frames(*chain(3)))
    assert only_book(player).state is BookState.LIVE


def test_two_recordings_are_merged_by_time() -> None:
    updates = list(chain(6))
    player, _ = new_player()
    player.play(
        [*frames(*updates[::2], step_ns=10), answer(snapshot_body(10), ts_ns=100)],
        frames(*updates[1::2], start_ns=5, step_ns=10),
    )
    live = only_book(player)
    assert (live.state, live.gaps, live.last_update_id) == (BookState.LIVE, 0, 15)


def test_a_snapshot_goes_to_a_book_of_its_own_recording() -> None:
    player, _ = new_player()
    for origin, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        player.take(frames(*chain(1, symbol=symbol))[0], origin)
    player.take(answer(snapshot_body(10)), 1)
    states = {live.symbol: live.state for live in player.books}
    assert states == {"BTCUSDT": BookState.SYNCING, "ETHUSDT": BookState.LIVE}
    player.take(answer(snapshot_body(10)), 0)
    assert all(live.state is BookState.LIVE for live in player.books)


def test_a_snapshot_that_may_be_of_several_is_nobodys() -> None:
    player, _ = new_player()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        player.take(frames(*chain(1, symbol=symbol))[0])
    player.take(answer(snapshot_body(10)))
    assert player.unrecognised == 1
    assert all(live.state is BookState.SYNCING for live in player.books)


def test_an_instrument_list_tells_the_grid_before_and_after() -> None:
    player, _ = new_player()
    player.take(answer(exchange_info("0.10"), f"{REST}/exchangeInfo"))
    for message in frames(*chain(2), url=FSTREAM):
        player.take(message)
    player.take(answer(snapshot_body(10), f"{REST}/depth?symbol=BTCUSDT&limit=1000"))
    live = only_book(player)
    assert (live.state, live.instrument.grid) == (BookState.LIVE, Grid.of("0.1", "0.001"))
    player.take(answer(exchange_info("0.01"), f"{REST}/exchangeInfo"))
    assert live.instrument.grid == Grid.of("0.01", "0.001")


def test_answers_that_are_none_are_counted() -> None:
    player, _ = new_player()
    for message in frames(*chain(2), url=FSTREAM):
        player.take(message)
    player.take(answer(b'{"code":-1003,"msg":"Too many requests"}', f"{REST}/depth?symbol=BTCUSDT"))
    player.take(answer(b"<html>", f"{REST}/exchangeInfo"))
    assert player.unread == 2
    assert only_book(player).awaiting_snapshot


def test_one_level_is_the_book_until_there_is_a_deeper_one() -> None:
    player, _ = new_player(venue="bybit_linear")
    player.play(
        frames(
            bybit_frame("snapshot", 10, [BID], [ASK], depth=1),
            bybit_frame("snapshot", 11, [("100.2", "1")], [ASK], depth=1),
        )
    )
    live = only_book(player)
    assert (live.state, live.updates, levels_of(live)[0]) == (BookState.LIVE, 2, [("100.2", "1")])
    player.play(
        frames(
            bybit_frame("delta", 6, [("99.0", "1")]),
            bybit_frame("snapshot", 7, [BID, ("98.0", "4")], [ASK]),
            bybit_frame("snapshot", 12, [("100.4", "1")], [ASK], depth=1),
            bybit_frame("delta", 8, [("99.0", "1")]),
            start_ns=50,
        )
    )
    assert (live.state, live.last_update_id, live.gaps) == (BookState.LIVE, 8, 0)
    assert levels_of(live)[0] == [("100", "1"), ("99", "1"), ("98", "4")]


def test_one_level_beside_a_deeper_stream_is_a_quote() -> None:
    player, _ = new_player(venue="bybit_linear")
    player.play(
        frames(
            bybit_frame("snapshot", 7, [BID, ("98.0", "4")], [ASK]),
            bybit_frame("snapshot", 10, [BID], [ASK], depth=1),
        )
    )
    live = only_book(player)
    assert (live.updates, live.last_update_id) == (1, 7)


def test_an_unknown_venue_is_a_wrong_request() -> None:
    player, _ = new_player(venue="nyse")
    with pytest.raises(InvalidRequestError, match="unknown venue") as caught:
        player.play(frames(*chain(1)))
    assert caught.value.fields["value"] == "nyse"


def test_what_is_no_venues_is_counted() -> None:
    player, _ = new_player()
    player.play(frames(b"", b"junk", b'{"some":"thing"}', b"\xff" * 50))
    player.take(answer(b'{"some":"thing"}'))
    player.take(RecordedMessage(RecordedKind.SENT, 1, "", b"not looked at"))
    assert (player.unrecognised, len(player.books)) == (5, 0)
