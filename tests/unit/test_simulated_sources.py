from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path

import pytest

from bookrunner.core.errors import ConfigurationError
from bookrunner.venues.simulated import binance, bybit
from bookrunner.venues.simulated.events import BookReset, Candle, Depth, Event, Print, Quote, RecordingEnd
from bookrunner.venues.simulated.source_recorded import RecordedSource, Recording, sample
from bookrunner.venues.simulated.source_synthetic import SyntheticPair
from simulated_scene import LINEAR, SPOT, USDM, NaiveBook, synthetic

PAIRS = (f"{LINEAR}:BTCUSDT", f"{USDM}:ETHUSDT", f"{SPOT}:SOLUSDT", f"{USDM}:MADEUPUSDT")


def taken(source: Iterable[tuple[int, Event]], count: int) -> list[tuple[int, Event]]:
    return list(islice(source, count))


# --- synthetic ------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_market() -> None:
    first = taken(synthetic(*PAIRS).events(), 2_000)
    assert first == taken(synthetic(*PAIRS).events(), 2_000)
    assert first != taken(synthetic(*PAIRS, seed=2).events(), 2_000)


def test_another_pair_does_not_change_a_pairs_market() -> None:
    alone = [event for _, event in taken(synthetic(PAIRS[1]).events(), 300)]
    beside = [event for _, event in taken(synthetic(*PAIRS).events(), 3_000)]
    assert [event for event in beside if getattr(event, "symbol", "") == "ETHUSDT"][:300] == alone


def test_books_come_first_and_times_never_go_back() -> None:
    timed = taken(synthetic(*PAIRS).events(), 3_000)
    assert all(isinstance(event, BookReset) and due_ns == 0 for due_ns, event in timed[: len(PAIRS)])
    assert all(due_ns > 0 for due_ns, _ in timed[len(PAIRS) :])
    assert all(first <= second for (first, _), (second, _) in pairwise(timed))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_made_up_book_stays_a_book(pair: str) -> None:
    book = NaiveBook()
    last_id, trades, closed = 0, 0, 0
    for _, event in taken(synthetic(pair).events(), 20_000):
        match event:
            case BookReset():
                last_id = event.last_update_id
                book.replace([*map(list, event.bids)], [*map(list, event.asks)], last_id)
                tick, lot = Decimal(event.listing.tick_size), Decimal(event.listing.lot_step)
            case Depth():
                assert event.previous_id == last_id
                assert event.first_id == last_id + 1 or event.venue != SPOT
                assert last_id < event.first_id <= event.final_id
                last_id = event.final_id
                book.apply([*map(list, event.bids)], [*map(list, event.asks)], last_id)
                assert book.sides["b"]
                assert book.sides["a"]
                assert max(book.sides["b"]) < min(book.sides["a"])
                levels = [*event.bids, *event.asks]
                assert all(Decimal(price) % tick == 0 < Decimal(price) for price, _ in levels)
                assert all(Decimal(quantity) % lot == 0 <= Decimal(quantity) for _, quantity in levels)
            case Quote():
                assert Decimal(event.bid) == max(book.sides["b"])
                assert Decimal(event.ask_quantity) == book.sides["a"][Decimal(event.ask)]
            case Print():
                trades += 1
            case Candle():
                assert Decimal(event.low) <= Decimal(event.open) <= Decimal(event.high)
                closed += event.closed
    assert trades > 1_000
    assert closed > 1
    assert max(len(side) for side in book.sides.values()) <= 50


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "inf", "nan"])
def test_a_wrong_rate_is_refused(rate: str) -> None:
    with pytest.raises(ConfigurationError):
        SyntheticPair.parse(f"binance_usdm:X@{rate}")


@pytest.mark.parametrize("text", ["", "BTCUSDT", "nowhere:BTCUSDT", "binance_usdm:"])
def test_a_wrong_pair_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        SyntheticPair.parse(text)


def test_a_pairs_rate_can_be_chosen() -> None:
    assert SyntheticPair.parse("bybit_linear:btcusdt@50") == SyntheticPair(LINEAR, "BTCUSDT", 50.0)


