"""A live book against every way in which its stream, its snapshots or its instrument may go wrong."""

from __future__ import annotations

import random

import pytest

from book_frames import (
    ASK,
    BID,
    SYMBOL,
    bybit_frame,
    instrument,
    levels_of,
    live_bybit,
    live_usdm,
    new_book,
    snapshot,
    usdm_frame,
)
from bookrunner.core.enums import BookState, InstrumentStatus
from bookrunner.core.errors import MalformedFrameError
from bookrunner.kernels import layout
from bookrunner.market import frame_buffer
from bookrunner.market.instrument import Grid
from bookrunner.market.live_book import LiveBook, LiveBooks

# --- synchronising ------------------------------------------------------------------------------------------


def test_asks_once_with_the_first_update_and_bridges_the_buffer() -> None:
    live, owner = new_book()
    assert owner.asked == 0
    live.on_frame(usdm_frame(5, 10, 4), 1)
    live.on_frame(usdm_frame(11, 12, 10, [("99.5", "3")]), 2)
    assert (owner.asked, live.buffered, live.state) == (1, 2, "syncing")
    live.on_snapshot(snapshot(7), 3)
    assert owner.said == ["live snapshot"]
    assert levels_of(live) == ([("100", "1"), ("99.5", "3")], [("101", "2")])
    assert (live.messages, live.updates, live.gaps, live.resyncs, live.buffered) == (2, 2, 0, 0, 0)
    assert owner.applied == [1, 2]
    assert live.ts_applied_ns == 2


def test_a_snapshot_newer_than_all_updates_waits_for_one_that_bridges() -> None:
    live, owner = new_book()
    live.on_frame(usdm_frame(5, 10, 4), 1)
    live.on_snapshot(snapshot(20), 2)
    assert (live.state, live.awaiting_snapshot, owner.applied) == ("syncing", False, [])
    live.on_frame(usdm_frame(11, 15, 10), 3)
    assert live.state == "syncing"
    live.on_frame(usdm_frame(18, 22, 15), 4)
    assert (live.state, owner.asked) == ("live", 1)


def test_a_snapshot_older_than_all_updates_is_asked_for_again_and_the_updates_are_kept() -> None:
    live, owner = new_book()
    live.on_frame(usdm_frame(50, 60, 49), 1)
    live.on_frame(usdm_frame(61, 62, 60), 2)
    live.on_snapshot(snapshot(7), 3)
    assert (owner.asked, live.buffered, live.state, live.gaps) == (2, 2, "syncing", 0)
    assert owner.events == ["snapshot_without_overlap"]
    live.on_snapshot(snapshot(55), 4)
    assert (live.state, live.last_update_id) == ("live", 62)


def test_a_crossed_or_unreadable_snapshot_is_refused_and_still_awaited() -> None:
    live, _ = new_book()
    live.on_frame(usdm_frame(5, 10, 4), 1)
    for bad in (
        snapshot(7, [("101", "1")], [("101", "1")]),
        snapshot(7, [("-1", "1")]),
        snapshot(7, [("1e3", "1")]),
        snapshot(7, [("0", "1")]),
        snapshot(7, [("0.0000000000000001", "1")]),
    ):
        with pytest.raises(MalformedFrameError):
            live.on_snapshot(bad, 2)
        assert (live.awaiting_snapshot, live.buffered, live.instrument.version) == (True, 1, 1)
    live.on_snapshot(snapshot(7), 3)
    assert live.state == "live"


def test_a_snapshot_that_nobody_needs_changes_nothing() -> None:
    live, _ = live_usdm()
    live.on_snapshot(snapshot(10, [("50.55", "9")]), 5)
    assert levels_of(live) == ([("100", "1")], [("101", "2")])
    assert live.instrument.version == 1


