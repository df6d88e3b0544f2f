"""No line of a recording ends the reading of the others, and every line is accounted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.wire.recording import (
    RecordedKind,
    RecordingFormat,
    RecordingReport,
    format_of,
    read_messages,
)
from damaged_bytes import fuzzed

VALID = {
    RecordingFormat.NDLOG: [
        b'1723161255030314667 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate"}}',
        b'1680652700204196 {"lastUpdateId":5123107832006,"bids":[],"asks":[]}',
    ],
    RecordingFormat.CFRAW: [
        b'configuration: {"l2_book":["BTC-USDT"]}',
        b"wss://stream.example/v5 <-> 1617648073.1530728",
        b'wss://stream.example/v5 <- 1617648073.614412: {"op":"subscribe","args":["a: b"]}',
        b'https://api.example/depth?limit=5 -> 1617648074.2: {"lastUpdateId":1}',
        b'1617647797.5963788: {"topic":"x","note":"a -> b: c"}',
    ],
    RecordingFormat.JSONL: [
        b'{"t":"header","format":2,"exchange":"BYBIT","config":{}}',
        b'{"t":"connect","conn":"w","ts":1786310818.2235148,"addr":"wss://stream.example/v5"}',
        b'{"t":"recv","conn":"w","ts":1786310819.5,"data":"{\\"topic\\":\\"\\u00fc\\"}"}',
        b'{"lastUpdateId":5123107832006,"bids":[],"asks":[]}',
    ],
}
"""In each format, lines of every kind."""


@pytest.mark.parametrize("fmt", list(RecordingFormat))
@given(data=st.data())
def test_any_line_is_a_message_ignored_or_reported(fmt: RecordingFormat, data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.sampled_from(VALID[fmt]) | fuzzed(VALID[fmt]), max_size=6))
    report = RecordingReport()

    messages = list(read_messages(lines, fmt, report))

    assert report.lines == len(lines)
    assert report.messages == len(messages)
    assert report.messages + report.ignored_lines + report.bad_lines == len(lines)
    assert len(report.problems) == min(report.bad_lines, 20)
    for message in messages:
        assert message.ts_recv_ns >= 0
        assert bool(message.payload) == (message.kind is not RecordedKind.CONNECT)
        if fmt is not RecordingFormat.JSONL:  # there it is text within text, and escapes are undone
            assert any(line.rstrip(b"\r\n").endswith(message.payload) for line in lines)


@pytest.mark.parametrize("fmt", [RecordingFormat.NDLOG, RecordingFormat.CFRAW])
@given(data=st.data())
def test_a_bad_line_costs_the_others_nothing(fmt: RecordingFormat, data: st.DataObject) -> None:
    """Except for a connect, which says where the frames after it came from."""
    bad = data.draw(fuzzed(VALID[fmt]))
    good = VALID[fmt][-1]
    (alone,) = read_messages([good], fmt, RecordingReport())
    (*_, last) = read_messages([bad, good], fmt, RecordingReport())
    assert (last.kind, last.ts_recv_ns, last.payload) == (alone.kind, alone.ts_recv_ns, alone.payload)


@given(st.text(max_size=30) | st.from_regex(r"\w*\.(ndlog|cfraw|json|jsonl)(\.gz|\.zst)?", fullmatch=True))
def test_any_name_is_a_format_or_a_value_error(name: str) -> None:
    try:
        fmt = format_of(name)
    except ValueError:
        return
    suffix = "json" if fmt is RecordingFormat.JSONL else fmt.value
    assert f".{suffix}" in name.lower()