# --- recorded -------------------------------------------------------------------------------------------


def depth(first: int, final: int, previous: int, price: str, quantity: str = "1") -> str:
    data = {"e": "depthUpdate", "E": 1_700_000_000_000, "T": 1_700_000_000_000 - 3, "s": "BTCUSDT"}
    data |= {"U": first, "u": final, "pu": previous, "b": [[price, quantity]], "a": []}
    return json.dumps({"stream": "btcusdt@depth@0ms", "data": data}, separators=(",", ":"))


def trade(number: int) -> str:
    data = {"e": "trade", "E": 1_700_000_000_001, "T": 1_700_000_000_000, "s": "BTCUSDT", "t": number}
    data |= {"p": "100.0", "q": "1", "X": "MARKET", "m": True}
    return json.dumps({"stream": "btcusdt@trade", "data": data}, separators=(",", ":"))


SNAPSHOT = '{"lastUpdateId":25,"E":1,"T":1,"bids":[["100.0","5"]],"asks":[["101.0","5"]]}'
LINES = [
    depth(1, 10, 0, "99.0"),
    trade(70),
    depth(20, 30, 10, "99.5"),
    SNAPSHOT,
    depth(40, 50, 30, "98.5"),
    "not a message",
    '{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","s":5}}',
    trade(71),
    depth(51, 60, 50, "98.5", "0"),
]


def recording(lines: list[str], name: str = "x.ndlog") -> Recording:
    stamped = [f"{1_700_000_000_000_000_000 + 1_000_000 * n} {line}".encode() for n, line in enumerate(lines)]
    return Recording(name, lambda: stamped)


def loops(source: RecordedSource, count: int) -> list[list[Event]]:
    found: list[list[Event]] = [[]]
    for _, event in source.events():
        if isinstance(event, RecordingEnd):
            if len(found) == count:
                return found
            found.append([])
        else:
            found[-1].append(event)
    raise AssertionError


def test_a_recording_begins_with_its_snapshot_and_the_updates_that_bridge_it() -> None:
    (events,) = loops(RecordedSource([recording(LINES)]), 1)
    reset = events[0]
    assert isinstance(reset, BookReset)
    assert (reset.venue, reset.last_update_id, reset.listing.tick_size) == (USDM, 25, "1")
    assert [event.final_id for event in events if isinstance(event, Depth)] == [30, 50, 60]


def test_a_message_that_cannot_be_read_is_left_out() -> None:
    (events,) = loops(RecordedSource([recording(LINES)]), 1)
    assert len(events) == 4


def test_every_loop_continues_above_the_last_ones_ids() -> None:
    # the trades of the prologue are not replayed, so that the books are there at once
    lines = (
        LINES[:5] + [depth(50 + n, 50 + n, 49 + n, "97.0") for n in range(1, 200)] + [trade(71), trade(72)]
    )
    found = loops(RecordedSource([recording(lines)]), 3)
    for earlier, later in pairwise(found):
        assert last_id(earlier) < first_id(later)
        assert trade_ids(earlier)[-1] < trade_ids(later)[0]
        chain = [event for event in later if isinstance(event, Depth)]
        assert all(second.previous_id == first.final_id for first, second in pairwise(chain))
        reset = later[0]
        assert isinstance(reset, BookReset)
        assert chain[0].first_id <= reset.last_update_id <= chain[0].final_id
        assert json.loads(chain[-1].raw)["u"] == chain[-1].final_id
        assert json.loads(chain[-1].raw)["pu"] == chain[-1].previous_id


def last_id(events: list[Event]) -> int:
    return max(event.final_id for event in events if isinstance(event, Depth))


def first_id(events: list[Event]) -> int:
    return min(event.first_id for event in events if isinstance(event, Depth))


def trade_ids(events: list[Event]) -> list[int]:
    return [event.trade_id for event in events if isinstance(event, Print)]