def test_the_buffer_is_bounded_and_its_loss_is_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_buffer, "MAX_FRAMES", 3)
    live, owner = new_book()
    for number in range(5):
        live.on_frame(usdm_frame(10 * number + 1, 10 * number + 10, 10 * number), number)
    assert live.buffered == 3
    live.on_snapshot(snapshot(5), 9)  # bridges only onto what was lost
    assert owner.evidence[0] == ("buffer_overflow", {"dropped": 2})
    assert (live.state, owner.asked) == ("syncing", 2)
    live.on_snapshot(snapshot(25), 10)
    assert (live.state, live.last_update_id) == ("live", 50)


def test_the_buffer_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_buffer, "MAX_BYTES", 10)
    buffer = frame_buffer.FrameBuffer()
    for frame in (b"1234", b"5678", b"9012"):
        buffer.append(frame, 1)
    assert (len(buffer), buffer.dropped) == (2, 1)
    buffer.append(b"far too large", 2)
    assert (len(buffer), buffer.dropped) == (0, 4)
    assert list(buffer.take()) == []
    assert buffer.dropped == 0


# --- gaps and bad frames ------------------------------------------------------------------------------------


def test_a_gap_is_stale_at_once_and_resyncs() -> None:
    live, owner = live_usdm()
    live.on_frame(usdm_frame(20, 25, 19), 5)
    assert (live.state, live.gaps, owner.asked, live.buffered) == ("stale", 1, 2, 1)
    event, fields = owner.evidence[-1]
    assert (event, fields["last_update_id"], fields["previous_id"]) == ("gap", 10, 19)
    assert levels_of(live) == ([("100", "1")], [("101", "2")])  # the last known ones
    live.on_snapshot(snapshot(22, [("99", "5")]), 6)
    assert (live.state, live.resyncs) == ("live", 1)
    assert levels_of(live)[0] == [("99", "5")]


def test_a_gap_among_the_buffered_updates_keeps_what_follows_it() -> None:
    live, owner = new_book()
    for first, final, previous in ((5, 10, 4), (11, 12, 10), (20, 25, 19), (26, 27, 25)):
        live.on_frame(usdm_frame(first, final, previous), 1)
    live.on_snapshot(snapshot(7), 2)
    assert (live.state, live.buffered, owner.asked) == ("stale", 2, 2)
    live.on_snapshot(snapshot(22), 3)
    assert (live.state, live.last_update_id, live.gaps, live.resyncs) == ("live", 27, 1, 1)


def test_a_repeated_update_is_dropped() -> None:
    live, owner = live_usdm()
    assert live.on_frame(usdm_frame(5, 10, 4), 3) == layout.OLD
    assert (live.state, live.messages, len(owner.applied)) == ("live", 2, 1)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        usdm_frame(11, 12, 10, [("-1", "1")]),
        usdm_frame(11, 12, 10, [("NaN", "1")]),
        usdm_frame(11, 12, 10, [("1", "1e400")]),
        usdm_frame(11, 12, 10, symbol="ETHUSDT"),
        usdm_frame(11, 12, 10, symbol="ETHUSDT").replace(b"ethusdt", b"btcusdt"),
        usdm_frame(11, 12, 10, [("0.000000000000001", "1")]),
        usdm_frame(11, 12, 10, [("0.00000000000001", "1")]),
        usdm_frame(11, 12, 10, [("100", "0.00000000000000001")]),
        usdm_frame(11, 12, 10, [("100", "1")] * (layout.MAX_LEVELS + 1)),
    ],
)
def test_a_frame_that_cannot_be_read_makes_the_book_stale_and_no_more(frame: bytes) -> None:
    live, owner = live_usdm()
    assert live.on_frame(frame, 5) == layout.UNEXPECTED
    assert (live.state, live.malformed, live.gaps) == ("stale", 1, 0)
    assert owner.events[-1] == "malformed"
    assert live.instrument == instrument()
    live.on_frame(usdm_frame(20, 25, 19), 6)
    assert owner.asked == 2
    live.on_snapshot(snapshot(22), 7)
    assert (live.state, live.resyncs) == ("live", 1)


