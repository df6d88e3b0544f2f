"""One order over all events, counted before anyone sees them."""

from __future__ import annotations

from typing import Any

from book_frames import live_usdm
from bookrunner.core.enums import BookState, Side
from bookrunner.market.events import Bar, BookStateChanged, MarkPrice, Quote, Trade
from bookrunner.services.market_stream import STREAM_COUNTERS, MarketStream

TRADE = Trade("1", 1, 1, Side.BUY, 1, 1)
QUOTE = Quote(1, 1, 1, 2, 1, 1, 1)


class Witness:
    """A sink that notes each event with the number that the stream gave it."""

    def __init__(self, name: str, stream: MarketStream, said: list[Any]) -> None:
        self._name, self._stream, self._said = name, stream, said
        self.leave_after: int | None = None

    def _note(self, kind: str) -> None:
        self._said.append((self._name, kind, self._stream.sequence))
        if self._stream.sequence == self.leave_after:
            self._stream.unsubscribe(self)

    def on_book(self, live: Any, ts_recv_ns: int) -> None:
        del live, ts_recv_ns
        self._note("book")

    def on_trades(self, live: Any, trades: list[Trade], ts_recv_ns: int) -> None:
        del live, ts_recv_ns
        self._note(f"{len(trades)} trades")

    def on_quote(self, live: Any, quote: Quote, ts_recv_ns: int) -> None:
        del live, quote, ts_recv_ns
        self._note("quote")

    def on_bar(self, live: Any, bar: Bar, ts_recv_ns: int) -> None:
        del live, bar, ts_recv_ns
        self._note("bar")

    def on_mark_price(self, live: Any, mark: MarkPrice, ts_recv_ns: int) -> None:
        del live, mark, ts_recv_ns
        self._note("mark")

    def on_book_state(self, live: Any, change: BookStateChanged) -> None:
        del live
        self._note(change.state.value)


def test_numbers_every_event_and_tells_subscribers_in_their_order() -> None:
    live, _ = live_usdm()
    stream = MarketStream()
    said: list[Any] = []
    for name in "ab":
        stream.subscribe(Witness(name, stream, said))
    nothing: Any = None
    stream.on_book(live, 1)
    stream.on_trades(live, [TRADE, TRADE], 1)
    stream.on_quote(live, QUOTE, 1)
    stream.on_bar(live, nothing, 1)
    stream.on_mark_price(live, nothing, 1)
    stream.on_book_state(live, BookStateChanged("v", "s", BookState.STALE, "gap", 1))
    kinds = ["book", "2 trades", "quote", "bar", "mark", "stale"]
    assert said == [(name, kind, number) for number, kind in enumerate(kinds, 1) for name in "ab"]
    assert stream.sequence == 6
    assert {name: getattr(stream, name) for name in STREAM_COUNTERS} == {
        "book_updates": 1,
        "trades": 2,
        "quotes": 1,
        "bars": 1,
        "mark_prices": 1,
        "state_changes": 1,
    }


def test_a_subscriber_that_leaves_in_the_middle_costs_the_others_nothing() -> None:
    live, _ = live_usdm()
    stream = MarketStream()
    said: list[Any] = []
    first, second = Witness("a", stream, said), Witness("b", stream, said)
    first.leave_after = 1
    stream.subscribe(first)
    stream.subscribe(second)
    stream.on_book(live, 1)
    stream.on_book(live, 1)
    assert said == [("a", "book", 1), ("b", "book", 1), ("b", "book", 2)]


async def test_says_once_when_the_first_book_is_live() -> None:
    live, _ = live_usdm()
    stream = MarketStream()
    stream.on_book_state(live, BookStateChanged("v", "s", BookState.STALE, "gap", 1))
    assert not stream.first_live.is_set()
    stream.on_book_state(live, BookStateChanged("v", "s", BookState.LIVE, "snapshot", 2))
    assert stream.first_live.is_set()
