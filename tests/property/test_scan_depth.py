"""The compiled scanners against a twin that uses json and Decimal, on regular, odd and damaged frames."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.kernels import binance, bybit, layout
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid
from naive import scan as naive

SYMBOL = "1000SHIBUSDT"
TICK, LOT = "0.05", "0.002"
RULES = {
    "usdm": layout.RULE_BINANCE_FUTURES,
    "spot": layout.RULE_BINANCE_SPOT,
    "bybit": layout.RULE_BYBIT,
}

times = st.one_of(st.integers(10**12, 10**13 - 1), st.integers(10**15, 10**16 - 1), st.integers(0, 10**17))
ids = st.one_of(st.integers(0, 9), st.integers(10**12, 10**13), st.integers(0, 10**18 - 1))
steps = st.one_of(st.integers(0, 40), st.integers(10**5, 10**7), st.integers(0, 10**13))
decimals = st.integers(0, 12)


@st.composite
def number(draw: st.DrawFn, step: str, *, least: int, fixed_decimals: int | None) -> str:
    """Decimal text on the grid, mostly; with as many decimals as the venue likes."""
    value = draw(steps.filter(lambda count: count >= least)) * Decimal(step)
    places = draw(decimals) if fixed_decimals is None else fixed_decimals
    kind = draw(st.integers(0, 80))
    if kind == 0:
        return draw(
            st.sampled_from(["-1", "1e5", "", ".5", "5.", "1.2.3", "NaN", "0x10", "٣", "1 ", "0", "00.0"])
        )
    if kind == 1:
        return f"00{value}"
    if kind == 2:
        return str(draw(st.integers(10**15, 10**20)))
    if kind == 3:
        value += Decimal(step) / 2
    if kind == 4:
        value = Decimal(0)
    return f"{value:.{max(places, 3)}f}" if places else str(value.normalize().to_integral_value())


@st.composite
def side(draw: st.DrawFn) -> list[Any]:
    fixed = draw(st.one_of(st.none(), decimals))
    price = number(TICK, least=1, fixed_decimals=fixed)
    quantity = number(LOT, least=0, fixed_decimals=fixed)
    levels: list[Any] = draw(st.lists(st.tuples(price, quantity).map(list), max_size=12))
    if draw(st.integers(0, 40)) == 0:
        levels.append(draw(st.sampled_from([[], ["1"], ["1", "2", "3"], "1", [1, 2], [["1", "2"]], None])))
    return levels


@st.composite
def binance_frame(draw: st.DrawFn) -> bytes:
    fields: list[tuple[str, Any]] = [
        ("e", draw(st.sampled_from(["depthUpdate"] * 30 + ["trade"]))),
        ("E", draw(times)),
        ("s", draw(st.sampled_from([SYMBOL] * 30 + [SYMBOL + "X", SYMBOL[:-1], "SHIBUSDT"]))),
        ("U", draw(ids)),
        ("u", draw(ids)),
        ("b", draw(side())),
        ("a", draw(side())),
    ]
    for key, value in (("T", draw(times)), ("pu", draw(ids)), ("ps", SYMBOL), ("st", 1)):
        if draw(st.booleans()):
            fields.insert(2, (key, value))
    payload = _object(draw, fields)
    if draw(st.booleans()):
        return payload
    stream = draw(st.sampled_from(["@depth@100ms"] * 20 + ["@depth", "@depth5", "@trade", '@depth@\\"', ""]))
    return b'{"stream":"%s","data":%s}' % ((SYMBOL.lower() + stream).encode(), payload)


@st.composite
def bybit_frame(draw: st.DrawFn) -> bytes:
    data = _object(
        draw,
        [
            ("s", draw(st.sampled_from([SYMBOL] * 30 + ["SHIBUSDT"]))),
            ("b", draw(side())),
            ("a", draw(side())),
            ("u", draw(ids)),
            ("seq", draw(ids)),
        ],
    )
    topic = draw(st.sampled_from(["orderbook.200."] * 20 + ["orderbook.rpi.", "orderbook.", "tickers."]))
    outer: list[tuple[str, Any]] = [
        ("topic", topic + SYMBOL),
        ("type", draw(st.sampled_from(["delta"] * 15 + ["snapshot"] * 5 + ["other"]))),
        ("ts", draw(times)),
        ("data", None),
    ]
    if draw(st.booleans()):
        outer.append(("cts", draw(times)))
    return _object(draw, outer).replace(b'"data":null', b'"data":' + data)


def _object(draw: st.DrawFn, fields: list[tuple[str, Any]]) -> bytes:
    """JSON of the fields: in order or shuffled, at times with spaces or a doubled key."""
    if draw(st.integers(0, 3)) == 0:
        fields = draw(st.permutations(fields))
    if draw(st.integers(0, 40)) == 0:
        fields = [*fields, draw(st.sampled_from(fields))]
    separators = (", ", ": ") if draw(st.integers(0, 40)) == 0 else (",", ":")
    comma, colon = separators
    parts = [
        json.dumps(key) + colon + json.dumps(value, separators=separators, ensure_ascii=False)
        for key, value in fields
    ]
    return ("{" + comma.join(parts) + "}").encode()


DAMAGE = [
    b'"', b"\\", b",", b":", b"[", b"]", b"{", b"}", b"0", b"-", b".", b" ", b"\n", b"\0", b"\xff", b"NaN",
    b"[]", b"null", b"e9", b'"0"', b'","', b'"],["', b'"b":[],', b'"u":1,', b"9" * 19, b"\xc3\xa9", b"true",
    b"\\u0041",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    frame = bytearray(draw(frames))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(frame)))
        length = draw(st.integers(0, 9))
        match draw(st.integers(0, 4)):
            case 0:
                frame[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                frame[at : at + length] = draw(st.sampled_from(DAMAGE))
            case 2:
                frame[at:at] = draw(st.sampled_from(DAMAGE))
            case 3:
                frame[at:at] = frame[at : at + length]
            case _:
                del frame[at : at + draw(st.sampled_from([1, 5, 20, 10_000]))]
    return bytes(frame)


def check(
    venue: str, frame: bytes, *, after: bytes | None = None, grid: tuple[str, str] = (TICK, LOT)
) -> int:
    """Scan with both; what the kernel accepts, the twin reads to the same numbers.

    A frame before it (``after``), or else itself, tells the scanner which decimals to expect.
    """
    book = OrderBook(SYMBOL, RULES[venue], Grid.of(*grid))
    scan = bybit.scan_depth if venue == "bybit" else binance.scan_depth
    scan(after or frame, book.words)
    verdict = int(scan(frame, book.words))
    try:
        wanted = _twin(venue, frame, grid)
    except naive.RefusedError:
        assert verdict == layout.UNEXPECTED
        return verdict
    if verdict == layout.UNEXPECTED:
        return verdict
    assert (verdict == layout.OFF_GRID) == wanted.off_grid
    view = book.view
    assert view[layout.FIRST_ID] == wanted.first_id
    assert view[layout.FINAL_ID] == wanted.final_id
    assert view[layout.PREVIOUS_ID] == wanted.previous_id
    assert view[layout.TS_EVENT] == wanted.ts_event_ns
    assert view[layout.TS_MATCH] == wanted.ts_match_ns
    assert (view[layout.MESSAGE_KIND] == layout.KIND_SNAPSHOT) == wanted.snapshot
    if verdict == layout.APPLIED:
        assert scratch(book) == (wanted.bids, wanted.asks)
    return verdict


def _twin(venue: str, frame: bytes, grid: tuple[str, str]) -> naive.Message:
    tick, lot = map(Decimal, grid)
    if venue == "bybit":
        return naive.bybit_depth(frame, SYMBOL, tick, lot)
    return naive.binance_depth(frame, SYMBOL, tick, lot, futures=venue == "usdm")


def scratch(book: OrderBook) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the message in a book's scratch: bids, asks."""
    words = book.words
    sides = []
    for count, ticks, lots in (
        (layout.MESSAGE_BIDS, layout.BID_TICKS_AT, layout.BID_LOTS_AT),
        (layout.MESSAGE_ASKS, layout.ASK_TICKS_AT, layout.ASK_LOTS_AT),
    ):
        levels = int(words[count])
        pair = words[ticks : ticks + levels].tolist(), words[lots : lots + levels].tolist()
        sides.append(list(zip(*pair, strict=True)))
    return sides[0], sides[1]


