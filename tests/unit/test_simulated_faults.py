from __future__ import annotations

import json

import msgspec
import pytest

from bookrunner.core.enums import Channel
from bookrunner.core.errors import ConfigurationError
from bookrunner.venues.simulated import corruption
from bookrunner.venues.simulated.fault_stage import FaultStage, Outgoing
from bookrunner.venues.simulated.faults import (
    RECOVERABLE,
    FaultKind,
    FaultPlan,
    Occasion,
    parse_fault,
    random_faults,
    read_fault,
)
from simulated_scene import seeded

USDM = b'{"e":"depthUpdate","s":"BTCUSDT","U":11,"u":20,"pu":10,"b":[["1.0","2"]],"a":[]}'
SPOT = b'{"e":"depthUpdate","s":"BTCUSDT","U":11,"u":20,"b":[],"a":[]}'
BYBIT = b'"type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[["1.0","2"]],"a":[],"u":7,"seq":9},"cts":1}'
KEY = ("binance_usdm", "BTCUSDT", "depth")


def test_a_fault_is_read_from_the_command_lines_words() -> None:
    fault = parse_fault("dropped:symbol=BTCUSDT,after=100,count=2")
    assert (fault.fault, fault.symbol, fault.after, fault.count) == (FaultKind.DROPPED, "BTCUSDT", 100, 2)
    assert fault.channel is Channel.DEPTH


def test_every_kind_has_a_name_that_is_read() -> None:
    assert {parse_fault(kind.value).fault for kind in FaultKind} == set(FaultKind)


@pytest.mark.parametrize(
    "text",
    ["", "nosuch", "dropped:colour=red", "dropped:after=-1", "dropped:count=0", "dropped:after=x",
     "dropped:venue=nowhere", "unsolicited_snapshot:venue=binance_usdm", "dropped:channel=nothing"],
)  # fmt: skip
def test_a_wrong_fault_is_refused_with_field_value_and_rule(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_fault(text)
    assert caught.value.fields.keys() >= {"field", "value", "rule"}


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        read_fault(7)


def test_a_fault_strikes_after_its_wait_as_often_as_planned() -> None:
    plan = FaultPlan([parse_fault("dropped:after=2,count=2")])
    struck = [bool(plan.strike(Occasion.MESSAGE, *KEY[:2], Channel.DEPTH)) for _ in range(6)]
    assert struck == [False, False, True, True, False, False]
    assert (plan.armed, plan.struck_count) == ([], 2)


@pytest.mark.parametrize(
    ("fault", "venue", "symbol", "channel", "fits"),
    [
        ("dropped", "binance_usdm", "BTCUSDT", Channel.DEPTH, True),
        ("dropped:symbol=ETHUSDT", "binance_usdm", "BTCUSDT", Channel.DEPTH, False),
        ("dropped:venue=bybit_linear", "binance_usdm", "BTCUSDT", Channel.DEPTH, False),
        ("dropped", "binance_usdm", "BTCUSDT", Channel.TRADES, False),
        ("dropped:channel=trades", "binance_usdm", "BTCUSDT", Channel.TRADES, True),
        ("unsolicited_snapshot", "binance_usdm", "BTCUSDT", Channel.DEPTH, False),
        ("unsolicited_snapshot", "bybit_spot", "BTCUSDT", Channel.DEPTH, True),
    ],
)
def test_a_fault_strikes_only_whom_it_names(
    fault: str, venue: str, symbol: str, channel: Channel, *, fits: bool
) -> None:
    plan = FaultPlan([parse_fault(fault)])
    assert bool(plan.strike(Occasion.MESSAGE, venue, symbol, channel)) is fits


def test_requests_do_not_wear_out_a_messages_fault() -> None:
    plan = FaultPlan([parse_fault("dropped:after=1")])
    plan.strike(Occasion.REQUEST, *KEY[:2])
    plan.strike(Occasion.SNAPSHOT_REQUEST, *KEY[:2])
    assert not plan.strike(Occasion.MESSAGE, *KEY[:2], Channel.DEPTH)
    assert plan.strike(Occasion.MESSAGE, *KEY[:2], Channel.DEPTH)


def test_random_faults_follow_the_seed_and_suit_their_venues() -> None:
    symbols = [("binance_usdm", "BTCUSDT"), ("bybit_linear", "BTCUSDT")]
    drawn = random_faults(seeded(3), symbols, RECOVERABLE, 300)
    assert drawn == random_faults(seeded(3), symbols, RECOVERABLE, 300)
    assert drawn != random_faults(seeded(4), symbols, RECOVERABLE, 300)
    assert {fault.fault for fault in drawn} == set(RECOVERABLE)
    assert all(read_fault(msgspec.to_builtins(fault)) == fault for fault in drawn)


def passed(faults: list[str], payloads: list[bytes]) -> list[bytes]:
    plan, stage = FaultPlan(map(parse_fault, faults)), FaultStage()
    out: list[Outgoing] = []
    for payload in payloads:
        striking = plan.strike(Occasion.MESSAGE, *KEY[:2], Channel.DEPTH)
        out += stage.transform(KEY, payload, striking, "1.05")
    return [message.payload for message in out]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("dropped:after=1", b"0 2 3 4 5"),
        ("dropped:after=1,count=2", b"0 3 4 5"),
        ("duplicated:after=1", b"0 1 1 2 3 4 5"),
        ("reordered:after=1", b"0 2 1 3 4 5"),
        ("delayed:after=1,messages=3", b"0 2 3 4 1 5"),
    ],
)
def test_what_is_done_to_the_order_of_messages(fault: str, expected: bytes) -> None:
    assert passed([fault], [b"%d" % number for number in range(6)]) == expected.split()