@pytest.mark.parametrize("venue", ["binance_usdm", "binance_spot", "bybit_linear"])
def test_no_byte_raises_out_of_the_book(venue: str) -> None:
    chance = random.Random(5)
    bybit = venue.startswith("bybit")
    for _ in range(300):
        live, _ = live_bybit() if bybit else live_usdm()
        good = bybit_frame("delta", 11, [BID], [ASK]) if bybit else usdm_frame(11, 12, 10, [BID], [ASK])
        frame = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            frame[chance.randrange(len(frame))] = chance.choice(b'0159.-+eE"[]{},:\x00\xff')
        live.on_frame(bytes(frame), 3)
        live.on_frame(good, 4)


def test_typed_road_takes_what_the_scanner_does_not_know() -> None:
    live, _ = live_usdm()
    spaced = usdm_frame(11, 12, 10, [("99.95", "0.0005")]).replace(b'"b":', b' "b" : ')
    assert live.on_frame(spaced, 5) == layout.APPLIED
    assert levels_of(live)[0] == [("100", "1"), ("99.95", "0.0005")]
    assert (live.state, live.instrument.grid) == ("live", Grid.of("0.05", "0.0005"))
    assert live.on_frame(usdm_frame(13, 14, 12), 6) == layout.APPLIED


def test_a_book_that_stays_crossed_is_not_believed() -> None:
    live, owner = live_usdm()
    crossing = [("102.0", "1")]
    for number in range(layout.CROSSED_TOLERANCE):
        verdict = live.on_frame(usdm_frame(11 + number, 11 + number, 10 + number, crossing), 5)
        assert (verdict, live.state) == (layout.APPLIED, "live")
    final = 11 + layout.CROSSED_TOLERANCE
    assert live.on_frame(usdm_frame(final, final, final - 1), 6) == layout.CROSSED
    assert (live.state, live.crossed, live.buffered) == ("stale", layout.CROSSED_TOLERANCE + 1, 0)
    assert owner.evidence[-1][0] == "crossed"
    assert owner.evidence[-1][1]["best_bid"] == "102"
    assert len(owner.applied) == live.updates


# --- the connection -----------------------------------------------------------------------------------------


def test_a_lost_connection_makes_it_stale_and_forgets_the_buffer() -> None:
    live, owner = live_usdm()
    live.on_disconnected("lost", 5)
    assert owner.said[-1] == "stale lost"
    live.on_snapshot(snapshot(30), 6)  # a late answer: it still has to bridge
    assert live.state == "stale"
    live.on_frame(usdm_frame(40, 45, 39), 7)
    assert (live.state, owner.asked) == ("stale", 2)
    live.on_snapshot(snapshot(41), 8)
    assert (live.state, live.resyncs) == ("live", 1)


def test_a_book_that_never_was_live_stays_syncing() -> None:
    live, owner = new_book()
    live.on_frame(usdm_frame(5, 10, 4), 1)
    live.on_disconnected("lost", 2)
    live.invalidate("told", 3)
    assert (live.state, live.buffered, owner.said, live.awaiting_snapshot) == ("syncing", 0, [], False)


def test_a_suspected_book_is_live_again_with_the_next_update_in_order() -> None:
    live, owner = live_usdm()
    live.suspect("silence", 5)
    assert owner.said[-1] == "stale silence"
    live.on_snapshot(snapshot(9), 6)  # nobody asked: the chain is whole
    live.on_frame(usdm_frame(11, 12, 10), 7)
    assert (live.state, owner.asked, live.resyncs) == ("live", 1, 1)
    live.suspect("silence", 8)
    live.on_frame(usdm_frame(20, 22, 19), 9)
    assert (live.state, owner.asked, owner.events, live.gaps) == ("stale", 2, ["gap"], 1)


# --- refreshing ---------------------------------------------------------------------------------------------