@pytest.mark.parametrize("venue", ["usdm", "spot"])
@given(frame=damaged(binance_frame()))
def test_binance_frames(venue: str, frame: bytes) -> None:
    check(venue, frame)


@given(frame=damaged(bybit_frame()))
def test_bybit_frames(frame: bytes) -> None:
    check("bybit", frame)


regular_text = st.builds(
    lambda count, places: f"{count * Decimal(TICK):.{places}f}", st.integers(1, 10**9), st.integers(2, 8)
)
regular_side = st.lists(st.tuples(regular_text, regular_text).map(list), max_size=40)


@given(bids=regular_side, asks=regular_side, keys=st.permutations(list("eETsUbau")), wrapped=st.booleans())
def test_ordinary_frames_never_need_the_typed_decoder(
    *, bids: list[Any], asks: list[Any], keys: list[str], wrapped: bool
) -> None:
    time_ms = 1_700_000_000_000
    values = {
        "e": "depthUpdate",
        "E": time_ms,
        "T": time_ms,
        "s": SYMBOL,
        "U": 5,
        "u": 9,
        "b": bids,
        "a": asks,
    }
    payload: Any = {key: values[key] for key in keys}
    if wrapped:
        payload = {"stream": SYMBOL.lower() + "@depth", "data": payload}
    assert check("spot", json.dumps(payload, separators=(",", ":")).encode()) == layout.APPLIED


