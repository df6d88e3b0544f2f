"""The timed road does what the fused one does, counts what it counts, and is timed."""

from __future__ import annotations

import random
from itertools import count

import pytest

from book_frames import bybit_frame, instrument, snapshot, usdm_frame
from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.clock import ManualClock
from bookrunner.core.errors import MalformedFrameError
from bookrunner.kernels import layout
from bookrunner.market.live_book import LiveBook
from bookrunner.services import stages
from bookrunner.services.stages import STAGES, SampledRule, stage_counter

TICK_NS = 7


class Ticking(ManualClock):
    """A clock that moves with every reading."""

    def monotonic_ns(self) -> int:
        self.advance(TICK_NS)
        return super().monotonic_ns()


def ignore(nanoseconds: int) -> None:
    assert nanoseconds >= 0


class Nobody:
    def on_applied(self, *_: object) -> None: ...
    def on_state(self, *_: object) -> None: ...
    def needs_snapshot(self, *_: object) -> None: ...
    def on_evidence(self, *_: object) -> None: ...


def market(seed: int, frames: int) -> list[bytes]:
    """Return USD-M frames with repeats, gaps, finer values, far levels, odd shapes and junk."""
    chance = random.Random(seed)
    made: list[bytes] = []
    last = 10
    for _ in range(frames):
        bids = [(f"{chance.randint(900, 999)}.0", str(chance.randint(0, 3))) for _ in range(3)]
        asks = [(f"{chance.randint(1001, 1100)}.0", str(chance.randint(0, 3))) for _ in range(3)]
        kind = chance.random()
        if kind < 0.03:
            bids.append((f"99.{chance.randint(1, 9)}5", "1"))
        elif kind < 0.06:
            asks += [(f"{chance.randint(10**5, 10**7)}", "1") for _ in range(60)]
        first, final = last + 1, last + chance.randint(1, 4)
        frame = usdm_frame(first, final, last, bids, asks)
        if 0.06 <= kind < 0.09:
            frame = frame.replace(b'"b":', b' "b": ')
        elif 0.09 <= kind < 0.1:
            frame = frame[:-9]
        if not 0.1 <= kind < 0.11:
            made.append(frame)
        if 0.11 <= kind < 0.14:
            made.append(frame)
        last = final
    return made


def played(rule: object, frames: list[bytes]) -> LiveBook:
    live = LiveBook(instrument(tick="1", lot="1"), rule, Nobody())  # type: ignore[arg-type]
    for number, frame in enumerate(frames):
        live.on_frame(frame, number)
        if live.awaiting_snapshot and number % 5 == 0:
            live.on_snapshot(snapshot(live_id(frame), [("900", "1")], [("1100", "1")]), number)
    return live


def live_id(frame: bytes) -> int:
    return int(frame.partition(b'"u":')[2].partition(b",")[0] or 1)


@pytest.fixture(autouse=True)
def sampled_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "UNSAMPLED_FRAMES", 0)


@pytest.mark.parametrize("every", [1, 2, 64])
@pytest.mark.parametrize("seed", range(3))
def test_both_roads_make_the_same_book_and_the_same_counts(
    seed: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "SAMPLE_EVERY", every)
    frames = market(seed, 700)
    fused = played(make_feed("binance_usdm").depth_rule, frames)
    times: list[int] = []
    sampled = SampledRule(
        make_feed("binance_usdm").depth_rule, Ticking(), times.append, times.append, times.append
    )
    staged = played(sampled, frames)
    assert fused.gaps > 0
    assert fused.malformed > 0
    assert fused.updates > 300
    for stage, counters in STAGES.items():
        for counter in counters:
            assert stage_counter([staged], stage, counter) == stage_counter([fused], stage, counter), counter
    assert staged.book.state_hash() == fused.book.state_hash()
    assert (staged.state, staged.gaps, staged.resyncs) == (fused.state, fused.gaps, fused.resyncs)
    assert stage_counter([fused, staged], "apply", "updates") == 2 * fused.updates
    assert times


def test_bybit_takes_the_timed_road_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SAMPLE_EVERY", 1)
    rule = SampledRule(make_feed("bybit_linear").depth_rule, Ticking(), ignore, ignore, ignore)
    assert not rule.snapshot_from_rest
    live = LiveBook(instrument("bybit_linear"), rule, Nobody())
    frames = [bybit_frame("snapshot", 10, [("100", "1")], [("101", "1")]), bybit_frame("delta", 11)]
    assert [live.on_frame(frame, 1) for frame in frames] == [layout.APPLIED_SNAPSHOT, layout.APPLIED]
    assert stage_counter([live], "scan", "bytes") == sum(map(len, frames))
    with pytest.raises(MalformedFrameError):
        rule.decode(b"junk")


def test_times_one_frame_in_so_many_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SAMPLE_EVERY", 4)
    monkeypatch.setattr(stages, "UNSAMPLED_FRAMES", 8)
    parsed: list[int] = []
    applied: list[int] = []
    books: list[int] = []
    rule = SampledRule(
        make_feed("binance_usdm").depth_rule, Ticking(), parsed.append, applied.append, books.append
    )
    live = LiveBook(instrument(), rule, Nobody())
    live.on_frame(usdm_frame(1, 1, 0), 1)
    live.on_snapshot(snapshot(1), 1)  # the first frame is applied here
    for number in count(2):
        live.on_frame(usdm_frame(number, number, number - 1), 1)
        rule.on_latency(1_000)
        if number == 16:
            break
    assert applied == [TICK_NS, TICK_NS]  # the frames 12 and 16
    # From the receipt to the end of the scan: two readings of the clock before the book was done.
    assert parsed == [1_000 - 2 * TICK_NS] * 2
    assert books == [1_000] * 15


def test_a_buffered_frames_scan_is_not_taken_for_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SAMPLE_EVERY", 1)
    parsed: list[int] = []
    clock = Ticking()
    rule = SampledRule(make_feed("binance_usdm").depth_rule, clock, parsed.append, ignore, ignore)
    live = LiveBook(instrument(), rule, Nobody())
    live.on_frame(usdm_frame(1, 1, 0), 1)
    live.on_snapshot(snapshot(1), 1)
    clock.advance(10**9)
    rule.on_latency(1_000)
    assert parsed == []