def test_a_refresh_replaces_the_book_at_the_same_id_and_keeps_counting() -> None:
    live, owner = live_usdm()
    live.refresh()
    live.refresh()  # once is enough
    live.on_frame(usdm_frame(11, 12, 10, [("99.0", "4")]), 5)
    before = live.book
    live.on_snapshot(snapshot(11, [BID, ("90.0", "7")]), 6)
    assert live.book is not before
    assert levels_of(live)[0] == [("100", "1"), ("99", "4"), ("90", "7")]
    assert (live.updates, live.gaps, live.resyncs, live.messages, owner.asked) == (2, 0, 0, 2, 2)
    assert owner.said == ["live snapshot", "live refreshed"]
    live.on_frame(usdm_frame(13, 13, 12), 7)
    assert (live.state, live.updates, live.last_update_id) == ("live", 3, 13)


def test_a_refresh_whose_snapshot_is_newer_waits_for_the_book() -> None:
    live, owner = live_usdm()
    live.refresh()
    live.on_snapshot(snapshot(20, [("90.0", "7")]), 5)
    live.on_frame(usdm_frame(11, 15, 10), 6)
    assert owner.said == ["live snapshot"]
    live.on_frame(usdm_frame(16, 25, 15), 7)
    assert owner.said[-1] == "live refreshed"
    assert levels_of(live)[0] == [("90", "7")]
    assert owner.applied[-1] == 7
    assert owner.changes[-1].ts_ns == 7


def test_a_refresh_understands_frames_that_only_the_typed_road_reads() -> None:
    live, owner = live_usdm()
    live.refresh()
    live.on_frame(usdm_frame(11, 12, 10).replace(b'"b":', b' "b" : '), 5)
    live.on_snapshot(snapshot(11), 6)
    assert owner.said[-1] == "live refreshed"


def test_a_refresh_that_does_not_bridge_is_given_up_and_the_book_stays_live() -> None:
    live, owner = live_usdm()
    live.refresh()
    live.on_frame(usdm_frame(11, 12, 10), 5)
    live.on_snapshot(snapshot(3), 6)
    assert (live.state, live.awaiting_snapshot, owner.events) == ("live", False, ["refresh_failed"])
    live.refresh()
    assert owner.asked == 3


def test_a_refresh_is_given_up_when_the_grid_changes() -> None:
    live, owner = live_usdm()
    live.refresh()
    live.on_frame(usdm_frame(11, 12, 10, [("99.95", "4")]), 5)
    assert owner.events == ["off_grid", "refresh_failed"]
    live.refresh()
    live.on_snapshot(snapshot(12, [("99.955", "4")]), 6)
    assert owner.events[2:] == ["off_grid", "refresh_failed"]
    assert live.state == "live"


def test_a_refresh_is_given_up_when_too_much_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    live, owner = live_usdm()
    live.refresh()
    monkeypatch.setattr(frame_buffer, "MAX_FRAMES", 1)
    live.on_frame(usdm_frame(11, 12, 10), 5)
    live.on_frame(usdm_frame(13, 14, 12), 6)
    assert (live.state, owner.events) == ("live", ["refresh_failed"])


@pytest.mark.parametrize("trouble", ["gap", "disconnect", "suspect"])
def test_a_refresh_ends_with_the_chain_it_belongs_to(trouble: str) -> None:
    live, owner = live_usdm()
    live.refresh()
    if trouble == "gap":
        live.on_frame(usdm_frame(20, 25, 19), 5)
        assert owner.asked == 3
    elif trouble == "disconnect":
        live.on_disconnected("lost", 5)
        live.on_frame(usdm_frame(20, 25, 19), 6)
    else:
        live.suspect("silence", 5)
        assert not live.awaiting_snapshot
        live.on_frame(usdm_frame(11, 25, 10), 6)
    live.on_snapshot(snapshot(22), 7)
    assert (live.state, live.last_update_id) == ("live", 25)
    assert "live refreshed" not in owner.said


def covered_badly(live: LiveBook) -> bool:
    return live.covered_badly


