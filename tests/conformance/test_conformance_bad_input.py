"""Each way for a depth frame to be wrong, and the reason that its error must carry.

Every case also goes through the compiled road, which must leave it to the typed decoder and the book alone.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bookrunner.core.errors import MalformedFrameError
from bookrunner.kernels import layout
from bookrunner.venues.binance.variants import VARIANTS as BINANCE
from conformance.cases import FEEDS, VENUES, depth_frame, live_book

PRICE, QUANTITY = b'"98"', b'"765"'


def _good(venue: str) -> bytes:
    return depth_frame(venue, first=51, final=51, previous=50, bids=[("99", "2"), ("98", "765")])


def _swap(old: bytes, new: bytes) -> Callable[[str], bytes]:
    def damaged(venue: str) -> bytes:
        frame = _good(venue)
        assert old in frame
        return frame.replace(old, new, 1)

    return damaged


def _time(text: bytes) -> Callable[[str], bytes]:
    return lambda venue: _good(venue).replace(b"1783000000010", text, 1)


def _final_id(text: bytes) -> Callable[[str], bytes]:
    return lambda venue: _good(venue).replace(b'"u":51', b'"u":' + text, 1)


BAD: dict[str, tuple[Callable[[str], bytes], str]] = {
    "no bytes": (lambda _: b"", "not_json"),
    "no JSON": (lambda _: b"hello", "not_json"),
    "cut off": (lambda venue: _good(venue)[:-1], "not_json"),
    "cut off in the middle": (lambda venue: _good(venue)[:90], "not_json"),
    "trailing bytes": (lambda venue: _good(venue) + b"x", "not_json"),
    "two frames in one": (lambda venue: _good(venue) * 2, "not_json"),
    "an array": (lambda _: b"[]", "wrong_type"),
    "a number": (lambda _: b"5", "wrong_type"),
    "null": (lambda _: b"null", "wrong_type"),
    "an empty object": (lambda _: b"{}", "missing_field"),
    "nested too deeply": (lambda _: b'{"deep":' + b"[" * 100_000, "too_deep"),
    "invalid UTF-8 in a value": (_swap(PRICE, b'"9\xff"'), "not_utf8"),
    "a control character": (_swap(PRICE, b'"9\x018"'), "not_json"),
    "negative price": (_swap(PRICE, b'"-98"'), "negative"),
    "negative quantity": (_swap(QUANTITY, b'"-1"'), "negative"),
    "price NaN": (_swap(PRICE, b'"NaN"'), "non_finite"),
    "quantity Infinity": (_swap(QUANTITY, b'"Infinity"'), "non_finite"),
    "quantity -inf": (_swap(QUANTITY, b'"-inf"'), "non_finite"),
    "exponent": (_swap(PRICE, b'"9.8e1"'), "exponent"),
    "empty price": (_swap(PRICE, b'""'), "empty"),
    "comma for the point": (_swap(PRICE, b'"9,8"'), "not_decimal"),
    "plus sign": (_swap(PRICE, b'"+98"'), "not_decimal"),
    "space": (_swap(PRICE, b'" 98"'), "not_decimal"),
    "point at the end": (_swap(PRICE, b'"98."'), "not_decimal"),
    "point at the start": (_swap(PRICE, b'".98"'), "not_decimal"),
    "two points": (_swap(PRICE, b'"9.8.1"'), "not_decimal"),
    "underscore": (_swap(PRICE, b'"9_8"'), "not_decimal"),
    "hexadecimal": (_swap(PRICE, b'"0x98"'), "not_decimal"),
    "digits of another script": (_swap(PRICE, '"٩٨"'.encode()), "not_decimal"),
    "nineteen digits": (_swap(QUANTITY, b'"1234567890123456789"'), "too_many_digits"),
    "price of zero": (_swap(PRICE, b'"0"'), "not_positive"),
    "price as a number": (_swap(PRICE, b"98"), "wrong_type"),
    "price null": (_swap(PRICE, b"null"), "wrong_type"),
    "a level of one": (_swap(PRICE + b"," + QUANTITY, PRICE), "wrong_type"),
    "a level of three": (_swap(QUANTITY, QUANTITY + b',"1"'), "wrong_type"),
    "a level as an object": (_swap(b'["98","765"]', b'{"98":"765"}'), "wrong_type"),
    "bids as an object": (_swap(b'"b":[["99","2"],["98","765"]]', b'"b":{}'), "wrong_type"),
    "no bids": (_swap(b'"b":[["99","2"],["98","765"]],', b""), "missing_field"),
    "no asks": (_swap(b'"a":[]', b'"z":[]'), "missing_field"),
    "no symbol": (_swap(b'"s":"BTCUSDT"', b'"z":"BTCUSDT"'), "missing_field"),
    "no id": (_swap(b'"u":51', b'"z":51'), "missing_field"),
    "negative id": (_final_id(b"-51"), "out_of_range"),
    "id beyond 64 bits": (_final_id(b"9223372036854775808"), "out_of_range"),
    "id as text": (_final_id(b'"51"'), "wrong_type"),
    "id with a point": (_final_id(b"51.0"), "wrong_type"),
    "id with an exponent": (_final_id(b"51e0"), "wrong_type"),
    "id true": (_final_id(b"true"), "wrong_type"),
    "id with a leading zero": (_final_id(b"051"), "not_json"),
    "negative time": (_time(b"-1"), "out_of_range"),
    "milliseconds beyond int64 nanoseconds": (_time(b"9223372036855"), "out_of_range"),
    "microseconds beyond int64 nanoseconds": (_time(b"9223372036854776"), "out_of_range"),
    "time as text": (_time(b'"1783000000010"'), "wrong_type"),
}
BINANCE_ONLY: dict[str, tuple[Callable[[str], bytes], str]] = {
    "another event": (_swap(b"depthUpdate", b"depthupdate"), "wrong_type"),
    "another stream": (_swap(b"@depth@", b"@depth20@"), "wrong_stream"),
    "a stream without a kind": (_swap(b"@depth@100ms", b""), "wrong_stream"),
    "another symbol's wrapper": (_swap(b"btcusdt@", b"ethusdt@"), "wrong_stream"),
}
BYBIT_ONLY: dict[str, tuple[Callable[[str], bytes], str]] = {
    "another type": (_swap(b'"delta"', b'"patch"'), "wrong_type"),
    "another topic": (_swap(b"orderbook.", b"publicTrade."), "wrong_topic"),
    "another symbol's topic": (_swap(b".BTCUSDT", b".ETHUSDT"), "wrong_topic"),
}


def _cases(venue: str) -> dict[str, tuple[Callable[[str], bytes], str]]:
    return BAD | (BINANCE_ONLY if venue in BINANCE else BYBIT_ONLY)


GIVEN = [(venue, name) for venue in VENUES for name in _cases(venue)]


@pytest.mark.parametrize(("venue", "name"), GIVEN)
def test_a_bad_frame_has_its_reason_and_changes_nothing(venue: str, name: str) -> None:
    damage, reason = _cases(venue)[name]
    frame = damage(venue)
    rule = FEEDS[venue]().depth_rule
    book = live_book(FEEDS[venue](), last_id=50)

    with pytest.raises(MalformedFrameError) as caught:
        rule.apply_update(rule.decode(frame), book.grid, book.words)
    assert caught.value.fields["reason"] == reason
    assert rule.apply_frame(frame, book.words) == layout.UNEXPECTED
    assert book.top(5) == ([100], [1], [101], [1])
    assert book.last_update_id == 50


@pytest.mark.parametrize("venue", sorted(BINANCE))
def test_futures_must_carry_pu_and_spot_need_not(venue: str) -> None:
    frame = _good(venue).replace(b'"pu":50,', b"")
    rule = FEEDS[venue]().depth_rule
    book = live_book(FEEDS[venue](), last_id=50)

    if rule.rule == layout.RULE_BINANCE_SPOT:
        assert rule.apply_frame(frame, book.words) == layout.APPLIED
        return
    with pytest.raises(MalformedFrameError) as caught:
        rule.decode(frame)
    assert caught.value.fields["reason"] == "missing_field"
    assert rule.apply_frame(frame, book.words) == layout.UNEXPECTED


@pytest.mark.parametrize("venue", VENUES)
def test_a_frame_of_ten_megabytes_is_refused_as_a_whole(venue: str) -> None:
    bids = [(str(price), "1") for price in range(1, 500_000)]
    frame = depth_frame(venue, first=51, final=51, previous=50, bids=bids)
    assert len(frame) > 5_000_000
    rule = FEEDS[venue]().depth_rule
    book = live_book(FEEDS[venue](), last_id=50)

    assert rule.apply_frame(frame, book.words) == layout.UNEXPECTED
    with pytest.raises(MalformedFrameError) as caught:
        rule.apply_update(rule.decode(frame), book.grid, book.words)
    assert caught.value.fields["reason"] == "too_many_levels"
    assert book.top(5) == ([100], [1], [101], [1])


@pytest.mark.parametrize("venue", VENUES)
def test_the_largest_message_is_taken_whole(venue: str) -> None:
    bids = [(str(price), "1") for price in range(1, layout.MAX_LEVELS + 1)]
    frame = depth_frame(venue, first=51, final=51, previous=50, bids=bids)
    rule = FEEDS[venue]().depth_rule
    compiled, typed = live_book(FEEDS[venue](), last_id=50), live_book(FEEDS[venue](), last_id=50)

    assert rule.apply_frame(frame, compiled.words) == rule.apply_update(
        rule.decode(frame), typed.grid, typed.words
    )
    assert compiled.state_hash() == typed.state_hash()
