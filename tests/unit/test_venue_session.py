"""Every message goes where it belongs, or is counted; none raises."""

from __future__ import annotations

from typing import Any

import pytest

from book_frames import ASK, BID, bybit_frame, compact, instrument, snapshot, usdm_frame, usdm_trade
from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.enums import BookState, Channel, Side
from bookrunner.engine.ports.venue_feed import ControlReply
from bookrunner.market.events import Bar, BookStateChanged, MarkPrice, Quote, Trade
from bookrunner.market.instrument import Grid
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.venue_session import VenueSession

TS_NS = 1_700_000_000_000_000_000


class Told:
    """A sink and an owner that keep what they are told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.controls: list[ControlReply] = []
        self.asked = 0
        self.evidence: list[str] = []

    def on_book(self, live: LiveBook, ts_recv_ns: int) -> None:
        self.events.append(("book", live.symbol, ts_recv_ns))

    def on_trades(self, live: LiveBook, trades: list[Trade], ts_recv_ns: int) -> None:
        del live, ts_recv_ns
        self.events.extend(trades)

    def on_quote(self, live: LiveBook, quote: Quote, ts_recv_ns: int) -> None:
        del live, ts_recv_ns
        self.events.append(quote)

    def on_bar(self, live: LiveBook, bar: Bar, ts_recv_ns: int) -> None:
        del live, ts_recv_ns
        self.events.append(bar)

    def on_mark_price(self, live: LiveBook, mark: MarkPrice, ts_recv_ns: int) -> None:
        del live, ts_recv_ns
        self.events.append(mark)

    def on_book_state(self, live: LiveBook, change: BookStateChanged) -> None:
        del live
        self.events.append(change.state)

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        self.events.append(("applied", live.symbol, ts_recv_ns))

    def needs_snapshot(self, live: LiveBook) -> None:
        del live
        self.asked += 1

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        del live, fields
        self.evidence.append(event)

    def on_control(self, reply: ControlReply, frame: bytes) -> None:
        del frame
        self.controls.append(reply)


class Scene:
    def __init__(self, venue: str = "binance_usdm", *channels: Channel) -> None:
        self.told = Told()
        self.books = LiveBooks()
        self.session = VenueSession(make_feed(venue), self.books, [self.told], self.told)
        self.live = self.session.follow(instrument(venue))
        for stream in self.session.feed.streams("BTCUSDT", frozenset(channels or Channel)):
            self.session.route(stream, self.live)

    def take(self, frame: bytes) -> bytes:
        return self.session.on_message(frame, TS_NS)


def test_depth_goes_to_the_book_and_from_there_to_owner_and_sinks() -> None:
    scene = Scene()
    assert list(scene.books) == [scene.live]
    assert scene.take(usdm_frame(5, 10, 4)) == b"btcusdt@depth@100ms"
    assert (scene.told.asked, scene.told.events) == (1, [])
    scene.live.on_snapshot(snapshot(7), TS_NS)
    applied = [("applied", "BTCUSDT", TS_NS), ("book", "BTCUSDT", TS_NS)]
    assert scene.told.events == [*applied, BookState.LIVE]
    scene.take(usdm_frame(20, 30, 19))
    assert (scene.told.evidence, scene.told.events[-1]) == (["gap"], BookState.STALE)


def test_every_kind_reaches_its_sink() -> None:
    scene = Scene()
    # Mark price and bars before a book is live: they do not depend on it.
    quote = {
        "e": "bookTicker", "u": 9, "E": 1, "T": 2, "s": "BTCUSDT",
        "b": "100.0", "B": "1", "a": "101.0", "A": "2",
    }  # fmt: skip
    bar = {
        "e": "kline", "E": 1, "s": "BTCUSDT",
        "k": {
            "t": 1, "T": 2, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 2, "o": "1", "c": "2", "h": "3",
            "l": "0.5", "v": "7", "n": 3, "x": True, "q": "9", "V": "3", "Q": "4", "B": "0",
        },
    }  # fmt: skip
    mark = {
        "e": "markPriceUpdate", "E": 1, "s": "BTCUSDT",
        "p": "100.5", "i": "100.4", "P": "100.3", "r": "0.0001", "T": 9,
    }  # fmt: skip
    for name, data in (("bookTicker", quote), ("kline_1m", bar), ("markPrice@1s", mark)):
        assert scene.take(compact({"stream": f"btcusdt@{name}", "data": data})) == f"btcusdt@{name}".encode()
    scene.take(usdm_trade("100.1", "0.5"))
    kinds = [type(event) for event in scene.told.events]
    assert kinds == [Quote, Bar, MarkPrice, Trade]
    trade = scene.told.events[-1]
    assert (trade.price_ticks, trade.quantity_lots, trade.side) == (1_001, 500, Side.BUY)
    assert scene.session.counters.trades == 1


def test_a_frame_whose_key_does_not_stand_first_is_found_too() -> None:
    scene = Scene()
    data = usdm_frame(5, 10, 4).partition(b'"data":')[2][:-1]
    assert scene.take(b'{"data":%b,"stream":"btcusdt@depth@100ms"}' % data) == b"btcusdt@depth@100ms"
    assert scene.live.messages == 1


def test_a_stream_that_nobody_subscribed_to_is_counted() -> None:
    scene = Scene()
    assert scene.take(usdm_frame(5, 10, 4, symbol="ETHUSDT")) == b""
    counters = scene.session.counters
    assert (counters.unknown_keys, counters.bad_messages, counters.control) == (1, 1, 0)
    assert scene.told.events == []


@pytest.mark.parametrize(
    ("frame", "kind", "bad"),
    [
        (b'{"result":null,"id":1}', "ack", 0),
        (b'{"code":2,"msg":"Invalid request: missing field"}', "error", 0),
        (b"", "unknown", 1),
        (b"\xff\xfe\x00", "unknown", 1),
        (b"[" * 5_000, "unknown", 1),
        (b'"' * 100_000, "unknown", 1),
    ],
)
def test_what_is_no_data_goes_to_the_owner(frame: bytes, kind: str, bad: int) -> None:
    scene = Scene()
    assert scene.take(frame) == b""
    assert [reply.kind for reply in scene.told.controls] == [kind]
    assert (scene.session.counters.control, scene.session.counters.bad_messages) == (1, bad)


@pytest.mark.parametrize(
    "frame",
    [
        usdm_trade("-1", "1"),
        usdm_trade("1", "0"),
        usdm_trade("NaN", "1"),
        usdm_trade("100", "1e2"),
        usdm_trade("100.000000000000000001", "1"),
        usdm_trade("100", "1")[:-3],
        usdm_trade("100", "1").replace(b'"T"', b'"X"'),
        b'{"stream":"btcusdt@aggTrade","data":null}',
        b'{"stream":"btcusdt@kline_1m","data":{"k":[]}}',
        b'{"stream":"btcusdt@bookTicker","data":{"b":1}}',
        b'{"stream":"btcusdt@markPrice@1s","data":{"p":{}}}',
    ],
)
def test_a_bad_message_is_counted_and_changes_nothing(frame: bytes) -> None:
    scene = Scene()
    scene.take(usdm_frame(5, 10, 4))
    scene.live.on_snapshot(snapshot(7), TS_NS)
    before = list(scene.told.events)
    scene.take(frame)
    assert scene.told.events == before
    assert (scene.session.counters.bad_messages, scene.session.counters.trades) == (1, 0)
    assert (scene.live.state, scene.live.instrument.version) == (BookState.LIVE, 1)


def test_a_trade_off_the_grid_refines_it_and_is_not_lost() -> None:
    scene = Scene()
    scene.take(usdm_frame(5, 10, 4))
    scene.live.on_snapshot(snapshot(7), TS_NS)
    scene.take(usdm_trade("100.05", "0.0002"))
    trade = scene.told.events[-1]
    grid = scene.live.instrument.grid
    assert (grid, grid.price(trade.price_ticks), grid.quantity(trade.quantity_lots)) == (
        Grid.of("0.05", "0.0002"), "100.05", "0.0002",
    )  # fmt: skip
    assert scene.live.state is BookState.LIVE
    assert scene.told.evidence == ["off_grid", "off_grid"]
    scene.take(usdm_frame(11, 12, 10))
    assert scene.live.last_update_id == 12


def test_bybit_routes_by_topic() -> None:
    scene = Scene("bybit_linear", Channel.DEPTH, Channel.QUOTES)
    assert scene.take(bybit_frame("snapshot", 10, [BID], [ASK])) == b"orderbook.200.BTCUSDT"
    assert scene.live.state is BookState.LIVE
    assert scene.take(bybit_frame("snapshot", 11, [BID], [ASK], depth=1)) == b"orderbook.1.BTCUSDT"
    assert isinstance(scene.told.events[-1], Quote)
    assert scene.take(b'{"op":"pong","success":true}') == b""
    assert scene.live.updates == 1
