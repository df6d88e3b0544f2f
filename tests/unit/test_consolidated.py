"""The joined book of a pair against a plain sort, and what does not count in it."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from book_frames import Levels, Owner, instrument, snapshot, usdm_frame
from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.enums import BookState, InstrumentKind
from bookrunner.market.consolidated import consolidate
from bookrunner.market.live_book import LiveBook

PAIR = "BTC/USDT:perpetual"
GRIDS = [("0.1", "0.001"), ("0.5", "0.01"), ("0.025", "1"), ("2", "0.5")]


def book_at(venue: str, tick: str, lot: str, bids: Levels, asks: Levels, **about: object) -> LiveBook:
    of = instrument(venue, tick, lot, **about)
    live = LiveBook(of, make_feed("binance_usdm").depth_rule, Owner())
    live.on_frame(usdm_frame(5, 10, 4), 1)
    live.on_snapshot(snapshot(7, bids, asks), 2)
    assert live.state is BookState.LIVE
    return live


def naive(sides: dict[str, Levels], depth: int, *, bids: bool) -> list[tuple[Decimal, Decimal, str]]:
    levels = [(Decimal(p), Decimal(q), venue) for venue, side in sides.items() for p, q in side]
    return sorted(levels, key=lambda level: (-level[0] if bids else level[0], level[2]))[:depth]


@pytest.mark.parametrize("seed", range(20))
def test_equals_a_plain_sort(seed: int) -> None:
    chance = random.Random(seed)
    bids: dict[str, Levels] = {}
    asks: dict[str, Levels] = {}
    books = []
    for number, (tick, lot) in enumerate(GRIDS):
        venue = f"venue_{chance.randrange(100)}_{number}"

        def side(low: int, high: int, tick: str = tick, lot: str = lot) -> Levels:
            prices = sorted({Decimal(tick) * chance.randint(low, high) for _ in range(8)})
            return [(str(price), str(Decimal(lot) * chance.randint(1, 9))) for price in prices]

        per_unit = int(1 / Decimal(tick)) or 1
        bids[venue], asks[venue] = side(80 * per_unit, 100 * per_unit), side(201 * per_unit, 220 * per_unit)
        books.append(book_at(venue, tick, lot, bids[venue], asks[venue]))
    chance.shuffle(books)
    for depth in (1, 5, 100):
        joined = consolidate(PAIR, books, depth)
        assert joined.venues == tuple(sorted(bids))
        assert [(Decimal(b.price), Decimal(b.quantity), b.venue) for b in joined.bids] == naive(
            bids, depth, bids=True
        )
        assert [(Decimal(a.price), Decimal(a.quantity), a.venue) for a in joined.asks] == naive(
            asks, depth, bids=False
        )


def test_only_live_books_of_the_pair_count() -> None:
    counted = book_at("a", "0.1", "1", [("100.0", "1")], [("101.0", "1")])
    stale = book_at("b", "0.1", "1", [("100.5", "1")], [("100.9", "1")])
    stale.on_disconnected("lost", 3)
    closed = book_at("c", "0.1", "1", [("100.5", "1")], [("100.9", "1")])
    closed.close("delisted", 3)
    spot = book_at("d", "0.1", "1", [("100.5", "1")], [("100.9", "1")], kind=InstrumentKind.SPOT)
    joined = consolidate(PAIR, [counted, stale, closed, spot], 5)
    assert joined.venues == ("a",)
    assert [(level.price, level.quantity, level.venue) for level in joined.bids] == [("100", "1", "a")]
    assert not joined.crossed
    assert consolidate("ETH/USDT:perpetual", [counted], 5).venues == ()


@pytest.mark.parametrize(("bid", "crossed"), [("101.0", True), ("101.1", True), ("100.9", False)])
def test_crossed_compares_exactly(bid: str, crossed: bool) -> None:  # noqa: FBT001 - a parameter of the case
    one = book_at("a", "0.1", "1", [("100.0", "1")], [("101.0", "1")])
    other = book_at("b", "0.1", "1", [(bid, "1")], [("102.0", "1")])
    assert consolidate(PAIR, [one, other], 1).crossed is crossed


def test_crossed_is_not_a_matter_of_floats() -> None:
    bid, ask = "8.000000000000001", "8.000000000000002"
    assert float(bid) == float(ask)
    one = book_at("a", "0.000000000000001", "1", [(bid, "1")], [("9", "1")])
    other = book_at("b", "0.000000000000001", "1", [("7", "1")], [(ask, "1")])
    joined = consolidate(PAIR, [one, other], 1)
    assert (joined.bids[0].price, joined.asks[0].price) == (bid, ask)
    assert not joined.crossed