def test_streams_hold_their_messages_apart() -> None:
    stage = FaultStage()
    other = (KEY[0], "ETHUSDT", "depth")
    assert stage.transform(KEY, b"held", [parse_fault("reordered")], "") == []
    assert stage.transform(other, b"x", [], "") == [Outgoing(b"x")]
    assert stage.transform(KEY, b"y", [], "") == [Outgoing(b"y"), Outgoing(b"held")]


def test_a_forgotten_stream_releases_nothing() -> None:
    stage = FaultStage()
    stage.transform(KEY, b"held", [parse_fault("reordered")], "")
    stage.forget(KEY)
    assert stage.transform(KEY, b"y", [], "") == [Outgoing(b"y")]


def test_broken_ids() -> None:
    assert json.loads(corruption.broken_previous_id(USDM))["pu"] == 10 - corruption.ID_ERROR
    assert json.loads(corruption.broken_previous_id(SPOT))["U"] == 11 + corruption.ID_ERROR
    assert json.loads(b"{" + corruption.broken_previous_id(BYBIT))["data"]["u"] == 7 + corruption.ID_ERROR
    assert json.loads(corruption.broken_final_id(USDM))["u"] == 20 + corruption.ID_ERROR


@pytest.mark.parametrize("payload", [USDM, SPOT, b"{" + BYBIT])
def test_spoilt_messages_are_spoilt_in_the_way_named(payload: bytes) -> None:
    spoil = corruption.SPOILERS
    with pytest.raises(json.JSONDecodeError):
        json.loads(spoil[FaultKind.BAD_JSON](payload))
    with pytest.raises(UnicodeDecodeError):
        spoil[FaultKind.INVALID_UTF8](payload).decode()
    assert b'["NaN","1"]' in spoil[FaultKind.NOT_A_NUMBER](payload)
    assert b'["-1.0","1"]' in spoil[FaultKind.NEGATIVE_NUMBER](payload)
    for kind in (FaultKind.NOT_A_NUMBER, FaultKind.WRONG_TYPE, FaultKind.UNKNOWN_SYMBOL):
        json.loads(spoil[kind](payload))  # still JSON: only its meaning is wrong
    assert b'"u":"many"' in spoil[FaultKind.WRONG_TYPE](payload)
    assert corruption.UNKNOWN_SYMBOL in spoil[FaultKind.UNKNOWN_SYMBOL](payload)


def test_an_oversized_message_is_still_the_same_json() -> None:
    padded = corruption.oversized(USDM, 100_000)
    assert len(padded) == 100_000
    assert json.loads(padded) == json.loads(USDM)


def test_an_off_tick_level_is_set_and_removed() -> None:
    levels = json.loads(corruption.off_tick(USDM, "1.05"))["b"]
    assert levels == [["1.05", "1"], ["1.05", "0"], ["1.0", "2"]]
    assert json.loads(corruption.off_tick(SPOT, "1.05"))["b"] == [["1.05", "1"], ["1.05", "0"]]
