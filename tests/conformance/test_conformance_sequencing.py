"""Each numbered rule of each venue: a state, a message, the verdict. Both roads must give it.

The numbers are those of ``venues/<family>/sequencing.py``. Every book here holds 100 bid and 101 asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bookrunner.kernels import layout
from bookrunner.kernels.layout import APPLIED, APPLIED_SNAPSHOT, BUFFER, GAP, OLD
from bookrunner.market.book import OrderBook
from conformance.cases import FEEDS, VENUES, Levels, depth_frame, live_book

BUFFERING, BRIDGING, LIVE = layout.SYNC_BUFFERING, layout.SYNC_BRIDGING, layout.SYNC_LIVE
FUTURES = ("binance_usdm", "binance_coinm")
SPOT = ("binance_spot", "binance_us")
BYBIT = ("bybit_linear", "bybit_spot")
L = 50


@dataclass(frozen=True)
class Case:
    """One rule at work: a book at id 50 in state ``sync`` is given ``(first, final, previous)``."""

    rule: str
    venues: tuple[str, ...]
    sync: int
    ids: tuple[int, int, int]
    verdict: int
    kind: str = "delta"
    strict: bool = True


def _u(number: int) -> tuple[int, int, int]:
    return number, number, -1


CASES = [
    # Binance futures: (U, u, pu).
    Case("1 buffered before a snapshot", FUTURES, BUFFERING, (51, 52, 50), BUFFER),
    Case("3 u < L is dropped", FUTURES, BRIDGING, (40, 49, 39), OLD),
    Case("4 U <= L <= u", FUTURES, BRIDGING, (45, 55, 44), APPLIED),
    Case("4 U == L", FUTURES, BRIDGING, (50, 55, 44), APPLIED),
    Case("4 u == L", FUTURES, BRIDGING, (45, 50, 44), APPLIED),
    Case("4 pu == L is the plain continuation", FUTURES, BRIDGING, (60, 65, 50), APPLIED),
    Case("4 pu <= L < U: nothing lies between", FUTURES, BRIDGING, (60, 65, 48), APPLIED),
    Case("4 L < pu: the snapshot is too old", FUTURES, BRIDGING, (60, 65, 51), GAP),
    Case("5 pu == previous u", FUTURES, LIVE, (60, 65, 50), APPLIED),
    Case("5 pu above previous u is a gap", FUTURES, LIVE, (60, 65, 51), GAP),
    Case("5 pu below previous u is a gap", FUTURES, LIVE, (49, 65, 48), GAP),
    Case("5 a repeat of the last event is dropped", FUTURES, LIVE, (45, 50, 44), OLD),
    Case("5 an older event is a gap: nothing goes back on one connection", FUTURES, LIVE, (40, 44, 39), GAP),
    Case("5 first id after final id is a gap", FUTURES, LIVE, (66, 65, 50), GAP),
    # Binance spot: (U, u).
    Case("1 buffered before a snapshot", SPOT, BUFFERING, (51, 52, -1), BUFFER),
    Case("2 L < U - 1: the snapshot is too old", SPOT, BRIDGING, (52, 55, -1), GAP),
    Case("3 u <= L is dropped", SPOT, BRIDGING, (45, 50, -1), OLD),
    Case("4 U <= L + 1 <= u", SPOT, BRIDGING, (45, 55, -1), APPLIED),
    Case("4 U == L + 1 just follows", SPOT, BRIDGING, (51, 51, -1), APPLIED),
    Case("5 U == previous u + 1", SPOT, LIVE, (51, 55, -1), APPLIED),
    Case("5 an overlap is a gap: ids have no holes", SPOT, LIVE, (45, 55, -1), GAP),
    Case("5 a repeat of the last event is dropped", SPOT, LIVE, (45, 50, -1), OLD),
    Case("5 an older event is a gap", SPOT, LIVE, (40, 44, -1), GAP),
    Case("5 U above the book's id + 1 is a gap", SPOT, LIVE, (52, 55, -1), GAP),
    Case("5 first id after final id is a gap", SPOT, LIVE, (60, 55, -1), GAP),
    # Bybit: u.
    Case("1 a delta before any snapshot", BYBIT, BUFFERING, _u(51), BUFFER),
    Case("1 the stream begins with a snapshot", BYBIT, BUFFERING, _u(900), APPLIED_SNAPSHOT, "snapshot"),
    Case("2 a snapshot at any time", BYBIT, LIVE, _u(900), APPLIED_SNAPSHOT, "snapshot"),
    Case("2 a repeated snapshot, same u", BYBIT, LIVE, _u(50), APPLIED_SNAPSHOT, "snapshot"),
    Case("2 a snapshot with a lower u", BYBIT, LIVE, _u(7), APPLIED_SNAPSHOT, "snapshot"),
    Case("3 u == 1 replaces even as a delta", BYBIT, LIVE, _u(1), APPLIED_SNAPSHOT),
    Case("3 u == 1 begins even as a delta", BYBIT, BUFFERING, _u(1), APPLIED_SNAPSHOT),
    Case("4 u + 1", BYBIT, LIVE, _u(51), APPLIED),
    Case("5 a repeat of the last delta is dropped", BYBIT, LIVE, _u(50), OLD),
    Case("5 an older delta is a gap when strict", BYBIT, LIVE, _u(49), GAP),
    Case("5 an older delta is dropped when not", BYBIT, LIVE, _u(49), OLD, strict=False),
    Case("6 a hole is a gap when strict", BYBIT, LIVE, _u(52), GAP),
    Case("6 a hole is applied when not", BYBIT, LIVE, _u(52), APPLIED, strict=False),
]
GIVEN = [(venue, case) for case in CASES for venue in case.venues]
ROADS = ("compiled", "typed")


def _take(venue: str, road: str, book: OrderBook, frame: bytes) -> int:
    rule = FEEDS[venue]().depth_rule
    if road == "compiled":
        return rule.apply_frame(frame, book.words)
    return rule.apply_update(rule.decode(frame), book.grid, book.words)


def _frame(venue: str, case: Case, bids: Levels) -> bytes:
    first, final, previous = case.ids
    return depth_frame(
        venue, first=first, final=final, previous=previous, kind=case.kind, bids=bids, asks=[("101", "4")]
    )


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(("venue", "case"), GIVEN, ids=[f"{venue}: {case.rule}" for venue, case in GIVEN])
def test_rule_gives_its_verdict(venue: str, case: Case, road: str) -> None:
    book = live_book(FEEDS[venue](), last_id=L, strict=case.strict)
    book.words[layout.SYNC] = case.sync

    verdict = _take(venue, road, book, _frame(venue, case, [("100", "3")]))

    assert verdict == case.verdict
    if verdict in {APPLIED, APPLIED_SNAPSHOT}:
        assert book.top(2) == ([100], [3], [101], [4])
        assert book.last_update_id == case.ids[1]
        assert book.words[layout.SYNC] == LIVE
    else:
        assert book.top(2) == ([100], [1], [101], [1])
        assert book.last_update_id == L


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("venue", VENUES)
def test_quantities_are_absolute_zero_removes_and_removing_nothing_is_normal(venue: str, road: str) -> None:
    book = live_book(FEEDS[venue](), last_id=L)
    bids = [("100", "0"), ("99", "7"), ("99", "5"), ("42", "0")]
    frame = depth_frame(venue, first=51, final=51, previous=50, bids=bids)

    assert _take(venue, road, book, frame) == APPLIED
    assert book.top(5) == ([99], [5], [101], [1])


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("venue", VENUES)
def test_after_a_gap_everything_is_held_back_until_a_snapshot(venue: str, road: str) -> None:
    book = live_book(FEEDS[venue](), last_id=L)
    after_hole = depth_frame(venue, first=60, final=60, previous=59, bids=[("100", "3")])
    following = depth_frame(venue, first=61, final=61, previous=60, bids=[("100", "3")])

    assert _take(venue, road, book, after_hole) == GAP
    assert _take(venue, road, book, following) == BUFFER
    assert book.top(1) == ([100], [1], [101], [1])


@pytest.mark.parametrize("venue", BYBIT)
def test_a_snapshot_leaves_no_level_of_the_book_before_it(venue: str) -> None:
    book = live_book(FEEDS[venue](), last_id=L)
    frame = depth_frame(venue, first=7, final=7, kind="snapshot", bids=[("90", "1")], asks=[("95", "2")])

    assert _take(venue, "compiled", book, frame) == APPLIED_SNAPSHOT
    assert book.top(5) == ([90], [1], [95], [2])


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("venue", VENUES)
def test_a_value_finer_than_the_grid_touches_nothing(venue: str, road: str) -> None:
    book = live_book(FEEDS[venue](), last_id=L)
    frame = depth_frame(venue, first=51, final=51, previous=50, bids=[("99", "2"), ("98.5", "1")])

    assert _take(venue, road, book, frame) == layout.OFF_GRID
    assert book.top(5) == ([100], [1], [101], [1])
    assert book.last_update_id == L


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("venue", VENUES)
def test_an_update_that_is_not_due_does_not_refine_the_grid(venue: str, road: str) -> None:
    book = live_book(FEEDS[venue](), last_id=L)
    first = L if venue in BYBIT else 45
    frame = depth_frame(venue, first=first, final=L, previous=44, bids=[("98.5", "1")])

    assert _take(venue, road, book, frame) == OLD
