"""The compiled scanners against the typed decoders, on damaged and on generated frames.

What a scanner accepts, the typed decoder reads to the same values; what the typed decoder refuses, no scanner
accepts. The other way round is free: a scanner may leave any shape to the typed decoder.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.core.enums import Channel
from bookrunner.core.errors import MalformedFrameError, OffGridError
from bookrunner.kernels import layout
from bookrunner.market.instrument import Grid
from bookrunner.market.levels import level_arrays
from bookrunner.market.quotes import quote_of_row
from bookrunner.market.trades import trades_of_rows
from conformance.cases import (
    FEEDS,
    FINE_GRID,
    VENUES,
    RecordedFrame,
    book_of,
    compact,
    depth_frame,
    recorded,
    scratch_of,
)

COARSE_GRID = Grid.of("0.1", "0.001")
OFF_GRID = "off_grid"
REFUSED = "refused"

DAMAGE = [
    b'"', b"'", b"-", b"+", b"0", b"00", b"9", b".", b"..", b",", b":", b"{", b"}", b"[", b"]", b"[]", b"{}",
    b" ", b"\t", b"\n", b"\0", b"\\", b"\\u0030", b"\xff", b"\xc3\xa9", b"e5", b"E", b"1e400", b"NaN",
    b"null",    b"true", b"false", b"999999999999999999", b"9223372036854775807", b"9223372036854775808",
    b'"pu":5,', b'"u":1,', b'"x":1,', b',"st":1', b'"type":"snapshot",', b'["1","2"]', b',["1","2"]',
    b'"data":{}', b"0.00000001", b"-1", b"@", b"@depth", b"20",
]  # fmt: skip


FIELD = re.compile(rb'"\w+":(?:"[^"]*"|-?[\w.]+|\[\]|\[\[.*?\]\]),?')
"""A key with its value: text, number, word or levels."""


@st.composite
def _damaged(draw: st.DrawFn, frame: bytes) -> bytes:
    """One to three edits of bytes, of whole fields, or at the end."""
    data = frame
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        fields = [match.span() for match in FIELD.finditer(data)]
        place = draw(st.integers(0, len(data)))
        span = (place, min(len(data), place + draw(st.integers(0, 12))))
        start, end = draw(st.one_of(st.just(span), st.sampled_from([*fields, span])))
        before, chosen, after = data[:start], data[start:end], data[end:]
        bit = draw(st.sampled_from(DAMAGE))
        data = draw(
            st.sampled_from(
                (
                    before + after,
                    before + chosen + chosen + after,
                    before + bit + after,
                    before + chosen + bit + after,
                    before + bytes([draw(st.integers(0, 255))]) + after,
                    data + bit,
                    before,
                )
            )
        )
    return data


def _scanned_depth(case: RecordedFrame, frame: bytes, grid: Grid) -> Any:
    feed = FEEDS[case.venue]()
    book = book_of(feed, case.symbol, grid)
    verdict = feed.depth_rule.scan_frame(frame, book.words)
    if verdict == layout.APPLIED:
        return scratch_of(book)
    return OFF_GRID if verdict == layout.OFF_GRID else REFUSED


def _typed_depth(case: RecordedFrame, frame: bytes, grid: Grid) -> Any:
    feed = FEEDS[case.venue]()
    book = book_of(feed, case.symbol, grid)
    try:
        update = feed.depth_rule.decode(frame)
        if update.symbol != case.symbol:
            return REFUSED
        level_arrays(update.bids, grid)
        level_arrays(update.asks, grid)
        feed.depth_rule.apply_update(update, grid, book.words)
    except MalformedFrameError:
        return REFUSED
    except OffGridError:
        return OFF_GRID
    return scratch_of(book)


def _scanned_trades(case: RecordedFrame, frame: bytes, grid: Grid) -> Any:
    feed = FEEDS[case.venue]()
    rows = np.zeros((layout.MAX_TRADES, layout.TRADE_WIDTH), np.int64)
    count = feed.scan_trades(frame, book_of(feed, case.symbol, grid).words, rows)
    if count >= 0:
        return trades_of_rows(rows, count)
    return OFF_GRID if count == -layout.OFF_GRID else REFUSED


def _typed_trades(case: RecordedFrame, frame: bytes, grid: Grid) -> Any:
    try:
        return FEEDS[case.venue]().decode_trades(frame, grid)
    except MalformedFrameError:
        return REFUSED
    except OffGridError:
        return OFF_GRID


def _scanned_quote(case: RecordedFrame, frame: bytes, grid: Grid) -> Any:
    feed = FEEDS[case.venue]()
    row = np.zeros(layout.QUOTE_WIDTH, np.int64)
    verdict = feed.scan_quote(frame, book_of(feed, case.symbol, grid).words, row)
    if verdict > 0:
        return quote_of_row(row)
    return OFF_GRID if verdict == -layout.OFF_GRID else REFUSED


def _typed_quote(case: RecordedFrame, frame: bytes, grid: Grid) -> Any:
    try:
        return FEEDS[case.venue]().decode_quote(frame, grid)
    except MalformedFrameError:
        return REFUSED
    except OffGridError:
        return OFF_GRID


ROADS = {
    Channel.DEPTH: (_scanned_depth, _typed_depth),
    Channel.TRADES: (_scanned_trades, _typed_trades),
    Channel.QUOTES: (_scanned_quote, _typed_quote),
}


def _check(case: RecordedFrame, frame: bytes, grid: Grid) -> None:
    scan, decode = ROADS[case.channel]
    scanned, typed = scan(case, frame, grid), decode(case, frame, grid)
    if scanned is not REFUSED:
        assert typed == scanned


@pytest.mark.parametrize("grid", [FINE_GRID, COARSE_GRID], ids=["fine", "coarse"])
@pytest.mark.parametrize("channel", ROADS)
@pytest.mark.parametrize("venue", VENUES)
@given(data=st.data())
def test_a_damaged_frame_is_read_alike_or_left_to_the_typed_decoder(
    venue: str, channel: Channel, grid: Grid, data: st.DataObject
) -> None:
    case = data.draw(st.sampled_from([case for case in recorded(channel) if case.venue == venue]))
    _check(case, data.draw(_damaged(case.frame)), grid)


_DECIMALS = st.one_of(
    st.decimals(min_value=0, max_value=10**9, places=4, allow_nan=False).map(str),
    st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,9})?", fullmatch=True),
    st.sampled_from(
        ["0", "0.0", "00.10", "1.", ".5", "-1", "1e5", "NaN", "", "999999999999999999", "1" * 19]
    ),
)
_LEVELS = st.lists(st.tuples(_DECIMALS, _DECIMALS), max_size=8)
_IDS = st.one_of(st.integers(0, 10**18), st.sampled_from([0, 1, 2**63 - 1, 2**63, -1]))


def _reordered(value: Any, random: Any) -> Any:
    """Shuffle the keys of every object but the outermost, whose first key the scanners go by."""
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: _reordered(value[key], random) for key in keys}
    return value


@pytest.mark.parametrize("venue", VENUES)
@given(
    first=_IDS,
    final=_IDS,
    previous=_IDS,
    bids=_LEVELS,
    asks=_LEVELS,
    kind=st.sampled_from(["delta", "snapshot", "other"]),
    random=st.one_of(st.none(), st.randoms(use_true_random=False)),
)
def test_a_generated_frame_is_read_alike_or_left_to_the_typed_decoder(
    venue: str, first: int, final: int, previous: int, bids: Any, asks: Any, kind: str, random: Any
) -> None:
    frame = depth_frame(venue, first=first, final=final, previous=previous, kind=kind, bids=bids, asks=asks)
    if random is not None:
        value = json.loads(frame)
        frame = compact({key: _reordered(part, random) for key, part in value.items()})
    case = RecordedFrame(venue, Channel.DEPTH, "BTCUSDT", "", "generated", frame, None, scanned=True)
    _check(case, frame, FINE_GRID)
