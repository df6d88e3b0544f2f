"""From the first frame to a live book and back, through the live book that the services run."""

from __future__ import annotations

from typing import Any

import pytest

from bookrunner.core.enums import BookState, InstrumentKind
from bookrunner.market.events import BookStateChanged, DepthSnapshot
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBook
from bookrunner.venues.binance.variants import VARIANTS as BINANCE
from bookrunner.venues.bybit.variants import VARIANTS as BYBIT
from conformance.cases import FEEDS, depth_frame

FUTURES = ("binance_usdm", "binance_coinm")
NOW = 1_783_000_000_000_000_000


class Owner:
    """Remembers what the book asked and told."""

    def __init__(self) -> None:
        self.requests = 0
        self.states: list[BookState] = []
        self.evidence: list[str] = []

    def on_applied(self, _live: LiveBook, _ts_recv_ns: int, /) -> None:
        """Nothing to remember."""

    def on_state(self, _live: LiveBook, change: BookStateChanged, /) -> None:
        self.states.append(change.state)

    def needs_snapshot(self, _live: LiveBook, /) -> None:
        self.requests += 1

    def on_evidence(self, _live: LiveBook, event: str, _fields: dict[str, Any], /) -> None:
        self.evidence.append(event)


def _live(venue: str) -> tuple[LiveBook, Owner]:
    instrument = Instrument(
        venue=venue,
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        kind=InstrumentKind.SPOT,
        grid=Grid.of("1", "1"),
    )
    owner = Owner()
    return LiveBook(instrument, FEEDS[venue]().depth_rule, owner), owner


def _snapshot(last_id: int) -> DepthSnapshot:
    return DepthSnapshot("BTCUSDT", last_id, [("100", "1")], [("101", "1")])


def _give(live: LiveBook, venue: str, first: int, final: int, previous: int, quantity: str = "5") -> int:
    frame = depth_frame(venue, first=first, final=final, previous=previous, bids=[("100", quantity)])
    return live.on_frame(frame, NOW)


@pytest.mark.parametrize("venue", sorted(BINANCE))
def test_the_snapshot_is_asked_for_only_after_an_update_was_buffered(venue: str) -> None:
    live, owner = _live(venue)
    assert owner.requests == 0

    _give(live, venue, 48, 55, 47)
    _give(live, venue, 56, 58, 55)
    assert (owner.requests, live.state) == (1, BookState.SYNCING)

    live.on_snapshot(_snapshot(50), NOW)
    assert (live.state, live.last_update_id) == (BookState.LIVE, 58)
    assert live.book.top(1)[1] == [5]


# (U, u, pu) of what was buffered, and the ids that a snapshot must have to be bridged by it.
@pytest.mark.parametrize("last_id", [50, 52, 55])
@pytest.mark.parametrize("venue", sorted(BINANCE))
def test_a_snapshot_inside_an_event_is_bridged(venue: str, last_id: int) -> None:
    live, _ = _live(venue)
    _give(live, venue, 40, 49, 39)
    _give(live, venue, 50, 55, 49)
    _give(live, venue, 56, 58, 55, "7")
    live.on_snapshot(_snapshot(last_id), NOW)

    assert (live.state, live.last_update_id) == (BookState.LIVE, 58)
    assert live.book.top(1)[1] == [7]


@pytest.mark.parametrize("last_id", [49, 48])
@pytest.mark.parametrize("venue", FUTURES)
def test_sparse_ids_a_snapshot_between_events_is_bridged_by_pu(venue: str, last_id: int) -> None:
    live, _ = _live(venue)
    _give(live, venue, 60, 65, 48)
    live.on_snapshot(_snapshot(last_id), NOW)

    assert (live.state, live.last_update_id) == (BookState.LIVE, 65)


@pytest.mark.parametrize("venue", sorted(BINANCE))
def test_a_snapshot_older_than_the_first_event_is_asked_for_again(venue: str) -> None:
    live, owner = _live(venue)
    _give(live, venue, 60, 65, 58)
    live.on_snapshot(_snapshot(50), NOW)
    assert live.state is BookState.SYNCING
    assert owner.requests == 2

    live.on_snapshot(_snapshot(62), NOW)
    assert (live.state, live.last_update_id) == (BookState.LIVE, 65)