def regular_frame(levels: int) -> bytes:
    bids = ",".join(f'["{61_000 - i}.05","1.{i % 500 * 2:03d}"]' for i in range(levels))
    return (
        f'{{"stream":"{SYMBOL.lower()}@depth@0ms","data":{{"e":"depthUpdate","E":1723161256299,'
        f'"T":1723161256298,"s":"{SYMBOL}","U":5123107832006,"u":5123107837557,"pu":5123107831937,'
        f'"b":[{bids}],"a":[["61001.10","0.000"]]}}}}'
    ).encode()


def test_every_single_byte_of_damage() -> None:
    """Each byte replaced by each of the characters that mean something in JSON."""
    frame = regular_frame(2)
    for at in range(len(frame)):
        for byte in b'"\\,:[]{}09-. \nx\x00\xff':
            check("usdm", frame[:at] + bytes([byte]) + frame[at + 1 :])


def test_every_cut_of_a_frame() -> None:
    frame = regular_frame(3)
    for end in range(len(frame)):
        assert check("usdm", frame[:end]) == layout.UNEXPECTED
    assert check("usdm", frame) == layout.APPLIED


@pytest.mark.parametrize("decimals", [3, 8])
@pytest.mark.parametrize(
    ("price", "quantity", "verdict"),
    [
        ("61000.050", "1.234", layout.APPLIED),
        ("61000.050", "0.000", layout.APPLIED),
        ("0.000", "1.234", layout.UNEXPECTED),
        (".050", "1.234", layout.UNEXPECTED),
        ("61000.050", ".234", layout.UNEXPECTED),
        ("61000.051", "1.234", layout.OFF_GRID),
        ("61000.050", "1.235", layout.OFF_GRID),
        ("0.001", "0.000", layout.OFF_GRID),
        ("9999999999.950", "9999999999.998", layout.APPLIED),
    ],
)
def test_both_roads_of_the_level_scanner(price: str, quantity: str, verdict: int, decimals: int) -> None:
    """Among texts of other decimals, number by number; among texts like it, the regular road."""
    zeros = "0" * (decimals - 3)
    ordinary = f'["61000.000{zeros}","1.234{zeros}"]'
    level = f'["{price}{zeros}","{quantity}{zeros}"]'
    regular = levels_frame(ordinary, ordinary)
    assert check("usdm", levels_frame(ordinary, level), after=regular) == verdict
    assert check("usdm", levels_frame(level, ordinary), after=regular) == verdict
    mixed = levels_frame('["7.5","2"]', ordinary)
    assert check("usdm", levels_frame(ordinary, level), after=mixed) == verdict


def levels_frame(*bids: str) -> bytes:
    frame = regular_frame(1).replace(b'["61000.05","1.000"]', ",".join(bids).encode())
    return frame.replace(b'["61001.10","0.000"]', b"")


@pytest.mark.parametrize(
    "price", ["9" * 14, "999999999999999", "9214444027590690", "9016890999821206", "9" * 18]
)
def test_long_whole_numbers(price: str) -> None:
    """Beyond 2**50 a quotient through a double is not always exact."""
    price = str(int(price) // 2 * 2)
    for level in (f'["{price}","2"]', f'["2","{price}"]'):
        assert check("usdm", levels_frame(level), grid=("2", "2")) == layout.APPLIED


@pytest.mark.parametrize("key", ["topic", "type", "ts", "cts", "data", "s", "b", "a", "u", "seq"])
def test_a_doubled_bybit_key_is_left_to_the_typed_decoder(key: str) -> None:
    data = {"s": SYMBOL, "b": [["5.05", "1"]], "a": [], "u": 7, "seq": 9}
    outer = {"topic": f"orderbook.50.{SYMBOL}", "type": "delta", "ts": 1687940967466, "data": data}
    outer["cts"] = outer["ts"]
    frame = json.dumps(outer, separators=(",", ":")).encode()
    doubled = json.dumps({key: outer.get(key, data.get(key))}, separators=(",", ":"))[1:-1].encode()
    at = frame.index(b'"' + key.encode() + b'"')
    assert check("bybit", frame) == layout.APPLIED
    assert check("bybit", frame[:at] + doubled + b"," + frame[at:]) == layout.UNEXPECTED


@pytest.mark.parametrize("key", ["e", "E", "T", "s", "U", "u", "pu", "b", "a"])
def test_a_doubled_key_is_left_to_the_typed_decoder(key: str) -> None:
    frame = regular_frame(2)
    data = json.loads(frame)["data"]
    doubled = json.dumps({key: data[key]}, separators=(",", ":"))[1:-1].encode()
    assert check("usdm", frame) == layout.APPLIED
    assert check("usdm", frame[:-2] + b"," + doubled + frame[-2:]) == layout.UNEXPECTED


def test_more_levels_than_scratch_holds_are_left_to_the_typed_decoder() -> None:
    assert check("usdm", regular_frame(layout.MAX_LEVELS)) == layout.APPLIED
    assert check("usdm", regular_frame(layout.MAX_LEVELS + 1)) == layout.UNEXPECTED