def test_covered_badly_when_a_best_has_used_up_the_snapshot() -> None:
    live, _ = new_book()
    live.on_frame(usdm_frame(5, 10, 4), 1)
    live.on_snapshot(snapshot(7, [("100.0", "1"), ("90.0", "1")], [("101.0", "1"), ("111.0", "1")]), 2)
    assert not covered_badly(live)
    live.on_frame(usdm_frame(11, 11, 10, [("100.0", "0"), ("92.0", "1")]), 3)
    assert not covered_badly(live)
    live.on_frame(usdm_frame(12, 12, 11, [("92.0", "0"), ("90.9", "1")]), 4)
    assert covered_badly(live)
    live.refine("90.95", "1", 5)  # on a finer grid it is as badly covered as before, and no worse
    assert covered_badly(live)
    live.on_frame(usdm_frame(13, 13, 12, [("92.0", "1")]), 6)
    assert not covered_badly(live)
    live.on_frame(usdm_frame(14, 14, 13, [], [("101.0", "0"), ("110.5", "1")]), 7)
    assert covered_badly(live)
    live.refresh()
    assert not covered_badly(live)  # something is done about it


# --- the grid -----------------------------------------------------------------------------------------------


def test_the_grid_is_inferred_from_the_rest_snapshot_alone() -> None:
    live, owner = new_book(instrument=instrument(tick="1", lot="1"), grid_inferred=True)
    live.refine("99.123", "0.5", 1)  # a trade came first
    live.on_frame(usdm_frame(5, 10, 4), 1)
    live.on_snapshot(snapshot(7, [("100.00", "0.040")], [("101.50", "0.100")]), 2)
    assert live.instrument.grid == Grid.of("0.5", "0.02")
    assert owner.evidence == []
    live.on_frame(usdm_frame(11, 12, 10, [("99.75", "0.05")]), 3)
    assert (live.state, live.instrument.grid) == ("live", Grid.of("0.25", "0.01"))
    assert levels_of(live) == ([("100", "0.04"), ("99.75", "0.05")], [("101.5", "0.1")])
    assert owner.events == ["off_grid"]


def test_the_grid_is_inferred_from_the_streams_first_snapshot() -> None:
    live, owner = new_book(
        "bybit_linear", instrument=instrument("bybit_linear", "1", "1"), grid_inferred=True
    )
    assert live.on_frame(bybit_frame("delta", 9, [("7", "7")]), 1) == layout.BUFFER
    assert (owner.asked, live.instrument.grid) == (1, Grid.of("1", "1"))
    assert live.on_frame(bybit_frame("snapshot", 10, [("60000", "2")], [("60010", "4")]), 2) == 1
    assert live.instrument.grid == Grid.of("10", "2")
    live.on_frame(bybit_frame("delta", 11, [("60000.5", "1")]), 3)
    assert (live.state, live.instrument.grid) == ("live", Grid.of("0.5", "1"))
    assert levels_of(live) == ([("60000.5", "1"), ("60000", "2")], [("60010", "4")])


def test_a_finer_value_makes_a_new_version() -> None:
    live, owner = live_usdm()
    live.on_frame(usdm_frame(11, 12, 10, [("99.95", "0.0005")]), 5)
    assert (live.instrument.grid, live.instrument.version) == (Grid.of("0.05", "0.0005"), 2)
    assert owner.evidence[-1][1]["tick_size"] == ["0.1", "0.05"]
    live.refine("99.99", "", 6)
    assert (live.instrument.grid.tick_size, live.instrument.version) == ("0.01", 3)
    assert live.on_frame(usdm_frame(13, 14, 12), 7) == layout.APPLIED
    assert levels_of(live)[0] == [("100", "1"), ("99.95", "0.0005")]


@pytest.mark.parametrize("value", [("100.1", "1"), ("", ""), ("x", "1"), ("0.000000000000001", "1")])
def test_refine_refuses_what_is_not_finer_or_absurd(value: tuple[str, str]) -> None:
    live, _ = live_usdm()
    with pytest.raises(MalformedFrameError):
        live.refine(*value, 5)
    assert (live.instrument.version, live.state) == (1, "live")