@pytest.mark.parametrize("venue", sorted(BINANCE))
def test_a_snapshot_newer_than_everything_buffered_waits_for_its_event(venue: str) -> None:
    live, _ = _live(venue)
    _give(live, venue, 50, 55, 49)
    live.on_snapshot(_snapshot(70), NOW)
    assert live.state is BookState.SYNCING

    _give(live, venue, 56, 69, 55)
    assert live.state is BookState.SYNCING
    _give(live, venue, 70, 75, 69)
    assert (live.state, live.last_update_id) == (BookState.LIVE, 75)


@pytest.mark.parametrize("venue", sorted(BINANCE))
def test_a_gap_makes_the_book_stale_and_a_snapshot_mends_it(venue: str) -> None:
    live, owner = _live(venue)
    _give(live, venue, 48, 55, 47)
    live.on_snapshot(_snapshot(50), NOW)
    _give(live, venue, 60, 65, 58, "9")

    assert live.state is BookState.STALE
    assert (live.gaps, owner.requests) == (1, 2)
    assert "gap" in owner.evidence
    assert live.book.top(1)[1] == [5]
    live.on_snapshot(_snapshot(62), NOW)
    assert (live.state, live.resyncs, live.last_update_id) == (BookState.LIVE, 1, 65)
    assert owner.states == [BookState.LIVE, BookState.STALE, BookState.LIVE]


def _bybit(live: LiveBook, venue: str, number: int, kind: str = "delta", quantity: str = "5") -> int:
    frame = depth_frame(
        venue, first=number, final=number, kind=kind, bids=[("100", quantity)], asks=[("101", "1")]
    )
    return live.on_frame(frame, NOW)


@pytest.mark.parametrize("venue", sorted(BYBIT))
def test_bybit_a_delta_before_the_snapshot_is_not_built_upon(venue: str) -> None:
    live, owner = _live(venue)
    _bybit(live, venue, 10)
    assert (live.state, live.updates) == (BookState.SYNCING, 0)
    assert owner.requests == 1

    _bybit(live, venue, 11, "snapshot", "3")
    assert (live.state, live.last_update_id) == (BookState.LIVE, 11)
    assert live.book.top(1)[1] == [3]


@pytest.mark.parametrize("venue", sorted(BYBIT))
def test_bybit_a_repeated_snapshot_changes_nothing(venue: str) -> None:
    live, owner = _live(venue)
    _bybit(live, venue, 10, "snapshot")
    before = live.book.state_hash()
    _bybit(live, venue, 10, "snapshot")

    assert live.book.state_hash() == before
    assert owner.states == [BookState.LIVE]
    _bybit(live, venue, 11)
    assert live.last_update_id == 11


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
@pytest.mark.parametrize("venue", sorted(BYBIT))
def test_bybit_a_restart_overwrites_whatever_its_type_says(venue: str, kind: str) -> None:
    live, _ = _live(venue)
    _bybit(live, venue, 500, "snapshot")
    _bybit(live, venue, 1, kind, "2")
    _bybit(live, venue, 2, quantity="4")

    assert (live.state, live.last_update_id, live.gaps) == (BookState.LIVE, 2, 0)
    assert live.book.top(5) == ([100], [4], [101], [1])


@pytest.mark.parametrize("venue", sorted(BYBIT))
def test_bybit_a_gap_asks_for_a_new_subscription_and_its_snapshot_mends(venue: str) -> None:
    live, owner = _live(venue)
    _bybit(live, venue, 10, "snapshot")
    _bybit(live, venue, 12)
    assert (live.state, owner.requests) == (BookState.STALE, 1)
    _bybit(live, venue, 13)
    assert (live.state, owner.requests) == (BookState.STALE, 1)

    _bybit(live, venue, 14, "snapshot")
    assert (live.state, live.resyncs) == (BookState.LIVE, 1)