def test_the_loop_ends_with_the_shortest_recording() -> None:
    longer = [line.replace("BTCUSDT", "ETHUSDT") for line in LINES]
    longer += [trade(100).replace("BTCUSDT", "ETHUSDT")] * 200
    shorter = LINES + [trade(100)] * 150
    (events,) = loops(RecordedSource([recording(longer), recording(shorter)]), 1)
    counts = [
        sum(isinstance(event, Print) and event.symbol == symbol for event in events)
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    assert abs(counts[0] - counts[1]) <= 1


def test_a_very_short_recording_does_not_cut_its_clients_all_the_time() -> None:
    ends = (
        due_ns
        for due_ns, event in RecordedSource([recording(LINES)]).events()
        if isinstance(event, RecordingEnd)
    )
    assert list(islice(ends, 3)) == [1_000_000_000, 2_000_000_000, 3_000_000_000]


def test_a_recording_without_a_snapshot_is_refused() -> None:
    source = RecordedSource([recording([line for line in LINES if line != SNAPSHOT])])
    with pytest.raises(ConfigurationError):
        next(source.events())


@pytest.mark.parametrize("text", ["/no/such/file.ndlog", __file__, f"nowhere={__file__}"])
def test_what_is_no_recording_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Recording.parse(text)


def test_a_plain_and_a_compressed_file_read_alike(tmp_path: Path) -> None:
    import gzip

    import zstandard

    data = b"".join(b"%d %b\n" % (1_700_000_000_000_000_000 + n, b.encode()) for n, b in enumerate(LINES))
    (tmp_path / "x.ndlog").write_bytes(data)
    (tmp_path / "x.ndlog.gz").write_bytes(gzip.compress(data))
    (tmp_path / "x.ndlog.zst").write_bytes(zstandard.compress(data))
    read = [list(Recording.parse(str(path)).messages()) for path in sorted(tmp_path.iterdir())]
    assert read[0] == read[1] == read[2]
    assert len(read[0]) == len(LINES) - 1 + 1


def test_the_sample_chains_bridges_and_never_crosses() -> None:
    (events,) = loops(RecordedSource(sample()), 1)
    books: dict[str, NaiveBook] = {}
    counts: dict[str, int] = {}
    for event in events:
        counts[type(event).__name__] = counts.get(type(event).__name__, 0) + 1
        if isinstance(event, BookReset):
            books[event.symbol] = NaiveBook()
            books[event.symbol].replace(
                [*map(list, event.bids)], [*map(list, event.asks)], event.last_update_id
            )
        elif isinstance(event, Depth):
            book = books[event.symbol]
            if event.previous_id != book.last:
                assert event.first_id <= book.last <= event.final_id
            book.apply([*map(list, event.bids)], [*map(list, event.asks)], event.final_id)
            assert max(book.sides["b"]) < min(book.sides["a"])
    assert books.keys() == {"BTCUSDT", "ETHUSDT"}
    assert counts["Depth"] > 8_000
    assert counts["Print"] > 14_000


# --- wording --------------------------------------------------------------------------------------------


def test_recorded_times_move_to_now_and_keep_their_distance() -> None:
    raw = json.dumps(json.loads(depth(1, 2, 0, "9.0"))["data"], separators=(",", ":")).encode()
    moved = json.loads(binance.restamped(raw, "depth", 1_800_000_000_000))
    assert (moved["E"], moved["T"]) == (1_800_000_000_000, 1_800_000_000_000 - 3)
    assert moved == json.loads(raw) | {"E": moved["E"], "T": moved["T"]}


def test_a_message_without_a_time_is_left_alone() -> None:
    assert binance.restamped(b'{"u":1,"s":"BTCUSDT"}', "bookTicker", 1_800_000_000_000).endswith(
        b'"BTCUSDT"}'
    )


def test_recorded_bybit_times_move_to_now() -> None:
    raw = b'"type":"snapshot","ts":1700000000005,"data":[{"T":1700000000000,"v":"1700000000000"}]}'
    moved = json.loads(b"{" + bybit.restamped(raw, 1_800_000_000_000))
    assert (moved["ts"], moved["data"][0]["T"]) == (1_800_000_000_000, 1_800_000_000_000 - 5)
    assert moved["data"][0]["v"] == "1700000000000"