def test_a_quantity_too_fine_for_what_the_book_holds_is_refused_whole() -> None:
    live, _ = live_usdm()
    live.on_frame(usdm_frame(11, 12, 10, [("99.0", "1000000000")]), 5)
    with pytest.raises(MalformedFrameError, match="does not fit"):
        live.refine("", "0.000000000000001", 6)
    assert (live.state, live.instrument.version) == ("live", 1)
    live.on_frame(usdm_frame(13, 14, 12, [("99.0", "0.000000000000001")]), 7)
    assert (live.state, live.malformed, live.instrument.version) == ("stale", 1, 1)
    assert levels_of(live)[0] == [("100", "1"), ("99", "1000000000")]


def test_a_book_without_room_grows() -> None:
    live, owner = live_usdm()
    far = [(f"{200_000 + number}", "1") for number in range(3_000)]
    assert live.on_frame(usdm_frame(11, 12, 10, [], far), 5) == layout.APPLIED
    assert len(levels_of(live)[1]) == 1_000
    assert live.book.view[layout.OUTLIER_CAPACITY] == 4_096
    spaced = usdm_frame(13, 14, 12, [], [(f"{300_000 + number}", "1") for number in range(3_000)])
    assert live.on_frame(spaced.replace(b'"b":', b' "b" : '), 6) == layout.APPLIED
    assert live.book.view[layout.ASK_LEVELS] == 6_001
    assert owner.events == []


def test_at_the_bound_the_far_half_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_OUTLIERS", 4_096)
    live, owner = live_usdm()
    asks = [(f"{200_000 + number}", "1") for number in range(4_000)]
    live.on_frame(usdm_frame(11, 12, 10, [], asks), 5)
    live.on_frame(usdm_frame(13, 14, 12, [], [(f"{300_000 + number}", "1") for number in range(500)]), 6)
    assert owner.evidence == [("trimmed", {"levels": 4_001 - 2_048})]
    assert (live.state, live.last_update_id) == ("live", 14)
    assert live.book.view[layout.ASK_LEVELS] == 2_048 + 500
    assert levels_of(live)[1][0] == ("101", "2")


def test_a_finer_grid_that_leaves_no_room_forgets_far_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_OUTLIERS", 2_048)
    live, owner = live_usdm()
    live.on_frame(usdm_frame(11, 12, 10, [], [(f"{102 + number}", "1") for number in range(3_000)]), 5)
    assert live.on_frame(usdm_frame(13, 14, 12, [("99.0001", "1")]), 6) == layout.APPLIED
    assert sorted(owner.events) == ["off_grid", "trimmed"]
    assert (live.state, levels_of(live)[1][0]) == ("live", ("101", "2"))


# --- the instrument -----------------------------------------------------------------------------------------


def test_a_listed_grid_rescales_where_the_levels_fit() -> None:
    live, owner = live_usdm()
    live.on_instrument(instrument(tick="0.01", lot="0.0001"), 5)
    assert (live.instrument.grid, live.instrument.version) == (Grid.of("0.01", "0.0001"), 2)
    live.on_instrument(instrument(tick="0.5", lot="1"), 6)
    assert (live.instrument.grid, live.instrument.version) == (Grid.of("0.5", "1"), 3)
    live.on_instrument(instrument(tick="7", lot="1"), 7)
    assert (live.instrument.grid, live.instrument.version) == (Grid.of("0.5", "1"), 3)
    assert owner.events == ["instrument_changed", "instrument_changed"]
    assert live.on_frame(usdm_frame(11, 12, 10, [("99.5", "3")]), 8) == layout.APPLIED
    assert levels_of(live) == ([("100", "1"), ("99.5", "3")], [("101", "2")])


