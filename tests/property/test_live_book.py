"""A live book under a hostile stream: whenever it says live, it equals the truth at its id."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.enums import BookState, InstrumentKind
from bookrunner.market.events import BookStateChanged, DepthSnapshot
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBook

Level = tuple[int, int]
Truth = tuple[dict[int, int], dict[int, int]]

ACTIONS = (
    *("send", "send", "send", "snapshot", "snapshot"),
    *("drop", "repeat", "swap", "old_snapshot", "disconnect", "garbage", "wrong_id"),
)


class Venue:
    """A Binance venue's side: a book, its updates as frames, its history by id."""

    def __init__(self, *, futures: bool) -> None:
        self.futures = futures
        self.bids: dict[int, int] = {99: 5, 98: 5}
        self.asks: dict[int, int] = {101: 5, 102: 5}
        self.last_id = 1_000
        self.history: dict[int, Truth] = {}
        self.snapshots: list[DepthSnapshot] = []
        self._remember()

    def _remember(self) -> None:
        self.history[self.last_id] = (dict(self.bids), dict(self.asks))

    def update(self, levels: list[Level], skip: int) -> dict[str, Any]:
        """Change the book; prices below 100 are bids."""
        first = self.last_id + 1 + (skip if self.futures else 0)
        data: dict[str, Any] = {"e": "depthUpdate", "E": 1_700_000_000_000, "s": "BTCUSDT", "U": first}
        data["u"] = first + len(levels)
        if self.futures:
            data |= {"T": 1_700_000_000_000, "pu": self.last_id}
        data["b"] = [[str(tick), str(lots)] for tick, lots in levels if tick < 100]
        data["a"] = [[str(tick), str(lots)] for tick, lots in levels if tick > 100]
        for tick, lots in levels:
            side = self.bids if tick < 100 else self.asks
            if lots:
                side[tick] = lots
            else:
                side.pop(tick, None)
        self.last_id = data["u"]
        self._remember()
        return data

    def snapshot(self) -> DepthSnapshot:
        bids = [(str(t), str(q)) for t, q in sorted(self.bids.items(), reverse=True)]
        asks = [(str(t), str(q)) for t, q in sorted(self.asks.items())]
        self.snapshots.append(DepthSnapshot("BTCUSDT", self.last_id, bids, asks))
        return self.snapshots[-1]


class Owner:
    def __init__(self) -> None:
        self.asked = 0
        self.applied = 0
        self.states: list[BookState] = []
        self.evidence: list[str] = []

    def on_applied(self, live: LiveBook, ts_recv_ns: int) -> None:
        assert live.ts_applied_ns == ts_recv_ns or live.state is not BookState.LIVE
        self.applied += 1

    def on_state(self, live: LiveBook, change: BookStateChanged) -> None:
        assert live.state is change.state
        self.states.append(change.state)

    def needs_snapshot(self, live: LiveBook) -> None:
        assert live.awaiting_snapshot
        self.asked += 1

    def on_evidence(self, live: LiveBook, event: str, fields: dict[str, Any]) -> None:
        del live, fields
        self.evidence.append(event)


def frame_of(data: dict[str, Any]) -> bytes:
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":")).encode()


def new_live(venue: str) -> tuple[LiveBook, Owner]:
    owner = Owner()
    instrument = Instrument(
        venue=venue,
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        kind=InstrumentKind.SPOT,
        grid=Grid.of("1", "1"),
    )
    return LiveBook(instrument, make_feed(venue).depth_rule, owner), owner


def assert_true(live: LiveBook, venue: Venue) -> None:
    bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(1_000)
    bids, asks = venue.history[live.last_update_id]
    assert dict(zip(bid_ticks, bid_lots, strict=True)) == bids
    assert dict(zip(ask_ticks, ask_lots, strict=True)) == asks


class Scene:
    """The venue, a connection that misbehaves, and the book at its end."""

    def __init__(self, name: str) -> None:
        self.venue = Venue(futures=name == "binance_usdm")
        self.live, self.owner = new_live(name)
        self.now = 0
        self._held: bytes | None = None
        self._last = b""

    def act(self, action: str, change: list[Level], skip: int) -> None:
        self.now += 1
        getattr(self, action)(change, skip)
        if self.live.state is BookState.LIVE:
            assert_true(self.live, self.venue)

    def send(self, change: list[Level], skip: int) -> None:
        self._last = frame_of(self.venue.update(change, skip))
        self._deliver(self._last)
        if self._held is not None:
            self._deliver(self._held)
            self._held = None

    def drop(self, change: list[Level], skip: int) -> None:
        self.venue.update(change, skip)

    def repeat(self, _change: list[Level], _skip: int) -> None:
        if self._last:
            self._deliver(self._last)

    def swap(self, change: list[Level], skip: int) -> None:
        """Hold an update back until after the next."""
        if self._held is None:
            self._held = frame_of(self.venue.update(change, skip))

    def snapshot(self, _change: list[Level], _skip: int) -> None:
        self._answer(self.venue.snapshot())

    def old_snapshot(self, _change: list[Level], _skip: int) -> None:
        if self.venue.snapshots:
            self._answer(self.venue.snapshots[0])

    def disconnect(self, _change: list[Level], _skip: int) -> None:
        self.live.on_disconnected("test", self.now)
        self._held, self._last = None, b""

    def garbage(self, _change: list[Level], _skip: int) -> None:
        self._deliver(b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","b":[["-1","NaN"]]}}')
        assert self.live.state is not BookState.LIVE

    def wrong_id(self, change: list[Level], skip: int) -> None:
        """The venue lies about an id; the book can only find out with the next update, and must."""
        data = self.venue.update(change, skip)
        data["u"] += 7
        self._deliver(frame_of(data))
        self._deliver(frame_of(self.venue.update([(95, 1)], 0)))
        assert self.live.state is not BookState.LIVE
        self._last = b""

    def _deliver(self, frame: bytes) -> None:
        self.live.on_frame(frame, self.now)

    def _answer(self, snapshot: DepthSnapshot) -> None:
        if self.live.awaiting_snapshot:
            self.live.on_snapshot(snapshot, self.now)


levels = st.lists(
    st.tuples(st.sampled_from([95, 96, 97, 98, 99, 101, 102, 103, 104]), st.integers(0, 3)),
    min_size=1,
    max_size=4,
)
steps = st.lists(st.tuples(st.sampled_from(ACTIONS), levels, st.integers(0, 3)), min_size=5, max_size=60)


@pytest.mark.parametrize("name", ["binance_usdm", "binance_spot"])
@given(story=steps)
def test_a_book_that_says_live_is_the_venues_book(
    name: str, story: list[tuple[str, list[Level], int]]
) -> None:
    scene = Scene(name)
    for action, change, skip in story:
        scene.act(action, change, skip)
    # Left in peace, it recovers.
    for count in range(10):
        scene.act("send", [(97, count % 5)], 0)
        scene.act("snapshot", [], 0)
    assert scene.live.state is BookState.LIVE
    assert scene.live.last_update_id == scene.venue.last_id
    assert scene.owner.applied == scene.live.updates