def test_a_halt_is_a_new_version_and_no_more() -> None:
    live, owner = live_usdm()
    live.on_instrument(instrument(status=InstrumentStatus.HALTED), 5)
    assert (live.instrument.status, live.instrument.version, live.state) == ("halted", 2, "live")
    live.on_instrument(instrument(status=InstrumentStatus.HALTED, version=1), 6)
    assert (live.instrument.version, owner.events) == (2, [])


@pytest.mark.parametrize("make", [live_usdm, live_bybit])
def test_a_delisting_closes_and_nothing_but_a_listing_opens(make: object) -> None:
    live, owner = make()  # type: ignore[operator]
    closed = instrument(live.venue, status=InstrumentStatus.CLOSED)
    live.on_instrument(closed, 5)
    assert (owner.said[-1], levels_of(live)) == ("closed delisted", ([], []))
    asked = owner.asked
    live.on_disconnected("lost", 6)
    live.invalidate("told", 7)
    live.suspect("silence", 7)
    live.refresh()
    live.on_snapshot(snapshot(50), 8)
    for frame in (usdm_frame(50, 60, 49), bybit_frame("snapshot", 9, [BID], [ASK]), b"junk"):
        assert live.on_frame(frame, 9) == layout.OLD
    live.on_instrument(closed, 10)
    assert (live.state, live.buffered, owner.asked, levels_of(live)) == (BookState.CLOSED, 0, asked, ([], []))
    live.on_instrument(instrument(live.venue), 11)
    assert owner.said[-1] == "syncing listed"
    if live.venue == "bybit_linear":
        live.on_frame(bybit_frame("snapshot", 9, [BID], [ASK]), 12)
    else:
        live.on_frame(usdm_frame(5, 10, 4), 12)
        live.on_snapshot(snapshot(7), 13)
    assert live.state == "live"
    assert live.instrument.status is InstrumentStatus.TRADING


# --- a stream that begins with a snapshot -------------------------------------------------------------------


def test_bybit_begins_with_its_snapshot_and_asks_when_there_is_none() -> None:
    live, owner = new_book("bybit_linear")
    assert live.on_frame(bybit_frame("delta", 9, [BID]), 1) == layout.BUFFER
    assert live.on_frame(bybit_frame("delta", 10, [BID]), 2) == layout.BUFFER
    assert (owner.asked, live.buffered, live.state) == (1, 0, "syncing")
    assert live.on_frame(bybit_frame("snapshot", 11, [BID], [ASK]), 3) == layout.APPLIED_SNAPSHOT
    assert (live.state, live.awaiting_snapshot, live.updates) == ("live", False, 1)
    assert live.on_frame(bybit_frame("delta", 12, [("99.9", "1")]), 4) == layout.APPLIED


def test_bybit_resyncs_by_a_new_snapshot() -> None:
    live, owner = live_bybit()
    live.on_frame(bybit_frame("delta", 13, [("1.0", "1")]), 5)
    assert (live.state, live.gaps, owner.asked) == ("stale", 1, 1)
    live.on_frame(bybit_frame("delta", 14), 6)
    assert owner.asked == 1
    live.on_frame(bybit_frame("snapshot", 20, [("98.0", "1")], [ASK]), 7)
    assert (live.state, live.resyncs, levels_of(live)[0]) == ("live", 1, [("98", "1")])
    live.on_frame(b"junk", 8)
    assert (live.state, owner.asked) == ("stale", 2)


def test_bybit_is_not_asked_for_what_the_next_connection_brings() -> None:
    live, owner = live_bybit()
    live.on_disconnected("lost", 5)
    assert (live.state, owner.asked, live.covered_badly) == ("stale", 0, False)


def test_books_are_kept_by_venue_and_symbol() -> None:
    books = LiveBooks()
    first, _ = new_book()
    second, _ = new_book("bybit_linear")
    books.add(first)
    books.add(second)
    assert books.get("bybit_linear", SYMBOL) is second
    assert books.get("binance_spot", SYMBOL) is None
    assert list(books) == [first, second]
    assert len(books) == 2
